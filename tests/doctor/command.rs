//! `reelhook doctor`: with a server, and without one.

use std::{fs, path::Path};

use assert_cmd::Command;
use predicates::prelude::*;
use serde_json::{Value, json};

use crate::{
    House, check,
    receiver::{Receiver, Reply},
    says,
};

const NOBODY: &str = "http://127.0.0.1:1";

fn doctor(folder: &Path, server: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reelhook"));
    command.env_clear().env("REELHOOK_SERVER", server).current_dir(folder).arg("doctor");
    command
}

fn json_of(command: &mut Command, code: i32) -> Value {
    let run = command.arg("--json").assert().code(code);
    serde_json::from_slice(&run.get_output().stdout).unwrap()
}

/// A folder with a configuration whose provider is at this address.
fn folder(provider: &str, more: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("[upstream]\nbase_url = \"{provider}\"\napi_key = \"aio_canary\"\n{more}");
    fs::write(folder.path().join("reelhook.toml"), text).unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_server_it_is_the_server_that_looks() {
    let house = House::start().await;
    let folder = folder(NOBODY, "");
    let server = format!("http://{}", house.server.api());
    let run = tokio::task::spawn_blocking(move || {
        let document = json_of(&mut doctor(folder.path(), &server), 0);
        let text = doctor(folder.path(), &server).assert().success();
        text.stdout(
            predicate::str::contains("ok       public_url  http://").and(predicate::str::contains("clock")),
        );
        document
    });
    let document = run.await.unwrap();
    assert_eq!(document["ok"], true, "{document:#}");
    assert_eq!(check(&document, "api_key").0, "ok", "by the server's configuration, not by the one here");
    assert!(check(&document, "config").1.contains("2 keys are set by reelhook.toml;"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_check_is_exit_code_one_with_its_fix_below_it() {
    let house = House::with(|config| config.upstream.api_key = None).await;
    let folder = folder(NOBODY, "");
    let server = format!("http://{}", house.server.api());
    let run = tokio::task::spawn_blocking(move || {
        let run = doctor(folder.path(), &server).assert().code(1);
        let told = predicate::str::contains("failed   api_key")
            .and(predicate::str::contains("→ set [upstream] api_key_file"));
        run.stdout(told).stderr("error: a check failed; nothing was spent\n");
    });
    run.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_only_the_server_is_handed_is_not_missed_here() {
    let house = House::start().await;
    let folder = tempfile::tempdir().unwrap();
    let server = format!("http://{}", house.server.api());
    let document =
        tokio::task::spawn_blocking(move || json_of(&mut doctor(folder.path(), &server), 0)).await.unwrap();
    assert_eq!(check(&document, "api_key").0, "ok");
    assert!(!document.to_string().contains("upstream.api_key"), "{document:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_wants_a_key_is_not_passed_over() {
    let house =
        House::with(|config| config.auth.bootstrap_admin_key = Some("a long key of a test".into())).await;
    let folder = folder(NOBODY, "");
    let server = format!("http://{}", house.server.api());
    let document =
        tokio::task::spawn_blocking(move || json_of(&mut doctor(folder.path(), &server), 1)).await.unwrap();
    says(&check(&document, "server"), "failed", &["no valid API key"], "REELHOOK_API_KEY");
    assert!(!document.to_string().contains("\"store\""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_server_it_looks_itself_and_makes_nothing() {
    let body = r#"{"error":{"code":404,"message":"task not found"}}"#;
    let provider = Receiver::start(Reply::new("404 Not Found", body)).await;
    let folder = folder(&format!("http://{}", provider.address), "[sinks.lines]\ntype = \"stdout\"\n");
    let path = folder.path().to_owned();
    let document = tokio::task::spawn_blocking(move || json_of(&mut doctor(&path, NOBODY), 0)).await.unwrap();
    says(&check(&document, "server"), "warning", &["none runs at http://127.0.0.1:1"], "reelhook serve");
    for name in ["store", "api_key"] {
        assert_eq!(check(&document, name).0, "ok", "{document:#}");
    }
    says(&check(&document, "archive"), "warning", &["data/videos", "not begun"], "is its volume mounted?");
    says(&check(&document, "public_url"), "warning", &["by asking"], "public_url");
    says(&check(&document, "sinks"), "warning", &["not judged"], "start the server");
    assert!(!document.to_string().contains("aio_canary"));
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["reelhook.toml"], "a folder may be the place of a volume that is not mounted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_rests_is_probed_and_stays_as_it_was_and_one_in_use_is_left_alone() {
    let house = House::start().await;
    let data = house.dir.path().to_owned();
    let place =
        format!("[store]\nurl = \"sled:{0}/state\"\n[storage]\nurl = \"file:{0}/videos\"\n", data.display());
    let folder = folder(NOBODY, &place);
    let path = folder.path().to_owned();
    let look = move || json_of(&mut doctor(&path, NOBODY), 1);
    let in_use = tokio::task::spawn_blocking(look.clone()).await.unwrap();
    says(&check(&in_use, "store"), "failed", &["in use by"], "--server");
    let House { server, dir: _dir, _sandbox } = house;
    server.stop().await;
    let before = fs::read(data.join("state/db")).unwrap();
    let resting = tokio::task::spawn_blocking(look).await.unwrap();
    assert_eq!(check(&resting, "store").0, "ok", "{resting:#}");
    assert_eq!(check(&resting, "archive").0, "ok", "{resting:#}");
    assert!(fs::read(data.join("state/db")).unwrap() == before, "the store was not opened");
    assert!(!data.join("state/.probe").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_server_an_empty_folder_stays_empty_for_it_may_be_a_mount_point() {
    let place = tempfile::tempdir().unwrap();
    let folder = folder(NOBODY, &format!("[storage]\nurl = \"file:{}\"\n", place.path().display()));
    let look = move || json_of(&mut doctor(folder.path(), NOBODY), 1);
    let document = tokio::task::spawn_blocking(look).await.unwrap();
    says(&check(&document, "archive"), "warning", &["not begun"], "is its volume mounted?");
    let left = fs::read_dir(place.path()).unwrap().count();
    assert_eq!(left, 0, "a mark would pass for the volume's at the next start");
}

#[test]
fn every_mistake_of_the_configuration_is_a_check_with_its_default() {
    let folder = folder(NOBODY, "[poll]\ninterval = \"often\"\n[log]\nformat = \"yaml\"\n");
    let document = json_of(&mut doctor(folder.path(), NOBODY), 1);
    let wrong: Vec<&Value> =
        document["checks"].as_array().unwrap().iter().filter(|check| check["name"] == "config").collect();
    assert_eq!(wrong.len(), 2, "{document:#}");
    assert!(wrong.iter().all(|check| check["verdict"] == "failed"));
    assert_eq!(wrong[0]["fix"], json!("correct it, or leave it out: the default is \"15s\""));
}
