//! What the due index is for: claims, and setting it right after a crash or a jump of the clock.

use sled::Tree;

use super::{
    due,
    keys::{self, DueKey},
    record::{self, Card},
    source::Source,
    txn::{Txn, engine},
    value::{self, Fault},
    write::{self, Write},
};
use crate::{
    lifecycle::{Change, Duty, Event, Job, JobId, Millis, Policy},
    store::{Claim, Replaced, StoreError},
};

/// Entries that one claim looks at, or a page more.
const LOOKED_AT: usize = 1024;
/// Leases that one request of a long sweep handles.
pub(super) const SWEEP: usize = 256;

/// Takes due jobs, urgent ones first.
pub(super) fn claim(txn: &mut Txn, claim: &Claim) -> Result<Vec<Job>, StoreError> {
    let room = match claim.duty {
        Duty::Submit => claim.in_flight.saturating_sub(txn.state.tally.in_flight()),
        _ => u64::MAX,
    };
    let max = claim.max.min(usize::try_from(room).unwrap_or(usize::MAX));
    let mut jobs = Vec::new();
    let mut looked_at = 0;
    for urgent in [true, false] {
        let (mut from, to) = keys::due_range(claim.duty, urgent, Millis(i64::MIN), claim.now.plus(1));
        while jobs.len() < max
            && looked_at < LOOKED_AT
            && let Some(page) = due::first(txn, &from, &to)?
        {
            from = after(&page.key);
            let mut kept = Vec::new();
            for entry in &page.entries {
                if entry.as_slice() >= to.as_slice() || jobs.len() == max {
                    kept.push(*entry);
                    continue;
                }
                looked_at += 1;
                match take(txn, entry, claim)? {
                    Taken::Job(job) => jobs.push(*job),
                    Taken::NotNow => kept.push(*entry),
                    Taken::Stale => {}
                }
            }
            page.keep(txn, kept)?;
        }
    }
    if !jobs.is_empty() {
        txn.state.head.clock = Some(claim.now);
    }
    Ok(jobs)
}

/// When the next job of a duty is due; nothing if only a [sweep](sweep) can tell.
pub(super) fn next_due(tree: &Tree, duty: Duty) -> Result<Option<Option<Millis>>, StoreError> {
    let mut next = None;
    for urgent in [true, false] {
        let (from, to) = keys::due_range(duty, urgent, Millis(i64::MIN), Millis(i64::MAX));
        let Some(entry) = due::earliest(tree, &from, &to)? else { continue };
        if !due::vouched(tree, &entry).map_err(|fault| fault.of(|| "a job".into()))? {
            return Ok(None);
        }
        next = next.into_iter().chain([keys::parse_due(&entry).0]).min();
    }
    Ok(Some(next))
}

/// Drops the stale entries before the next job that is due; when that is.
pub(super) fn sweep(txn: &mut Txn, duty: Duty) -> Result<Option<Millis>, StoreError> {
    let (mut next, mut looked_at) = (None, 0);
    for urgent in [true, false] {
        let (from, to) = keys::due_range(duty, urgent, Millis(i64::MIN), Millis(i64::MAX));
        while let Some(page) = due::first(txn, &from, &to)? {
            let mut stale = 0;
            for entry in &page.entries {
                // After so many it is told as it stands, and whoever then claims goes on.
                if looked_at >= LOOKED_AT
                    || due::vouched(txn, entry).map_err(|fault| fault.of(|| "a job".into()))?
                {
                    break;
                }
                (stale, looked_at) = (stale + 1, looked_at + 1);
            }
            let kept = page.entries[stale..].to_vec();
            let first = kept.first().map(|entry| keys::parse_due(entry).0);
            page.keep(txn, kept)?;
            if first.is_some() {
                next = next.into_iter().chain(first).min();
                break;
            }
        }
    }
    Ok(next)
}

/// The first key after `key`.
fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

/// What an entry of the due index led to.
enum Taken {
    Job(Box<Job>),
    /// It owes what the entry says, and cannot be taken yet.
    NotNow,
    /// It owes nothing of the kind any more.
    Stale,
}

/// Claims the job that an entry names.
fn take(txn: &mut Txn, entry: &DueKey, claim: &Claim) -> Result<Taken, StoreError> {
    let Some(job) = named(txn, entry)? else { return Ok(Taken::Stale) };
    let Some(change) = job.step(&claim.event(), claim.now, &claim.policy) else { return Ok(Taken::NotNow) };
    Ok(apply(txn, job.id, change)?.map_or(Taken::NotNow, |job| Taken::Job(Box::new(job))))
}

