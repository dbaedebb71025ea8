//! What the tests of the lifecycle share: a policy, a job, and the judge of a single step.

use reelhook::lifecycle::{
    Change, Cost, DeliveryPolicy, Duty, Event, EventKind, Experience, FetchPolicy, Job, JobId, Millis,
    NewJob, Outcome, Phase, Policy, PollPolicy, Report, Reservation, SinkRule, TaskId,
};

/// When the tests begin; any instant will do.
pub(crate) const START: Millis = Millis(1_800_000_000_000);

/// The defaults of the product.
pub(crate) fn policy() -> Policy {
    let events = vec![EventKind::Succeeded, EventKind::Failed, EventKind::Canceled];
    Policy {
        lease: 15_000,
        submit_lease: 35_000,
        unknown_wait: 600_000,
        probe_after: 30_000,
        experience: Experience::default(),
        poll: PollPolicy {
            first_after: 15_000,
            overdue_after: 180_000,
            interval: 5_000,
            max_interval: 60_000,
            jitter: 0.2,
            give_up_after: 24 * 3_600_000,
        },
        fetch: FetchPolicy {
            attempts: 5,
            backoff: 2_000,
            max_backoff: 300_000,
            give_up_after: 24 * 3_600_000,
        },
        sinks: vec![SinkRule { name: "app".into(), events }],
        delivery: DeliveryPolicy::default(),
    }
}

/// A new job that costs 300 credits, booked; `number` tells it from others.
pub(crate) fn job(number: u8, callback_expected: bool) -> Job {
    let reserved = Some(Reservation { day: 20_833, credits: 300 });
    let cost = Cost { estimated_credits: 300, exact: true, reported_credits: None, reserved };
    let new = NewJob { model: "kling-3".into(), cost, callback_expected, ..NewJob::default() };
    Job::new(JobId::new(START, &[number; 10]), START, new)
}

/// The task of this name.
pub(crate) fn task(name: &str) -> TaskId {
    TaskId(name.into())
}

/// Judges one step by what must hold of every step, whatever happened.
pub(crate) fn judge(
    was: &Job,
    event: &Event,
    now: Millis,
    policy: &Policy,
    change: Option<&Change>,
) -> Result<(), String> {
    let Some(change) = change else { return Ok(()) };
    let job = &change.job;
    let must = |holds: bool, sentence: &str| {
        if holds { Ok(()) } else { Err(format!("{sentence}\n  {event:?}\n  of {was:?}\n  made {job:?}")) }
    };
    if let Err(sentence) = job.check() {
        must(false, sentence)?;
    }
    must(job.id == was.id && job.revision == was.revision + 1, "revision rises by one a change")?;
    must(!is_foreign(was, event), "a foreign or unowed answer changes nothing")?;

    let terminal = change.events.iter().filter(|entry| entry.kind.is_terminal()).count();
    let settles = job.outcome().is_some() && was.outcome().is_none();
    must(
        terminal == usize::from(settles),
        "settling writes exactly one terminal event, and nothing else does",
    )?;
    must(was.outcome().is_none() || was.outcome() == job.outcome(), "an outcome never changes")?;
    must(change.deliveries.len() == terminal, "a terminal event is owed to each sink once")?;
    must(
        job.phase_name() == was.phase_name() || !change.events.is_empty(),
        "every way from phase to phase has its event",
    )?;

    let claims_a_call = matches!(event, Event::Claimed(Duty::Submit));
    let (queued, sending) = (matches!(was.phase, Phase::Queued { .. }), matches!(was.phase, Phase::Sending));
    let sends = matches!(job.phase, Phase::Sending);
    must(!sends || sending || (queued && claims_a_call), "a create call is attempted only from queued")?;
    must(!sends || sending || was.callback.received == 0, "no create call follows a callback")?;
    let back = matches!(job.phase, Phase::Queued { .. }) && !queued;
    must(
        !back || (sending && matches!(event, Event::Refused(..))),
        "only a refusal of the call under way brings a job back to queued",
    )?;
    let unpaid = queued || (sending && matches!(event, Event::Refused(..)));
    must(change.release.is_none() || unpaid, "a booking is given back only for what provably cost nothing")?;

    let moved = job.due_at != was.due_at;
    let late = job.due_at.is_some_and(|at| at > now.plus(policy.longest_wait()));
    must(!moved || !late, "nothing is due later than the longest wait")?;
    if let (Phase::Awaiting(before), Phase::Awaiting(after), Some(lease)) =
        (&was.phase, &job.phase, answered(event))
    {
        let newer = before.nudged.is_some_and(|at| at > lease) && was.task == job.task;
        let soon = job.due_at.is_some_and(|at| at <= now.plus(10_000));
        must(!newer || (after.nudged == before.nudged && soon), "an answer settles only older nudges")?;
    }
    if let Some(Outcome::Stored { files }) = job.outcome() {
        must(!files.is_empty(), "stored means files")?;
    }
    Ok(())
}

/// The answer is to another claim than the one under way, and of a kind that counts for its own claim only.
fn is_foreign(was: &Job, event: &Event) -> bool {
    let lease = match event {
        Event::Refused(_, lease)
        | Event::Unknown(_, lease)
        | Event::Unanswered(_, lease)
        | Event::Reported(_, Report::Running { .. } | Report::NotFound, lease)
        | Event::Fetched { lease, .. }
        | Event::NotFetched { lease, .. }
        | Event::Archived(lease)
        | Event::Renewed(lease)
        | Event::Released(lease) => *lease,
        _ => return false,
    };
    was.lease != Some(lease)
}

fn answered(event: &Event) -> Option<u64> {
    match event {
        Event::Reported(_, _, lease) | Event::Unanswered(_, lease) => Some(*lease),
        _ => None,
    }
}
