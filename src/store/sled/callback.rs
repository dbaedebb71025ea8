//! The inbound log, and how repeats are known.
//!
//! A callback is judged by the committer, not by whoever received it: readers of the tree wait while a batch is
//! applied, and a flood of callbacks would spend its time waiting so.

use super::{
    keys,
    record::{self, Former},
    source::Source,
    stray,
    txn::{Txn, engine, json},
    value::{self, Fault},
    write::{self, Write},
};
use crate::{
    lifecycle::{Change, Event, Job, Note, Task},
    store::{Arrival, CallbackRecord, Changed, Heard, Judged, Replaced, StoreError, digest},
};

/// Two lengths, then as many bytes of each part.
const LENGTHS: usize = 2 * 4;

/// An entry of a page of the log. A delivery that is known by the hash of its body does not say it twice.
pub(super) fn entry(mut record: CallbackRecord, body: &[u8]) -> Result<Vec<u8>, StoreError> {
    if record.delivery_id == record.sha256 {
        record.delivery_id.clear();
    }
    let json = json(&record)?;
    let length = |part: &[u8]| u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes();
    Ok([&length(&json), &length(body), json.as_slice(), body].concat())
}

/// The entries of a page in the order of their ids, each with its body.
pub(super) fn entries(mut page: &[u8]) -> Result<Vec<(CallbackRecord, &[u8])>, Fault> {
    let mut entries = Vec::new();
    while !page.is_empty() {
        let (lengths, rest) = page.split_first_chunk::<LENGTHS>().ok_or(Fault::Damaged)?;
        let length =
            |at: usize| lengths[at..at + 4].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        let (json, rest) = rest.split_at_checked(length(0)).ok_or(Fault::Damaged)?;
        let (body, rest) = rest.split_at_checked(length(4)).ok_or(Fault::Damaged)?;
        let mut record: CallbackRecord = serde_json::from_slice(json).map_err(|_| Fault::Damaged)?;
        if record.delivery_id.is_empty() {
            record.delivery_id.clone_from(&record.sha256);
        }
        entries.push((record, body));
        page = rest;
    }
    Ok(entries)
}

/// Judges a callback, and writes it with what it does to its job.
pub(super) fn callback(txn: &mut Txn, arrival: Arrival) -> Result<Heard, StoreError> {
    let Arrival { job_id, delivery_id, body, now, policy, judge } = arrival;
    let delivery = digest::delivery(&delivery_id);
    let damaged = |fault: Fault| fault.of(|| job_id.to_string());
    let stored = value::read(txn, &keys::job(job_id)).map_err(damaged)?;
    let known = stored.map(|record| Ok((record::decode(&record)?, Former::of(&record)?)));
    let known = known.transpose().map_err(damaged)?;
    let seen = match &known {
        Some((_, former)) => former.trail.seen.contains(&delivery),
        None => Source::get(txn, &keys::stray(job_id, delivery)).map_err(engine)?.is_some(),
    };
    let Judged { mut record, keep, keep_body, note } = judge(known.as_ref().map(|(job, _)| job), seen);
    let verdict = record.verdict;
    let kept = if keep && keep_body { body.len() as u64 } else { 0 };
    let stray = known.is_none() && !seen;
    if keep && (!stray || stray::take(txn, job_id, delivery, kept)?) {
        let body: &[u8] = if keep_body { &body } else { &[] };
        record.id = txn.next_callback(record.id);
        txn.log_callback(record.id, entry(record, body)?);
    }
    let changed = match known {
        Some((job, former)) => {
            let step = |job: &Job, event: &Event| job.step(event, now, &policy);
            happen(txn, job, &former, note, delivery, step)?
        }
        None => None,
    };
    Ok(Heard { verdict, changed })
}

/// Lets the callback happen to its job.
fn happen(
    txn: &mut Txn,
    job: Job,
    former: &Former,
    note: Note,
    delivery: u64,
    step: impl Fn(&Job, &Event) -> Option<Change>,
) -> Result<Option<Changed>, StoreError> {
    let Some(change) = step(&job, &Event::Callback(note.clone())) else { return Ok(None) };
    let replaced = write::replace_former(txn, &Write::of(&change)?, former, Some(delivery))?;
    let after = match replaced {
        Replaced::TaskTaken(_) => contradict(txn, &job, change.job.task, note, delivery, step)?,
        // The committer is the only writer: the record is the one that was read, and a callback books nothing.
        Replaced::Done { .. } | Replaced::Stale | Replaced::OverBudget(_) => Some(change.job),
    };
    Ok(after.map(|after| Changed { before: Box::new(job), after: Box::new(after) }))
}

/// The id in the callback is another job's. That contradicts a job that has none yet, and is no news to one that has;
/// either way the callback counts, without the id.
fn contradict(
    txn: &mut Txn,
    job: &Job,
    named: Option<Task>,
    note: Note,
    delivery: u64,
    step: impl Fn(&Job, &Event) -> Option<Change>,
) -> Result<Option<Job>, StoreError> {
    let mut after = None;
    let contradicted = named.map(|task| Event::Contradicted(task.id));
    for event in contradicted.into_iter().chain([Event::Callback(Note { task: None, ..note })]) {
        let Some(change) = step(after.as_ref().unwrap_or(job), &event) else { continue };
        write::replace_having_seen(txn, &Write::of(&change)?, Some(delivery))?;
        after = Some(change.job);
    }
    Ok(after)
}
