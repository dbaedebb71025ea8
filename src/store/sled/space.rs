//! The free space of the disk: writes stop before sled meets a full one, which it does not survive.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use crate::store::StoreError;

/// How long a look at the disk counts.
const FRESH: Duration = Duration::from_secs(1);

/// Watches the disk that holds the store.
#[derive(Debug)]
pub(super) struct Space {
    path: PathBuf,
    min_free: u64,
    base: Instant,
    /// Milliseconds from `base` to when the next look is due.
    next: AtomicU64,
    free: AtomicU64,
}

impl Space {
    /// `min_free` in bytes; 0 is no limit.
    pub(super) fn new(path: PathBuf, min_free: u64) -> Self {
        Self { path, min_free, base: Instant::now(), next: AtomicU64::new(0), free: AtomicU64::new(u64::MAX) }
    }

    /// The folder that the store is in.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn free(&self) -> u64 {
        let now = u64::try_from(self.base.elapsed().as_millis()).unwrap_or(u64::MAX);
        if now >= self.next.load(Ordering::Relaxed) {
            self.next.store(now + FRESH.as_millis() as u64, Ordering::Relaxed);
            // A disk that does not answer is left to the writes, which say more.
            if let Ok(disk) = rustix::fs::statvfs(&self.path) {
                self.free.store(disk.f_bavail.saturating_mul(disk.f_frsize), Ordering::Relaxed);
            }
        }
        self.free.load(Ordering::Relaxed)
    }

    fn at_least(&self, wanted: u64) -> Result<(), StoreError> {
        if wanted == 0 {
            return Ok(());
        }
        let free = self.free();
        if free < wanted { Err(StoreError::NoSpace { free, wanted }) } else { Ok(()) }
    }

    /// Whether new work may be taken on.
    pub(super) fn for_new_work(&self) -> Result<(), StoreError> {
        self.at_least(self.min_free.saturating_mul(2))
    }

    /// Whether what is under way may be written.
    pub(super) fn for_work_under_way(&self) -> Result<(), StoreError> {
        self.at_least(self.min_free)
    }
}

/// Bytes of the files in a folder.
pub(super) fn taken(folder: &Path) -> io::Result<u64> {
    fs::read_dir(folder)?.try_fold(0, |sum, entry| Ok(sum + entry?.metadata()?.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_work_stops_before_the_work_under_way_does() {
        let dir = tempfile::tempdir().unwrap();
        let free = Space::new(dir.path().into(), 0).free();
        let tight = Space::new(dir.path().into(), free / 4 * 3);
        assert!(matches!(tight.for_new_work(), Err(StoreError::NoSpace { .. })));
        assert!(tight.for_work_under_way().is_ok());
        assert!(Space::new(dir.path().into(), u64::MAX).for_work_under_way().is_err());
        assert!(Space::new(dir.path().into(), 0).for_new_work().is_ok());
    }
}
