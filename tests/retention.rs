//! What is past its time goes: files first, then their job; and what is owed, open or young stays.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod support;

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use reelhook::{
    app::{Addresses, App},
    clock::Clock,
    config::{self, Config},
    lifecycle::{
        Event, EventId, EventKind, EventRecord, Job, JobId, Millis, NewJob, Outcome, Phase, SinkRule,
        StoredFile, Why,
    },
    outbound::archive::Archive,
    runner::{Kind, Retainer, RetentionError, Round},
    server::{Listeners, Server},
    store::{Insert, Limits, Store, StoreError, sled::SledStore},
};
use serde_json::{Value, json};
use support::World;
use tempfile::TempDir;

const DAY: Duration = Duration::from_hours(24);
/// 2026-01-15T00:00:00Z.
const NOW: Millis = Millis(1_768_435_200_000);

/// A store, an archive and a clock that is moved by hand.
struct Shelf {
    dir: TempDir,
    clock: Clock,
    app: Arc<App>,
    archive: Arc<Archive>,
    retainer: Retainer,
}

fn days(days: u32) -> Option<Duration> {
    Some(DAY * days)
}

impl Shelf {
    async fn new(limits: config::Retention) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::for_dev(dir.path(), &"http://127.0.0.1:9".parse().unwrap(), 1.0);
        (config.storage.min_free, config.store.min_free) = (0, 0);
        config.storage.key_template = "{date}/{job_id}".into();
        config.retention = limits;
        let (clock, policy) = (Clock::manual(NOW.0), Arc::new(reelhook::server::policy(&config)));
        let store = Arc::new(SledStore::open(&config.store, NOW, &policy).unwrap());
        let archive = Arc::new(Archive::open(&config.storage).await.unwrap());
        let addresses = Addresses { public_url: None, external_url: "http://127.0.0.1:9".parse().unwrap() };
        let app = Arc::new(App::new(Arc::new(config), store, clock.clone(), addresses).await.unwrap());
        let retainer = Retainer::new(Arc::clone(&app), Arc::clone(&archive));
        Self { dir, clock, app, archive, retainer }
    }

    /// A job that ended just now with two files, and is owed to a sink if `owed`.
    async fn stored(&self, n: u8, owed: bool) -> Job {
        let now = self.app.now();
        let id = JobId::new(now, &[n; 10]);
        let mut job = Job::new(id, now, NewJob { model: "kling-3".into(), ..NewJob::default() });
        let key = self.archive.key(&id.to_string(), jiff::Timestamp::from_millisecond(now.0).unwrap());
        let mut files = Vec::new();
        for location in [format!("{key}.mp4"), format!("{key}-2.webm"), format!("{key}.json")] {
            let mut writer = self.archive.writer(&location).await.unwrap();
            writer.put_part(Bytes::from_static(b"video").into()).await.unwrap();
            writer.complete().await.unwrap();
            files.push(file(&location));
        }
        files.pop(); // the manifest
        job.phase = Phase::Settled { outcome: Outcome::Stored { files } };
        (job.due_at, job.times.finished_at) = (None, Some(now));
        self.put(job, owed).await
    }

    async fn put(&self, job: Job, owed: bool) -> Job {
        let mut policy = (*self.app.policy()).clone();
        if owed {
            policy.sinks = vec![SinkRule { name: "app".into(), events: vec![EventKind::Created] }];
        }
        let (event, deliveries) = job.created(&policy);
        let document = Bytes::from_static(b"{\"input\":{}}");
        let insert =
            Insert { job: job.clone(), event, deliveries, document, key: None, limits: Limits::default() };
        self.app.store().insert(insert).await.unwrap();
        job
    }

    fn path(&self, location: &str) -> PathBuf {
        self.app.config().storage.root.join(location)
    }

    fn on_disk(&self, job: &Job) -> Vec<bool> {
        let files: Vec<_> = job.files().map(|file| file.location.clone()).collect();
        let manifest = files.first().map(|first| first.replace(".mp4", ".json"));
        files.iter().chain(&manifest).map(|location| self.path(location).exists()).collect()
    }

    async fn load(&self, id: JobId) -> Option<Job> {
        self.app.store().load(id).await.unwrap()
    }

    async fn round(&self) -> Round {
        self.retainer.round(None).await.unwrap()
    }
}

fn file(location: &str) -> StoredFile {
    StoredFile {
        name: location.rsplit('/').next().unwrap().into(),
        location: location.into(),
        bytes: 5,
        sha256: "0".repeat(64),
        content_type: "video/mp4".into(),
    }
}

fn count(round: &Round, kind: Kind) -> u64 {
    round.of(kind).unwrap().count
}

