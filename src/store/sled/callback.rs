//! The inbound log, and how repeats are known.
//!
//! A callback is judged by the committer, not by whoever received it: readers of the tree wait while a batch is
//! applied, and a flood of callbacks would spend its time waiting so.

use super::{
    keys, record,
    source::Source,
    txn::{Txn, engine, json},
    value::{self, Fault},
    write::{self, Write},
};
use crate::{
    lifecycle::{Change, Event, Job, Note},
    store::{Arrival, CallbackRecord, Changed, Heard, Judged, Replaced, StoreError},
};

/// The two parts of a stored entry.
pub(super) fn parse(payload: &[u8]) -> Result<(CallbackRecord, &[u8]), Fault> {
    let (length, rest) = payload.split_first_chunk::<8>().ok_or(Fault::Damaged)?;
    let length = usize::try_from(u64::from_be_bytes(*length)).map_err(|_| Fault::Damaged)?;
    let (json, body) = rest.split_at_checked(length).ok_or(Fault::Damaged)?;
    Ok((serde_json::from_slice(json).map_err(|_| Fault::Damaged)?, body))
}

fn payload(record: &CallbackRecord, body: &[u8]) -> Result<Vec<u8>, StoreError> {
    let json = json(record)?;
    let mut payload = Vec::with_capacity(8 + json.len() + body.len());
    payload.extend_from_slice(&(json.len() as u64).to_be_bytes());
    payload.extend_from_slice(&json);
    payload.extend_from_slice(body);
    Ok(payload)
}

/// Judges a callback, and writes it with what it does to its job.
pub(super) fn callback(txn: &mut Txn, arrival: Arrival) -> Result<Heard, StoreError> {
    let Arrival { job_id, delivery_id, body, now, policy, judge } = arrival;
    let delivery = keys::delivery_hash(&delivery_id);
    let damaged = |fault: Fault| fault.of(|| job_id.to_string());
    let stored = value::read(txn, &keys::job(job_id)).map_err(damaged)?;
    let job = stored.as_deref().map(record::decode).transpose().map_err(damaged)?;
    let seen = match stored.as_deref().map(record::Trail::parse).transpose().map_err(damaged)? {
        Some((trail, _)) => trail.seen.contains(&delivery),
        None => Source::get(txn, &keys::stray(job_id, delivery)).map_err(engine)?.is_some(),
    };
    let Judged { record, keep, keep_body, note } = judge(job.as_ref(), seen);
    if keep {
        let body: &[u8] = if keep_body { &body } else { &[] };
        txn.put(&keys::callback(record.id), &payload(&record, body)?)?;
    }
    let changed = match job {
        Some(job) => happen(txn, job, note, delivery, |job, event| job.step(event, now, &policy))?,
        None => {
            txn.mark(&keys::stray(job_id, delivery));
            None
        }
    };
    Ok(Heard { verdict: record.verdict, changed })
}

/// Lets the callback happen to its job.
fn happen(
    txn: &mut Txn,
    job: Job,
    note: Note,
    delivery: u64,
    step: impl Fn(&Job, &Event) -> Option<Change>,
) -> Result<Option<Changed>, StoreError> {
    let mut change = step(&job, &Event::Callback(note.clone()));
    while let Some(next) = change.take() {
        match write::replace_having_seen(txn, &Write::of(&next)?, Some(delivery))? {
            Replaced::Done { .. } => {
                return Ok(Some(Changed { before: Box::new(job), after: Box::new(next.job) }));
            }
            // The id is another job's: that contradicts a job that has none yet, and is no news to one that has.
            Replaced::TaskTaken(_) => {
                let nameless = Event::Callback(Note { task: None, ..note.clone() });
                let contradiction = next.job.task.map(|task| Event::Contradicted(task.id));
                change = contradiction.and_then(|event| step(&job, &event)).or_else(|| step(&job, &nameless));
            }
            Replaced::Stale => break, // the committer is the only writer: the record is the one that was read
        }
    }
    Ok(None)
}
