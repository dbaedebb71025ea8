//! How soon a server is ready again that was killed with many open jobs, in every phase. `cargo bench --bench recovery`;
//! RECOVERY_JOBS=10000 for fewer.

mod support;

use std::{thread, time::Duration};

use support::{preflight, seed, server::Site, setting, turns};

const KILLS: usize = 7;
/// At work before it is killed.
const AT_WORK: Duration = Duration::from_secs(1);

fn main() -> anyhow::Result<()> {
    let jobs = setting("RECOVERY_JOBS", 100_000)?;
    preflight((1 << 30) + jobs as u64 * 10_000)?;
    let site = Site::new("")?;
    seed::mixed(&site, jobs)?;
    let first = site.start()?;
    println!("first start, claims given back {jobs:>9} jobs {:>9.0} ms", milliseconds(first.ready_after));
    let mut server = first;
    let mut starts = Vec::new();
    for _ in 0..KILLS {
        thread::sleep(AT_WORK);
        drop(server); // SIGKILL
        server = site.start()?;
        starts.push(milliseconds(server.ready_after));
    }
    let slowest = starts.iter().copied().fold(0.0, f64::max);
    println!(
        "SIGKILL, then start to ready   {jobs:>9} jobs {:>9.0} ms (median of {KILLS}, slowest {slowest:.0})",
        turns::median(starts)
    );
    Ok(())
}

fn milliseconds(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}
