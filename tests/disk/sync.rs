//! Syncs and writes that fail.

use std::{fs, path::Path, process::Command};

use reelhook::{
    clock::Clock,
    config::{self, LoadOptions},
    server::{Listeners, Server},
    telemetry,
};

use crate::{
    acknowledged_until_it_ends, assert_all_are_there, configure,
    faults::{self, Fault},
    support::{Process, World},
    until_troubled,
};

/// Not a test: the server of the tests below, as a process of its own. It reads `reelhook.toml` where it is started, and
/// its disk fails once a file there says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it is started by other tests, and serves until it is killed"]
async fn serves_on_a_disk_that_can_be_made_to_fail() {
    let here = std::env::current_dir().unwrap();
    let path = Some(here.join("reelhook.toml"));
    let config =
        config::load(&LoadOptions { path, cwd: here.clone(), ..LoadOptions::default() }).unwrap().config;
    telemetry::init(&config.log, None).unwrap();
    fs::create_dir_all(&config.store.path).unwrap();
    for fault in [Fault::Sync, Fault::Write] {
        faults::fail(&config.store.path, fault, Some(here.join(fault.trigger())));
    }
    let listeners = Listeners::bind(&config).unwrap();
    let _server = Server::start(config, Clock::system(), listeners).await.unwrap();
    std::future::pending().await
}

async fn serve(dir: &Path, api: u16) -> Process {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["sync::serves_on_a_disk_that_can_be_made_to_fail", "--exact", "--ignored"]);
    Process::run(&mut command, dir, api).await
}

async fn ends_the_process_when_this_fails(fault: Fault, words: &str) {
    let dir = tempfile::tempdir().unwrap();
    let api = configure(dir.path(), "state".as_ref(), "videos".as_ref(), "0");
    let server = serve(dir.path(), api).await;
    let fail = || fs::write(dir.path().join(fault.trigger()), "").unwrap();
    let acknowledged = acknowledged_until_it_ends(&server, fail).await;
    assert!(acknowledged.len() >= 10);
    assert!(!server.ended().await.success());
    let log = fs::read_to_string(dir.path().join("log")).unwrap();
    assert!(log.contains("a write to the store failed") && log.contains(words), "{log}");
    fs::remove_file(dir.path().join(fault.trigger())).unwrap();
    let server = serve(dir.path(), api).await;
    assert_all_are_there(&server, &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_of_the_store_ends_the_process_and_nothing_acknowledged_is_lost() {
    ends_the_process_when_this_fails(Fault::Sync, "Input/output error").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_turns_read_only_under_the_server_ends_the_process_and_nothing_acknowledged_is_lost() {
    ends_the_process_when_this_fails(Fault::Write, "Read-only file system").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_of_the_archive_stores_nothing_and_is_tried_again() {
    let world = World::start().await;
    let archive = world.config.storage.root.clone();
    faults::fail(&archive, Fault::Sync, None);
    let id = world.submit("a fox").await;
    until_troubled(&world, &id, "Input/output error").await;
    assert_eq!(world.get(&format!("/v1/jobs/{id}")).await["files"].as_array().unwrap().len(), 0);
    assert_eq!(world.get("/readyz").await["status"], "ready", "jobs are taken on");
    faults::heal(&archive);
    assert_eq!(world.ended(&id).await["status"], "succeeded");
    assert_eq!(world.charges(&id), 1);
}
