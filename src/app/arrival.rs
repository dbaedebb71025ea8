//! A callback arrives: it is a hint, so it is remembered and makes our own question due.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{App, AppError, change::contradiction, trace};
use crate::{
    lifecycle::{CallbackId, Event, Job, JobId, Note, Phase, TaskId},
    provider::reply::{self, Malformed},
    store::{Arrival, CallbackRecord, Replaced, Verdict},
};

/// A callback whose token is valid.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The body; empty when it could not be read.
    pub body: Bytes,
    /// By which the sender tells deliveries apart, else the body's hash.
    pub delivery_id: String,
    /// Why the body must not be believed at all, if so: then it only nudges.
    pub refused: Option<Refused>,
}

/// Why a body is not read.
#[derive(Clone, Debug)]
pub enum Refused {
    /// Its signature does not verify.
    Signature(String),
    /// It could not be read: too large, compressed, or not complete.
    Unread(String),
}

/// A callback is remembered, durably.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// What we made of it.
    pub verdict: Verdict,
    /// To be echoed.
    pub challenge: Option<String>,
}

/// A job's share of the inbound log.
const MAX_KEPT: u32 = 64;
const MAX_KEPT_BYTES: u64 = 1024 * 1024;

impl App {
    /// Takes a callback for `id`. What it says is durable when this returns, and the question is due.
    ///
    /// # Errors
    /// The store's: then it was not remembered, and the sender has to send it again.
    pub async fn arrive(&self, id: JobId, incoming: Incoming) -> Result<Arrived, AppError> {
        let read = match incoming.refused {
            Some(_) => Err(None),
            None => reply::read_callback(&incoming.body, &self.config.upstream.mapping).map_err(Some),
        };
        let challenge = read.as_ref().ok().and_then(|note| note.challenge.clone());
        let mut record = self.record(id, &incoming, &read)?;
        let task = record.task_id.clone().map(TaskId);
        // A delivery that was refused is not one that was heard: the sender may repeat it, in order then.
        let delivery_id = match &incoming.refused {
            Some(_) => format!("refused:{}", incoming.delivery_id),
            None => incoming.delivery_id.clone(),
        };
        loop {
            let job = self.store.load(id).await?;
            let duplicate = self.store.seen(id, &delivery_id).await?;
            record.verdict = verdict(job.as_ref(), duplicate, &incoming, &read);
            let keeps = job.as_ref().map_or(!duplicate, |job| has_room(job, record.bytes));
            let note = Note {
                task: task.clone(),
                duplicate,
                kept_bytes: if keeps && !duplicate { record.bytes.max(1) } else { 0 },
                successor: self.fresh_id()?,
            };
            let event = Event::Callback(note.clone());
            let mut change = job.as_ref().and_then(|job| job.step(&event, self.now(), &self.policy));
            // Twice at most: an id that is another job's holds this one.
            for _ in 0..2 {
                let next = change.as_ref().map(|change| change.job.clone());
                let arrival = Arrival {
                    record: keeps.then(|| record.clone()),
                    body: if duplicate || incoming.refused.is_some() {
                        Bytes::new()
                    } else {
                        incoming.body.clone()
                    },
                    job_id: id,
                    delivery_id: delivery_id.clone(),
                    change: change.take(),
                };
                match (self.store.callback(arrival).await?, &job, next) {
                    (Replaced::Done { .. }, job, next) => {
                        trace::callback(id, record.verdict);
                        if let (Some(job), Some(next)) = (job, next) {
                            trace::changed(job, &next);
                        }
                        return Ok(Arrived { verdict: record.verdict, challenge });
                    }
                    // The id is another job's: that contradicts a job that has none yet, and is no news to one that has.
                    (Replaced::TaskTaken(owner), Some(job), Some(next)) => {
                        let contradiction = contradiction(&next, Event::Callback(note.clone()), owner)?;
                        let nameless = Event::Callback(Note { task: None, ..note.clone() });
                        let step = |event: &Event| job.step(event, self.now(), &self.policy);
                        change = step(&contradiction).or_else(|| step(&nameless));
                    }
                    _ => break,
                }
            }
        }
    }

    fn record(
        &self,
        id: JobId,
        incoming: &Incoming,
        read: &Result<reply::Note, Option<Malformed>>,
    ) -> Result<CallbackRecord, AppError> {
        let mut unique = [0; 10];
        getrandom::fill(&mut unique).map_err(|_| AppError::NoEntropy)?;
        let report = read.as_ref().ok().map(|note| &note.report);
        let detail = match (&incoming.refused, read) {
            (Some(Refused::Signature(why) | Refused::Unread(why)), _) => Some(why.clone()),
            (None, Err(Some(malformed))) => Some(malformed.to_string()),
            (None, _) => None,
        };
        Ok(CallbackRecord {
            id: CallbackId::new(self.now(), &unique),
            job_id: id,
            received_at: self.now(),
            verdict: Verdict::Matched,
            delivery_id: incoming.delivery_id.clone(),
            bytes: incoming.body.len() as u64,
            sha256: hex::encode(Sha256::digest(&incoming.body)),
            word: report.and_then(|report| report.word.clone()),
            task_id: report.and_then(|report| report.task_id.clone()),
            detail,
        })
    }
}

fn verdict(
    job: Option<&Job>,
    duplicate: bool,
    incoming: &Incoming,
    read: &Result<reply::Note, Option<Malformed>>,
) -> Verdict {
    match (job, &incoming.refused, read) {
        (None, _, _) => Verdict::Unmatched,
        (_, Some(Refused::Signature(_)), _) => Verdict::Forged,
        (_, Some(Refused::Unread(_)), _) => Verdict::Malformed,
        _ if duplicate => Verdict::Duplicate,
        (_, None, Err(_)) => Verdict::Malformed,
        (Some(job), None, Ok(_)) if matches!(job.phase, Phase::Settled { .. }) => Verdict::Late,
        (Some(_), None, Ok(_)) => Verdict::Matched,
    }
}

fn has_room(job: &Job, bytes: u64) -> bool {
    job.callback.received < MAX_KEPT && job.callback.kept_bytes + bytes <= MAX_KEPT_BYTES
}