#[tokio::test]
async fn files_go_at_their_time_and_the_job_with_its_manifest_at_its_own() {
    let shelf =
        Shelf::new(config::Retention { videos: days(30), jobs: days(90), ..Default::default() }).await;
    let job = shelf.stored(1, false).await;
    shelf.clock.advance(DAY * 30);
    assert_eq!(count(&shelf.round().await, Kind::Videos), 0, "its time is not over yet");
    let young = shelf.stored(2, false).await;
    shelf.clock.advance(Duration::from_millis(1));
    let preview = shelf.retainer.preview().await.unwrap();
    let videos = preview.of(Kind::Videos).unwrap();
    assert_eq!((videos.count, videos.bytes, videos.oldest), (2, 10, Some(NOW)));
    assert_eq!(shelf.on_disk(&job), [true; 3], "that was only a look");

    assert_eq!(count(&shelf.round().await, Kind::Videos), 2);
    assert_eq!(shelf.on_disk(&job), [false; 3]);
    let bare = shelf.load(job.id).await.unwrap();
    assert_eq!((bare.files_removed_at, bare.outcome()), (Some(shelf.app.now()), job.outcome()));
    assert_eq!(count(&shelf.round().await, Kind::Videos), 0, "once is enough");

    shelf.clock.advance(DAY * 60);
    let last = shelf.round().await;
    assert_eq!((count(&last, Kind::Jobs), count(&last, Kind::Videos)), (1, 2));
    assert_eq!(shelf.load(job.id).await, None);
    assert_eq!(shelf.on_disk(&young), [false; 3], "its own time came as well");
    assert!(shelf.load(young.id).await.is_some());
}

#[tokio::test]
async fn videos_that_are_kept_for_ever_stay_when_their_job_is_forgotten() {
    let shelf = Shelf::new(config::Retention { jobs: days(90), ..Default::default() }).await;
    let job = shelf.stored(1, false).await;
    shelf.clock.advance(DAY * 91);
    assert_eq!(count(&shelf.round().await, Kind::Jobs), 1);
    assert_eq!(shelf.load(job.id).await, None);
    assert_eq!(shelf.on_disk(&job), [true; 3], "with the manifest that says what they are");
}

#[tokio::test]
async fn what_is_owed_open_or_held_stays_however_old() {
    let shelf = Shelf::new(config::Retention { videos: days(1), jobs: days(1), ..Default::default() }).await;
    let owing = shelf.stored(1, true).await;
    let mut held = Job::new(JobId::new(NOW, &[2; 10]), NOW, NewJob::default());
    (held.phase, held.due_at) = (Phase::Held { why: Why::AnswerLost }, None);
    let held = shelf.put(held, false).await;
    let open = shelf.put(Job::new(JobId::new(NOW, &[3; 10]), NOW, NewJob::default()), false).await;
    shelf.clock.advance(DAY * 1_000);
    let round = shelf.round().await;
    assert_eq!((count(&round, Kind::Videos), count(&round, Kind::Jobs)), (0, 0));
    for job in [&owing, &held, &open] {
        assert!(shelf.load(job.id).await.is_some());
    }
    assert_eq!(shelf.on_disk(&owing), [true; 3]);
}

#[tokio::test]
async fn a_round_that_was_cut_short_between_files_and_record_is_finished_by_the_next() {
    let shelf = Shelf::new(config::Retention { videos: days(1), jobs: days(1), ..Default::default() }).await;
    let job = shelf.stored(1, false).await;
    let first = job.files().next().unwrap().location.clone();
    fs::remove_file(shelf.path(&first)).unwrap();
    shelf.clock.advance(DAY * 2);
    assert_eq!(count(&shelf.round().await, Kind::Jobs), 1);
    assert_eq!((shelf.on_disk(&job), shelf.load(job.id).await), (vec![false; 3], None));
}

#[tokio::test]
async fn a_file_that_is_not_the_jobs_own_is_never_touched() {
    let shelf = Shelf::new(config::Retention { videos: days(1), jobs: days(1), ..Default::default() }).await;
    let other = shelf.stored(1, true).await;
    let mut thief = Job::new(JobId::new(NOW, &[9; 10]), NOW, NewJob::default());
    let files = other.files().cloned().collect();
    thief.phase = Phase::Settled { outcome: Outcome::Stored { files } };
    (thief.due_at, thief.times.finished_at) = (None, Some(NOW));
    let thief = shelf.put(thief, false).await;
    shelf.clock.advance(DAY * 2);
    assert_eq!(count(&shelf.round().await, Kind::Jobs), 0);
    assert_eq!(shelf.on_disk(&other), [true; 3]);
    assert!(shelf.load(thief.id).await.is_some(), "its record tells what is wrong");
}

