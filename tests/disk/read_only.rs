//! Volumes that are mounted read-only. A running store has files open for writing, under which no volume is remounted:
//! that it turns read-only all the same is among the [syncs and writes that fail](crate::sync).

use std::{fs, process::Command};

use crate::{
    assert_all_are_there, configure,
    support::{Process, World, client, order},
    until_refuses, until_troubled,
    volume::Volume,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_archive_takes_no_file_until_it_can_be_written() {
    let Some(volume) = Volume::mount(32) else { return };
    let world = World::with(|config| config.storage.root = volume.path()).await;
    let first = world.submit("a fox").await;
    assert_eq!(world.ended(&first).await["status"], "succeeded");
    volume.set_read_only(true);
    let said = until_refuses(&world, "archive", Some("everything")).await;
    assert!(said["why"].as_str().unwrap().contains("read-only"), "{said}");
    let id = world.submit("a hen").await;
    until_troubled(&world, &id, "read-only").await;
    let file = format!("/v1/jobs/{first}/files/{first}.mp4");
    assert_eq!(world.http.get(world.url(&file)).send().await.unwrap().status(), 200, "reading goes on");
    volume.set_read_only(false);
    until_refuses(&world, "archive", None).await;
    assert_eq!(world.ended(&id).await["status"], "succeeded");
    assert_eq!(world.charges(&id), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_store_keeps_the_server_from_starting_and_loses_nothing() {
    let Some(volume) = Volume::mount(32) else { return };
    let dir = tempfile::tempdir().unwrap();
    let api = configure(dir.path(), &volume.path().join("state"), "videos".as_ref(), "0");
    let server = Process::start(dir.path(), api).await;
    let job = client().post(server.url("/v1/jobs")).json(&order("a fox")).send().await.unwrap();
    let job: serde_json::Value = job.json().await.unwrap();
    server.kill();
    volume.set_read_only(true);
    let mut serve = Command::new(env!("CARGO_BIN_EXE_reelhook"));
    let start = serve.args(["serve", "--config", "reelhook.toml"]).current_dir(dir.path()).output().unwrap();
    let said = String::from_utf8_lossy(&start.stderr);
    assert!(!start.status.success());
    assert!(said.contains("Read-only file system") && said.contains("nothing in it was deleted"), "{said}");
    volume.set_read_only(false);
    let server = Process::start(dir.path(), api).await;
    assert_all_are_there(&server, &[job["id"].as_str().unwrap().to_owned()]).await;
    let log = fs::read_to_string(dir.path().join("log")).unwrap();
    assert!(!log.contains("panicked"), "{log}");
}
