//! The disks under the store and the archive, or the spool of one in a bucket: whether they are there, can be written and have room.
//!
//! A look is taken before work is, so that neither meets a full disk half-way. A disk is known by a file on it and that
//! file's content: where its volume is gone, the folder that it was mounted on is still there, and must not be taken for it.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::fs::{StatVfsMountFlags, statvfs};

/// What a disk is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Records, events, callbacks.
    Store,
    /// Finished videos.
    Archive,
    /// Videos that wait for their upload into a bucket.
    Spool,
}

impl Role {
    /// As logs, metrics and the API call it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Archive => "archive",
            Self::Spool => "spool",
        }
    }

    const fn setting(self) -> &'static str {
        match self {
            Self::Store => "[store] min_free",
            Self::Archive | Self::Spool => "[storage] min_free",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a disk takes nothing. It heals by itself. No folder is named: callers are told as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Less space is left than is kept free.
    #[error(
        "the disk of the {role} has too little room: {free} bytes left, {setting} asks for {wanted}; nothing was written",
        setting = .role.setting()
    )]
    Full {
        /// Which disk.
        role: Role,
        /// Bytes left.
        free: u64,
        /// Bytes wanted.
        wanted: u64,
    },
    /// It is mounted read-only, as a file system does by itself when its disk fails.
    #[error("the disk of the {0} is mounted read-only; nothing was written")]
    ReadOnly(Role),
    /// The folder is not there, or not the one that this process opened.
    #[error(
        "the folder of the {0} is not the one that was opened: is its volume mounted? Nothing was written"
    )]
    Gone(Role),
}

/// How a disk does.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Which disk.
    pub role: Role,
    /// Bytes free; none where the disk is gone.
    pub free: Option<u64>,
    /// Bytes that are kept free.
    pub min_free: u64,
    /// Why it takes no new work: new jobs, or new files.
    pub no_new_work: Option<Trouble>,
    /// Why it takes nothing at all.
    pub no_writes: Option<Trouble>,
}

/// Watches the disk under a folder.
#[derive(Debug)]
pub struct Disk {
    role: Role,
    folder: PathBuf,
    /// A file that only this volume has with this content.
    mark: PathBuf,
    marked: Option<Vec<u8>>,
    min_free: u64,
    /// How long a look counts.
    fresh_for: Duration,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    look: Option<(Instant, Look)>,
    /// What was last said of it.
    said: Kind,
}

/// What a look found.
#[derive(Clone, Copy, Debug)]
struct Look {
    free: Option<u64>,
    unusable: Option<Trouble>,
}

/// What a disk takes; each change is logged once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Everything,
    NoNewWork,
    /// The kind of trouble, without its figures.
    Nothing(&'static str),
}

impl Disk {
    /// Watches the disk under `folder`, known by the file `mark` in it as it is now. `min_free` in bytes; 0 is no limit.
    pub fn new(role: Role, folder: PathBuf, mark: PathBuf, min_free: u64, fresh_for: Duration) -> Self {
        let marked = std::fs::read(&mark).ok();
        Self { role, folder, mark, marked, min_free, fresh_for, last: Mutex::default() }
    }

    /// The folder on it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether it is there and can be written.
    ///
    /// # Errors
    /// [`Trouble::Gone`] or [`Trouble::ReadOnly`].
    pub fn ensure_usable(&self) -> Result<(), Trouble> {
        self.look().unusable.map_or(Ok(()), Err)
    }

    /// Whether `bytes` more leave `min_free` untouched.
    ///
    /// # Errors
    /// Why not.
    pub fn ensure_room(&self, bytes: u64) -> Result<(), Trouble> {
        self.refusal(&self.look(), self.min_free.saturating_add(bytes)).map_or(Ok(()), Err)
    }

    /// Whether new work may be taken on. A store keeps as much again for the work that it has: a job is written many
    /// times.
    ///
    /// # Errors
    /// Why not.
    pub fn ensure_room_for_new_work(&self) -> Result<(), Trouble> {
        self.refusal(&self.look(), self.for_new_work()).map_or(Ok(()), Err)
    }

    /// How it does now. A change is logged, by whoever is the first to look.
    pub fn report(&self) -> Report {
        self.report_of(&self.look())
    }

    fn report_of(&self, look: &Look) -> Report {
        Report {
            role: self.role,
            free: look.free,
            min_free: self.min_free,
            no_new_work: self.refusal(look, self.for_new_work()),
            no_writes: self.refusal(look, self.min_free),
        }
    }

