//! What the engine takes for stable is durable.
//!
//! On Linux sled asks the kernel for `sync_file_range`, which reaches neither the disk's own cache nor the size of the
//! file. The engine reuses the room of old pages as soon as their successors are stable in that sense, also within one
//! batch: when the power fails then, neither the old page nor the new one need be there. So the function that the engine
//! calls by that name is one of ours. Nothing else in the process calls it.
#![cfg(target_os = "linux")]
#![allow(unsafe_code, reason = "a symbol of the C library is replaced")]

use std::hint::black_box;

use libc::{c_int, c_uint, off64_t};

type SyncFileRange = extern "C" fn(c_int, off64_t, off64_t, c_uint) -> c_int;

/// Syncs the whole file. As the function it stands for, it returns -1 and sets `errno` when that fails.
#[unsafe(no_mangle)]
extern "C" fn sync_file_range(file: c_int, _offset: off64_t, _length: off64_t, _flags: c_uint) -> c_int {
    // SAFETY: any number may be passed; one that is no open file is an error.
    unsafe { libc::fdatasync(file) }
}

/// Has the linker keep the function, and so prefer it to the C library's.
pub(super) fn install() {
    black_box(sync_file_range as SyncFileRange);
}
