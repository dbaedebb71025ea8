//! The inbound log, and how repeats are known.

use super::{
    keys, record,
    source::Source,
    txn::{Txn, engine, json},
    value::Fault,
    write::{self, Write},
};
use crate::{
    lifecycle::JobId,
    store::{CallbackRecord, Replaced, StoreError},
};

/// A callback that was encoded.
pub(super) struct Heard {
    job: JobId,
    delivery: u64,
    entry: Option<(Vec<u8>, Vec<u8>)>,
}

impl Heard {
    pub(super) fn of(
        job: JobId,
        delivery_id: &str,
        record: Option<&CallbackRecord>,
        body: &[u8],
    ) -> Result<Self, StoreError> {
        let entry = record.map(|record| {
            let json = json(record)?;
            let mut payload = Vec::with_capacity(8 + json.len() + body.len());
            payload.extend_from_slice(&(json.len() as u64).to_be_bytes());
            payload.extend_from_slice(&json);
            payload.extend_from_slice(body);
            Ok::<_, StoreError>((keys::callback(record.id), payload))
        });
        Ok(Self { job, delivery: keys::delivery_hash(delivery_id), entry: entry.transpose()? })
    }

    /// The two parts of a stored entry.
    pub(super) fn parse(payload: &[u8]) -> Result<(CallbackRecord, &[u8]), Fault> {
        let (length, rest) = payload.split_first_chunk::<8>().ok_or(Fault::Damaged)?;
        let length = usize::try_from(u64::from_be_bytes(*length)).map_err(|_| Fault::Damaged)?;
        let (json, body) = rest.split_at_checked(length).ok_or(Fault::Damaged)?;
        Ok((serde_json::from_slice(json).map_err(|_| Fault::Damaged)?, body))
    }
}

/// Writes a callback and what it does to its job, unless that came too late.
pub(super) fn callback(txn: &mut Txn, heard: &Heard, change: Option<&Write>) -> Result<Replaced, StoreError> {
    let done = match change {
        Some(write) => write::replace_having_seen(txn, write, Some(heard.delivery))?,
        None => {
            txn.mark(&keys::stray(heard.job, heard.delivery));
            Replaced::Done { successor: None }
        }
    };
    if let (Replaced::Done { .. }, Some((key, entry))) = (&done, &heard.entry) {
        txn.put(key, entry)?;
    }
    Ok(done)
}

/// Whether a delivery for a job was seen before.
pub(super) fn seen(source: &impl Source, job: JobId, delivery_id: &str) -> Result<bool, StoreError> {
    let delivery = keys::delivery_hash(delivery_id);
    match record::read_trail(source, job).map_err(|fault| fault.of(|| job.to_string()))? {
        Some(trail) => Ok(trail.seen.contains(&delivery)),
        None => Ok(source.get(&keys::stray(job, delivery)).map_err(engine)?.is_some()),
    }
}
