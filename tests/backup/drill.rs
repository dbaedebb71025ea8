//! The drill: a server under load loses its disk and its life. A store is made of the backup, and the work goes on.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::server::{PATIENCE, Process, client, order, stage::Stage};

/// How long the load goes on.
const LOAD: Duration = Duration::from_secs(6);
/// How long a client waits while the queue is full.
const FULL: Duration = Duration::from_millis(50);
/// What may be missing.
const LOST: SignedDuration = SignedDuration::from_secs(5);
const CLIENTS: usize = 8;

/// The server has work, and is backed up.
const LOADED: &str = r#"
    upstream = { requests_per_minute = 600000, max_in_flight = 100 }
    store.backup = "file:backup"
"#;

/// Jobs, each with the time at which it was acknowledged.
async fn load(server: &Process) -> BTreeMap<String, Timestamp> {
    let (mut acknowledged, begun, http) = (BTreeMap::new(), Instant::now(), client());
    while begun.elapsed() < LOAD {
        let answer = http.post(server.url("/v1/jobs")).json(&order("a fox")).send().await.unwrap();
        if answer.status() == 429 {
            tokio::time::sleep(FULL).await; // the queue is full: what is in it is load enough
            continue;
        }
        let job = answer.json::<Value>().await.unwrap();
        acknowledged
            .insert(job["id"].as_str().unwrap_or_else(|| panic!("{job}")).to_owned(), Timestamp::now());
    }
    acknowledged
}

fn json(dir: &Path, arguments: &[&str]) -> Value {
    let run = Command::new(env!("CARGO_BIN_EXE_reelhook"))
        .args(arguments)
        .args(["--json", "--config", "reelhook.toml"])
        .current_dir(dir)
        .output()
        .unwrap();
    serde_json::from_slice(&run.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&run.stderr)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_lost_under_load_loses_seconds_and_nothing_is_paid_twice() {
    let stage = Stage::set(LOADED).await;
    let server = stage.serve().await;
    let loads = futures_util::future::join_all((0..CLIENTS).map(|_| load(&server))).await;
    let acknowledged: BTreeMap<_, _> = loads.into_iter().flatten().collect();
    fs::remove_dir_all(stage.path("state")).unwrap();
    let lost_at = Timestamp::now();
    server.kill();

    let said = json(stage.dir.path(), &["db", "restore"]);
    assert_eq!(said["findings"], serde_json::json!([]), "{said}");
    let complete_to: Timestamp = said["complete_to"].as_str().unwrap().parse().unwrap();

    let server = stage.serve_with(|command| command.arg("--restored")).await;
    let (mut restored, mut missing, mut held) = (0, 0, 0);
    for (id, at) in &acknowledged {
        let answer = client().get(server.url(&format!("/v1/jobs/{id}?wait=60s"))).send().await.unwrap();
        if answer.status() == 404 {
            assert!(lost_at.duration_since(*at) < LOST, "{id} was acknowledged too long before");
            assert!(*at >= complete_to, "{id} is missing, was acknowledged at {at}, and {said}");
            missing += 1;
            continue;
        }
        let job: Value = answer.json().await.unwrap();
        match job["status"].as_str().unwrap() {
            "succeeded" => {}
            "held" => {
                assert!(job["notices"][0].as_str().unwrap().contains("backup"), "{job:#}");
                held += 1;
            }
            other => panic!("{other}: {job:#}"),
        }
        restored += 1;
    }
    println!("{restored} jobs restored, {held} of them held, {missing} missing; {said}");
    assert_eq!(said["jobs"], restored, "{said}");
    assert!(restored > missing && restored > held, "the load was long enough for that");
    let twice: Vec<_> = acknowledged.keys().filter(|id| stage.charges(id) > 1).collect();
    assert!(twice.is_empty(), "paid twice: {twice:?}");
    // What is new goes on, and so does the backup.
    let hen = client().post(server.url("/v1/jobs")).json(&order("a hen")).send().await.unwrap();
    let hen = hen.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned();
    let hen = client().get(server.url(&format!("/v1/jobs/{hen}?wait={}s", PATIENCE.as_secs()))).send().await;
    assert_eq!(hen.unwrap().json::<Value>().await.unwrap()["status"], "succeeded");
    server.kill();
}
