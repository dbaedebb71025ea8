//! Fetching a video into the archive from hosts that misbehave: whatever they do, a file is in the archive whole and
//! byte for byte, or not at all.

#[path = "support/file_server.rs"]
mod file_server;
#[path = "support/video.rs"]
mod video;

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use reelhook::{
    config,
    outbound::{
        archive::Archive,
        download::{Downloader, FetchFault, Order, Stored},
        egress::{Guard, Rule},
    },
};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use file_server::{Ending, FileServer, Reply, Request};

const ETAG: &[(&str, &str)] = &[("ETag", "\"one\"")];
const DATE: &[(&str, &str)] = &[("Last-Modified", "Sat, 01 Aug 2026 00:00:00 GMT")];

fn settings() -> config::Download {
    config::Download {
        concurrency: 4,
        stall_timeout: Duration::from_secs(5),
        max_size: 64 << 20,
        attempts: 8,
        backoff: Duration::from_millis(8),
        max_backoff: Duration::from_millis(8),
        max_redirects: 5,
        verify_container: true,
        give_up_after: Duration::from_secs(60),
    }
}

/// An archive in a folder of its own, and who fetches into it.
struct Lab {
    root: TempDir,
    archive: Arc<Archive>,
    downloader: Downloader,
}

impl Lab {
    async fn new() -> Self {
        Self::with(settings(), 0).await
    }

    async fn with(settings: config::Download, min_free: u64) -> Self {
        let root = tempfile::tempdir().unwrap();
        let archive = Arc::new(open(root.path(), min_free).await);
        let downloader = downloader(&archive, settings);
        Self { root, archive, downloader }
    }

    async fn fetch(&self, url: &str) -> Result<Stored, FetchFault> {
        self.fetch_order(&order("job_1", 0, url)).await
    }

    async fn fetch_order(&self, order: &Order) -> Result<Stored, FetchFault> {
        self.downloader.fetch(order, &|_, _| {}, &CancellationToken::new()).await
    }

    /// Every file below the archive's folder, lock files too.
    fn files(&self) -> Vec<String> {
        files(self.root.path())
    }

    /// Checks that the archive holds exactly this file.
    async fn assert_holds_only(&self, stored: &Stored, body: &[u8]) {
        assert_eq!(self.files(), [stored.location.as_str()]);
        assert_eq!(stored.sha256, hex::encode(Sha256::digest(body)));
        assert_eq!(stored.bytes, body.len() as u64);
        let read = self.archive.read(&stored.location, None).await.unwrap().bytes().await.unwrap();
        assert!(read == body, "the stored bytes differ");
    }
}

async fn open(root: &Path, min_free: u64) -> Archive {
    let key_template = "{date}/{job_id}".to_owned();
    Archive::open(&config::Storage { root: root.to_owned(), key_template, min_free }).await.unwrap()
}

fn downloader(archive: &Arc<Archive>, settings: config::Download) -> Downloader {
    let guard = Guard::new(vec!["127.0.0.0/8".parse().unwrap()]);
    Downloader::new(Arc::clone(archive), guard, settings).unwrap()
}

fn order(job_id: &str, index: usize, url: &str) -> Order {
    Order { job_id: job_id.to_owned(), index, url: url.to_owned(), key: format!("2026-08-01/{job_id}") }
}

fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// A host whose first answer is spoilt and whose later ones are honest.
async fn first_spoilt(
    body: &Bytes,
    validators: &'static [(&str, &str)],
    spoil: impl Fn(Reply) -> Reply + Send + Sync + 'static,
) -> FileServer {
    let body = body.clone();
    FileServer::start(move |request| {
        let reply = Reply::file(request, &body, validators);
        if request.number == 0 { spoil(reply) } else { reply }
    })
    .await
}

