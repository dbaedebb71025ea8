//! Two servers on one PostgreSQL, as processes of their own: what becomes of the jobs when one of them is killed, and when
//! the database is away.

#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/postgres.rs"]
mod database;
mod support;

use std::{collections::BTreeSet, net::TcpListener, process::Command};

use reelhook::{
    config::Database,
    sandbox::{self, Options, Sandbox},
};
use secrecy::ExposeSecret as _;
use support::{PATIENCE, Process, SPEED, charges, client, configure, free_port, has_ended};
use tempfile::TempDir;

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

    /// The answer to the callback for a job, once there is one.
    async fn called_back(&self, id: &str) -> (String, Option<u16>) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let calls = self.sandbox.ledger().callbacks;
            if let Some(call) = calls.into_iter().find(|call| call.url.contains(id)) {
                return (call.url, call.status);
            }
            assert!(tokio::time::Instant::now() < deadline, "{id} was never called back");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

/// Who did anything for a job, by the events of its timeline.
async fn instances(server: &Process, id: &str) -> BTreeSet<String> {
    let events = server.get(&format!("/v1/jobs/{id}/events?limit=250")).await;
    let events = events["data"].as_array().unwrap().iter();
    events.filter_map(|event| event["data"]["instance"].as_str().map(str::to_owned)).collect()
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
    let calls = stage.sandbox.ledger().creates;
    assert!(calls.iter().all(|call| call.count == 1), "a create call was sent twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_is_away_a_callback_is_refused_with_503_and_work_goes_on_when_it_is_back() {
    let stage = Stage::set().await;
    let server = stage.serve("only", stage.callback).await;
    let id = server.submit("[[delay:400s]] a lighthouse").await;
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
