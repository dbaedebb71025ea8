//! Connections that break: joined byte for byte, or started over.

use super::*;

#[tokio::test]
async fn a_cut_connection_continues_where_it_was_cut() {
    for validators in [ETAG, DATE] {
        let (lab, body) = (Lab::new().await, video::mp4(3 << 20));
        let server = first_spoilt(&body, validators, |reply| reply.cut(1_500_000, Ending::Close)).await;
        let stored = lab.fetch(&server.url("/v.mp4")).await.unwrap();
        lab.assert_holds_only(&stored, &body).await;
        assert_eq!(server.ranges(), [None, Some(1_500_000)]);
    }
}

#[tokio::test]
async fn a_reset_and_a_chunked_body_without_its_end_are_cuts() {
    let cuts: [fn(Reply) -> Reply; 2] =
        [|reply| reply.cut(1_500_000, Ending::Reset), |reply| reply.chunked().cut(1_500_000, Ending::Close)];
    for cut in cuts {
        let (lab, body) = (Lab::new().await, video::mp4(3 << 20));
        let server = first_spoilt(&body, ETAG, cut).await;
        let stored = lab.fetch(&server.url("/v.mp4")).await.unwrap();
        lab.assert_holds_only(&stored, &body).await;
        assert_eq!(server.requests().len(), 2);
    }
}

#[tokio::test]
async fn without_a_strong_validator_a_cut_file_starts_over() {
    for validators in [&[][..], &[("ETag", "W/\"one\"")]] {
        let (lab, body) = (Lab::new().await, video::mp4(2 << 20));
        let server = first_spoilt(&body, validators, |reply| reply.cut(1_000_000, Ending::Close)).await;
        let stored = lab.fetch(&server.url("/v.mp4")).await.unwrap();
        lab.assert_holds_only(&stored, &body).await;
        assert_eq!(server.ranges(), [None, None]);
    }
}

#[tokio::test]
async fn a_host_that_ignores_ranges_gives_the_whole_file_again() {
    let (lab, body) = (Lab::new().await, video::mp4(2 << 20));
    let whole = body.clone();
    let server = FileServer::start(move |request| {
        let reply = Reply::new(200, whole.clone()).with("ETag", "\"one\"");
        if request.number == 0 { reply.cut(1_000_000, Ending::Close) } else { reply }
    })
    .await;
    let stored = lab.fetch(&server.url("/v.mp4")).await.unwrap();
    lab.assert_holds_only(&stored, &body).await;
    assert_eq!(server.ranges(), [None, Some(1_000_000)]);
}

#[tokio::test]
async fn a_host_that_gives_small_pieces_is_asked_for_the_next_ones() {
    let (lab, body) = (Lab::new().await, video::mp4(2 << 20));
    let whole = body.clone();
    let server = FileServer::start(move |request| match request.range() {
        None => Reply::file(request, &whole, ETAG).cut(200_000, Ending::Close),
        Some((start, _)) => {
            let end = whole.len().min(start + 200_000);
            let range = format!("bytes {start}-{}/{}", end - 1, whole.len());
            Reply::new(206, whole.slice(start..end)).with("ETag", "\"one\"").with("Content-Range", &range)
        }
    })
    .await;
    let stored = lab.fetch(&server.url("/v.mp4")).await.unwrap();
    lab.assert_holds_only(&stored, &body).await;
    assert_eq!(server.requests().len(), body.len().div_ceil(200_000));
}

#[tokio::test]
async fn a_file_that_changed_starts_over() {
    let (lab, old, new) = (Lab::new().await, video::mp4(2 << 20), video::mp4(1 << 20));
    let (first, second) = (old.clone(), new.clone());
    let server = FileServer::start(move |request| match request.number {
        0 => Reply::file(request, &first, ETAG).cut(1_000_000, Ending::Close),
        _ => Reply::file(request, &second, &[("ETag", "\"two\"")]),
    })
    .await;
    let stored = lab.fetch(&server.url("/v.mp4")).await.unwrap();
    lab.assert_holds_only(&stored, &new).await;
    assert_eq!(stored.etag.as_deref(), Some("\"two\""));
}

/// The second answer is a 206 that must not be joined to the first.
async fn assert_is_not_joined(second: fn(&Request, &Bytes) -> Reply) {
    let (lab, body) = (Lab::new().await, video::mp4(2 << 20));
    let whole = body.clone();
    let server = FileServer::start(move |request| match request.number {
        0 => Reply::file(request, &whole, ETAG).cut(1_000_000, Ending::Close),
        1 => second(request, &whole),
        _ => Reply::file(request, &whole, ETAG),
    })
    .await;
    let stored = lab.fetch(&server.url("/v.mp4")).await.unwrap();
    lab.assert_holds_only(&stored, &body).await;
    assert_eq!(server.ranges(), [None, Some(1_000_000), None]);
}

