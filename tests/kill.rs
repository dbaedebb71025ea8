//! SIGKILL in each phase, then a start: every job comes to the end that it would have had.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{fs, time::Duration};

use serde_json::{Value, json};
use support::{PATIENCE, Process, client, stage::Stage};

/// What a killed server has to be quick at.
const QUICK: &str = r#"
    upstream = { submit_timeout = "2s", connect_timeout = "2s", unknown_wait = "60s" }
    download = { backoff = "50ms", max_backoff = "200ms" }
"#;

/// Once the provider has a create call: of one that never left no callback comes, and its job is held.
async fn called(stage: &Stage) {
    let called = async {
        while stage.sandbox.ledger().creates.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, called).await.expect("the provider was never called");
}

async fn until(server: &Process, id: &str, phase: &str) -> Value {
    until_so(server, id, phase, |_| true).await
}

async fn until_so(server: &Process, id: &str, phase: &str, so: impl Fn(&Value) -> bool) -> Value {
    let is_there = |job: &Value| {
        let is_there = job["phase"] == phase && so(job);
        assert!(is_there || job["phase"] != "done", "not {phase}: {job:#}");
        is_there
    };
    server.until(id, is_there).await
}

/// Drives a job to `phase`, kills the server there, starts it again: the job succeeds and was paid for once.
async fn killed_in(phase: &str, prompt: &str) {
    let stage = Stage::set(QUICK).await;
    let server = stage.serve().await;
    let id = server.submit(prompt).await;
    until(&server, &id, phase).await;
    called(&stage).await;
    server.kill();
    let server = stage.serve().await;
    let job = until(&server, &id, "done").await;
    assert_eq!(job["status"], "succeeded", "{job:#}");
    assert_eq!(stage.charges(&id), 1);
    let timeline = server.get(&format!("/v1/events?job={id}&limit=250")).await;
    let kinds: Vec<_> = timeline["data"].as_array().unwrap().iter().map(|event| &event["type"]).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "job.succeeded").count(), 1, "{kinds:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_sending_it_is_recovered_by_its_callback() {
    killed_in("sending", "[[submit-timeout]] [[delay:20m]] a fox").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_unknown_it_is_recovered_by_its_callback() {
    killed_in("unknown", "[[submit-timeout]] [[delay:30m]] a fox").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_awaiting_it_is_asked_about() {
    killed_in("awaiting", "[[delay:400s]] [[no-callback]] a fox").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_fetching_it_is_fetched() {
    killed_in("fetching", "[[size:1MiB]] [[slow-download:300kB]] a fox").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_when_done_it_stays_done() {
    killed_in("done", "a fox").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_queued_it_is_submitted_once() {
    let stage = Stage::set(QUICK).await;
    stage.configure_nobody(QUICK);
    let server = stage.serve().await;
    let id = server.submit("a fox").await;
    // After a call that provably was not sent: killed in the middle of one, nobody could prove it.
    until_so(&server, &id, "queued", |job| job["attempts"]["submit"] == 1).await;
    server.kill();
    stage.configure(stage.sandbox.url().as_str(), QUICK);
    let server = stage.serve().await;
    assert_eq!(until(&server, &id, "done").await["status"], "succeeded");
    assert_eq!(stage.charges(&id), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_held_it_is_still_held_and_can_be_attached() {
    let stage = Stage::set(&QUICK.replace("60s", "100ms")).await;
    let server = stage.serve().await;
    let id = server.submit("[[submit-timeout]] [[no-callback]] a fox").await;
    until(&server, &id, "held").await;
    server.kill();
    let server = stage.serve().await;
    assert_eq!(until(&server, &id, "held").await["status"], "held");
    let task = stage.sandbox.ledger().creates[0].task_id.clone();
    let attach = json!({ "action": "attach", "task_id": task });
    client().post(server.url(&format!("/v1/jobs/{id}/resolve"))).json(&attach).send().await.unwrap();
    assert_eq!(until(&server, &id, "done").await["status"], "succeeded");
    assert_eq!(stage.charges(&id), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_on_the_same_store_says_who_has_it() {
    let stage = Stage::set(QUICK).await;
    let _server = stage.serve().await;
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_reelhook"))
        .args([
            "serve",
            "--config",
            "reelhook.toml",
            "--listen",
            "127.0.0.1:0",
            "--callback-listen",
            "127.0.0.1:0",
        ])
        .current_dir(stage.dir.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(12));
    assert!(String::from_utf8_lossy(&output.stderr).contains("in use by"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_between_file_and_manifest_leaves_a_job_that_only_lacks_its_manifest() {
    let stage = Stage::set(QUICK).await;
    let server = stage.serve().await;
    let id = server.submit("[[delay:200s]] a harbour").await;
    let job = until(&server, &id, "awaiting").await;
    let date = &job["created_at"].as_str().unwrap()[..10];
    let manifest = stage.dir.path().join(format!("videos/{date}/{id}.json"));
    // A folder in its place: the manifest cannot be written.
    fs::create_dir_all(manifest.join("in the way")).unwrap();
    let job = until_so(&server, &id, "fetching", |job| job["files"][0]["sha256"].is_string()).await;
    let video = stage.dir.path().join("videos").join(job["files"][0]["location"].as_str().unwrap());
    assert_eq!((job["status"].as_str(), video.is_file()), (Some("running"), true), "{job:#}");
    server.kill();
    let fetched = stage.sandbox.ledger().downloads.len();
    fs::remove_dir_all(&manifest).unwrap();

    let server = stage.serve().await;
    let job = until(&server, &id, "done").await;
    assert_eq!(job["status"], "succeeded", "{job:#}");
    let written: Value = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
    assert_eq!(written["files"][0]["sha256"], job["files"][0]["sha256"]);
    assert_eq!(stage.sandbox.ledger().downloads.len(), fetched, "the file was there already");
}
