//! What counts as a video, and how it is stored.

use super::*;

#[tokio::test]
async fn a_video_is_stored_byte_for_byte_with_its_hash_and_facts() {
    let (lab, body) = (Lab::new().await, video::mp4(3 << 20));
    let server = honest(&body).await;
    let seen = Mutex::new(Vec::new());
    let progress = |done, total| seen.lock().unwrap().push((done, total));
    let order = order("job_1", 0, &server.url("/v.mp4"));
    let stored = lab.downloader.fetch(&order, &progress, &CancellationToken::new()).await.unwrap();
    lab.assert_holds_only(&stored, &body).await;
    assert_eq!((stored.name.as_str(), stored.location.as_str()), ("job_1.mp4", "2026-08-01/job_1.mp4"));
    assert_eq!((stored.content_type.as_str(), stored.etag.as_deref()), ("video/mp4", Some("\"one\"")));
    assert_eq!((stored.duration_ms, stored.width, stored.height), (Some(3500), Some(640), Some(360)));
    let seen = seen.into_inner().unwrap();
    assert!(seen.is_sorted());
    assert_eq!(seen.last(), Some(&(body.len() as u64, Some(body.len() as u64))));
}

#[tokio::test]
async fn several_outputs_of_a_job_have_names_of_their_own() {
    let (lab, body) = (Lab::new().await, video::mp4(5000));
    let server = honest(&body).await;
    for (index, name) in ["job_1.mp4", "job_1-2.mp4", "job_1-3.mp4"].into_iter().enumerate() {
        assert_eq!(lab.fetch_order(&order("job_1", index, &server.url("/v"))).await.unwrap().name, name);
    }
}

#[tokio::test]
async fn the_content_decides_about_the_name_whatever_the_host_claims() {
    let (lab, body) = (Lab::new().await, video::webm(5000));
    let server = first_spoilt(&body, ETAG, |reply| reply.with("Content-Type", "text/html")).await;
    let stored = lab.fetch(&server.url("/v.mp4")).await.unwrap();
    assert_eq!((stored.name.as_str(), stored.content_type.as_str()), ("job_1.webm", "video/webm"));
    lab.assert_holds_only(&stored, &body).await;
}

#[tokio::test]
async fn a_file_without_a_length_is_whole_when_its_boxes_are() {
    let (lab, body) = (Lab::new().await, video::mp4(2 << 20));
    let server = first_spoilt(&body, ETAG, Reply::unframed).await;
    let stored = lab.fetch(&server.url("/v.mp4")).await.unwrap();
    lab.assert_holds_only(&stored, &body).await;
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_cut_webm_file_without_a_length_is_noticed_by_its_segment() {
    let (lab, body) = (Lab::new().await, video::webm(1 << 20));
    let server = first_spoilt(&body, ETAG, |reply| reply.unframed().cut(500_000, Ending::Close)).await;
    let stored = lab.fetch(&server.url("/v.webm")).await.unwrap();
    lab.assert_holds_only(&stored, &body).await;
    assert_eq!(server.ranges(), [None, Some(500_000)]);
}

#[tokio::test]
async fn an_open_ended_box_counts_only_where_the_transfer_tells_the_end() {
    let open_ended: Bytes =
        [video::ftyp(), video::moov(), b"\0\0\0\0mdat".to_vec(), vec![7; 5000]].concat().into();
    let lab = Lab::new().await;
    let server = honest(&open_ended).await;
    let stored = lab.fetch(&server.url("/v.mp4")).await.unwrap();
    lab.assert_holds_only(&stored, &open_ended).await;
    let lab = Lab::new().await;
    let server = FileServer::start(move |_| Reply::new(200, open_ended.clone()).unframed()).await;
    assert!(matches!(lab.fetch(&server.url("/v.mp4")).await, Err(FetchFault::Network(_))));
}

#[tokio::test]
async fn what_is_no_whole_video_is_refused_and_leaves_nothing() {
    let whole = video::mp4(5000);
    let no_moov = [video::ftyp(), video::boxed(b"mdat", &[7; 900])].concat();
    let no_mdat = [video::ftyp(), video::moov()].concat();
    let late_ftyp = [video::moov(), video::ftyp(), video::boxed(b"mdat", &[7; 900])].concat();
    let bodies: [(&str, Bytes); 9] = [
        ("html", "<!doctype html><html><body>Sign in</body></html>".into()),
        ("json", "{\"error\":\"expired\"}".into()),
        ("nothing", Bytes::new()),
        ("an image", b"\x89PNG\r\n\x1a\n0000000000000000".as_slice().into()),
        ("a file that was uploaded cut", whole.slice(..whole.len() - 1)),
        ("a file with bytes after its end", [&whole[..], b"abc"].concat().into()),
        ("a file without moov", no_moov.into()),
        ("a file without mdat", no_mdat.into()),
        ("a file that does not begin with ftyp", late_ftyp.into()),
    ];
    for (what, body) in bodies {
        let lab = Lab::new().await;
        let server =
            FileServer::start(move |_| Reply::new(200, body.clone()).with("Content-Type", "video/mp4")).await;
        let fault = lab.fetch(&server.url("/v.mp4")).await.unwrap_err();
        assert!(matches!(fault, FetchFault::NotVideo(_)), "{what}: {fault:?}");
        assert!(lab.files().is_empty(), "{what}: {:?}", lab.files());
    }
}

#[tokio::test]
async fn unverified_content_is_stored_but_never_as_a_page() {
    let lab = Lab::with(config::Download { verify_container: false, ..settings() }, 0).await;
    let server =
        FileServer::start(|_| Reply::new(200, "<script>1</script>").with("Content-Type", "text/html")).await;
    let stored = lab.fetch(&server.url("/v.mp4")).await.unwrap();
    assert_eq!(stored.content_type, "application/octet-stream");
    lab.assert_holds_only(&stored, b"<script>1</script>").await;
}

#[tokio::test]
async fn a_compressed_answer_is_refused_and_identity_is_asked_for() {
    let (lab, body) = (Lab::new().await, video::mp4(5000));
    let server = first_spoilt(&body, ETAG, |reply| reply.with("Content-Encoding", "gzip")).await;
    assert!(matches!(lab.fetch(&server.url("/v.mp4")).await, Err(FetchFault::NotVideo(_))));
    assert_eq!(server.requests()[0].headers["accept-encoding"], "identity");
}

#[tokio::test]
async fn a_file_that_says_it_is_too_large_is_not_read() {
    let (lab, body) = (Lab::new().await, video::mp4(5000));
    let server = first_spoilt(&body, ETAG, |reply| {
        reply.without("Content-Length").with("Content-Length", "67108865").cut(0, Ending::Silence)
    })
    .await;
    let fault = lab.fetch(&server.url("/v.mp4")).await.unwrap_err();
    assert!(matches!(fault, FetchFault::TooLarge { limit: 67_108_864 }), "{fault:?}");
}

#[tokio::test]
async fn a_file_that_grows_beyond_the_cap_is_dropped() {
    let lab = Lab::with(config::Download { max_size: 1 << 20, ..settings() }, 0).await;
    let body = video::mp4(2 << 20);
    let server = FileServer::start(move |_| Reply::new(200, body.clone()).unframed()).await;
    let fault = lab.fetch(&server.url("/v.mp4")).await.unwrap_err();
    assert!(matches!(fault, FetchFault::TooLarge { limit: 1_048_576 }), "{fault:?}");
    assert!(lab.files().is_empty());
}
