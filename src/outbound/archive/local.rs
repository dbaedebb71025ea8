//! A folder that files are written to: a `file:` archive, or the spool of one in a bucket.
//!
//! In an archive a file is staged beside its target as `<target>#<n>`, synced, renamed and its folder synced, so that a
//! name there always stands for a whole file. `LocalFileSystem::with_fsync` does all of that but one thing: it syncs
//! only the folders that it made itself in that call, not those that another task or an earlier, killed process
//! made a moment ago. [`Local::writer`] closes that gap.
//!
//! The folder is made at a start and never later: where its volume is gone, that would put videos on the disk that it was
//! mounted on. So it is looked for before anything is written, and again before a file counts as stored.
//!
//! A spool has no folders, keeps nothing over a crash, and so syncs nothing.

use std::{
    collections::HashSet,
    io,
    path::{Path as FsPath, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use object_store::{MultipartUpload, ObjectStoreExt as _, local::LocalFileSystem, path::Path};

use super::{ArchiveError, Lock, folders, lock, parse, writeback};
use crate::disk::{Disk, Role};

/// Forgetting a synced folder costs one fsync, remembering it a path; templates with a folder a job make many.
const MAX_KNOWN_FOLDERS: usize = 1024;

#[derive(Debug)]
pub(super) struct Local {
    pub(super) store: LocalFileSystem,
    root: PathBuf,
    pub(super) disk: Disk,
    /// Folders whose own entry is known to be on disk.
    durable: Arc<Mutex<HashSet<PathBuf>>>,
    is_spool: bool,
}

impl Local {
    /// Opens a folder, makes it where needed, and removes what a killed process left half-written; in a spool, whatever
    /// it left. What another living process is writing stays.
    pub(super) async fn open(root: PathBuf, min_free: u64, role: Role) -> Result<Self, ArchiveError> {
        let is_spool = role == Role::Spool;
        let root = blocking(move || {
            folders::prepare(&root, is_spool).map_err(|error| folders::named(&error, &root, is_spool))
        })
        .await?;
        let folder = root.clone();
        let local = Self::at(root, min_free, role)?;
        blocking(move || lock::remove_orphans(&folder, is_spool)).await?;
        Ok(local)
    }

    /// Opens a folder that was opened before, and makes or removes nothing; `None` where it never was, or its volume is
    /// not mounted.
    pub(super) async fn existing(
        root: PathBuf,
        min_free: u64,
        role: Role,
    ) -> Result<Option<Self>, ArchiveError> {
        let is_spool = role == Role::Spool;
        let begun = move || folders::begun(&root).map_err(|error| folders::named(&error, &root, is_spool));
        blocking(begun).await?.map(|root| Self::at(root, min_free, role)).transpose()
    }

    fn at(root: PathBuf, min_free: u64, role: Role) -> Result<Self, ArchiveError> {
        let is_spool = role == Role::Spool;
        let store = LocalFileSystem::new_with_prefix(&root)?.with_fsync(!is_spool);
        // Each look counts but once: a fast download writes gigabytes in the time that a store is patient for.
        let disk = Disk::new(role, root.clone(), folders::mark(&root), min_free, Duration::ZERO);
        Ok(Self { store, root, disk, durable: Arc::default(), is_spool })
    }

    /// Begins a file. It takes its name only in `complete`, and replaces what had that name.
    pub(super) async fn writer(&self, location: &str) -> Result<Box<dyn MultipartUpload>, ArchiveError> {
        let location = parse(&self.name(location))?;
        self.ensure_usable()?;
        if self.is_spool {
            return Ok(self.store.put_multipart(&location).await?);
        }
        self.make_folder_durable(&location).await?;
        let upload = self.store.put_multipart(&location).await?;
        Ok(writeback::with_write_back(upload, &self.store.path_to_filesystem(&location)?))
    }

    /// Writes a small file at once, durably.
    pub(super) async fn put(&self, location: &str, body: Vec<u8>) -> Result<(), ArchiveError> {
        let lock = self.lock(location).await?;
        let path = parse(location)?;
        self.make_folder_durable(&path).await?;
        self.store.put(&path, body.into()).await?;
        self.ensure_usable()?;
        if let Some(lock) = lock {
            lock.release();
        }
        Ok(())
    }

    /// Where a file of this location is on this machine.
    pub(super) fn path(&self, location: &str) -> Result<PathBuf, ArchiveError> {
        Ok(self.store.path_to_filesystem(&parse(&self.name(location))?)?)
    }

    /// Removes a file.
    pub(super) async fn remove(&self, location: &str) -> Result<(), ArchiveError> {
        Ok(self.store.delete(&parse(&self.name(location))?).await?)
    }

    /// See [`super::Archive::lock`].
    pub(super) async fn lock(&self, stem: &str) -> Result<Option<Lock>, ArchiveError> {
        self.ensure_usable()?;
        let (root, stem, is_spool) = (self.root.clone(), self.name(stem), self.is_spool);
        blocking(move || Lock::acquire(&root, &stem, is_spool)).await
    }

    pub(super) fn ensure_usable(&self) -> Result<(), ArchiveError> {
        Ok(self.disk.ensure_usable()?)
    }

    /// A spool would be left with an empty folder for each that was ever needed.
    fn name(&self, location: &str) -> String {
        if self.is_spool { location.replace('/', "+") } else { location.to_owned() }
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

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, ArchiveError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(panicked) => Err(ArchiveError::Io(panicked.to_string())),
    }
}