/// A 206 with an honest body and a header of choice.
fn piece(body: &Bytes, content_range: &str, etag: &str) -> Reply {
    Reply::new(206, body.slice(1_000_000..)).with("ETag", etag).with("Content-Range", content_range)
}

#[tokio::test]
async fn a_continuation_of_another_version_is_not_joined() {
    assert_is_not_joined(|_, body| {
        let range = format!("bytes 1000000-{}/{}", body.len() - 1, body.len());
        piece(body, &range, "\"two\"")
    })
    .await;
}

#[tokio::test]
async fn a_continuation_of_a_longer_file_is_not_joined() {
    assert_is_not_joined(|_, body| {
        let range = format!("bytes 1000000-{}/{}", body.len() - 1, body.len() + 1);
        piece(body, &range, "\"one\"")
    })
    .await;
}

#[tokio::test]
async fn an_overlapping_continuation_is_not_joined() {
    assert_is_not_joined(|_, body| {
        let range = format!("bytes 999999-{}/{}", body.len() - 1, body.len());
        Reply::new(206, body.slice(999_999..)).with("ETag", "\"one\"").with("Content-Range", &range)
    })
    .await;
}

#[tokio::test]
async fn a_range_that_does_not_fit_its_length_is_not_joined() {
    assert_is_not_joined(|_, body| {
        let range = format!("bytes 1000000-{}/{}", body.len() - 2, body.len());
        piece(body, &range, "\"one\"")
    })
    .await;
}

#[tokio::test]
async fn a_chunked_continuation_that_overruns_its_range_is_not_joined() {
    assert_is_not_joined(|_, body| {
        let range = format!("bytes 1000000-{}/{}", body.len() - 100, body.len());
        piece(body, &range, "\"one\"").chunked()
    })
    .await;
}

#[tokio::test]
async fn several_ranges_at_once_are_not_joined() {
    assert_is_not_joined(|_, body| {
        Reply::new(206, body.slice(1_000_000..))
            .with("ETag", "\"one\"")
            .with("Content-Type", "multipart/byteranges; boundary=x")
    })
    .await;
}

#[tokio::test]
async fn a_range_behind_the_end_of_a_shorter_file_starts_over() {
    assert_is_not_joined(|_, _| Reply::new(416, "").with("Content-Range", "bytes */5")).await;
}

#[tokio::test]
async fn after_three_versions_the_file_is_asked_for_in_one_go() {
    let (lab, body) = (Lab::new().await, video::mp4(1 << 20));
    let whole = body.clone();
    let server = FileServer::start(move |request| {
        let etag = format!("\"{}\"", request.number);
        let reply = Reply::file(request, &whole, &[("ETag", &etag)]);
        if request.number < 4 { reply.cut(600_000, Ending::Close) } else { reply }
    })
    .await;
    let stored = lab.fetch(&server.url("/v.mp4")).await.unwrap();
    lab.assert_holds_only(&stored, &body).await;
    assert_eq!(server.ranges(), [None, Some(600_000), Some(600_000), Some(600_000), None]);
}

#[tokio::test]
async fn a_cut_file_without_a_length_is_noticed_by_its_boxes_and_continued() {
    for cut_at in [1_000_000, 30, 4000] {
        let (lab, body) = (Lab::new().await, video::mp4(2 << 20));
        let server =
            first_spoilt(&body, ETAG, move |reply| reply.unframed().cut(cut_at, Ending::Close)).await;
        let stored = lab.fetch(&server.url("/v.mp4")).await.unwrap();
        lab.assert_holds_only(&stored, &body).await;
        assert_eq!(server.ranges()[1], Some(cut_at));
    }
}

#[tokio::test]
async fn a_stalled_transfer_is_cut_and_continued() {
    let lab = Lab::with(config::Download { stall_timeout: Duration::from_secs(1), ..settings() }, 0).await;
    let body = video::mp4(2 << 20);
    let server = first_spoilt(&body, ETAG, |reply| reply.cut(1_000_000, Ending::Silence)).await;
    let stored = lab.fetch(&server.url("/v.mp4")).await.unwrap();
    lab.assert_holds_only(&stored, &body).await;
    assert_eq!(server.ranges(), [None, Some(1_000_000)]);
}

#[tokio::test]
async fn a_trickle_counts_as_a_stall() {
    let lab = Lab::with(config::Download { stall_timeout: Duration::from_secs(1), ..settings() }, 0).await;
    let body = video::mp4(5000);
    let server = FileServer::start(move |request| Reply::file(request, &body, ETAG).trickling()).await;
    let fault = lab.fetch(&server.url("/v.mp4")).await.unwrap_err();
    assert!(matches!(&fault, FetchFault::Network(why) if why.contains("bytes a second")), "{fault:?}");
}
