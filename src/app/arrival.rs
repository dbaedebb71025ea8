//! A callback arrives: it is a hint, so it is remembered and makes our own question due.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{App, AppError, trace};
use crate::{
    lifecycle::{CallbackId, Job, JobId, Note, Phase, TaskId},
    provider::reply::{self, Malformed},
    store::{Arrival, CallbackRecord, Judged, Share, Verdict},
};

/// A callback whose token is valid.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The body; empty when it could not be read.
    pub body: Bytes,
    /// By which the sender tells deliveries apart; none: by the body's hash.
    pub delivery_id: Option<String>,
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
    /// The job's trace, if its record has one and the callback changed it.
    pub trace: Option<String>,
}

impl App {
    /// Takes a callback for `id`. What it says is durable when this returns, and the question is due.
    ///
    /// # Errors
    /// The store's: then it was not remembered, and the sender has to send it again.
    pub async fn arrive(&self, id: JobId, incoming: Incoming) -> Result<Arrived, AppError> {
        let config = self.config();
        let read = match incoming.refused {
            Some(_) => Err(None),
            None => reply::read_callback(&incoming.body, &config.upstream.mapping).map_err(Some),
        };
        let challenge = read.as_ref().ok().and_then(reply::Note::challenge).map(str::to_owned);
        let (callback, successor) = self.fresh_ids()?;
        let record = self.record(callback, id, &incoming, &read);
        // A delivery that was refused is not one that was heard: the sender may repeat it, in order then.
        let delivery_id = match &incoming.refused {
            Some(_) => format!("refused:{}", record.delivery_id),
            None => record.delivery_id.clone(),
        };
        let sound = read.is_ok();
        let refused = incoming.refused;
        let judge = move |job: Option<&Job>, duplicate: bool| {
            let verdict = verdict(job, duplicate, refused.as_ref(), sound);
            let keep = job.map_or(!duplicate, |job| has_room(job, record.bytes));
            let note = Note {
                task: record.task_id.clone().map(TaskId),
                duplicate,
                kept_bytes: if keep && !duplicate { record.bytes.max(1) } else { 0 },
                successor,
            };
            let keep_body = !duplicate && refused.is_none();
            Judged { record: CallbackRecord { verdict, ..record.clone() }, keep, keep_body, note }
        };
        let heard = self
            .store
            .callback(Arrival {
                job_id: id,
                delivery_id,
                body: incoming.body,
                now: self.now(),
                policy: self.policy(),
                judge: Box::new(judge),
            })
            .await?;
        trace::callback(id, heard.verdict);
        if let Some(changed) = &heard.changed {
            self.noticed(&changed.before, &changed.after).await;
        }
        let trace = heard.changed.and_then(|changed| changed.after.trace);
        Ok(Arrived { verdict: heard.verdict, challenge, trace })
    }

    /// Ids for the entry of the log and for a job that may follow: of the system's randomness as one draught.
    fn fresh_ids(&self) -> Result<(CallbackId, JobId), AppError> {
        let (mut first, mut second) = ([0; 10], [0; 10]);
        let unique: [u8; 20] = self.entropy.bytes()?;
        first.copy_from_slice(&unique[..10]);
        second.copy_from_slice(&unique[10..]);
        let now = self.now();
        Ok((CallbackId::new(now, &first), JobId::new(now, &second)))
    }

    fn record(
        &self,
        id: CallbackId,
        job_id: JobId,
        incoming: &Incoming,
        read: &Result<reply::Note<'_>, Option<Malformed>>,
    ) -> CallbackRecord {
        let note = read.as_ref().ok();
        let sha256 = hex::encode(Sha256::digest(&incoming.body));
        let detail = match (&incoming.refused, read) {
            (Some(Refused::Signature(why) | Refused::Unread(why)), _) => Some(why.clone()),
            (None, Err(Some(malformed))) => Some(malformed.to_string()),
            (None, _) => None,
        };
        CallbackRecord {
            id,
            job_id,
            received_at: self.now(),
            verdict: Verdict::Matched,
            delivery_id: incoming.delivery_id.clone().unwrap_or_else(|| sha256.clone()),
            bytes: incoming.body.len() as u64,
            sha256,
            word: note.and_then(reply::Note::word).map(str::to_owned),
            task_id: note.and_then(reply::Note::task_id).map(str::to_owned),
            detail,
        }
    }
}

fn verdict(job: Option<&Job>, duplicate: bool, refused: Option<&Refused>, sound: bool) -> Verdict {
    match (job, refused) {
        (None, _) => Verdict::Unmatched,
        (_, Some(Refused::Signature(_))) => Verdict::Forged,
        (_, Some(Refused::Unread(_))) => Verdict::Malformed,
        _ if duplicate => Verdict::Duplicate,
        _ if !sound => Verdict::Malformed,
        (Some(job), None) if matches!(job.phase, Phase::Settled { .. }) => Verdict::Late,
        (Some(_), None) => Verdict::Matched,
    }
}

fn has_room(job: &Job, bytes: u64) -> bool {
    let heard = Share { entries: job.callback.received.into(), bytes: job.callback.kept_bytes };
    heard.has_room(bytes, Share::OF_A_JOB)
}
