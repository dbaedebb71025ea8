//! What the process has written into a folder, and what it has made durable there.
//!
//! This binary defines the functions of libc through which Rust writes files. The linker prefers them to libc's, so
//! that the engine's writes, on whatever thread, pass here on their way to the kernel. That none passes by is held by
//! comparing what was recorded with the files, see [`Disk::compare`](crate::disk::Disk::compare).

#![allow(unsafe_code, reason = "it stands between the engine and the kernel")]

use std::{
    cell::Cell,
    ffi::{CStr, OsStr, c_char, c_int, c_long, c_void},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// What the disk of a recording takes for a sync. Meanwhile the next group gathers, as it does on a real disk.
const SYNC_TAKES: Duration = Duration::from_millis(2);

/// Something that was asked of the disk. Paths are those of the recorded folder.
pub(crate) enum Op {
    Folder(PathBuf),
    File(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    Write {
        path: PathBuf,
        at: u64,
        bytes: Vec<u8>,
    },
    Length {
        path: PathBuf,
        bytes: u64,
    },
    /// What was done to this file, or to the entries of this folder, before the operation of this number is durable.
    Synced {
        path: PathBuf,
        before: usize,
    },
}

/// The operations on a folder and all below it, in the order in which the kernel has done them.
pub(crate) struct Recording {
    folder: PathBuf,
    ops: Mutex<Vec<Op>>,
    syncs: Syncs,
}

/// Which syncs of files make anything durable.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syncs {
    /// All of them.
    All,
    /// Those within [`counted`]: the engine's own are what they are without reelhook, no syncs.
    Counted,
}

thread_local! {
    static COUNTED: Cell<bool> = const { Cell::new(false) };
}

/// Runs something whose syncs count.
pub(crate) fn counted<T>(sync: impl FnOnce() -> T) -> T {
    COUNTED.set(true);
    let done = sync();
    COUNTED.set(false);
    done
}

static RECORDING: AtomicBool = AtomicBool::new(false);
static RECORDINGS: RwLock<Vec<Arc<Recording>>> = RwLock::new(Vec::new());

impl Recording {
    /// Records what happens below `folder`, which exists, until [`stop`](Self::stop).
    pub(crate) fn start(folder: &Path, syncs: Syncs) -> Arc<Self> {
        let folder = folder.canonicalize().unwrap();
        let recording = Arc::new(Self { folder, ops: Mutex::default(), syncs });
        RECORDINGS.write().unwrap().push(Arc::clone(&recording));
        RECORDING.store(true, Ordering::Release);
        recording
    }

    /// How many operations there were so far: a moment at which the power may fail.
    pub(crate) fn now(&self) -> usize {
        self.ops().len()
    }

    pub(crate) fn stop(self: Arc<Self>) -> Vec<Op> {
        RECORDINGS.write().unwrap().retain(|other| !Arc::ptr_eq(other, &self));
        std::mem::take(&mut *self.ops())
    }

    fn ops(&self) -> MutexGuard<'_, Vec<Op>> {
        self.ops.lock().unwrap()
    }

    fn note(&self, op: Op) {
        self.ops().push(op);
    }
}

/// The recording that a path belongs to.
fn recording_of(path: &Path) -> Option<Arc<Recording>> {
    let recordings = RECORDINGS.read().ok()?;
    recordings.iter().find(|recording| path.starts_with(&recording.folder)).cloned()
}

/// The recording that an open file or folder belongs to, and its name.
fn opened(fd: c_int) -> Option<(Arc<Recording>, PathBuf)> {
    if !RECORDING.load(Ordering::Acquire) {
        return None;
    }
    let path = std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
    recording_of(&path).map(|recording| (recording, path))
}

/// The same for a name.
///
/// # Safety
/// `path` is a C string.
unsafe fn named(path: *const c_char) -> Option<(Arc<Recording>, PathBuf)> {
    if !RECORDING.load(Ordering::Acquire) {
        return None;
    }
    let path = PathBuf::from(OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()));
    recording_of(&path).map(|recording| (recording, path))
}

