//! What must hold of every write, judged as it is made, and of everything at the end.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use reelhook::{
    clock::Clock,
    lifecycle::{Job, JobId, Outcome, Phase},
};

use crate::disk::Written;

/// The limits that the judge holds the service to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) in_flight: u64,
    pub(crate) daily_credits: u64,
}

#[derive(Default)]
struct Seen {
    broken: Option<String>,
    /// When each create call was claimed, by elapsed time.
    claims: BTreeMap<(JobId, u64), i64>,
    /// Names in the last manifest of each job.
    manifests: BTreeMap<JobId, Vec<String>>,
    /// By from and to.
    moves: BTreeMap<(&'static str, &'static str), u64>,
    lives: u64,
}

/// Watches. Clones are the same judge.
#[derive(Clone)]
pub(crate) struct Judge {
    seen: Arc<Mutex<Seen>>,
    bounds: Bounds,
    clock: Clock,
    pub(crate) trace: bool,
}

pub(crate) fn elapsed(clock: &Clock) -> i64 {
    i64::try_from(clock.elapsed().as_millis()).unwrap()
}

impl Judge {
    pub(crate) fn new(bounds: Bounds, clock: Clock, trace: bool) -> Self {
        Self { seen: Arc::default(), bounds, clock, trace }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    /// A sentence that does not hold; the first one counts.
    pub(crate) fn object(&self, sentence: String) {
        self.lock().broken.get_or_insert(sentence);
    }

    pub(crate) fn verdict(&self) -> Result<(), String> {
        self.lock().broken.clone().map_or(Ok(()), Err)
    }

    pub(crate) fn say(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>12} {}", self.clock.now_ms() % 1_000_000_000, what());
        }
    }

    pub(crate) fn lives(&self) -> u64 {
        self.lock().lives
    }

    pub(crate) fn moves(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        self.lock().moves.clone()
    }

    /// Looks at a record that is being written.
    pub(crate) fn observe(&self, written: &Written<'_>) {
        let (before, after) = (written.before, written.after);
        let from = before.map_or("-", Job::phase_name);
        self.say(|| {
            format!(
                "{} r{}: {from} → {}, due {:?}",
                after.id,
                after.revision,
                after.phase_name(),
                after.due_at
            )
        });
        if let Err(sentence) = self.judged(written) {
            self.object(format!("{sentence}\n  before: {before:?}\n  after: {after:?}"));
        }
        let mut seen = self.lock();
        *seen.moves.entry((from, after.phase_name())).or_default() += 1;
        seen.lives += u64::from(before.is_none());
        if let (Phase::Sending, Some(lease)) = (&after.phase, after.lease)
            && from == "queued"
        {
            seen.claims.insert((after.id, lease), elapsed(&self.clock));
        }
    }

    fn judged(&self, written: &Written<'_>) -> Result<(), String> {
        let (before, after) = (written.before, written.after);
        let must = |holds: bool, sentence: &str| if holds { Ok(()) } else { Err(sentence.to_owned()) };
        after.check().map_err(str::to_owned)?;
        let revision = before.map_or(0, |job| job.revision);
        must(after.revision == revision + 1, "revision rises by one a change")?;
        let booked = before.is_none() && after.cost.reserved.is_some();
        let limit = self.bounds.daily_credits;
        must(!booked || limit == 0 || written.booked.day <= limit, "no new job exceeds a budget")?;
        let terminal = written.events.iter().filter(|event| event.kind.is_terminal()).count();
        let settles = after.outcome().is_some() && before.is_none_or(|job| job.outcome().is_none());
        must(terminal == usize::from(settles), "settling writes exactly one terminal event")?;
        if let Some(Outcome::Stored { files }) = after.outcome().filter(|_| settles) {
            let names: Vec<_> = files.iter().map(|file| file.name.clone()).collect();
            let sealed = self.lock().manifests.get(&after.id) == Some(&names);
            must(sealed, "succeeded means that the manifest lists the files")?;
        }
        let Some(before) = before else {
            return must(!matches!(after.phase, Phase::Sending), "a job begins unsent");
        };
        must(before.outcome().is_none() || before.outcome() == after.outcome(), "an outcome never changes")?;
        let (was_queued, was_sending) =
            (matches!(before.phase, Phase::Queued { .. }), matches!(before.phase, Phase::Sending));
        let (queued, sending) =
            (matches!(after.phase, Phase::Queued { .. }), matches!(after.phase, Phase::Sending));
        must(!sending || was_sending || was_queued, "a create call is attempted only from queued")?;
        must(!queued || was_queued || was_sending, "only a create call under way comes back to queued")?;
        let begins = sending && was_queued;
        must(!begins || before.callback.received == 0, "no create call follows a callback")?;
        must(
            !begins || written.in_flight <= self.bounds.in_flight,
            "no more are sent than may be in flight",
        )?;
        let unpaid = was_queued || was_sending;
        let released = before.cost.reserved.is_some() && after.cost.reserved.is_none();
        must(!released || unpaid, "a booking is given back only for what provably cost nothing")
    }

    /// A byte of a create call leaves.
    pub(crate) fn byte_leaves(&self, job: &Job, lease: u64, durable: bool, submit_lease: i64) {
        let claim = self.lock().claims.get(&(job.id, lease)).copied();
        let Some(claimed) = claim else {
            return self.object(format!("a byte leaves without a claim: {job:?}"));
        };
        if !durable {
            self.object(format!("a byte leaves before its claim is durable: {job:?}"));
        }
        if elapsed(&self.clock) > claimed + submit_lease {
            self.object(format!("a byte leaves when the lease of its claim is over: {job:?}"));
        }
    }

    pub(crate) fn sealed(&self, id: &str, files: Vec<String>) {
        self.lock().manifests.insert(id.parse().unwrap(), files);
    }
}
