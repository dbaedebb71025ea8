//! What the engine takes for stable is durable.
//!
//! On Linux sled asks the kernel for `sync_file_range`, which reaches neither the disk's own cache nor the size of the
//! file. The engine writes beside the committer too (a reader who meets a node that has grown splits it), and calls what
//! it wrote before stable in what it writes next: when the power fails then, the later write may be there and the
//! earlier one not. So the function that the engine calls by that name is one of ours. Nothing else in the process calls
//! it.

/// Whether every flush of the engine is a sync. Elsewhere than on Linux it always is.
#[cfg(not(target_os = "linux"))]
pub(super) fn flush_is_sync() -> bool {
    true
}

#[cfg(target_os = "linux")]
pub(super) use linux::flush_is_sync;

#[cfg(target_os = "linux")]
mod linux {
    #![allow(unsafe_code, reason = "a symbol of the C library is replaced")]

    use std::{
        hint::black_box,
        sync::atomic::{AtomicBool, Ordering},
    };

    use libc::{c_int, c_uint, off64_t};

    /// The engine has come here, and so it always does.
    static CALLED: AtomicBool = AtomicBool::new(false);

    /// Syncs the whole file. As the function it stands for, it returns -1 and sets `errno` when that fails.
    #[unsafe(no_mangle)]
    extern "C" fn sync_file_range(file: c_int, _offset: off64_t, _length: off64_t, _flags: c_uint) -> c_int {
        CALLED.store(true, Ordering::Relaxed);
        // SAFETY: any number may be passed; one that is no open file is an error.
        unsafe { libc::fdatasync(file) }
    }

    pub(in crate::store::sled) fn flush_is_sync() -> bool {
        // The linker keeps what is used, and then prefers it to the C library's.
        black_box(sync_file_range as extern "C" fn(_, _, _, _) -> _);
        CALLED.load(Ordering::Relaxed)
    }
}
