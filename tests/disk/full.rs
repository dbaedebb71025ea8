//! Disks that run full.

use std::{fs, process::Command, time::Duration};

use reqwest::StatusCode;
use serde_json::Value;

use crate::{
    acknowledged_until_it_ends, assert_all_are_there, configure, metric,
    support::{Process, World, order},
    until_refuses, until_troubled,
    volume::Volume,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn below_min_free_the_store_takes_nothing_on_until_space_returns() {
    let Some(volume) = Volume::mount(32) else { return };
    let world = World::with(|config| {
        config.store.path = volume.path().join("state");
        config.store.min_free = 8 << 20;
    })
    .await;
    let id = world.submit("[[delay:900s]] [[no-callback]] a fox").await;
    let called = world.server().app().callback_url(id.parse().unwrap()).unwrap();
    while world.get(&format!("/v1/jobs/{id}")).await["phase"] != "awaiting" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let create = async || world.http.post(world.url("/v1/jobs")).json(&order("a hen")).send().await.unwrap();
    let call = async || world.http.post(called.as_str()).body("{}").send().await.unwrap().status();

    volume.fill_up_to(4 << 20);
    until_refuses(&world, "store", Some("everything")).await;
    let refused = create().await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    let said = refused.json::<Value>().await.unwrap();
    assert!(said["detail"].as_str().unwrap().contains("min_free"), "{said}");
    assert_eq!(call().await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(world.get(&format!("/v1/jobs/{id}")).await["id"], id.as_str(), "reading goes on");

    volume.empty();
    until_refuses(&world, "store", None).await;
    assert_eq!(create().await.status(), StatusCode::ACCEPTED);
    assert_eq!(call().await, StatusCode::OK);
    assert_eq!(world.ended(&id).await["status"], "succeeded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn below_min_free_the_archive_takes_no_file_until_space_returns() {
    let Some(volume) = Volume::mount(32) else { return };
    let world = World::with(|config| {
        config.storage.root = volume.path().join("videos");
        config.storage.min_free = 8 << 20;
    })
    .await;
    volume.fill_up_to(4 << 20);
    let said = until_refuses(&world, "archive", Some("everything")).await;
    assert_eq!((&said["min_free_bytes"], &said["roomy"]), (&(8 << 20).into(), &false.into()), "{said}");
    assert_eq!(metric(&world, r#"reelhook_disk_refuses{disk="archive",what="new_work"}"#).await, 1.0);
    let free = metric(&world, r#"reelhook_disk_free_bytes{disk="archive"}"#).await;
    assert!(free <= f64::from(4 << 20), "{free}");
    let id = world.submit("a fox").await;
    until_troubled(&world, &id, "too little room").await;
    assert!(world.sandbox.ledger().downloads.is_empty(), "no download starts");
    volume.empty();
    assert_eq!(world.ended(&id).await["status"], "succeeded");
    assert_eq!(world.charges(&id), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_ends_the_process_and_loses_nothing_that_was_acknowledged() {
    let Some(volume) = Volume::mount(24) else { return };
    let dir = tempfile::tempdir().unwrap();
    let api = configure(dir.path(), &volume.path().join("state"), "videos".as_ref(), "0");
    let server = Process::start(dir.path(), api).await;
    volume.fill_up_to(1 << 20);
    let acknowledged = acknowledged_until_it_ends(&server, || ()).await;
    assert!(!acknowledged.is_empty());
    assert!(!server.ended().await.success());
    let log = fs::read_to_string(dir.path().join("log")).unwrap();
    assert!(log.contains("a write to the store failed"), "{log}");

    // Started again it says the same, until there is room.
    volume.fill_up();
    let mut serve = Command::new(env!("CARGO_BIN_EXE_reelhook"));
    let start = serve.args(["serve", "--config", "reelhook.toml"]).current_dir(dir.path()).output().unwrap();
    let said = String::from_utf8_lossy(&start.stderr);
    assert!(!start.status.success());
    assert!(said.contains("No space left") && said.contains("nothing in it was deleted"), "{said}");
    volume.empty();
    let server = Process::start(dir.path(), api).await;
    assert_all_are_there(&server, &acknowledged).await;
}