/// Does something and notes it before anything else is done to the folder: the engine writes to a file and shortens it
/// on several threads.
fn noted<T: Copy>(
    recorded: Option<(Arc<Recording>, PathBuf)>,
    call: impl FnOnce() -> T,
    op: impl FnOnce(PathBuf, T) -> Option<Op>,
) -> T {
    let Some((recording, path)) = recorded else { return call() };
    let mut ops = recording.ops();
    let done = call();
    ops.extend(op(path, done));
    done
}

/// What a call wrote that returned this, if it wrote anything.
///
/// # Safety
/// `bytes` has as many.
unsafe fn bytes_of(bytes: *const c_void, written: isize) -> Option<Vec<u8>> {
    let count = usize::try_from(written).ok().filter(|count| *count > 0)?;
    Some(unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), count) }.to_vec())
}

fn sync(call: c_long, fd: c_int) -> c_int {
    let Some((recording, path)) = opened(fd) else {
        return unsafe { libc::syscall(call, fd) } as c_int;
    };
    if recording.syncs == Syncs::Counted && !COUNTED.get() {
        return 0;
    }
    let before = recording.now();
    std::thread::sleep(SYNC_TAKES);
    let failed = unsafe { libc::syscall(call, fd) } as c_int;
    if failed == 0 {
        recording.note(Op::Synced { path, before });
    }
    failed
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite64(fd: c_int, bytes: *const c_void, length: usize, at: i64) -> isize {
    let call = || unsafe { libc::syscall(libc::SYS_pwrite64, fd, bytes, length, at) } as isize;
    noted(opened(fd), call, |path, written| {
        let bytes = unsafe { bytes_of(bytes, written) }?;
        Some(Op::Write { path, at: at.cast_unsigned(), bytes })
    })
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
unsafe extern "C" fn write(fd: c_int, bytes: *const c_void, length: usize) -> isize {
    let call = || unsafe { libc::syscall(libc::SYS_write, fd, bytes, length) } as isize;
    noted(opened(fd), call, |path, written| {
        let bytes = unsafe { bytes_of(bytes, written) }?;
        let end = unsafe { libc::lseek(fd, 0, libc::SEEK_CUR) };
        Some(Op::Write { path, at: end.cast_unsigned() - bytes.len() as u64, bytes })
    })
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
unsafe extern "C" fn ftruncate64(fd: c_int, length: i64) -> c_int {
    let call = || unsafe { libc::syscall(libc::SYS_ftruncate, fd, length) } as c_int;
    noted(opened(fd), call, |path, failed| {
        (failed == 0).then(|| Op::Length { path, bytes: length.cast_unsigned() })
    })
}

/// # Safety
/// As libc's; the mode, if there is one, comes where a third argument does.
#[unsafe(no_mangle)]
unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: libc::mode_t) -> c_int {
    let recorded = unsafe { named(path) };
    let new = recorded.as_ref().is_some_and(|(_, path)| flags & libc::O_CREAT != 0 && !path.exists());
    let call = || unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, flags, mode) } as c_int;
    noted(recorded, call, |path, fd| match fd {
        0.. if new => Some(Op::File(path)),
        0.. if flags & libc::O_TRUNC != 0 => Some(Op::Length { path, bytes: 0 }),
        _ => None,
    })
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
unsafe extern "C" fn mkdir(path: *const c_char, mode: libc::mode_t) -> c_int {
    let call = || unsafe { libc::syscall(libc::SYS_mkdirat, libc::AT_FDCWD, path, mode) } as c_int;
    noted(unsafe { named(path) }, call, |path, failed| (failed == 0).then_some(Op::Folder(path)))
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    let (recorded, new) = unsafe { (named(from), named(to)) };
    let cwd = libc::AT_FDCWD;
    let call = || unsafe { libc::syscall(libc::SYS_renameat2, cwd, from, cwd, to, 0) } as c_int;
    noted(recorded, call, |from, failed| Some(Op::Rename(from, new.filter(|_| failed == 0)?.1)))
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    let call = || unsafe { libc::syscall(libc::SYS_unlinkat, libc::AT_FDCWD, path, 0) } as c_int;
    noted(unsafe { named(path) }, call, |path, failed| (failed == 0).then_some(Op::Remove(path)))
}
