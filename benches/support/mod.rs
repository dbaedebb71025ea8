//! What the benches share. Every figure that counts is a ratio of two rates taken in the same run, in turns, so that
//! a slower machine or a busy neighbour changes both; nothing is asserted.

#![allow(dead_code, reason = "each bench uses its part")]

pub(crate) mod load;
pub(crate) mod receiver;
pub(crate) mod seed;
pub(crate) mod server;
pub(crate) mod turns;

/// Ends the run before a full disk does.
pub(crate) fn preflight(wanted_bytes: u64) -> anyhow::Result<()> {
    let disk = rustix::fs::statvfs(env!("CARGO_TARGET_TMPDIR"))?;
    let free = disk.f_bavail * disk.f_frsize;
    let (free_gib, wanted_gib) = (free as f64 / GIB, wanted_bytes as f64 / GIB);
    anyhow::ensure!(
        free > wanted_bytes,
        "{free_gib:.1} GiB free on the disk, this needs {wanted_gib:.1} GiB"
    );
    let cores = std::thread::available_parallelism()?;
    println!("{free_gib:.1} GiB free in {}, {cores} cores", env!("CARGO_TARGET_TMPDIR"));
    Ok(())
}

const GIB: f64 = (1_u64 << 30) as f64;

/// Bytes as MB (10⁶).
pub(crate) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// A count from the environment.
pub(crate) fn setting(name: &str, default: usize) -> anyhow::Result<usize> {
    Ok(std::env::var(name).map_or(Ok(default), |text| text.parse())?)
}
