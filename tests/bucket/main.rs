//! Videos in a bucket, on real servers: SeaweedFS for S3, Azurite for Azure.

#![cfg(all(feature = "s3", feature = "azure"))]
#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test may panic")]

mod away;
mod azure;
mod killed;
mod probed;
mod races;
mod served;
mod stored;

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../support/file_server.rs"]
mod file_server;
#[path = "../support/seaweed.rs"]
mod seaweed;
#[path = "../support/mod.rs"]
mod support;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../support/video.rs"]
mod video;

use std::path::{Path, PathBuf};

use futures_util::TryStreamExt as _;
use object_store::{ObjectStore, ObjectStoreExt as _, path::Path as Key};
use reelhook::config::{Bucket, Serve};
use seaweed::Seaweed;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use support::World;

/// More than goes in one request: three pieces.
const LARGE: &str = "[[size:12MiB]]";

/// A server whose archive is this bucket.
async fn world(bucket: Bucket) -> World {
    World::with(|config| config.storage.bucket = Some(bucket)).await
}

/// Every key of a bucket but the mark of the archive, sorted.
async fn keys(store: &impl ObjectStore) -> Vec<String> {
    let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
    let mut keys: Vec<String> = listed.into_iter().map(|object| object.location.to_string()).collect();
    keys.retain(|key| !key.ends_with(".reelhook/archive"));
    keys.sort();
    keys
}

async fn content(store: &impl ObjectStore, key: &str) -> Vec<u8> {
    store.get(&Key::from(key)).await.unwrap().bytes().await.unwrap().into()
}

/// The bucket holds the files of a job, as it says, and its manifest, and nothing else; the spool nothing.
async fn assert_holds_only(store: &impl ObjectStore, spool: &Path, job: &Value) {
    assert_eq!(job["status"], "succeeded", "{job:#}");
    let file = &job["files"][0];
    let location = format!("team/one/{}", file["location"].as_str().unwrap());
    let manifest = format!("{}.json", location.strip_suffix(".mp4").unwrap());
    assert_eq!(keys(store).await, [manifest.clone(), location.clone()]);
    let stored = content(store, &location).await;
    assert_eq!(file["bytes"], stored.len());
    assert_eq!(file["sha256"], hex::encode(Sha256::digest(&stored)));
    let manifest: Value = serde_json::from_slice(&content(store, &manifest).await).unwrap();
    assert_eq!(manifest["files"][0]["sha256"], file["sha256"]);
    assert_eq!(manifest["files"][0]["location"], file["location"]);
    assert!(spooled(spool).is_empty(), "{:?}", spooled(spool));
}

/// What lies in a spool, locks too.
fn spooled(spool: &Path) -> Vec<PathBuf> {
    let of = |folder: &Path| -> Vec<PathBuf> {
        let entries =
            std::fs::read_dir(folder).map(|entries| entries.map(|entry| entry.unwrap().path()).collect());
        entries.unwrap_or_default()
    };
    let files = of(spool).into_iter().filter(|path| path.is_file());
    files.chain(of(&spool.join(".reelhook/locks"))).collect()
}

/// The whole files that wait in a spool.
fn waiting(spool: &Path) -> Vec<PathBuf> {
    let is_whole = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "mp4");
    spooled(spool).into_iter().filter(is_whole).collect()
}