#[tokio::test]
async fn an_archive_whose_volume_is_gone_keeps_its_jobs() {
    let shelf = Shelf::new(config::Retention { videos: days(1), jobs: days(1), ..Default::default() }).await;
    let job = shelf.stored(1, false).await;
    let root = shelf.app.config().storage.root.clone();
    let away = shelf.dir.path().join("away");
    fs::rename(&root, &away).unwrap();
    fs::create_dir(&root).unwrap();
    shelf.clock.advance(DAY * 2);
    let round = shelf.retainer.round(None).await;
    assert!(matches!(round, Err(RetentionError::Archive(_))), "{round:?}");
    assert!(shelf.load(job.id).await.is_some_and(|job| job.files_removed_at.is_none()));
    fs::remove_dir(&root).unwrap();
    fs::rename(&away, &root).unwrap();
    assert_eq!(count(&shelf.round().await, Kind::Jobs), 1);
}

#[tokio::test]
async fn nothing_is_removed_for_an_hour_after_a_jump_of_the_clock() {
    let shelf = Shelf::new(config::Retention { jobs: days(1), ..Default::default() }).await;
    let job = shelf.stored(1, false).await;
    shelf.clock.step(100 * 86_400_000);
    for _ in 0..2 {
        let round = shelf.retainer.round(None).await;
        assert!(matches!(round, Err(RetentionError::ClockJumped)), "{round:?}");
        shelf.clock.advance(Duration::from_mins(59));
    }
    assert!(shelf.load(job.id).await.is_some());
    assert_eq!(count(&shelf.round().await, Kind::Jobs), 1);
}

#[tokio::test]
async fn a_round_ends_with_its_time_and_says_that_there_is_more() {
    let shelf = Shelf::new(config::Retention { jobs: days(1), ..Default::default() }).await;
    shelf.stored(1, false).await;
    shelf.clock.advance(DAY * 2);
    let cut = shelf.retainer.round(Some(Duration::ZERO)).await.unwrap();
    assert_eq!((cut.more, count(&cut, Kind::Jobs)), (true, 0));
    let whole = shelf.round().await;
    assert_eq!((whole.more, count(&whole, Kind::Jobs)), (false, 1));
}

#[tokio::test]
async fn a_store_that_forgot_passes_its_check_and_moves_to_another() {
    let limits = config::Retention { videos: days(1), jobs: days(1), events: days(1), deliveries: days(1) };
    let shelf = Shelf::new(limits).await;
    for n in 1..=5 {
        let mut job = Job::new(JobId::new(NOW, &[n; 10]), NOW, NewJob::default());
        job.cost.reserved = Some(reelhook::lifecycle::Reservation { day: 20_468, credits: 10 });
        if n < 5 {
            let outcome = Outcome::Canceled { may_still_charge: false, files: Vec::new() };
            (job.phase, job.due_at, job.times.finished_at) = (Phase::Settled { outcome }, None, Some(NOW));
        }
        shelf.put(job, false).await;
    }
    // Its end is swept, and what was told of it later is not.
    let owing = shelf.put(Job::new(JobId::new(NOW, &[6; 10]), NOW, NewJob::default()), true).await;
    shelf.app.apply(owing.id, &Event::Cancel).await.unwrap();
    shelf.clock.advance(DAY * 2);
    let now = shelf.app.now();
    let told = EventRecord { id: EventId::new(now, &[6; 10]), time: now, ..owing.created_event() };
    shelf.app.store().log(told, Vec::new()).await.unwrap();
    shelf.put(Job::new(JobId::new(now, &[7; 10]), now, NewJob::default()), false).await;
    let round = shelf.round().await;
    assert_eq!((count(&round, Kind::Jobs), count(&round, Kind::Events)), (4, 7));
    let booked = shelf.app.store().booked(NOW).await.unwrap();
    assert_eq!(booked.day, 50, "money that was spent stays spent");
    let Shelf { dir, app, retainer, .. } = shelf;
    app.store().close().await;
    let config = app.config().clone();
    drop((app, retainer));

    let findings = |config: &config::Store| reelhook::store::sled::check(config, None).unwrap().findings;
    assert_eq!(findings(&config.store), []);
    let mut saved = Vec::new();
    reelhook::store::sled::recover(&config.store, None, &[], "kling-3", now, &mut saved).unwrap();
    let saved = String::from_utf8(saved).unwrap();
    assert!(!saved.contains("job.canceled"), "what was swept is not told again: {saved}");
    let mut lines = Vec::new();
    let now = NOW.plus(3 * 86_400_000);
    reelhook::store::sled::export(&config.store, None, true, now, &mut lines).unwrap();
    let copy = config::Store { path: dir.path().join("copy"), ..config.store.clone() };
    let policy = Arc::new(reelhook::server::policy(&config));
    reelhook::store::sled::import(&copy, &lines[..], now, &policy).unwrap();
    assert_eq!(findings(&copy), []);
    let store = SledStore::open(&copy, now, &policy).unwrap();
    assert_eq!(store.bounds().await.unwrap().oldest, 8);
    assert_eq!(store.booked(NOW).await.unwrap().day, 50);
    closed(&store).await.unwrap();
}

