//! Volumes that are lost under a running server, and come back.

use std::fs;

use reqwest::StatusCode;
use serde_json::Value;

use crate::{
    metric,
    support::{World, order},
    until_refuses, until_troubled,
    volume::Volume,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_whose_folder_is_moved_away_is_not_made_anew() {
    let world = World::start().await;
    let (archive, away) = (world.config.storage.root.clone(), world.dir.path().join("away"));
    fs::rename(&archive, &away).unwrap();
    let id = world.submit("a fox").await;
    until_troubled(&world, &id, "is its volume mounted").await;
    assert!(!archive.exists());
    // A folder that somebody makes in its place is not the archive.
    fs::create_dir(&archive).unwrap();
    until_refuses(&world, "archive", Some("everything")).await;
    assert!(fs::read_dir(&archive).unwrap().next().is_none());
    fs::remove_dir(&archive).unwrap();
    fs::rename(&away, &archive).unwrap();
    assert_eq!(world.ended(&id).await["status"], "succeeded");
    assert_eq!(world.charges(&id), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_whose_volume_is_gone_writes_nothing_into_the_folder_that_is_left() {
    let Some(volume) = Volume::mount(32) else { return };
    let world = World::with(|config| config.storage.root = volume.path()).await;
    let first = world.submit("a fox").await;
    assert_eq!(world.ended(&first).await["status"], "succeeded");
    let file = world.url(&format!("/v1/jobs/{first}/files/{first}.mp4"));
    let slow = world.submit("[[size:1MiB]] [[slow-download:300kB]] a cat").await;
    world.until(&slow, |job| job["phase"] == "fetching").await;

    volume.go();
    let said = until_refuses(&world, "archive", Some("everything")).await;
    assert!(said["free_bytes"].is_null() && said["why"].as_str().unwrap().contains("volume"), "{said}");
    let id = world.submit("a hen").await;
    for id in [&id, &slow] {
        until_troubled(&world, id, "is its volume mounted").await;
    }
    assert_eq!(world.http.get(&file).send().await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(world.get("/readyz").await["status"], "ready", "jobs are taken on");
    assert!(volume.is_gone(), "nothing was written to the disk below");

    volume.come_back();
    until_refuses(&world, "archive", None).await;
    for id in [&id, &slow] {
        assert_eq!(world.ended(id).await["status"], "succeeded");
        assert_eq!(world.charges(id), 1);
    }
    assert_eq!(world.http.get(&file).send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_whose_volume_is_gone_takes_nothing_until_it_is_back() {
    let Some(volume) = Volume::mount(32) else { return };
    let world = World::with(|config| config.store.path = volume.path()).await;
    let id = world.submit("[[delay:900s]] [[no-callback]] a fox").await;
    let called = world.server().app().callback_url(id.parse().unwrap()).unwrap();
    world.until(&id, |job| job["phase"] == "awaiting").await;
    let create = async || world.http.post(world.url("/v1/jobs")).json(&order("a hen")).send().await.unwrap();
    let call = async || world.http.post(called.as_str()).body("{}").send().await.unwrap().status();

    volume.go();
    until_refuses(&world, "store", Some("everything")).await;
    let refused = create().await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    let said = refused.json::<Value>().await.unwrap();
    assert!(said["detail"].as_str().unwrap().contains("is its volume mounted"), "{said}");
    assert_eq!(call().await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(metric(&world, r#"reelhook_disk_refuses{disk="store",what="everything"}"#).await, 1.0);
    assert!(volume.is_gone(), "nothing was written to the disk below");

    volume.come_back();
    until_refuses(&world, "store", None).await;
    assert_eq!(create().await.status(), StatusCode::ACCEPTED);
    assert_eq!(call().await, StatusCode::OK);
    assert_eq!(world.ended(&id).await["status"], "succeeded");
    assert_eq!(world.charges(&id), 1);
}
