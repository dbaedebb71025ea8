//! What an idle server takes, as it ships: time until it is ready, memory, disk. `cargo bench --bench footprint`

mod support;

use std::{
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::Context;
use support::{megabytes, preflight, server::Site, turns};

const STARTS: usize = 11;
const IDLE: Duration = Duration::from_secs(3);

fn main() -> anyhow::Result<()> {
    preflight(2 << 30)?;
    let binary = shipped()?;
    let start = || anyhow::Ok(Site::new("")?.start_binary(&binary)?.ready_after.as_secs_f64() * 1e3);
    let starts = (0..STARTS).map(|_| start()).collect::<anyhow::Result<Vec<_>>>()?;
    let slowest = starts.iter().copied().fold(0.0, f64::max);
    println!(
        "start to ready, empty store  {:>8.1} ms (median of {STARTS}, slowest {slowest:.1})",
        turns::median(starts)
    );

    let site = Site::new("")?;
    let server = site.start_binary(&binary)?;
    thread::sleep(IDLE);
    println!("resident memory, idle        {:>8.1} MB", megabytes(server.memory()?));

    println!("shipped binary               {:>8.1} MB", megabytes(binary.metadata()?.len()));
    Ok(())
}

/// The binary as it ships, built when it is not there.
fn shipped() -> anyhow::Result<PathBuf> {
    let built = Path::new(env!("CARGO_BIN_EXE_reelhook"));
    let target = built.ancestors().nth(2).context("the binary is not in a target folder")?;
    let shipped = target.join("dist/reelhook");
    if !shipped.exists() {
        let target = target.as_os_str();
        let built = Command::new(env!("CARGO"))
            .args(["build", "--profile", "dist", "--target-dir"])
            .arg(target)
            .status()?;
        anyhow::ensure!(built.success(), "the build of the shipped binary failed");
    }
    Ok(shipped)
}
