//! Objects that are there and cannot be read.

use std::{
    collections::HashMap,
    fmt, fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, memory::InMemory, path::Path,
};
use tempfile::TempDir;

use super::{
    super::{RestoreError, Restored, Target, catalog, restore},
    Stage, State, state,
};
use crate::{config, store::sled::open};

/// As a client tells that the service said no.
const REFUSED: &str = "Server returned non-2xx status code: 403 Forbidden: ";

/// A bucket that fails at some objects.
#[derive(Debug, Default)]
struct Fails {
    bucket: InMemory,
    at: Mutex<HashMap<Path, &'static str>>,
    /// Whether it fails at all others, too, once it failed at one of them.
    then_at_all: AtomicBool,
    has_failed: AtomicBool,
}

impl Fails {
    /// At these, each in its words.
    fn at<const N: usize>(&self, paths: [(&Path, &'static str); N]) {
        *self.at.lock().unwrap() = paths.map(|(path, why)| (path.clone(), why)).into();
        self.has_failed.store(false, Relaxed);
    }

    fn fault_at(&self, path: &Path) -> Option<Error> {
        let at_all = self.then_at_all.load(Relaxed) && self.has_failed.load(Relaxed);
        let why = self.at.lock().unwrap().get(path).copied().or(at_all.then_some(REFUSED))?;
        self.has_failed.store(true, Relaxed);
        Some(Error::Generic { store: "test", source: why.into() })
    }
}

impl fmt::Display for Fails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a bucket with bad sectors")
    }
}

#[async_trait]
impl ObjectStore for Fails {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.bucket.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.bucket.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        match self.fault_at(path) {
            Some(fault) => Err(fault),
            None => self.bucket.get_opts(path, options).await,
        }
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.bucket.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.bucket.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.bucket.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.bucket.copy_opts(from, to, options).await
    }
}

/// A backup of two generations, and what the store was when the first ended.
async fn two_generations() -> (Arc<Fails>, Target, State) {
    let bucket = Arc::new(Fails::default());
    let (mut stage, writer) = Stage::begun(Target::bucket(Arc::<Fails>::clone(&bucket)), 4096).await;
    stage.write(2);
    stage.until(|report| report.behind.is_zero()).await;
    let first = state(&stage.tree);
    // More than there is room for.
    (3..100).for_each(|key| stage.write(key));
    stage.until(|report| report.whole).await;
    stage.feed = None;
    writer.await.unwrap();
    let target = stage.target.clone();
    (bucket, target, first)
}

/// The manifest of the newest snapshot, its rows, and those of the one before.
async fn snapshots(target: &Target) -> [Path; 3] {
    let snapshots: Vec<_> = target.list().await.unwrap().snapshots.into_keys().collect();
    let [(one, older), (two, newest)] = snapshots[..] else { panic!("{snapshots:?}") };
    assert!(one < two);
    [catalog::manifest(two, newest), catalog::snapshot(two, newest), catalog::snapshot(one, older)]
}

/// Of the first generation.
async fn last_segment(target: &Target) -> Path {
    let catalog = target.list().await.unwrap();
    catalog.segments.range(..(2, 0)).next_back().unwrap().1.meta.location.clone()
}

fn restored(target: &Target) -> Result<(Restored, State), RestoreError> {
    let folder = TempDir::new().unwrap();
    let config = config::Store { path: folder.path().join("state"), cache: 1 << 20, min_free: 0 };
    let is_as_it_was = || fs::read_dir(folder.path()).unwrap().next().is_none();
    let restored = restore(&config, target, "a test").inspect_err(|_| assert!(is_as_it_was()))?;
    Ok((restored, state(&open::engine_of(&config).unwrap())))
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_read_is_passed_over_and_said_and_so_is_what_is_missing() {
    let (bucket, target, first) = two_generations().await;
    let [manifest, rows, older] = snapshots(&target).await;
    for unreadable in [&manifest, &rows] {
        bucket.at([(unreadable, REFUSED)]);
        let (restored, found) = restored(&target).unwrap();
        let [why] = &restored.passed_over[..] else { panic!("{restored:?}") };
        assert!(why.contains("it cannot be read") && why.contains(REFUSED), "{why}");
        let missing = restored.missing.unwrap();
        assert!(missing.why.contains("no snapshot that can be used"), "{missing:?}");
        // The first generation may have a part of what followed.
        assert!(first.iter().all(|row| found.get(row.0) == Some(row.1)) && found.len() < 99, "{found:?}");
    }
    bucket.at([(&rows, REFUSED), (&older, REFUSED)]);
    let Err(RestoreError::NothingWhole(reasons)) = restored(&target) else { panic!("nothing was there") };
    assert!(reasons.len() == 2 && reasons.iter().all(|why| why.contains(REFUSED)), "{reasons:?}");
}

#[tokio::test]
async fn at_a_segment_that_cannot_be_read_the_changes_end_and_that_is_said() {
    let (bucket, target, first) = two_generations().await;
    let [_, rows, _] = snapshots(&target).await;
    let last = last_segment(&target).await;
    bucket.at([(&rows, REFUSED), (&last, REFUSED)]);
    let (restored, found) = restored(&target).unwrap();
    let missing = restored.missing.unwrap();
    assert!(missing.why.starts_with(last.as_ref()) && missing.why.contains(REFUSED), "{missing:?}");
    assert!(found.len() <= first.len(), "{found:?}");
}

/// Without a word of the service nobody knows that an object stays as it is.
const PASSING: [&str; 5] = [
    "Server returned non-2xx status code: 500 Internal Server Error: ",
    "Server returned non-2xx status code: 503 Service Unavailable: ",
    "Server returned non-2xx status code: 429 Too Many Requests: ",
    "error sending request",
    "operation timed out",
];

#[tokio::test]
async fn of_what_may_pass_nothing_is_made_and_it_says_to_try_again() {
    let (bucket, target, _) = two_generations().await;
    let [manifest, rows, _] = snapshots(&target).await;
    let last = last_segment(&target).await;
    for why in PASSING {
        // Also where an older snapshot, or fewer changes, would do.
        for at in
            [[(&manifest, why), (&last, why)], [(&rows, why), (&last, why)], [(&rows, REFUSED), (&last, why)]]
        {
            bucket.at(at);
            let Err(error) = restored(&target) else { panic!("a store was made in spite of {at:?}") };
            assert!(matches!(error, RestoreError::Unread(_)), "{error}");
            assert!(error.to_string().contains("try again") && error.to_string().contains(why), "{error}");
        }
    }
}

#[tokio::test]
async fn a_place_that_gives_nothing_any_more_is_not_taken_for_one_of_bad_objects() {
    let (bucket, target, _) = two_generations().await;
    let [_, rows, _] = snapshots(&target).await;
    bucket.then_at_all.store(true, Relaxed);
    for folder in [None, Some(".".into())] {
        bucket.at([(&rows, REFUSED)]);
        let target = Target { folder, ..target.clone() };
        assert!(matches!(restored(&target), Err(RestoreError::Unread(_))));
    }
}

#[tokio::test]
async fn a_folder_passes_over_an_object_whatever_the_disk_says_of_it() {
    let (bucket, target, _) = two_generations().await;
    let [_, rows, _] = snapshots(&target).await;
    bucket.at([(&rows, "Input/output error (os error 5)")]);
    let (restored, _) = restored(&Target { folder: Some(".".into()), ..target }).unwrap();
    assert!(restored.passed_over[0].contains("os error 5"), "{restored:?}");
}
