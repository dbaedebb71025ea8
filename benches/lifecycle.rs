//! Steps of the pure table a second: one job from creation to its stored file. `cargo bench --bench lifecycle`

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use anyhow::Context;
use reelhook::lifecycle::{
    DeliveryPolicy, Duty, Event, Experience, FetchPolicy, Job, JobId, Millis, NewJob, Note, Policy,
    PollPolicy, Report, StoredFile, TaskId,
};

const FOR: Duration = Duration::from_secs(2);
const START: Millis = Millis(1_800_000_000_000);

fn main() -> anyhow::Result<()> {
    let policy = policy();
    let (mut steps, begun) = (0_u64, Instant::now());
    while begun.elapsed() < FOR {
        steps += life(&policy)?;
    }
    let nanoseconds = begun.elapsed().as_nanos() as f64 / steps as f64;
    println!(
        "steps of the table  {:>9.0} /s  ({nanoseconds:.0} ns each, creation included)",
        1e9 / nanoseconds
    );
    Ok(())
}

/// One job's way; says how many steps it took.
fn life(policy: &Policy) -> anyhow::Result<u64> {
    let id = JobId::new(START, &[7; 10]);
    let new = NewJob { model: "kling-3".into(), callback_expected: true, ..NewJob::default() };
    let mut job = Job::new(id, START, new);
    let task = TaskId("n50a81f_kling3".into());
    let file = StoredFile {
        name: "video.mp4".into(),
        location: "2026-11-02/job/video.mp4".into(),
        bytes: 8_000_000,
        sha256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".into(),
        content_type: "video/mp4".into(),
    };
    let links = vec!["https://cdn.example.com/v/1/result.mp4".to_owned()];
    let note = Note { task: Some(task.clone()), duplicate: false, kept_bytes: 300, successor: id };
    // A claim writes its own revision as the lease that the answers carry.
    let way = [
        Event::Claimed(Duty::Submit),
        Event::Accepted(task.clone(), 2),
        Event::Callback(note),
        Event::Claimed(Duty::Ask),
        Event::Reported(task, Report::Succeeded { links, credits: Some(300) }, 5),
        Event::Claimed(Duty::Fetch),
        Event::Fetched { index: 0, file, lease: 7 },
        Event::Archived(7),
    ];
    for event in &way {
        let change = black_box(&job).step(black_box(event), START, policy);
        job = change.with_context(|| format!("{event:?} did nothing to {job:?}"))?.job;
    }
    anyhow::ensure!(job.outcome().is_some(), "the job did not end");
    Ok(way.len() as u64)
}

fn policy() -> Policy {
    Policy {
        lease: 15_000,
        submit_lease: 65_000,
        unknown_wait: 600_000,
        probe_after: 15_000,
        experience: Experience::default(),
        poll: PollPolicy {
            first_after: 20_000,
            overdue_after: 240_000,
            interval: 15_000,
            max_interval: 60_000,
            jitter: 0.2,
            give_up_after: 2_700_000,
        },
        fetch: FetchPolicy { attempts: 8, backoff: 2_000, max_backoff: 120_000, give_up_after: 86_400_000 },
        sinks: Vec::new(),
        delivery: DeliveryPolicy::default(),
    }
}