async fn honest(body: &Bytes) -> FileServer {
    first_spoilt(body, ETAG, |reply| reply).await
}

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
async fn a_file_without_a_length_is_whole_when_its_boxes_are() {
    let (lab, body) = (Lab::new().await, video::mp4(2 << 20));
    let server = first_spoilt(&body, ETAG, Reply::unframed).await;
    let stored = lab.fetch(&server.url("/v.mp4")).await.unwrap();
    lab.assert_holds_only(&stored, &body).await;
    assert_eq!(server.requests().len(), 1);
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

#[tokio::test]
async fn a_stalled_transfer_is_cut_and_continued() {
    let lab =
        Lab::with(config::Download { stall_timeout: Duration::from_millis(300), ..settings() }, 0).await;
    let body = video::mp4(2 << 20);
    let server = first_spoilt(&body, ETAG, |reply| reply.cut(1_000_000, Ending::Silence)).await;
    let stored = lab.fetch(&server.url("/v.mp4")).await.unwrap();
    lab.assert_holds_only(&stored, &body).await;
    assert_eq!(server.ranges(), [None, Some(1_000_000)]);
}

#[tokio::test]
async fn a_trickle_counts_as_a_stall() {
    let lab =
        Lab::with(config::Download { stall_timeout: Duration::from_millis(100), ..settings() }, 0).await;
    let body = video::mp4(5000);
    let server = FileServer::start(move |request| Reply::file(request, &body, ETAG).trickling()).await;
    let fault = lab.fetch(&server.url("/v.mp4")).await.unwrap_err();
    assert!(matches!(&fault, FetchFault::Network(why) if why.contains("bytes a second")), "{fault:?}");
}

#[tokio::test]
async fn a_host_that_always_cuts_is_left_for_another_attempt_which_continues() {
    let (lab, body) = (Lab::new().await, video::mp4(2 << 20));
    let whole = body.clone();
    let server = FileServer::start(move |request| {
        let reply = Reply::file(request, &whole, ETAG);
        if request.number < 5 { reply.cut(100_000, Ending::Close) } else { reply }
    })
    .await;
    assert!(matches!(lab.fetch(&server.url("/v.mp4")).await, Err(FetchFault::Network(_))));
    let stored = lab.fetch(&server.url("/v.mp4")).await.unwrap();
    lab.assert_holds_only(&stored, &body).await;
    assert_eq!(server.ranges().last(), Some(&Some(500_000)));
}

#[tokio::test]
async fn a_host_that_is_not_there_is_network_trouble() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v.mp4", listener.local_addr().unwrap());
    drop(listener);
    let fault = Lab::new().await.fetch(&format!("{url}?sig=s3cret")).await.unwrap_err();
    assert!(matches!(&fault, FetchFault::Network(why) if !why.contains("s3cret")), "{fault:?}");
}

#[tokio::test]
async fn a_refused_link_asks_for_a_fresh_one() {
    for status in [400, 401, 403, 404, 410] {
        let lab = Lab::new().await;
        let server = FileServer::start(move |_| Reply::new(status, "gone")).await;
        let fault = lab.fetch(&server.url("/v.mp4")).await.unwrap_err();
        assert!(matches!(fault, FetchFault::LinkRefused { status: got } if got == status), "{fault:?}");
        assert!(lab.files().is_empty());
    }
}

#[tokio::test]
async fn trouble_of_the_host_is_told_with_its_wish_to_wait() {
    for (status, header, wait) in
        [(500, "x", None), (503, "7", Some(7)), (429, "86400", Some(3600)), (408, "", None)]
    {
        let lab = Lab::new().await;
        let server = FileServer::start(move |_| Reply::new(status, "").with("Retry-After", header)).await;
        match lab.fetch(&server.url("/v.mp4")).await.unwrap_err() {
            FetchFault::Upstream { status: got, retry_after } => {
                assert_eq!((got, retry_after), (status, wait.map(Duration::from_secs)));
            }
            fault => panic!("{fault:?}"),
        }
    }
}

