//! Two servers on one PostgreSQL, as processes of their own: what becomes of the jobs when one of them is killed, and when
//! the database is away; and what becomes of callbacks while each is restarted in its turn.

#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/postgres.rs"]
mod database;
mod support;

use std::{collections::BTreeSet, net::TcpListener, process::Command, time::Duration};

use reelhook::{
    config::Database,
    sandbox::{self, Options, Sandbox},
};
use reqwest::{Client, StatusCode};
use secrecy::ExposeSecret as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use support::{PATIENCE, Process, SPEED, charges, client, configure, free_port, has_ended};
use tempfile::TempDir;
use tokio::sync::watch;

/// A provider, a database, and a folder for the videos that both servers share.
struct Stage {
    sandbox: Sandbox,
    server: database::Server,
    database: Database,
    dir: TempDir,
    /// Where callbacks are sent: the one who listens there takes them for the jobs of both.
    callback: u16,
}

impl Stage {
    async fn set() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sandbox = sandbox::start(listener, Options { speed: SPEED, seed: 3 }).await.unwrap();
        let server = database::Server::start();
        let database = server.database();
        Self { sandbox, server, database, dir: tempfile::tempdir().unwrap(), callback: free_port() }
    }

    async fn serve(&self, name: &str, callback: u16) -> Process {
        let (api, public, store) = (free_port(), self.callback, self.database.url.expose_secret());
        let more = format!(
            r#"
            callback.public_url = "http://127.0.0.1:{public}"
            poll.overdue_after = "2s"
            download = {{ backoff = "50ms", max_backoff = "200ms" }}
            store.url = "{store}"
            [upstream]
            submit_timeout = "1s"
            connect_timeout = "500ms"
            unknown_wait = "5s"
            max_in_flight = 100
            "#
        );
        let file = format!("{name}.toml");
        configure(self.dir.path(), &file, self.sandbox.url().as_str(), api, callback, &more);
        let mut command = Command::new(env!("CARGO_BIN_EXE_reelhook"));
        Process::run(command.args(["serve", "--config", &file]), self.dir.path(), api).await
    }

    fn charges(&self, id: &str) -> usize {
        charges(&self.sandbox.ledger(), id)
    }

    /// A job that goes on for longer than the test, and the path of its callbacks, which the provider tells by an early one.
    async fn open_job(&self, server: &Process) -> String {
        let id = server.submit("[[early-callback]] [[no-callback]] [[delay:6h]] a ferry").await;
        let (url, _) = self.called_back(&id).await;
        url[url.find("/cb/").unwrap()..].to_owned()
    }

    /// The answer to the callback for a job, once there is one.
    async fn called_back(&self, id: &str) -> (String, Option<u16>) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let calls = self.sandbox.ledger().callbacks;
            if let Some(call) = calls.into_iter().find(|call| call.url.contains(id)) {
                return (call.url, call.status);
            }
            assert!(tokio::time::Instant::now() < deadline, "{id} was never called back");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Who did anything for a job, by the events of its timeline.
async fn instances(server: &Process, id: &str) -> BTreeSet<String> {
    let events = server.get(&format!("/v1/jobs/{id}/events?limit=250")).await;
    let events = events["data"].as_array().unwrap().iter();
    events.filter_map(|event| event["data"]["instance"].as_str().map(str::to_owned)).collect()
}

/// Who logged anything, by the lines of the log that both append to.
fn loggers(stage: &Stage) -> BTreeSet<String> {
    let log = std::fs::read_to_string(stage.dir.path().join("log")).unwrap();
    let instance = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["instance"].as_str().unwrap_or_else(|| panic!("{line}")).to_owned()
    };
    log.lines().map(instance).collect()
}

