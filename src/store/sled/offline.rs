//! The store while no server has it. It is looked at through a copy: the engine writes to whatever it opens, and has no
//! mode in which it does not.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use rustix::fs::statvfs;
use sled::{Db, Tree};

use super::{
    carve, keys,
    open::{self, LOCK_WAIT, owner_file},
};
use crate::{config, store::StoreError};

/// The engine's log, which its owner holds a lock on.
const LOG: &str = "db";
/// Says in a store's folder that its jobs are another store's by now.
const SEAL: &str = "sealed";
/// Says in a store's folder that it was made of a backup, and nothing was done about that so far.
const RESTORED: &str = "restored";

/// The lock of a store, taken as the engine takes it. No server starts while it is held.
#[derive(Debug)]
pub(super) struct Held {
    path: PathBuf,
    _log: File,
}

impl Held {
    /// Takes the lock.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Locked`], or [`StoreError::Unreadable`] with the system's reason.
    pub(super) fn take(path: &Path) -> Result<Self, StoreError> {
        let shown = || path.display().to_string();
        let deadline = Instant::now() + LOCK_WAIT;
        loop {
            let log = File::open(path.join(LOG)).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => StoreError::Missing { path: shown() },
                _ => open::unreadable(path, &error.to_string()),
            })?;
            match log.try_lock() {
                // A rebuild may have put another file there between our opening and our locking.
                Ok(()) if is_still_at(&log, &path.join(LOG)) => {
                    return Ok(Self { path: path.to_owned(), _log: log });
                }
                Ok(()) => {}
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(LOCK_WAIT / 20),
                Err(TryLockError::WouldBlock) => {
                    let owner =
                        fs::read_to_string(owner_file(path)).unwrap_or_else(|_| "another process".to_owned());
                    return Err(StoreError::Locked { path: shown(), owner });
                }
                Err(TryLockError::Error(error)) => return Err(open::unreadable(path, &error.to_string())),
            }
        }
    }

    /// The engine's log. Only here is it as the engine left it: to open a copy may change that copy.
    pub(super) fn log(&self) -> PathBuf {
        self.path.join(LOG)
    }

    /// Marks the store so that no server ever starts on it. Durable when it returns.
    pub(super) fn seal(&self, note: &str) -> io::Result<()> {
        leave(&self.path, SEAL, note.as_bytes())
    }

    /// Copies what the engine needs into a new folder in `scratch`, or beside the store. Fails before the disk has less than
    /// `min_free` bytes left.
    pub(super) fn copy(&self, scratch: Option<&Path>, min_free: u64) -> Result<Copy, StoreError> {
        let beside = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let within = scratch.or(beside).unwrap_or(Path::new("."));
        // In a container, where all processes have one number, a killed one may have left its copy.
        let unique = format!("{}-{}", std::process::id(), jiff::Timestamp::now().as_nanosecond());
        let folder = within.join(format!(".reelhook-copy-{unique}"));
        let failed = |error: io::Error| StoreError::Uncopied {
            path: folder.display().to_string(),
            why: error.to_string(),
        };
        let wanted = size(&self.path).map_err(failed)?.saturating_add(min_free);
        let free = statvfs(within).map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        if free < wanted {
            let why = format!("{wanted} bytes are wanted with [store] min_free, {free} are free");
            return Err(failed(io::Error::other(why)));
        }
        fs::create_dir(&folder).map_err(failed)?;
        let copy = Copy { folder: folder.clone(), of: self.path.clone() };
        copy_files(&self.path, &folder).map_err(failed)?;
        Ok(copy)
    }
}

