//! Unfinished files: who works on them, how long they wait, and that none stays behind.

use super::*;

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
