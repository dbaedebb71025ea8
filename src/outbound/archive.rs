//! The archive: where finished videos are kept, durably.
//!
//! A file is staged beside its target as `<target>#<n>`, synced, renamed and its folder synced, so that a name in the
//! archive always stands for a whole file. `LocalFileSystem::with_fsync` does all of that but one thing: it syncs
//! only the folders that it made itself in that call, not those that another task or an earlier, killed process
//! made a moment ago. [`Archive::writer`] closes that gap.
//!
//! The archive's folder is made at a start and never later: where its volume is gone, that would put videos on the disk
//! that it was mounted on. So it is looked for before anything is written, and again before a file counts as stored.

mod folders;
mod lock;
mod probe;
mod writeback;

use std::{
    collections::HashSet,
    io,
    ops::Range,
    path::{Path as FsPath, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::{Timestamp, tz::TimeZone};
use object_store::{
    GetOptions, GetResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, local::LocalFileSystem,
    path::Path,
};

pub(super) use lock::Lock;

use super::manifest::Manifest;
use crate::{
    config::Storage,
    disk::{self, Disk, Role, Trouble},
};

/// What is ours in the archive's folder, and no video.
const HIDDEN: &str = ".reelhook";

/// Forgetting a synced folder costs one fsync, remembering it a path; templates with a folder a job make many.
const MAX_KNOWN_FOLDERS: usize = 1024;

/// A `file:` archive.
#[derive(Debug)]
pub struct Archive {
    store: LocalFileSystem,
    root: PathBuf,
    key_template: String,
    disk: Disk,
    /// Folders whose own entry is known to be on disk.
    durable: Arc<Mutex<HashSet<PathBuf>>>,
}

/// What can go wrong in the archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The volume is full.
    #[error("the disk of the archive has too little room: {0}")]
    NoSpace(String),
    /// It takes nothing: less than `[storage] min_free` would be left, it is read-only, or gone.
    #[error(transparent)]
    Disk(#[from] Trouble),
    /// There is no such file.
    #[error("there is no `{0}` in the archive")]
    NotFound(String),
    /// The range begins behind the end of the file.
    #[error("the file has no such range: {0}")]
    Range(String),
    /// Everything else: permissions, a broken disk.
    #[error("the archive failed: {0}")]
    Io(String),
}

impl Archive {
    /// Opens the archive, makes its folder where needed, and removes what a killed process left half-written. What
    /// another living process is writing stays.
    ///
    /// # Errors
    /// The folder cannot be made, read or synced.
    pub async fn open(settings: &Storage) -> Result<Self, ArchiveError> {
        let root = settings.root.clone();
        let root =
            blocking(move || folders::prepare(&root).map_err(|error| folders::named(&error, &root))).await?;
        let store = LocalFileSystem::new_with_prefix(&root)?.with_fsync(true);
        let archive = Self {
            store,
            // Each look counts but once: a fast download writes gigabytes in the time that a store is patient for.
            disk: Disk::new(
                Role::Archive,
                root.clone(),
                folders::mark(&root),
                settings.min_free,
                Duration::ZERO,
            ),
            root,
            key_template: settings.key_template.clone(),
            durable: Arc::default(),
        };
        let root = archive.root.clone();
        blocking(move || lock::remove_orphans(&root)).await?;
        Ok(archive)
    }

    /// The key of a job: the template of `[storage] key_template` filled in. Files are named after it, with an
    /// extension. `created_at` is the job's, so that the key never changes; the date is UTC.
    pub fn key(&self, job_id: &str, created_at: Timestamp) -> String {
        let date = created_at.to_zoned(TimeZone::UTC).date().to_string();
        self.key_template.replace("{date}", &date).replace("{job_id}", job_id)
    }

    /// Begins a file. It takes its name only in `complete`, durably, and replaces what had that name.
    ///
    /// # Errors
    /// The folder or the staging file cannot be made.
    pub async fn writer(&self, location: &str) -> Result<Box<dyn MultipartUpload>, ArchiveError> {
        let location = parse(location)?;
        self.ensure_usable()?;
        self.make_folder_durable(&location).await?;
        let upload = self.store.put_multipart(&location).await?;
        Ok(writeback::with_write_back(upload, &self.store.path_to_filesystem(&location)?))
    }

    /// Opens a file for reading, whole or a range of bytes (end exclusive, cut at the end of the file).
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`], [`ArchiveError::Range`], [`ArchiveError::Disk`] where the volume is gone, or
    /// [`ArchiveError::Io`].
    pub async fn read(&self, location: &str, range: Option<Range<u64>>) -> Result<GetResult, ArchiveError> {
        let start = range.as_ref().map_or(0, |range| range.start);
        let options = GetOptions { range: range.map(Into::into), ..GetOptions::default() };
        match self.store.get_opts(&parse(location)?, options).await {
            Ok(found) => Ok(found),
            // The crate's own error for this cannot be matched on.
            Err(_) if start > 0 && start >= self.head(location).await?.size => {
                Err(ArchiveError::Range(format!("byte {start} is behind the end")))
            }
            Err(error) => Err(self.unless_gone(error)),
        }
    }

    /// Size and time of a file.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`], [`ArchiveError::Disk`] where the volume is gone, or [`ArchiveError::Io`].
    pub async fn head(&self, location: &str) -> Result<ObjectMeta, ArchiveError> {
        self.store.head(&parse(location)?).await.map_err(|error| self.unless_gone(error))
    }

    /// A file that is not found where the volume is gone may well be in the archive.
    fn unless_gone(&self, error: object_store::Error) -> ArchiveError {
        match self.disk.ensure_usable() {
            Err(gone @ Trouble::Gone(_)) => gone.into(),
            _ => error.into(),
        }
    }

    /// Removes a file that no record names.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`] or [`ArchiveError::Io`].
    pub async fn remove(&self, location: &str) -> Result<(), ArchiveError> {
        Ok(self.store.delete(&parse(location)?).await?)
    }

    /// Writes the manifest of a job as `<key>.json`, durably, and returns its location. Call it last: a manifest says
    /// that every file which it lists is complete. Writing it again replaces it.
    ///
    /// # Errors
    /// [`ArchiveError::NoSpace`], [`ArchiveError::Disk`] or [`ArchiveError::Io`].
    pub async fn put_manifest(&self, key: &str, manifest: &Manifest) -> Result<String, ArchiveError> {
        let body = serde_json::to_vec_pretty(manifest).map_err(|e| ArchiveError::Io(e.to_string()))?;
        let location = format!("{key}.json");
        let lock = self.lock(&location).await?;
        let path = parse(&location)?;
        self.make_folder_durable(&path).await?;
        self.store.put(&path, body.into()).await?;
        self.ensure_usable()?;
        if let Some(lock) = lock {
            lock.release();
        }
        Ok(location)
    }

    /// How the archive's disk does.
    pub fn disk(&self) -> disk::Report {
        self.disk.report()
    }

    /// Asks whether `bytes` more leave `[storage] min_free` untouched.
    ///
    /// # Errors
    /// [`ArchiveError::Disk`] if not.
    pub fn ensure_room(&self, bytes: u64) -> Result<(), ArchiveError> {
        Ok(self.disk.ensure_room(bytes)?)
    }

    /// Asks whether the volume is there and can be written. What was written before is in the archive then, and not in
    /// a folder that its volume left behind.
    ///
    /// # Errors
    /// [`ArchiveError::Disk`] if not.
    pub(super) fn ensure_usable(&self) -> Result<(), ArchiveError> {
        Ok(self.disk.ensure_usable()?)
    }

    /// Claims the right to write files whose names begin with `stem` and a dot; `None` while another holds it, be it
    /// in another process. Left-overs of a holder that was killed are removed.
    pub(super) async fn lock(&self, stem: &str) -> Result<Option<Lock>, ArchiveError> {
        self.ensure_usable()?;
        let (root, stem) = (self.root.clone(), stem.to_owned());
        blocking(move || Lock::acquire(&root, &stem)).await
    }

    async fn make_folder_durable(&self, location: &Path) -> Result<(), ArchiveError> {
        let target = self.store.path_to_filesystem(location)?;
        let Some(folder) = target.parent().map(FsPath::to_owned) else { return Ok(()) };
        let known = self.durable.lock().unwrap_or_else(PoisonError::into_inner).contains(&folder);
        if known {
            return Ok(());
        }
        let (root, durable) = (self.root.clone(), Arc::clone(&self.durable));
        blocking(move || {
            folders::sync_up_to(&folder, &root)?;
            let mut durable = durable.lock().unwrap_or_else(PoisonError::into_inner);
            if durable.len() >= MAX_KNOWN_FOLDERS {
                durable.clear();
            }
            durable.insert(folder);
            Ok(())
        })
        .await
    }
}

fn parse(location: &str) -> Result<Path, ArchiveError> {
    Path::parse(location).map_err(|e| ArchiveError::Io(e.to_string()))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, ArchiveError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(panicked) => Err(ArchiveError::Io(panicked.to_string())),
    }
}

impl From<io::Error> for ArchiveError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace(error.to_string()),
            _ => Self::Io(error.to_string()),
        }
    }
}

impl From<object_store::Error> for ArchiveError {
    fn from(error: object_store::Error) -> Self {
        if let object_store::Error::NotFound { path, .. } = &error {
            return Self::NotFound(path.clone());
        }
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(inner) = cause {
            if let Some(io) = inner.downcast_ref::<io::Error>() {
                return io::Error::new(io.kind(), error.to_string()).into();
            }
            cause = inner.source();
        }
        Self::Io(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_volume_is_told_apart_from_a_broken_one_wherever_in_the_chain_it_is() {
        let within = |kind: io::ErrorKind| object_store::Error::Generic {
            store: "LocalFileSystem",
            source: Box::new(object_store::Error::Generic {
                store: "inner",
                source: Box::new(io::Error::from(kind)),
            }),
        };
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
            assert!(matches!(ArchiveError::from(within(kind)), ArchiveError::NoSpace(_)));
        }
        assert!(matches!(ArchiveError::from(within(io::ErrorKind::ReadOnlyFilesystem)), ArchiveError::Io(_)));
    }
}