async fn closed(store: &SledStore) -> Result<(), StoreError> {
    store.barrier().await?;
    store.close().await;
    Ok(())
}

/// The removal of a kind in an answer.
fn told<'a>(answer: &'a Value, kind: &str) -> &'a Value {
    answer["data"].as_array().unwrap().iter().find(|removal| removal["kind"] == kind).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http_a_preview_shows_what_a_round_removes_and_removed_files_are_said_to_be() {
    let mut world = World::with(|config| {
        config.retention.videos = Some(Duration::from_millis(1));
        config.retention.events = Some(Duration::from_millis(1));
        config.callback.keep_bodies = Some(Duration::from_millis(1));
    })
    .await;
    let id = world.submit("a boat").await;
    let job = world.ended(&id).await;
    let name = job["files"][0]["name"].as_str().unwrap().to_owned();
    assert_eq!(job["files"][0]["removed_at"], Value::Null);
    let link = job["files"][0]["url"].as_str().unwrap().to_owned();

    let preview = world.get("/v1/retention").await;
    assert_eq!(told(&preview, "videos")["count"], 1, "{preview:#}");
    assert_eq!(told(&preview, "videos")["bytes"], job["files"][0]["bytes"]);
    assert_eq!(told(&preview, "jobs")["count"], 0);
    let done = world.post("/v1/retention", &json!({})).await;
    assert_eq!(told(&done, "videos")["count"], 1, "{done:#}");
    assert_eq!(done["more"], false);

    let after = world.get(&format!("/v1/jobs/{id}")).await;
    assert_eq!(after["status"], "succeeded");
    assert!(after["files"][0]["removed_at"].is_string(), "{after:#}");
    assert!(after["notices"][0].as_str().unwrap().contains("removed"), "{after:#}");
    let paths = [format!("/v1/jobs/{id}/files/{name}"), format!("/v1/jobs/{id}/manifest")];
    for url in paths.map(|path| world.url(&path)).into_iter().chain([link]) {
        let answer = world.http.get(&url).send().await.unwrap();
        assert_eq!(answer.status(), 410, "{url}");
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["code"], "file-removed");
    }
    let stream = world.http.get(world.url("/v1/events")).header("accept", "text/event-stream");
    let mut stream = stream.header("last-event-id", "0").send().await.unwrap();
    let first = String::from_utf8(stream.chunk().await.unwrap().unwrap().to_vec()).unwrap();
    assert!(first.contains("event: reset") && first.contains("\"oldest\""), "{first}");
    drop(stream);
    let text = world.http.get(world.url("/metrics")).send().await.unwrap().text().await.unwrap();
    // Of all servers of this process together.
    assert!(text.contains("reelhook_retention_removed_total{kind=\"videos\"} "), "counted");
    world.stop_server().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http_a_round_is_refused_for_an_hour_after_a_jump_of_the_clock() {
    let dir = tempfile::tempdir().unwrap();
    let config = support::quick(dir.path(), &"http://127.0.0.1:9".parse().unwrap());
    let (clock, listeners) = (Clock::manual(NOW.0), Listeners::bind(&config).unwrap());
    let server = Server::start(config, clock.clone(), listeners).await.unwrap();
    let url = format!("http://{}/v1/retention", server.api());
    let round = async || support::client().post(&url).json(&json!({})).send().await.unwrap();
    clock.step(100 * 86_400_000);
    for _ in 0..2 {
        let refused = round().await;
        assert_eq!(refused.status(), 409);
        let problem: Value = refused.json().await.unwrap();
        assert_eq!((&problem["code"], &problem["retryable"]), (&json!("clock-jumped"), &json!(true)));
        assert!(problem["detail"].as_str().unwrap().contains("nothing is removed"), "{problem:#}");
        assert_eq!(support::client().get(&url).send().await.unwrap().status(), 200, "a look is free");
        clock.advance(Duration::from_mins(59));
    }
    assert_eq!(round().await.status(), 200);
    server.stop().await;
}
