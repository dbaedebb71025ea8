//! A backup is put back: what it has as not sent was sent since, and is not sent again.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{fs, path::Path, process::Command};

use serde_json::Value;
use support::{Process, has_ended, stage::Stage};

/// A store whose backup has a job as queued that was sent and done since, put back; the job's id, and the number of the
/// last event that a reader has seen.
async fn put_back(stage: &Stage) -> (String, u64) {
    stage.configure_nobody("");
    let server = stage.serve().await;
    let id = server.submit("a fox").await;
    // After a call that provably was not sent: it is queued, and no time limit decides.
    server.until(&id, |job| job["phase"] == "queued" && job["attempts"]["submit"] == 1).await;
    server.kill();
    copy(&stage.path("state"), &stage.path("backup"));
    stage.configure(stage.sandbox.url().as_str(), "");
    let server = stage.serve().await;
    assert_eq!(ended(&server, &id).await["status"], "succeeded");
    let seen = newest(&server).await;
    server.kill();
    assert_eq!(stage.charges(&id), 1);
    fs::remove_dir_all(stage.path("state")).unwrap();
    copy(&stage.path("backup"), &stage.path("state"));
    (id, seen)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The job once it has ended or is held.
async fn ended(server: &Process, id: &str) -> Value {
    server.until(id, has_ended).await
}

async fn newest(server: &Process) -> u64 {
    let events = server.get("/v1/events?limit=250").await;
    events["data"].as_array().unwrap().iter().map(|event| event["seq"].as_u64().unwrap()).max().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_sent_after_the_backup_is_not_sent_again() {
    let stage = Stage::set("").await;
    let (id, seen) = put_back(&stage).await;
    // Once, and by mistake once more; then as always.
    for flag in [Some("--restored"), Some("--restored"), None] {
        let server = stage.serve_with(|command| command.args(flag)).await;
        let job = ended(&server, &id).await;
        assert_eq!(job["status"], "held", "{job:#}");
        assert!(job["notices"][0].as_str().unwrap().contains("comes from a backup"), "{job:#}");
        assert!(
            newest(&server).await > seen + (1 << 31),
            "numbers that readers have seen are not given again"
        );
        // What is new goes on.
        if flag.is_none() {
            let hen = server.submit("a hen").await;
            assert_eq!(ended(&server, &hen).await["status"], "succeeded");
        }
        server.kill();
        assert_eq!(stage.charges(&id), 1);
    }
    let log = fs::read_to_string(stage.path("log")).unwrap();
    assert_eq!(log.matches("the store comes from a backup").count(), 2, "{log}");
    let check = Command::new(env!("CARGO_BIN_EXE_reelhook"))
        .args(["db", "check"])
        .current_dir(stage.dir.path())
        .output()
        .unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_flag_it_is_paid_for_twice() {
    let stage = Stage::set("").await;
    let (id, _) = put_back(&stage).await;
    let server = stage.serve().await;
    assert_eq!(ended(&server, &id).await["status"], "succeeded");
    assert_eq!(stage.charges(&id), 2, "or the test above shows nothing");
}

#[test]
fn where_there_is_no_store_none_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let serve = Command::new(env!("CARGO_BIN_EXE_reelhook"))
        .args(["serve", "--restored", "--listen", "127.0.0.1:0", "--callback-listen", "127.0.0.1:0"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&serve.stderr).contains("there is no store"), "{serve:?}");
    assert!(!dir.path().join("data/state").exists());
}