/// Writes and syncs a file beside those of a store that nobody has open, and removes it. The store itself stays as it is.
///
/// # Errors
/// [`StoreError::Missing`], [`StoreError::Locked`], [`StoreError::Sealed`], or [`StoreError::Unavailable`] with the
/// system's reason.
pub fn probe(settings: &config::Store) -> Result<(), StoreError> {
    let folder = &settings.path;
    refuse_sealed(folder)?;
    let _held = Held::take(folder)?;
    let path = folder.join(".probe");
    let write = || -> io::Result<()> {
        let mut file = File::create(&path)?;
        file.write_all(b"reelhook")?;
        file.sync_all()?;
        fs::remove_file(&path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|error| {
        StoreError::Unavailable(format!("{} cannot be written to: {error}", folder.display()))
    })
}

fn is_still_at(file: &File, path: &Path) -> bool {
    let id = |metadata: io::Result<fs::Metadata>| metadata.map(|file| (file.dev(), file.ino())).ok();
    id(file.metadata()) == id(fs::metadata(path))
}

/// Bytes of the files of a folder and of those in it.
fn size(folder: &Path) -> io::Result<u64> {
    fs::read_dir(folder)?.try_fold(0, |sum, entry| {
        let entry = entry?;
        let more = if entry.file_type()?.is_dir() { size(&entry.path())? } else { entry.metadata()?.len() };
        Ok(more.saturating_add(sum))
    })
}

/// Copies the files of a folder and of those in it, but for what belongs to a running server.
fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        let target = to.join(&name);
        if kind.is_dir() {
            fs::create_dir(&target)?;
            copy_files(&entry.path(), &target)?;
        } else if kind.is_file() && name != "owner" && name != SEAL {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// A copy of a store; it goes when this is dropped.
#[derive(Debug)]
pub(super) struct Copy {
    folder: PathBuf,
    /// The store.
    of: PathBuf,
}

impl Copy {
    /// Opens the copy and lets `look` look at it, on a thread of its own, where a panic of the engine is an answer and
    /// not the end. An engine that finds no job where the store's log holds some has lost its way.
    pub(super) fn look<T: Send>(
        &self,
        cache: u64,
        look: impl FnOnce(&Tree) -> T + Send,
    ) -> Result<T, StoreError> {
        self.look_by(open::engine_or_anew, cache, look)
    }

    /// The same with another way to open it.
    pub(super) fn look_by<T: Send>(
        &self,
        open: fn(&config::Store) -> sled::Result<Db>,
        cache: u64,
        look: impl FnOnce(&Tree) -> T + Send,
    ) -> Result<T, StoreError> {
        let config = config::Store { path: self.folder.clone(), cache, min_free: 0 };
        let looked = thread::scope(|scope| {
            scope
                .spawn(|| {
                    let db = open(&config).map_err(|error| open::unreadable(&self.of, &error.to_string()))?;
                    self.refuse_hollow(&db)?;
                    Ok::<T, StoreError>(look(&db))
                })
                .join()
        });
        match looked {
            Ok(looked) => looked,
            Err(_) => Err(open::unreadable(&self.of, "the engine gave up on its files")),
        }
    }

    fn refuse_hollow(&self, tree: &Tree) -> Result<(), StoreError> {
        if tree.scan_prefix([keys::JOB]).next().is_some() {
            return Ok(());
        }
        let records = carve::records(&self.of.join(LOG));
        let records = records.map_err(|error| open::unreadable(&self.of, &error.to_string()))?;
        match records.len() {
            0 => Ok(()),
            count => {
                let why = format!("the engine finds no job, and its log holds whole records of {count}");
                Err(open::unreadable(&self.of, &why))
            }
        }
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            tracing::warn!(folder = %self.folder.display(), %error, "the copy of the store cannot be removed");
        }
    }
}

/// Refuses a store whose jobs were moved.
pub(super) fn refuse_sealed(path: &Path) -> Result<(), StoreError> {
    match fs::read_to_string(path.join(SEAL)) {
        Ok(note) => Err(StoreError::Sealed { path: path.display().to_string(), note }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(open::unreadable(path, &error.to_string())),
    }
}

/// Marks a store that was made of a backup. Durable when it returns.
pub(super) fn mark_restored(path: &Path, note: &str) -> io::Result<()> {
    leave(path, RESTORED, note.as_bytes())
}

/// Writes a small file of ours beside the engine's. Durable when it returns.
pub(super) fn leave(store: &Path, name: &str, note: &[u8]) -> io::Result<()> {
    let path = store.join(name);
    fs::write(&path, note)?;
    File::open(&path)?.sync_all()?;
    File::open(store)?.sync_all()
}

/// Removes that mark. Durable when it returns.
pub(super) fn unmark_restored(path: &Path) -> io::Result<()> {
    match fs::remove_file(path.join(RESTORED)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.and_then(|()| File::open(path)?.sync_all()),
    }
}

/// Refuses a store that was made of a backup, as long as what it has as not sent could be sent.
pub(super) fn refuse_restored(path: &Path) -> Result<(), StoreError> {
    match fs::read_to_string(path.join(RESTORED)) {
        Ok(note) => Err(StoreError::Restored { path: path.display().to_string(), note }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(open::unreadable(path, &error.to_string())),
    }
}
