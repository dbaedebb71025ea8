//! Files that go to the disk while they are written, so that the sync at their end has little left to wait for.

use std::{fs::File, ops::Range, path::Path, sync::Arc};

use async_trait::async_trait;
use object_store::{MultipartUpload, PutPayload, PutResult, Result, UploadPart};
use tokio::task::spawn_blocking;

/// Bytes that are sent to the disk in one go: smaller steps cost more than they bring forward.
const STEP: u64 = 4 << 20;

/// An upload into a local file that tells the kernel early to write. It promises nothing: durability is the sync in
/// `complete`.
#[derive(Debug)]
pub(super) struct WriteBack {
    upload: Box<dyn MultipartUpload>,
    /// The staging file, opened a second time.
    staged: Arc<File>,
    written: u64,
    sent: u64,
}

/// Wraps an upload that `object_store` has just begun for the file `target`. Where its staging file is not found
/// under the usual name, the upload is returned as it was.
pub(super) fn with_write_back(upload: Box<dyn MultipartUpload>, target: &Path) -> Box<dyn MultipartUpload> {
    let mut staged = target.as_os_str().to_owned();
    staged.push("#1");
    match File::open(staged) {
        Ok(file) => Box::new(WriteBack { upload, staged: Arc::new(file), written: 0, sent: 0 }),
        Err(_) => upload,
    }
}

#[async_trait]
impl MultipartUpload for WriteBack {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.written += data.content_length() as u64;
        let write = self.upload.put_part(data);
        if self.written - self.sent < STEP {
            return write;
        }
        let (staged, range) = (Arc::clone(&self.staged), self.sent..self.written);
        self.sent = self.written;
        Box::pin(async move {
            write.await?;
            // Only a hint, whatever becomes of it.
            spawn_blocking(move || start(&staged, &range)).await.ok();
            Ok(())
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.upload.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}

/// Linux answers to this advice by starting to write what is dirty (`mm/fadvise.c`), without waiting for it.
#[cfg(target_os = "linux")]
fn start(file: &File, range: &Range<u64>) {
    use rustix::fs::{Advice, fadvise};
    let len = std::num::NonZeroU64::new(range.end - range.start);
    if let Err(error) = fadvise(file, range.start, len, Advice::DontNeed) {
        tracing::debug!(%error, "the disk cannot be asked to write early");
    }
}

#[cfg(not(target_os = "linux"))]
fn start(_file: &File, _range: &Range<u64>) {}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use object_store::{ObjectStoreExt, local::LocalFileSystem, path::Path as Key};

    use super::*;

    #[tokio::test]
    async fn the_staging_file_has_the_name_under_which_it_is_looked_for() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalFileSystem::new_with_prefix(folder.path()).unwrap();
        let upload = store.put_multipart(&Key::from("a.mp4")).await.unwrap();
        let target = folder.path().join("a.mp4");
        let mut upload = with_write_back(upload, &target);
        assert!(format!("{upload:?}").starts_with("WriteBack"));
        let piece = vec![7; (STEP + 1) as usize];
        upload.put_part(piece.clone().into()).await.unwrap();
        upload.put_part(piece.clone().into()).await.unwrap();
        upload.complete().await.unwrap();
        assert_eq!(std::fs::metadata(&target).unwrap().size(), 2 * (STEP + 1));
        assert!(std::fs::read(&target).unwrap().iter().all(|byte| *byte == 7));
    }
}