/// Each takes some other time and way.
const SCENES: &[&str] = &[
    "[[delay:120s]] a fox",
    "[[delay:500s]] a mill",
    "[[no-callback]] a kite",
    "[[submit-timeout]] [[delay:300s]] a bell",
    "[[size:1MiB]] [[slow-download:400kB]] a glacier",
    "[[dup-callback:3]] a ferry",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_is_killed_and_every_job_ends_and_is_charged_once() {
    let stage = Stage::set().await;
    let stays = stage.serve("stays", stage.callback).await;
    let dies = stage.serve("dies", free_port()).await;
    let mut jobs = Vec::new();
    for n in 0..48 {
        let server = if n % 2 == 0 { &stays } else { &dies };
        jobs.push(server.submit(&format!("{} {n}", SCENES[n % SCENES.len()])).await);
    }
    dies.until(&jobs[0], has_ended).await;
    dies.kill();
    let mut still_open = 0;
    for id in &jobs {
        still_open += usize::from(!has_ended(&stays.get(&format!("/v1/jobs/{id}")).await));
    }
    assert!(still_open > 0, "it was killed too late to prove anything");
    let mut workers = BTreeSet::new();
    for id in &jobs {
        let job = stays.until(id, has_ended).await;
        // Killed before it could know whether its call was sent, it leaves a job that nobody may send again.
        if job["status"] == "held" {
            assert_eq!((&job["attempts"]["submit"], stage.charges(id) <= 1), (&1.into(), true), "{job:#}");
            continue;
        }
        assert_eq!((&job["status"], stage.charges(id)), (&"succeeded".into(), 1), "{job:#}");
        workers.extend(instances(&stays, id).await);
    }
    assert_eq!(workers.len(), 2, "both had a share in the work");
    assert_eq!(loggers(&stage), workers, "and each line that they logged says whose it is");
    let calls = stage.sandbox.ledger().creates;
    assert!(calls.iter().all(|call| call.count == 1), "a create call was sent twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_is_away_a_callback_is_refused_with_503_and_work_goes_on_when_it_is_back() {
    let stage = Stage::set().await;
    let server = stage.serve("only", stage.callback).await;
    let id = server.submit("[[delay:30m]] a lighthouse").await;
    server.until(&id, |job| job["phase"] == "awaiting").await;
    stage.server.crash();
    let (url, status) = stage.called_back(&id).await;
    assert_eq!(status, Some(503));
    let ready = client().get(server.url("/readyz")).send().await.unwrap();
    assert_eq!(ready.status(), 503);

    stage.server.up();
    let job = server.until(&id, has_ended).await;
    assert_eq!((&job["status"], stage.charges(&id)), (&"succeeded".into(), 1), "{job:#}");
    let again = client().post(url).json(&serde_json::json!({})).send().await.unwrap();
    assert_eq!(again.status(), 200);
    let next = server.submit("a harbour").await;
    assert_eq!(server.until(&next, has_ended).await["completed_via"], "callback");
}

/// Callbacks of one job that are all kept.
const CALLBACKS_OF_A_JOB: usize = 60;

/// A callback like no other, and the hash that it is known by.
fn note(n: usize) -> (String, String) {
    let body = json!({ "status": "IN_PROGRESS", "progress": n }).to_string();
    let hash = hex::encode(Sha256::digest(&body));
    (body, hash)
}

/// A sender without kept connections, as a provider is.
fn sender() -> Client {
    Client::builder().no_proxy().pool_max_idle_per_host(0).timeout(PATIENCE).build().unwrap()
}

async fn call(sender: &Client, port: u16, path: &str, body: &str) -> reqwest::Result<(StatusCode, String)> {
    let post = sender.post(format!("http://127.0.0.1:{port}{path}")).body(body.to_owned());
    let answer = post.send().await?;
    Ok((answer.status(), answer.text().await?))
}

/// Calls the instances back, one after the other, for as long as anybody wants to know how often that was acknowledged: at
/// whoever does not answer it goes on to the next one, as a proxy in front of both does. What was acknowledged, and how often
/// it had to go on.
async fn call_back(ports: [u16; 2], paths: Vec<String>, count: watch::Sender<usize>) -> (Vec<String>, usize) {
    let (sender, mut acknowledged, mut went_on) = (sender(), Vec::new(), 0);
    for n in 0..paths.len() * CALLBACKS_OF_A_JOB {
        let (path, (body, hash)) = (&paths[n % paths.len()], note(n));
        let mut turn = n;
        loop {
            match call(&sender, ports[turn % 2], path, &body).await {
                Ok((status, why)) => {
                    break assert_eq!(status, StatusCode::OK, "answered, but not taken: {why}");
                }
                Err(_) => (turn, went_on) = (turn + 1, went_on + 1),
            }
        }
        acknowledged.push(hash);
        if count.send(acknowledged.len()).is_err() {
            return (acknowledged, went_on);
        }
    }
    panic!("the restarts took longer than there were callbacks");
}

/// The hashes of all callbacks that are kept.
async fn kept(server: &Process) -> BTreeSet<String> {
    let (mut kept, mut cursor) = (BTreeSet::new(), String::new());
    loop {
        let page = server.get(&format!("/v1/callbacks?limit=250{cursor}")).await;
        kept.extend(
            page["data"].as_array().unwrap().iter().map(|one| one["sha256"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next_cursor"].as_str() else { return kept };
        cursor = format!("&cursor={next}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_each_is_restarted_in_its_turn_no_callback_is_dropped() {
    let stage = Stage::set().await;
    let ports = [stage.callback, free_port()];
    let names = ["one", "two"];
    let mut servers = [stage.serve(names[0], ports[0]).await, stage.serve(names[1], ports[1]).await];
    let mut paths = Vec::new();
    for n in 0..40 {
        paths.push(stage.open_job(&servers[n % 2]).await);
    }
    let (count, mut acknowledged) = watch::channel(0);
    let calling = tokio::spawn(call_back(ports, paths, count));
    for n in [0, 1, 0, 1] {
        let before = *acknowledged.borrow();
        acknowledged.wait_for(|count| *count >= before + 20).await.unwrap();
        servers[n].terminate();
        let ended = servers[n].ended_within(PATIENCE).await.expect("it ends");
        assert!(ended.success(), "{ended}");
        servers[n] = stage.serve(names[n], ports[n]).await;
    }
    drop(acknowledged);
    let (acknowledged, went_on) = calling.await.unwrap();
    assert!(went_on > 0, "nobody was ever away");
    let kept = kept(&servers[0]).await;
    let lost: Vec<_> = acknowledged.iter().filter(|hash| !kept.contains(*hash)).collect();
    assert!(lost.is_empty(), "{} of {}", lost.len(), acknowledged.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_ends_takes_callbacks_for_as_long_as_its_work_goes_on() {
    let stage = Stage::set().await;
    let mut ends = stage.serve("ends", stage.callback).await;
    let path = stage.open_job(&ends).await;
    let long = ends.submit("[[size:4MiB]] [[slow-download:1MB]] a glacier").await;
    ends.until(&long, |job| job["phase"] == "fetching").await;
    ends.terminate();
    let ready = ends.url("/readyz");
    while client().get(&ready).send().await.unwrap().status() == StatusCode::OK {
        tokio::task::yield_now().await;
    }
    let (body, hash) = note(0);
    assert_eq!(call(&sender(), stage.callback, &path, &body).await.unwrap().0, StatusCode::OK);
    assert_eq!(ends.has_ended(), None, "it had ended before");
    assert!(ends.ended_within(PATIENCE).await.expect("it ends").success());
    let next = stage.serve("next", free_port()).await;
    assert!(kept(&next).await.contains(&hash));
    assert_eq!(
        next.get(&format!("/v1/jobs/{long}")).await["status"],
        "succeeded",
        "its work came to its end"
    );
}
