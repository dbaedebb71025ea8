//! One writer a file, over all processes that share the archive's folder.
//!
//! Whoever writes holds an advisory lock on a file of its own, named after the target. The kernel releases the lock
//! with the process, but the file stays: so at the next start it tells, without a walk through the archive, where a
//! killed process may have left a staging file.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::HIDDEN;

/// The right to write files whose names begin with a stem. Dropping it gives the right back but keeps the mark that
/// something may be left to clean up; [`Lock::release`] takes the mark away too.
#[derive(Debug)]
pub(in crate::outbound) struct Lock {
    root: PathBuf,
    stem: String,
    path: PathBuf,
    /// Then even a whole file is a left-over: it never got where it was to go.
    is_spool: bool,
    _held: File,
}

/// Where the lock files are.
pub(super) fn folder(root: &Path) -> PathBuf {
    root.join(HIDDEN).join("locks")
}

impl Lock {
    /// Takes the lock, or says `None` if another holds it. Removes what a former holder left.
    pub(super) fn acquire(root: &Path, stem: &str, is_spool: bool) -> io::Result<Option<Self>> {
        let path = folder(root).join(stem.replace('%', "%25").replace('/', "%2F"));
        loop {
            let left_over = path.exists();
            let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // The former holder may have removed the file between our opening and our locking it: then we hold a
            // lock that nobody else will ever see.
            if !is_still_at(&file, &path)? {
                continue;
            }
            let lock = Self { root: root.to_owned(), stem: stem.to_owned(), path, is_spool, _held: file };
            if left_over {
                lock.remove_staging()?;
            }
            return Ok(Some(lock));
        }
    }

    /// Gives the right back. Nothing of this stem is left half-written.
    pub(in crate::outbound) fn release(self) {
        // Removed while still held, so that nobody can have locked it in between.
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a lock file cannot be removed");
        }
    }

    /// Removes the staging files of this stem, `<stem>.<extension>#<number>`, and in a spool the whole ones.
    pub(in crate::outbound) fn remove_staging(&self) -> io::Result<()> {
        let target = self.root.join(&self.stem);
        let (Some(folder), Some(name)) = (target.parent(), target.file_name().and_then(|name| name.to_str()))
        else {
            return Ok(());
        };
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let is_left = |file: &str| is_staging_of(name, file) || self.is_spool && is_file_of(name, file);
            if entry.file_name().to_str().is_some_and(is_left) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

/// `object_store` stages `<target>#<number>` beside the target.
fn is_staging_of(stem: &str, file: &str) -> bool {
    let Some((target, number)) = file.rsplit_once('#') else { return false };
    let is_ours = target == stem || is_file_of(stem, target);
    is_ours && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
}

fn is_file_of(stem: &str, file: &str) -> bool {
    file.strip_prefix(stem).is_some_and(|rest| rest.starts_with('.'))
}

fn is_still_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::metadata(path) {
        Ok(there) => Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Cleans up after processes that were killed while they wrote.
pub(super) fn remove_orphans(root: &Path, is_spool: bool) -> io::Result<()> {
    for entry in fs::read_dir(folder(root))? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        let stem = name.replace("%2F", "/").replace("%25", "%");
        // Taking the lock is what cleans up; where another process holds it, that one lives.
        if let Some(lock) = Lock::acquire(root, &stem, is_spool)? {
            tracing::info!(stem, "removed what an interrupted download had left");
            lock.release();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_staging_files_of_the_stem_are_recognised() {
        assert!(is_staging_of("job_1", "job_1.mp4#1"));
        assert!(is_staging_of("job_1.json", "job_1.json#12"));
        for other in ["job_1.mp4", "job_1.mp4#", "job_1.mp4#x", "job_1-2.mp4#1", "job_10.mp4#1"] {
            assert!(!is_staging_of("job_1", other), "{other}");
        }
    }

    #[test]
    fn a_dead_holder_leaves_its_whole_file_in_an_archive_and_nothing_in_a_spool() {
        for is_spool in [false, true] {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir_all(folder(root.path())).unwrap();
            drop(Lock::acquire(root.path(), "job_1", is_spool).unwrap());
            for name in ["job_1.mp4", "job_1.mp4#1", "job_2.mp4"] {
                fs::write(root.path().join(name), name).unwrap();
            }
            remove_orphans(root.path(), is_spool).unwrap();
            let is_there = |name: &str| root.path().join(name).exists();
            assert_eq!((is_there("job_1.mp4"), is_there("job_1.mp4#1")), (!is_spool, false));
            assert!(is_there("job_2.mp4"), "it is nobody's left-over");
        }
    }

    #[test]
    fn the_second_taker_is_refused_until_the_first_releases() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder(root.path())).unwrap();
        let first = Lock::acquire(root.path(), "a/b", false).unwrap().unwrap();
        assert!(Lock::acquire(root.path(), "a/b", false).unwrap().is_none());
        assert!(Lock::acquire(root.path(), "a/c", false).unwrap().is_some());
        first.release();
        assert!(Lock::acquire(root.path(), "a/b", false).unwrap().is_some());
    }
}