/// The job of an entry of the due index, if its record vouches for it.
fn named(txn: &mut Txn, entry: &DueKey) -> Result<Option<Job>, StoreError> {
    let (_, id) = keys::parse_due(entry);
    let job = value::read(txn, &keys::job(id)).and_then(|record| {
        let Some(record) = record.filter(|record| Card::parse(record).is_ok_and(|card| card.owes(id, entry)))
        else {
            return Ok(None);
        };
        record::decode(&record).map(Some)
    });
    match job {
        Err(Fault::Damaged) => quarantine(txn, id).map(|()| None),
        other => other.map_err(|fault| fault.of(|| id.to_string())),
    }
}

/// The job, unless there is none or its record is damaged, which sets it aside.
fn open(txn: &mut Txn, id: JobId) -> Result<Option<Job>, StoreError> {
    match record::read(txn, id) {
        Err(Fault::Damaged) => quarantine(txn, id).map(|()| None),
        other => other.map_err(|fault| fault.of(|| id.to_string())),
    }
}

/// Writes what a step made. A change that breaks a rule is logged and left, so that it blocks no other job.
fn apply(txn: &mut Txn, id: JobId, change: Change) -> Result<Option<Job>, StoreError> {
    let Ok(write) = Write::of(&change) else { return Ok(None) };
    match write::replace(txn, &write)? {
        Replaced::Done { .. } => Ok(Some(change.job)),
        refused => {
            tracing::error!(job = %id, ?refused, "the store could not write what it stepped itself");
            Ok(None)
        }
    }
}

/// Sets a damaged record aside; one that can be read stays.
pub(super) fn quarantine(txn: &mut Txn, id: JobId) -> Result<(), StoreError> {
    let key = keys::job(id);
    let Err(Fault::Damaged) = record::read(txn, id) else { return Ok(()) };
    let Some(head) = Source::get(txn, &key).map_err(engine)? else { return Ok(()) };
    txn.set_aside(&key, head)?;
    txn.unmark(&keys::lease(id));
    txn.state.tally.quarantined += 1;
    txn.state.tally.recount = true;
    tracing::error!(job = %id, "the record is damaged; it was set aside and is left out of all work");
    Ok(())
}

/// Gives back up to [`SWEEP`] claims of a process that is gone; says how many there were.
pub(super) fn release_leases(txn: &mut Txn, now: Millis, policy: &Policy) -> Result<usize, StoreError> {
    let leases = txn.scan(&[keys::LEASE], &[keys::LEASE + 1], SWEEP).map_err(engine)?;
    for (entry, _) in &leases {
        let job = match keys::parse_id(entry).map(JobId::from_bytes) {
            Some(id) => open(txn, id)?,
            None => None,
        };
        if let Some((id, change)) =
            job.and_then(|job| Some((job.id, job.step(&Event::Orphaned, now, policy)?)))
        {
            apply(txn, id, change)?;
        }
        txn.unmark(entry);
    }
    Ok(leases.len())
}

/// A part of the due index.
pub(super) struct Range {
    from: Vec<u8>,
    to: Vec<u8>,
    /// The entries that are meant are due at this time or later.
    beyond: Millis,
}

/// The parts of the due index beyond the longest wait.
pub(super) fn put_off(now: Millis, longest_wait: i64) -> impl Iterator<Item = Range> {
    let beyond = now.plus(longest_wait).plus(1);
    let duties = [Duty::Submit, Duty::Ask, Duty::Fetch, Duty::Expire];
    let lanes = duties.into_iter().flat_map(|duty| [true, false].map(|urgent| (duty, urgent)));
    lanes.map(move |(duty, urgent)| {
        let (from, to) = keys::due_range(duty, urgent, beyond.plus(-due::SPAN), Millis(i64::MAX));
        Range { from, to, beyond }
    })
}

/// Makes the entries of a range's first page due at `now`; what is left of the range.
///
/// A queued job's own deadline is the caller's word and stays.
pub(super) fn make_due(txn: &mut Txn, range: Range, now: Millis) -> Result<Option<Range>, StoreError> {
    let Some(page) = due::first(txn, &range.from, &range.to)? else { return Ok(None) };
    let mut kept = Vec::new();
    for entry in &page.entries {
        let (at, _) = keys::parse_due(entry);
        if at < range.beyond {
            kept.push(*entry);
            continue;
        }
        let Some(mut job) = named(txn, entry)? else { continue };
        let main = job.due_at == Some(at) && job.duty().is_some_and(|duty| entry[1] == duty as u8);
        if !main {
            kept.push(*entry);
            continue;
        }
        (job.revision, job.due_at) = (job.revision + 1, Some(now));
        let (id, events, deliveries) = (job.id, Vec::new(), Vec::new());
        apply(txn, id, Change { job, events, deliveries, successor: None, release: None, book: None })?;
    }
    let from = after(&page.key);
    page.keep(txn, kept)?;
    Ok(Some(Range { from, ..range }))
}
