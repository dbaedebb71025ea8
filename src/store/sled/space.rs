//! The room that the store has: writes stop before sled meets a full disk, which it does not survive.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::open::owner_file;
use crate::{
    disk::{Disk, Report, Role},
    store::StoreError,
};

/// How long a look at the disk counts: there are thousands of writes in a second.
const FRESH: Duration = Duration::from_secs(1);

/// Watches the disk that holds the store, known by the file that names this process as its owner.
#[derive(Debug)]
pub(super) struct Space(Disk);

impl Space {
    /// `min_free` in bytes; 0 is no limit.
    pub(super) fn new(path: PathBuf, min_free: u64) -> Self {
        let mark = owner_file(&path);
        Self(Disk::new(Role::Store, path, mark, min_free, FRESH))
    }

    /// The folder that the store is in.
    pub(super) fn path(&self) -> &Path {
        self.0.folder()
    }

    /// Whether new work may be taken on.
    pub(super) fn for_new_work(&self) -> Result<(), StoreError> {
        Ok(self.0.ensure_room_for_new_work()?)
    }

    /// Whether what is under way may be written.
    pub(super) fn for_work_under_way(&self) -> Result<(), StoreError> {
        Ok(self.0.ensure_room(0)?)
    }

    pub(super) fn report(&self) -> Report {
        self.0.report()
    }
}

/// Bytes of the files in a folder.
pub(super) fn taken(folder: &Path) -> io::Result<u64> {
    fs::read_dir(folder)?.try_fold(0, |sum, entry| Ok(sum + entry?.metadata()?.len()))
}
