//! Objects that are there and cannot be read.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex},
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

/// A bucket that fails at some objects.
#[derive(Debug, Default)]
struct Fails {
    bucket: InMemory,
    at: Mutex<HashSet<Path>>,
}

impl Fails {
    fn at(&self, paths: &[&Path]) {
        *self.at.lock().unwrap() = paths.iter().copied().cloned().collect();
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
        if self.at.lock().unwrap().contains(path) {
            return Err(Error::Generic { store: "test", source: "a bad sector".into() });
        }
        self.bucket.get_opts(path, options).await
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

fn restored(target: &Target) -> Result<(Restored, State), RestoreError> {
    let folder = TempDir::new().unwrap();
    let config = config::Store { path: folder.path().join("state"), cache: 1 << 20, min_free: 0 };
    let restored = restore(&config, target, "a test").inspect_err(|_| assert!(!config.path.exists()))?;
    Ok((restored, state(&open::engine_of(&config).unwrap())))
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_read_is_passed_over_and_said_and_so_is_what_is_missing() {
    let (bucket, target, first) = two_generations().await;
    let [manifest, rows, older] = snapshots(&target).await;
    for unreadable in [&manifest, &rows] {
        bucket.at(&[unreadable]);
        let (restored, found) = restored(&target).unwrap();
        let [why] = &restored.passed_over[..] else { panic!("{restored:?}") };
        assert!(why.contains("it cannot be read") && why.contains("a bad sector"), "{why}");
        let missing = restored.missing.unwrap();
        assert!(missing.why.contains("no snapshot that can be used"), "{missing:?}");
        // The first generation may have a part of what followed.
        assert!(first.iter().all(|row| found.get(row.0) == Some(row.1)) && found.len() < 99, "{found:?}");
    }
    bucket.at(&[&rows, &older]);
    let Err(RestoreError::NothingWhole(reasons)) = restored(&target) else { panic!("nothing was there") };
    assert!(reasons.len() == 2 && reasons.iter().all(|why| why.contains("a bad sector")), "{reasons:?}");
}

#[tokio::test]
async fn at_a_segment_that_cannot_be_read_the_changes_end_and_that_is_said() {
    let (bucket, target, first) = two_generations().await;
    let [_, rows, _] = snapshots(&target).await;
    let catalog = target.list().await.unwrap();
    let last = catalog.segments.range(..(2, 0)).next_back().unwrap().1.meta.location.clone();
    bucket.at(&[&rows, &last]);
    let (restored, found) = restored(&target).unwrap();
    let missing = restored.missing.unwrap();
    assert!(missing.why.starts_with(last.as_ref()) && missing.why.contains("a bad sector"), "{missing:?}");
    assert!(found.len() <= first.len(), "{found:?}");
}