    fn for_new_work(&self) -> u64 {
        match self.role {
            Role::Store => self.min_free.saturating_mul(2),
            Role::Archive | Role::Spool => self.min_free,
        }
    }

    fn refusal(&self, look: &Look, wanted: u64) -> Option<Trouble> {
        let full = |free: u64| Trouble::Full { role: self.role, free, wanted };
        look.unusable.or_else(|| look.free.filter(|free| *free < wanted).map(full))
    }

    fn look(&self) -> Look {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, look)) = last.look
            && at.elapsed() < self.fresh_for
        {
            return look;
        }
        let look = self.look_now();
        last.look = Some((Instant::now(), look));
        let report = self.report_of(&look);
        let kind = kind(&report);
        if std::mem::replace(&mut last.said, kind) != kind {
            self.say(&report);
        }
        look
    }

    fn look_now(&self) -> Look {
        let is_here = self.marked.is_some() && std::fs::read(&self.mark).ok() == self.marked;
        match statvfs(&self.folder) {
            Ok(disk) if is_here => Look {
                free: Some(disk.f_bavail.saturating_mul(disk.f_frsize)),
                unusable: disk
                    .f_flag
                    .contains(StatVfsMountFlags::RDONLY)
                    .then_some(Trouble::ReadOnly(self.role)),
            },
            _ => Look { free: None, unusable: Some(Trouble::Gone(self.role)) },
        }
    }

    fn say(&self, report: &Report) {
        let (disk, folder) = (self.role.as_str(), self.folder.display());
        let Report { free, min_free, .. } = report;
        match (report.no_writes, report.no_new_work) {
            (Some(why), _) => tracing::error!(disk, %folder, free, min_free, %why, "a disk takes nothing"),
            (None, Some(why)) => {
                tracing::warn!(disk, %folder, free, min_free, %why, "a disk takes no new work")
            }
            (None, None) => tracing::info!(disk, %folder, free, min_free, "a disk takes everything again"),
        }
    }
}

fn kind(report: &Report) -> Kind {
    match (report.no_writes, report.no_new_work) {
        (Some(Trouble::Full { .. }), _) => Kind::Nothing("full"),
        (Some(Trouble::ReadOnly(_)), _) => Kind::Nothing("read-only"),
        (Some(Trouble::Gone(_)), _) => Kind::Nothing("gone"),
        (None, Some(_)) => Kind::NoNewWork,
        (None, None) => Kind::Everything,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    fn disk(folder: &TempDir, role: Role, min_free: u64) -> Disk {
        fs::write(folder.path().join("mark"), "this one").unwrap();
        Disk::new(role, folder.path().into(), folder.path().join("mark"), min_free, Duration::ZERO)
    }

    #[test]
    fn new_work_stops_before_the_work_under_way_does_in_the_store_alone() {
        let folder = tempfile::tempdir().unwrap();
        let free = disk(&folder, Role::Store, 0).report().free.unwrap();
        let tight = disk(&folder, Role::Store, free / 4 * 3);
        assert!(matches!(tight.ensure_room_for_new_work(), Err(Trouble::Full { .. })));
        assert_eq!((tight.ensure_room(0), kind(&tight.report())), (Ok(()), Kind::NoNewWork));
        assert_eq!(disk(&folder, Role::Archive, free / 4 * 3).ensure_room_for_new_work(), Ok(()));
        assert!(disk(&folder, Role::Store, u64::MAX).ensure_room(0).is_err());
    }

    #[test]
    fn without_a_limit_nothing_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let disk = disk(&folder, Role::Store, 0);
        assert_eq!((disk.ensure_room(0), disk.ensure_room_for_new_work()), (Ok(()), Ok(())));
    }

    #[test]
    fn another_folder_of_the_same_name_is_not_taken_for_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let disk = disk(&folder, Role::Archive, 0);
        assert_eq!(disk.ensure_usable(), Ok(()));
        for there in [None, Some("another"), Some("")] {
            fs::remove_file(folder.path().join("mark")).ok();
            if let Some(content) = there {
                fs::write(folder.path().join("mark"), content).unwrap();
            }
            assert_eq!(disk.ensure_usable(), Err(Trouble::Gone(Role::Archive)), "{there:?}");
        }
        fs::write(folder.path().join("mark"), "this one").unwrap();
        assert_eq!(disk.ensure_room(1), Ok(()), "it is back");
    }
}
