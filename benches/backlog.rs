//! What a long backlog costs: start, memory and intake with a million awaiting jobs, against a thousand of them.
//! `cargo bench --bench backlog`; BACKLOG_JOBS=100000 for a smaller one.

mod support;

use std::{thread, time::Duration};

use reelhook::lifecycle::JobId;
use support::{
    load::{self, post},
    megabytes, preflight, seed,
    server::Site,
    setting, turns,
};

const FEW: usize = 1_000;
const ROUNDS: usize = 5;
/// Callbacks in one turn.
const TURN: usize = 10_000;
const CONNECTIONS: usize = 256;

fn main() -> anyhow::Result<()> {
    let many = setting("BACKLOG_JOBS", 1_000_000)?;
    preflight(2 * (1 << 30) + many as u64 * 10_000)?;
    let (few, few_jobs) = seeded(FEW)?;
    let (large, many_jobs) = seeded(many)?;

    let server = few.start()?;
    report("start", FEW, &server.ready_after);
    let memory_of_few = server.memory()?;
    let big = large.start()?;
    report("start", many, &big.ready_after);
    thread::sleep(Duration::from_secs(2));
    println!("{:<26} {FEW:>9} jobs {:>9.1} MB", "memory after start", megabytes(memory_of_few));
    println!("{:<26} {many:>9} jobs {:>9.1} MB", "memory after start", megabytes(big.memory()?));

    let compared = turns::compare(
        ROUNDS,
        {
            let mut round = 0;
            move || {
                round += 1;
                intake(&few, &few_jobs, round)
            }
        },
        |round| intake(&large, &many_jobs, round),
    )?;
    println!("{:<26} {FEW:>9} jobs {:>9.0} /s", "intake", compared.yardstick);
    println!("{:<26} {many:>9} jobs {:>9.0} /s   ratio {:.3}", "intake", compared.measured, compared.ratio);
    println!("{:<26} {many:>9} jobs {:>9.1} MB", "memory after intake", megabytes(big.memory()?));
    Ok(())
}

fn report(what: &str, jobs: usize, took: &Duration) {
    println!("{what:<26} {jobs:>9} jobs {:>9.0} ms", took.as_secs_f64() * 1e3);
}

fn seeded(count: usize) -> anyhow::Result<(Site, Vec<JobId>)> {
    let site = Site::new("")?;
    let jobs = seed::awaiting(&site, count)?;
    Ok((site, jobs))
}

/// One turn of distinct callbacks, spread evenly over all jobs; few jobs get several each.
fn intake(site: &Site, jobs: &[JobId], round: usize) -> anyhow::Result<f64> {
    let stride = (jobs.len() / TURN).max(1);
    let calls = (0..TURN).map(|turn| {
        let number = (turn * stride + round) % jobs.len();
        let body = seed::callback_body(number, &format!("running-{round}-{turn}"));
        Ok(post(site.callback, &site.callback_path(jobs[number])?, &body))
    });
    let calls = calls.collect::<anyhow::Result<Vec<_>>>()?;
    let calls = calls.iter().map(Vec::as_slice);
    Ok(load::send(site.callback, CONNECTIONS, 200, calls)?.per_second)
}