/// A link that expires in the middle, and a fresh one to what `fresh` answers.
async fn expire_midway(
    validators: &'static [(&str, &str)],
    body: &Bytes,
    fresh: fn(&Request, &Bytes) -> Reply,
) -> (Lab, FileServer, Stored) {
    let (lab, whole) = (Lab::new().await, body.clone());
    let server = FileServer::start(move |request| match (request.path.as_str(), request.number) {
        ("/fresh", _) => fresh(request, &whole),
        (_, 0) => Reply::file(request, &whole, validators).cut(1_000_000, Ending::Close),
        _ => Reply::new(403, "expired"),
    })
    .await;
    let fault = lab.fetch(&server.url("/old")).await.unwrap_err();
    assert!(matches!(fault, FetchFault::LinkRefused { status: 403 }), "{fault:?}");
    let stored = lab.fetch(&server.url("/fresh")).await.unwrap();
    (lab, server, stored)
}

#[tokio::test]
async fn a_fresh_link_continues_when_length_and_tag_agree() {
    let body = video::mp4(2 << 20);
    let (lab, server, stored) =
        expire_midway(ETAG, &body, |request, body| Reply::file(request, body, ETAG)).await;
    lab.assert_holds_only(&stored, &body).await;
    assert_eq!(server.ranges(), [None, Some(1_000_000), Some(1_000_000)]);
}

#[tokio::test]
async fn a_fresh_link_to_another_version_starts_over() {
    let body = video::mp4(2 << 20);
    let two = |request: &Request, body: &Bytes| Reply::file(request, body, &[("ETag", "\"two\"")]);
    let (lab, _, stored) = expire_midway(ETAG, &body, two).await;
    lab.assert_holds_only(&stored, &body).await;
    assert_eq!(stored.etag.as_deref(), Some("\"two\""));
}

#[tokio::test]
async fn a_date_alone_does_not_join_the_files_of_two_links() {
    let body = video::mp4(2 << 20);
    let (lab, server, stored) =
        expire_midway(DATE, &body, |request, body| Reply::file(request, body, DATE)).await;
    lab.assert_holds_only(&stored, &body).await;
    assert_eq!(server.ranges().last(), Some(&None));
}

#[tokio::test]
async fn a_part_that_waits_is_removed_when_its_job_is_forgotten() {
    let (lab, body) = (Lab::new().await, video::mp4(2 << 20));
    let server = FileServer::start(move |request| match request.number {
        0 => Reply::file(request, &body, ETAG).cut(1_000_000, Ending::Close),
        _ => Reply::new(403, "expired"),
    })
    .await;
    lab.fetch(&server.url("/v.mp4")).await.unwrap_err();
    assert!(lab.files().iter().any(|file| file.ends_with("job_1.mp4#1")), "{:?}", lab.files());
    lab.downloader.forget("job_2").await;
    assert_eq!(lab.files().len(), 2);
    lab.downloader.forget("job_1").await;
    assert!(lab.files().is_empty(), "{:?}", lab.files());
}

/// A host that cuts every file once and then refuses its link.
async fn always_expiring() -> FileServer {
    let body = video::mp4(300_000);
    FileServer::start(move |request| match request.range() {
        None => Reply::file(request, &body, ETAG).cut(200_000, Ending::Close),
        Some(_) => Reply::new(403, "expired"),
    })
    .await
}

#[tokio::test]
async fn of_too_many_waiting_parts_the_oldest_goes() {
    let (lab, server) = (Lab::new().await, always_expiring().await);
    for n in 0..17 {
        lab.fetch_order(&order(&format!("job_{n}"), 0, &server.url("/v.mp4"))).await.unwrap_err();
    }
    let staged: Vec<_> = lab.files().into_iter().filter(|file| file.ends_with("#1")).collect();
    assert_eq!(staged.len(), 16);
    assert!(!staged.contains(&"2026-08-01/job_0.mp4#1".to_owned()), "{staged:?}");
}

