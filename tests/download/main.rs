//! Fetching a video into the archive from hosts that misbehave: whatever they do, a file is in the archive whole and
//! byte for byte, or not at all.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod content;
mod cuts;
mod links;
mod parts;

#[path = "../support/file_server.rs"]
mod file_server;
#[path = "../support/video.rs"]
mod video;

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use reelhook::{
    config,
    outbound::{
        archive::Archive,
        download::{Downloader, FetchFault, Order, Stored},
        egress::{Guard, Rule},
    },
};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use file_server::{Ending, FileServer, Reply, Request};

/// By which the archive knows its volume; it stays.
const MARK: &str = ".reelhook/archive";
const ETAG: &[(&str, &str)] = &[("ETag", "\"one\"")];
const DATE: &[(&str, &str)] = &[("Last-Modified", "Sat, 01 Aug 2026 00:00:00 GMT")];

fn settings() -> config::Download {
    config::Download {
        concurrency: 4,
        stall_timeout: Duration::from_secs(5),
        max_size: 64 << 20,
        attempts: 8,
        backoff: Duration::from_millis(8),
        max_backoff: Duration::from_millis(8),
        max_redirects: 5,
        verify_container: true,
        give_up_after: Duration::from_secs(60),
    }
}

/// An archive in a folder of its own, and who fetches into it.
struct Lab {
    root: TempDir,
    archive: Arc<Archive>,
    downloader: Downloader,
}

impl Lab {
    async fn new() -> Self {
        Self::with(settings(), 0).await
    }

    async fn with(settings: config::Download, min_free: u64) -> Self {
        let root = tempfile::tempdir().unwrap();
        let archive = Arc::new(open(root.path(), min_free).await);
        let downloader = downloader(&archive, settings);
        Self { root, archive, downloader }
    }

    async fn fetch(&self, url: &str) -> Result<Stored, FetchFault> {
        self.fetch_order(&order("job_1", 0, url)).await
    }

    async fn fetch_order(&self, order: &Order) -> Result<Stored, FetchFault> {
        self.downloader.fetch(order, &|_, _| {}, &CancellationToken::new()).await
    }

    /// Every file below the archive's folder, lock files too.
    fn files(&self) -> Vec<String> {
        files(self.root.path())
    }

    /// Checks that the archive holds exactly this file.
    async fn assert_holds_only(&self, stored: &Stored, body: &[u8]) {
        assert_eq!(self.files(), [stored.location.as_str()]);
        assert_eq!(stored.sha256, hex::encode(Sha256::digest(body)));
        assert_eq!(stored.bytes, body.len() as u64);
        let read = self.archive.read(&stored.location, None).await.unwrap().bytes().await.unwrap();
        assert!(read == body, "the stored bytes differ");
    }
}

async fn open(root: &Path, min_free: u64) -> Archive {
    let key_template = "{date}/{job_id}".to_owned();
    Archive::open(&config::Storage { root: root.to_owned(), bucket: None, key_template, min_free })
        .await
        .unwrap()
}

fn downloader(archive: &Arc<Archive>, settings: config::Download) -> Downloader {
    let guard = Guard::new(vec!["127.0.0.0/8".parse().unwrap()]);
    Downloader::new(Arc::clone(archive), guard, settings).unwrap()
}

fn order(job_id: &str, index: usize, url: &str) -> Order {
    Order { job_id: job_id.to_owned(), index, url: url.to_owned(), key: format!("2026-08-01/{job_id}") }
}

fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.retain(|file| file != MARK);
    found.sort();
    found
}

/// A host whose first answer is spoilt and whose later ones are honest.
async fn first_spoilt(
    body: &Bytes,
    validators: &'static [(&str, &str)],
    spoil: impl Fn(Reply) -> Reply + Send + Sync + 'static,
) -> FileServer {
    let body = body.clone();
    FileServer::start(move |request| {
        let reply = Reply::file(request, &body, validators);
        if request.number == 0 { spoil(reply) } else { reply }
    })
    .await
}

async fn honest(body: &Bytes) -> FileServer {
    first_spoilt(body, ETAG, |reply| reply).await
}
