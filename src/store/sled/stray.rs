//! Callbacks for jobs that have no record: known again, and bounded.

use super::{
    keys,
    source::{Row, Source},
    txn::{Txn, engine},
    value::{self, Fault},
};
use crate::{
    lifecycle::JobId,
    store::{Share, StoreError},
};

/// Remembers a delivery that is new, with the bytes that are kept of it, if there is room; whether there is.
pub(super) fn take(txn: &mut Txn, job: JobId, delivery: u64, bytes: u64) -> Result<bool, StoreError> {
    let of_all = of_all(txn)?;
    let (from, to) = keys::strays_of(job);
    let of_job = sum(txn, &from, &to, Share::OF_A_JOB)?;
    if !of_job.has_room(bytes, Share::OF_A_JOB) || !of_all.has_room(bytes, Share::OF_STRAYS) {
        return Ok(false);
    }
    put(txn, job, delivery, bytes);
    put_sum(txn, of_all.with(bytes))?;
    Ok(true)
}

/// Gives back what a callback took, whose entry of the log goes; nothing when it was for a job with a record.
pub(super) fn forget(txn: &mut Txn, job: JobId, delivery: u64) -> Result<(), StoreError> {
    let key = keys::stray(job, delivery);
    let Some(head) = Source::get(txn, &key).map_err(engine)? else { return Ok(()) };
    let (of_all, kept) = (of_all(txn)?, bytes(txn, &key, &head).unwrap_or_default());
    txn.unmark(&key);
    put_sum(txn, of_all.without(kept))
}

/// Writes an entry; the sum of all is the caller's affair.
pub(super) fn put(txn: &mut Txn, job: JobId, delivery: u64, bytes: u64) {
    txn.put_new(&keys::stray(job, delivery), &bytes.to_be_bytes());
}

/// What is kept of all; counted where it was never written or is damaged.
pub(super) fn of_all(source: &impl Source) -> Result<Share, StoreError> {
    let stored = match value::read(source, keys::STRAYS) {
        Ok(stored) => stored.and_then(|sum| parse_sum(&sum)),
        Err(Fault::Damaged) => None,
        Err(fault) => return Err(fault.of(|| "what is kept of callbacks without a job".into())),
    };
    stored.map_or_else(|| sum(source, &[keys::STRAY], &[keys::STRAY + 1], Share::OF_STRAYS), Ok)
}

pub(super) fn put_sum(txn: &mut Txn, sum: Share) -> Result<(), StoreError> {
    txn.put(keys::STRAYS, &[sum.entries.to_be_bytes(), sum.bytes.to_be_bytes()].concat())
}

/// The bytes that an entry says are kept. One without a value is of a version that did not count them.
pub(super) fn bytes(source: &impl Source, key: &[u8], head: &sled::IVec) -> Result<u64, Fault> {
    if head.is_empty() {
        return Ok(0);
    }
    let stored = value::join(source, key, head)?;
    stored.first_chunk().map(|bytes| u64::from_be_bytes(*bytes)).ok_or(Fault::Damaged)
}

pub(super) fn parse_sum(stored: &[u8]) -> Option<Share> {
    let (entries, bytes) = stored.split_first_chunk::<8>()?;
    let bytes = u64::from_be_bytes(bytes.try_into().ok()?);
    Some(Share { entries: u64::from_be_bytes(*entries), bytes })
}

/// Sums up entries; no further than `limit`, where it does not matter how many more there are.
fn sum(source: &impl Source, from: &[u8], to: &[u8], limit: Share) -> Result<Share, StoreError> {
    let limit = usize::try_from(limit.entries).unwrap_or(usize::MAX);
    let rows = source.scan(from, to, limit).map_err(engine)?;
    // A damaged entry counts as one, of unknown length.
    let with = |sum: Share, (key, head): &Row| sum.with(bytes(source, key, head).unwrap_or_default());
    Ok(rows.iter().fold(Share::default(), with))
}