#[tokio::test]
async fn waiting_parts_go_with_their_downloader() {
    let (lab, server) = (Lab::new().await, always_expiring().await);
    lab.fetch(&server.url("/v.mp4")).await.unwrap_err();
    let Lab { root, archive, downloader } = lab;
    drop(downloader);
    let is_staged = || files(root.path()).iter().any(|file| file.contains('#'));
    let gone = async {
        while is_staged() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("the staging file is removed");
    drop(archive);
    open(root.path(), 0).await;
    assert!(files(root.path()).is_empty(), "the lock file is removed by the next start");
}

#[tokio::test]
async fn redirects_are_followed_without_anything_that_was_not_ours_to_give() {
    for status in [300, 301, 302, 303, 307, 308] {
        let (lab, body) = (Lab::new().await, video::mp4(5000));
        let whole = body.clone();
        let server = FileServer::start(move |request| match request.path.as_str() {
            "/a/start" => Reply::new(status, "").with("Location", "next?x=1").with("Set-Cookie", "a=b"),
            "/a/next?x=1" => Reply::new(status, "").with("Location", "/end"),
            _ => Reply::file(request, &whole, ETAG),
        })
        .await;
        let stored = lab.fetch(&server.url("/a/start")).await.unwrap();
        lab.assert_holds_only(&stored, &body).await;
        for request in server.requests() {
            for header in ["authorization", "cookie", "referer"] {
                assert!(!request.headers.contains_key(header), "{status}: {header}");
            }
        }
        assert_eq!(server.requests().len(), 3);
    }
}

#[tokio::test]
async fn a_redirect_to_a_place_that_is_not_allowed_is_refused() {
    let cases: &[(&str, fn(&Rule) -> bool)] = &[
        ("http://10.0.0.1/", |rule| matches!(rule, Rule::Scheme(_))),
        ("https://10.0.0.1/", |rule| matches!(rule, Rule::Literal(_))),
        ("//169.254.169.254/latest/meta-data/", |rule| matches!(rule, Rule::Scheme(_))),
        ("https://user:pw@127.0.0.1/", |rule| matches!(rule, Rule::UserInfo)),
        ("file:///etc/passwd", |rule| matches!(rule, Rule::Scheme(_))),
        ("/next#fragment", |rule| matches!(rule, Rule::Scheme(_) | Rule::Fragment)),
        ("\\\\10.0.0.1\\", |rule| matches!(rule, Rule::RawCharacters)),
        ("http://[", |rule| matches!(rule, Rule::Parse(_))),
    ];
    for (location, expected) in cases {
        let lab = Lab::new().await;
        let server = FileServer::start(move |_| Reply::new(302, "").with("Location", location)).await;
        match lab.fetch(&server.url("/v.mp4")).await.unwrap_err() {
            FetchFault::Denied(denied) => assert!(expected(&denied.rule), "{location}: {denied:?}"),
            fault => panic!("{location}: {fault:?}"),
        }
        assert_eq!(server.requests().len(), 1, "{location}");
    }
}

#[tokio::test]
async fn a_redirect_that_leads_nowhere_is_refused() {
    let replies: [fn() -> Reply; 4] = [
        || Reply::new(302, "").with("Refresh", "0; url=/v.mp4"),
        || Reply::new(302, "").with("Location", "/a").with("Location", "/b"),
        || Reply::new(304, ""),
        || Reply::new(305, "").with("Location", "/proxy"),
    ];
    for reply in replies {
        let lab = Lab::new().await;
        let server = FileServer::start(move |_| reply()).await;
        let fault = lab.fetch(&server.url("/v.mp4")).await.unwrap_err();
        assert!(
            matches!(&fault, FetchFault::Denied(denied) if matches!(denied.rule, Rule::Redirect(_))),
            "{fault:?}"
        );
    }
}

#[tokio::test]
async fn a_page_that_redirects_by_itself_is_no_video() {
    let lab = Lab::new().await;
    let page = "<meta http-equiv=refresh content='0; url=/v.mp4'>";
    let server = FileServer::start(move |_| Reply::new(200, page)).await;
    assert!(matches!(lab.fetch(&server.url("/")).await, Err(FetchFault::NotVideo(_))));
}

#[tokio::test]
async fn endless_redirects_end() {
    let lab = Lab::new().await;
    let server = FileServer::start(|_| Reply::new(302, "").with("Location", "/again")).await;
    let fault = lab.fetch(&server.url("/v.mp4")).await.unwrap_err();
    assert!(
        matches!(&fault, FetchFault::Denied(denied) if denied.rule == Rule::TooManyRedirects(5)),
        "{fault:?}"
    );
    assert_eq!(server.requests().len(), 6);
}

#[tokio::test]
async fn a_private_host_is_refused_before_anything_is_sent() {
    let (lab, body) = (Lab::new().await, video::mp4(5000));
    let server = honest(&body).await;
    let strict = Downloader::new(Arc::clone(&lab.archive), Guard::new(vec![]), settings()).unwrap();
    let by_name = server.url("/v.mp4").replace("127.0.0.1", "localhost");
    for url in [server.url("/v.mp4"), by_name] {
        let fault = strict.fetch(&order("job_1", 0, &url), &|_, _| {}, &CancellationToken::new()).await;
        assert!(matches!(fault, Err(FetchFault::Denied(_))), "{fault:?}");
    }
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn the_client_connects_to_no_name_that_leads_to_a_private_address() {
    let (lab, body) = (Lab::new().await, video::mp4(5000));
    let server = honest(&body).await;
    let port = server.url("").rsplit_once(':').unwrap().1.to_owned();
    let lookup: reelhook::outbound::egress::Lookup =
        Arc::new(|_| Box::pin(async { Ok(vec!["127.0.0.1".parse().unwrap()]) }));
    let inside = Guard::with_lookup(vec!["127.0.0.0/8".parse().unwrap()], Arc::clone(&lookup));
    let beside = Guard::with_lookup(vec!["10.0.0.0/8".parse().unwrap()], lookup);
    let order = order("job_1", 0, &format!("http://files.example-videos.com:{port}/v.mp4"));
    let strict = Downloader::new(Arc::clone(&lab.archive), beside.clone(), settings()).unwrap();
    let fault = strict.fetch(&order, &|_, _| {}, &CancellationToken::new()).await.unwrap_err();
    assert!(
        matches!(&fault, FetchFault::Denied(denied) if matches!(denied.rule, Rule::Scheme(_))),
        "{fault:?}"
    );
    let tls = Order { url: "https://files.example-videos.com/v.mp4".to_owned(), ..order.clone() };
    let fault = strict.fetch(&tls, &|_, _| {}, &CancellationToken::new()).await.unwrap_err();
    assert!(
        matches!(&fault, FetchFault::Denied(denied) if matches!(denied.rule, Rule::Address(_))),
        "{fault:?}"
    );
    assert!(server.requests().is_empty());
    let open = Downloader::new(Arc::clone(&lab.archive), inside, settings()).unwrap();
    open.fetch(&order, &|_, _| {}, &CancellationToken::new()).await.unwrap();
}

#[tokio::test]
async fn one_output_has_one_fetcher_and_one_link_may_serve_two_jobs() {
    let (lab, body) = (Lab::new().await, video::mp4(5000));
    let hold = Arc::new(Semaphore::new(0));
    let (whole, gate) = (body.clone(), Arc::clone(&hold));
    let server = FileServer::start(move |request| Reply::file(request, &whole, ETAG).held_by(&gate)).await;
    let url = server.url("/v.mp4");
    let elsewhere = downloader(&Arc::new(open(lab.root.path(), 0).await), settings());
    let rival = async {
        while server.requests().is_empty() {
            tokio::task::yield_now().await;
        }
        let here = lab.fetch(&url).await;
        let other_process =
            elsewhere.fetch(&order("job_1", 0, &url), &|_, _| {}, &CancellationToken::new()).await;
        hold.add_permits(2);
        (here, other_process, lab.fetch_order(&order("job_2", 0, &url)).await)
    };
    let (first, (here, other_process, other_job)) = tokio::join!(lab.fetch(&url), rival);
    assert!(matches!(here, Err(FetchFault::Busy)), "{here:?}");
    assert!(matches!(other_process, Err(FetchFault::Busy)), "{other_process:?}");
    assert_eq!(first.unwrap().sha256, other_job.unwrap().sha256);
    assert_eq!(lab.files(), ["2026-08-01/job_1.mp4", "2026-08-01/job_2.mp4"]);
}

#[tokio::test]
async fn a_stop_leaves_nothing_behind() {
    let (lab, body) = (Lab::new().await, video::mp4(2 << 20));
    let server = first_spoilt(&body, ETAG, |reply| reply.cut(1_500_000, Ending::Silence)).await;
    let stop = CancellationToken::new();
    let on_progress = |done: u64, _| {
        if done >= 1_500_000 {
            stop.cancel();
        }
    };
    let fault = lab.downloader.fetch(&order("job_1", 0, &server.url("/v.mp4")), &on_progress, &stop).await;
    assert!(matches!(fault, Err(FetchFault::Stopped)), "{fault:?}");
    assert!(lab.files().is_empty(), "{:?}", lab.files());
}

#[tokio::test]
async fn what_a_killed_process_left_is_removed_and_never_taken() {
    let (lab, body) = (Lab::new().await, video::mp4(5000));
    let folder = lab.root.path().join("2026-08-01");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("job_1.mp4#1"), "half a vid").unwrap();
    std::fs::write(folder.join("job_1.mp4"), "a file whose record was never written").unwrap();
    std::fs::write(folder.join("job_9.mp4#1"), "of a process that lives").unwrap();
    std::fs::write(lab.root.path().join(".reelhook/locks/2026-08-01%2Fjob_1"), "").unwrap();
    let reopened = Arc::new(open(lab.root.path(), 0).await);
    assert_eq!(files(lab.root.path()), ["2026-08-01/job_1.mp4", "2026-08-01/job_9.mp4#1"]);
    std::fs::remove_file(folder.join("job_9.mp4#1")).unwrap();
    let server = honest(&body).await;
    let order = order("job_1", 0, &server.url("/v.mp4"));
    let stored =
        downloader(&reopened, settings()).fetch(&order, &|_, _| {}, &CancellationToken::new()).await.unwrap();
    lab.assert_holds_only(&stored, &body).await;
}

#[tokio::test]
async fn a_part_of_a_living_process_survives_the_start_of_another() {
    let (lab, body) = (Lab::new().await, video::mp4(2 << 20));
    let whole = body.clone();
    let server = FileServer::start(move |request| match request.number {
        0 => Reply::file(request, &whole, ETAG).cut(1_000_000, Ending::Close),
        1 => Reply::new(503, ""),
        _ => Reply::file(request, &whole, ETAG),
    })
    .await;
    let fault = lab.fetch(&server.url("/v.mp4")).await.unwrap_err();
    assert!(matches!(fault, FetchFault::Upstream { status: 503, .. }), "{fault:?}");
    let before = lab.files();
    let _second_process = open(lab.root.path(), 0).await;
    assert_eq!(lab.files(), before);
    let stored = lab.fetch(&server.url("/v.mp4")).await.unwrap();
    lab.assert_holds_only(&stored, &body).await;
    assert_eq!(server.ranges(), [None, Some(1_000_000), Some(1_000_000)]);
}

#[tokio::test]
async fn a_full_volume_is_told_before_a_byte_is_written() {
    let lab = Lab::with(settings(), u64::MAX / 2).await;
    let body = video::mp4(5000);
    let server = honest(&body).await;
    let fault = lab.fetch(&server.url("/v.mp4")).await.unwrap_err();
    assert!(matches!(&fault, FetchFault::NoSpace(why) if why.contains("min_free")), "{fault:?}");
    assert!(lab.files().is_empty());
}

#[tokio::test]
async fn an_archive_that_cannot_be_written_is_our_fault_and_not_the_links() {
    let (lab, body) = (Lab::new().await, video::mp4(5000));
    std::fs::write(lab.root.path().join("2026-08-01"), "a file where a folder should be").unwrap();
    let server = honest(&body).await;
    let fault = lab.fetch(&server.url("/v.mp4")).await.unwrap_err();
    assert!(matches!(fault, FetchFault::Storage(_)), "{fault:?}");
}
