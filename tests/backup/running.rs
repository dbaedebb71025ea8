//! The backup of a store that runs.

use std::{fs, time::Duration};

use crate::{
    objects::{generations, segments, snapshots},
    place::Place,
    server::World,
    support::{job, put},
};
use reelhook::{
    config::Backup,
    store::{
        Store,
        sled::{SledStore, backup::Report},
    },
};

/// Once all of the store is in its backup.
pub(crate) async fn until_whole(store: &SledStore) {
    until(store, |report| report.whole && report.behind.is_zero()).await;
}

/// Once this is so of a store's backup.
pub(crate) async fn until(store: &SledStore, so: impl Fn(&Report) -> bool) {
    let status = store.backup().unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !so(&status.report()) {
        assert!(tokio::time::Instant::now() < deadline, "never so: {:?}", status.report());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_is_written_is_in_the_backup_without_the_store_being_closed() {
    let place = Place::new();
    let store = place.open();
    until_whole(&store).await;
    put(&store, job(1)).await;
    let since = store.backup().unwrap().report();
    assert!(since.whole && since.trouble.is_none(), "{since:?}");
    until_whole(&store).await;
    assert_eq!(snapshots(&place).len(), 1);
    // As after a kill that is followed by the loss of the disk.
    std::mem::forget(store);
    fs::rename(place.path("state"), place.path("lost")).unwrap();
    let (said, code) = place.restore();
    assert_eq!((code, &said["jobs"]), (Some(0), &1.into()), "{said}");
}

#[tokio::test]
async fn a_start_goes_on_where_an_orderly_end_left_the_backup_and_nowhere_else() {
    let place = Place::new();
    place.put([1]).await;
    place.put([2]).await;
    assert_eq!((generations(&place).len(), snapshots(&place).len()), (1, 1), "it went on");

    // A start without a backup changes the store, and the backup knows nothing of that.
    let alone = SledStore::open(&place.store(), crate::support::NOW, &crate::support::policy()).unwrap();
    put(&alone, job(3)).await;
    alone.close().await;
    drop(alone);
    place.put([4]).await;
    assert_eq!(generations(&place).len(), 2);

    // Nor does it end there if something of it is gone.
    fs::remove_file(segments(&place).pop().unwrap()).unwrap();
    place.put([5]).await;
    assert_eq!(generations(&place).len(), 2, "the first of three has gone, and two are left");
    place.lose();
    let (said, code) = place.restore();
    assert_eq!((code, &said["jobs"]), (Some(0), &5.into()), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_tells_how_the_backup_does() {
    let mut folder = None;
    let mut world = World::with(|config| {
        let backup = config.store.path.with_file_name("backup");
        folder = Some(backup.clone());
        config.backup = Some(Backup::Folder(backup));
    })
    .await;
    let id = world.submit("a boat").await;
    world.ended(&id).await;
    let deadline = tokio::time::Instant::now() + crate::server::PATIENCE;
    loop {
        let backup = world.get("/readyz?verbose").await["checks"]["backup"].clone();
        if backup == serde_json::json!({ "behind_seconds": 0, "whole": true, "why": null }) {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "never so: {backup}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let folder = folder.unwrap();
    fs::rename(&folder, folder.with_extension("away")).unwrap();
    let id = world.submit("a fox").await;
    assert_eq!(world.ended(&id).await["status"], "succeeded", "nothing waits for the backup");
    loop {
        let backup = world.get("/readyz?verbose").await["checks"]["backup"].clone();
        if backup["why"].as_str().is_some_and(|why| why.contains("gone")) {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "never so: {backup}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let metrics = world.http.get(world.url("/metrics")).send().await.unwrap().text().await.unwrap();
    let behind = metrics.lines().find_map(|line| line.strip_prefix("reelhook_backup_behind_seconds "));
    assert!(behind.unwrap().parse::<f64>().unwrap() > 0.0, "{behind:?}");
    fs::rename(folder.with_extension("away"), &folder).unwrap();
    world.stop_server().await;
}
