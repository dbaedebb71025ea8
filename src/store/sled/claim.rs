//! What the due index is for: claims, and setting it right after a crash or a jump of the clock.

use sled::IVec;

use super::{
    keys, record,
    source::Source,
    txn::{Txn, engine},
    value::Fault,
    write::{self, Write},
};
use crate::{
    lifecycle::{Change, Duty, Event, Job, JobId, Millis, Policy},
    store::{Claim, Replaced, StoreError},
};

/// Entries that one claim looks at, beyond those that it takes.
const LOOKED_AT: usize = 1024;
/// Entries that one request of a long sweep handles.
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
        while jobs.len() < max && looked_at < max.saturating_add(LOOKED_AT) {
            let rows = txn.scan(&from, &to, max - jobs.len()).map_err(engine)?;
            let Some((last, _)) = rows.last() else { break };
            from = after(last);
            looked_at += rows.len();
            for (entry, _) in rows {
                jobs.extend(take(txn, &entry, claim)?);
            }
        }
    }
    if !jobs.is_empty() {
        txn.state.head.clock = Some(claim.now);
    }
    Ok(jobs)
}

/// The first key after `key`.
fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

/// Claims the job that an entry names, unless it owes nothing of the kind or cannot be taken now.
fn take(txn: &mut Txn, entry: &IVec, claim: &Claim) -> Result<Option<Job>, StoreError> {
    let Some((id, job)) = named(txn, entry)? else { return Ok(None) };
    let Some(change) = job.step(&claim.event(), claim.now, &claim.policy) else { return Ok(None) };
    apply(txn, id, change)
}

/// The job of an entry of the due index; an entry that no record vouches for is removed.
fn named(txn: &mut Txn, entry: &IVec) -> Result<Option<(JobId, Job)>, StoreError> {
    let found = match keys::parse_due(entry) {
        Some((_, id)) => open(txn, id)?.map(|job| (id, job)),
        None => None,
    };
    let vouched =
        found.as_ref().is_some_and(|(id, job)| job.dues().any(|due| *keys::due(due, *id) == **entry));
    if !vouched {
        txn.unmark(entry);
        return Ok(None);
    }
    Ok(found)
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

/// Makes up to [`SWEEP`] entries of a range due at `now`; says where to go on.
///
/// A queued job's own deadline is the caller's word and stays.
pub(super) fn make_due(
    txn: &mut Txn,
    from: &[u8],
    to: &[u8],
    now: Millis,
) -> Result<Option<Vec<u8>>, StoreError> {
    let rows = txn.scan(from, to, SWEEP).map_err(engine)?;
    for (entry, _) in &rows {
        let Some((id, mut job)) = named(txn, entry)? else { continue };
        let main = job.due_at == keys::parse_due(entry).map(|(at, _)| at)
            && job.duty().is_some_and(|duty| entry.get(1) == Some(&(duty as u8)));
        if main {
            (job.revision, job.due_at) = (job.revision + 1, Some(now));
            let (events, deliveries) = (Vec::new(), Vec::new());
            apply(txn, id, Change { job, events, deliveries, successor: None, release: None, book: None })?;
        }
    }
    Ok(rows.last().filter(|_| rows.len() == SWEEP).map(|(last, _)| after(last)))
}
