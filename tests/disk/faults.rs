//! Disks that fail on demand. The functions of the C library that write and sync are replaced in this binary; below a
//! folder that fails they answer as the kernel does when its disk does not.

#![allow(unsafe_code, reason = "symbols of the C library are replaced")]

use std::{
    ffi::{c_int, c_long, c_void},
    path::{Path, PathBuf},
    sync::{
        RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

/// What fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Syncs of files, with EIO.
    Sync,
    /// Writes, with EROFS: what a file system does that has made itself read-only.
    Write,
}

impl Fault {
    const fn errno(self) -> c_int {
        match self {
            Self::Sync => libc::EIO,
            Self::Write => libc::EROFS,
        }
    }

    /// The file that makes it happen in the process of a [server](crate::sync).
    pub(crate) const fn trigger(self) -> &'static str {
        match self {
            Self::Sync => "fail-sync",
            Self::Write => "fail-write",
        }
    }
}

/// A folder below which things fail: always, or while a file is there.
struct Failing {
    folder: PathBuf,
    fault: Fault,
    trigger: Option<PathBuf>,
}

static ANY: AtomicBool = AtomicBool::new(false);
static FAILING: RwLock<Vec<Failing>> = RwLock::new(Vec::new());

/// From now on files below `folder` fail, until [`heal`]; with `trigger` only while that file is there.
pub(crate) fn fail(folder: &Path, fault: Fault, trigger: Option<PathBuf>) {
    let folder = folder.canonicalize().unwrap();
    FAILING.write().unwrap().push(Failing { folder, fault, trigger });
    ANY.store(true, Ordering::Release);
}

/// Files below `folder` do not fail any more.
pub(crate) fn heal(folder: &Path) {
    let folder = folder.canonicalize().unwrap();
    FAILING.write().unwrap().retain(|failing| failing.folder != folder);
}

fn fails(fd: c_int, fault: Fault) -> bool {
    if !ANY.load(Ordering::Acquire) {
        return false;
    }
    let Ok(path) = std::fs::read_link(format!("/proc/self/fd/{fd}")) else { return false };
    let is_there = |trigger: &PathBuf| trigger.exists();
    FAILING.read().is_ok_and(|all| {
        all.iter().any(|failing| {
            failing.fault == fault
                && path.starts_with(&failing.folder)
                && failing.trigger.as_ref().is_none_or(is_there)
        })
    })
}

fn refuse(fault: Fault) {
    // SAFETY: it is this thread's own.
    unsafe { *libc::__errno_location() = fault.errno() }
}

fn sync(call: c_long, fd: c_int) -> c_int {
    if fails(fd, Fault::Sync) {
        refuse(Fault::Sync);
        return -1;
    }
    // SAFETY: any number may be passed.
    unsafe { libc::syscall(call, fd) as c_int }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
unsafe extern "C" fn fsync(fd: c_int) -> c_int {
    sync(libc::SYS_fsync, fd)
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
unsafe extern "C" fn fdatasync(fd: c_int) -> c_int {
    sync(libc::SYS_fdatasync, fd)
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite64(fd: c_int, bytes: *const c_void, length: usize, at: i64) -> isize {
    if fails(fd, Fault::Write) {
        refuse(Fault::Write);
        return -1;
    }
    // SAFETY: the caller's.
    unsafe { libc::syscall(libc::SYS_pwrite64, fd, bytes, length, at) as isize }
}
