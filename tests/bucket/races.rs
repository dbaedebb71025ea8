//! Several instances, each with a spool of its own, at one job's file.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use file_server::{FileServer, Reply};
use reelhook::{
    config::{self, Config},
    lifecycle::JobId,
    outbound::{
        archive::Archive,
        download::{Downloader, Order, Stored},
        egress::Guard,
    },
    runner::Retainer,
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::{
    probed::{FakeS3, Flaw},
    *,
};

/// An instance as far as it fetches.
struct Instance {
    _spool: TempDir,
    archive: Arc<Archive>,
    downloader: Downloader,
}

impl Instance {
    async fn new(bucket: Bucket) -> Self {
        let spool = tempfile::tempdir().unwrap();
        let storage = config::Storage {
            root: spool.path().to_owned(),
            bucket: Some(bucket),
            ..Config::defaults().storage
        };
        let archive = Arc::new(Archive::open(&config::Storage { min_free: 0, ..storage }).await.unwrap());
        let settings = config::Download { backoff: Duration::from_millis(8), ..Config::defaults().download };
        let guard = Guard::new(vec!["127.0.0.0/8".parse().unwrap()]);
        let downloader = Downloader::new(Arc::clone(&archive), guard, settings).unwrap();
        Self { _spool: spool, archive, downloader }
    }

    async fn fetch(&self, job_id: &str, url: &str) -> Stored {
        let order =
            Order { job_id: job_id.to_owned(), index: 0, url: url.to_owned(), key: job_id.to_owned() };
        self.downloader.fetch(&order, &|_, _| {}, &CancellationToken::new()).await.unwrap()
    }

    /// What is stored there is what was said to be.
    async fn assert_has(&self, stored: &Stored) {
        let read = self.archive.read(&stored.location, None).await.unwrap().bytes().await.unwrap();
        assert_eq!(hex::encode(Sha256::digest(&read)), stored.sha256, "{stored:?}");
    }
}

/// A host of one file, which changes with each request if it is to.
async fn host(bytes: usize, changes: bool) -> FileServer {
    let body = video::mp4(bytes);
    FileServer::start(move |request| {
        let mut body = body.to_vec();
        if changes {
            *body.last_mut().unwrap() ^= 1 + u8::try_from(request.number).unwrap();
        }
        Reply::file(request, &Bytes::from(body), &[])
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_with_the_same_content_one_stores_it_and_the_other_finds_it_stored() {
    let server = Seaweed::start().await;
    let [one, two] = [(); 2].map(|()| Instance::new(server.settings(Serve::Proxy)));
    let (one, two) = tokio::join!(one, two);
    for (round, bytes) in [100_000, 12 << 20].into_iter().enumerate() {
        let host = host(bytes, false).await;
        let (job, url) = (format!("job_{round}"), host.url("/v.mp4"));
        let (first, second) = tokio::join!(one.fetch(&job, &url), two.fetch(&job, &url));
        assert_eq!((&first.location, &first.sha256), (&second.location, &second.sha256));
        assert_eq!(first.location, format!("{job}.mp4"));
        one.assert_has(&first).await;
        assert_eq!(keys(&server.client()).await.len(), round + 1);
    }
}

#[tokio::test]
async fn a_name_whose_reservation_ends_while_one_asks_whose_it_is_is_reserved_anew() {
    let (_server, bucket) = FakeS3::start(Flaw::EndsReservation).await;
    let (instance, host) = (Instance::new(bucket).await, host(100_000, false).await);
    let stored = instance.fetch("job_1", &host.url("/v.mp4")).await;
    assert_eq!(stored.location, "job_1.mp4");
    instance.assert_has(&stored).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_with_other_content_neither_overwrites_what_the_other_recorded() {
    let server = Seaweed::start().await;
    let [one, two] = [(); 2].map(|()| Instance::new(server.settings(Serve::Proxy)));
    let (one, two) = tokio::join!(one, two);
    for round in 0..8 {
        // Half of them in one request, half in pieces.
        let host = host(if round % 2 == 0 { 100_000 } else { 6 << 20 }, true).await;
        let (job, url) = (format!("job_{round}"), host.url("/v.mp4"));
        let (first, second) = tokio::join!(one.fetch(&job, &url), two.fetch(&job, &url));
        assert_ne!(first.location, second.location);
        one.assert_has(&first).await;
        one.assert_has(&second).await;
        let plain = format!("{job}.mp4");
        assert!([&first.location, &second.location].contains(&&plain), "{first:?} {second:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_stays_reserved_no_longer_than_until_its_job_has_ended() {
    let server = Seaweed::start().await;
    let (world, client) = (world(server.settings(Serve::Proxy)).await, server.client());
    let open = world.submit("[[delay:6h]] a ferry").await;
    let over = world.submit("[[delay:6h]] a ferry that nobody waits for").await;
    world.post(&format!("/v1/jobs/{over}/cancel"), &serde_json::json!({})).await;
    assert_eq!(world.ended(&over).await["status"], "canceled");
    let unknown = format!("job_{}", "0".repeat(32));
    let names = [
        format!("{open}.mp4"),
        format!("{over}.mp4"),
        format!("2026/{over}-0123456789abcdef.mp4"),
        format!("{unknown}.mp4"),
        "notes.txt".to_owned(),
    ];
    let reservation = |name: &String| format!("team/one/.reelhook/names/{name}");
    for name in &names {
        client.put(&Key::from(reservation(name)), "0".repeat(64).into()).await.unwrap();
    }
    world.get("/v1/retention").await;
    assert_eq!(keys(&client).await.len(), names.len(), "a look removes nothing");
    world.post("/v1/retention", &serde_json::json!({})).await;
    let mut kept = [&names[0], &names[3], &names[4]].map(reservation);
    kept.sort();
    assert_eq!(keys(&client).await, kept);
}

/// The damaged one comes first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_given_back_before_their_job_is_forgotten_and_past_one_whose_record_is_damaged() {
    let server = Seaweed::start().await;
    let (bucket, client) = (server.settings(Serve::Proxy), server.client());
    let mut world = World::idle(|config| {
        config.storage.bucket = Some(bucket);
        config.retention.jobs = Some(Duration::from_millis(1));
    })
    .await;
    let mut jobs = Vec::new();
    for _ in 0..3 {
        let id = world.submit("a ferry that nobody waits for").await;
        world.post(&format!("/v1/jobs/{id}/cancel"), &serde_json::json!({})).await;
        client.put(&reserved_for(&id), "0".repeat(64).into()).await.unwrap();
        jobs.push(id);
    }
    world.stop_server().await;
    damage(&world.config.store, &jobs[0]);
    world.start_server().await;

    let app = Arc::clone(world.server().app());
    let archive = Arc::new(Archive::open(&app.config().storage).await.unwrap());
    let cut = Retainer::new(app, archive).round(Some(Duration::ZERO)).await.unwrap();
    assert!(cut.more, "{cut:?}");
    assert_eq!(keys(&client).await.len(), 3, "its time was over at once");
    let round = world.post("/v1/retention", &serde_json::json!({})).await;
    assert_eq!(round["more"], false, "{round:#}");
    assert_eq!(
        world.get("/v1/jobs").await["data"],
        serde_json::json!([]),
        "all that can be read are forgotten"
    );
    assert_eq!(keys(&client).await, [reserved_for(&jobs[0]).to_string()]);
}

fn reserved_for(job: &str) -> Key {
    Key::from(format!("team/one/.reelhook/names/{job}.mp4"))
}

/// Changes a bit in the middle of a job's record.
fn damage(store: &config::Store, job: &str) {
    // Who closed it may let go of its files later, and so may the last of these threads.
    let is_let_go = || std::fs::File::open(store.path.join("db")).unwrap().lock().unwrap();
    is_let_go();
    let db = sled::Config::new().path(&store.path).mode(sled::Mode::LowSpace).open().unwrap();
    let key = [b"j", job.parse::<JobId>().unwrap().as_bytes().as_slice()].concat();
    let mut record = db.get(&key).unwrap().unwrap().to_vec();
    let middle = record.len() / 2;
    record[middle] ^= 4;
    db.insert(key, record).unwrap();
    db.flush().unwrap();
    drop(db);
    is_let_go();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_a_killed_instance_reserved_is_for_its_content_only() {
    let server = Seaweed::start().await;
    let (one, client) = (Instance::new(server.settings(Serve::Proxy)).await, server.client());
    // In one request, and in pieces.
    for bytes in [100_000, 6 << 20] {
        let (host, body) = (host(bytes, false).await, video::mp4(bytes));
        let reserved = [("same", hex::encode(Sha256::digest(&body))), ("other", "0".repeat(64))];
        for (content, reserved_for) in reserved {
            let job = format!("job_{bytes}_{content}");
            let reservation = Key::from(format!("team/one/.reelhook/names/{job}.mp4"));
            client.put(&reservation, reserved_for.clone().into()).await.unwrap();
            let stored = one.fetch(&job, &host.url("/v.mp4")).await;
            one.assert_has(&stored).await;
            let is_ours = reserved_for == stored.sha256;
            assert_eq!(stored.location == format!("{job}.mp4"), is_ours, "{stored:?}");
            assert_eq!(client.head(&reservation).await.is_err(), is_ours, "it ends where it served");
        }
    }
}
