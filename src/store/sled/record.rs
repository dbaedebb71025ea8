//! The stored form of a job: its index card, its trail through the logs, then its JSON. The committer judges by
//! the first two alone.

use sha2::{Digest, Sha256};

use crate::{
    lifecycle::{Due, Duty, Job, JobId, Millis, Status},
    store::StoreError,
};

use super::{
    keys::{self, DueKey},
    source::Source,
    txn::Txn,
    value::{self, Fault, Payload},
};

/// Names of the phases, in the order of their numbers on cards.
pub(super) const PHASES: [&str; 7] = ["queued", "sending", "unknown", "held", "awaiting", "fetching", "done"];
/// States that a job ends in, in the order of their numbers.
pub(super) const OUTCOMES: [&str; 3] = ["succeeded", "failed", "canceled"];

/// Bytes of a card.
pub(super) const LENGTH: usize = 8 + 3 + 8 + 2 * 10;

/// What the indexes and counters hold of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Card {
    /// Of the record.
    pub(super) revision: u64,
    /// Its phase, by [`PHASES`].
    pub(super) phase: u8,
    /// How it ended, by [`OUTCOMES`].
    pub(super) outcome: Option<u8>,
    /// It is claimed.
    pub(super) leased: bool,
    /// Stands for the task; 0 is none.
    pub(super) task: u64,
    /// Its entries of the due index.
    pub(super) dues: [Option<Due>; 2],
}

impl Card {
    pub(super) fn of(job: &Job) -> Self {
        let mut dues = job.dues();
        Self {
            revision: job.revision,
            phase: (0..).zip(PHASES).find(|(_, name)| *name == job.phase_name()).map_or(u8::MAX, |at| at.0),
            outcome: match job.status() {
                Status::Succeeded => Some(0),
                Status::Failed => Some(1),
                Status::Canceled => Some(2),
                Status::Queued | Status::Running | Status::Held => None,
            },
            leased: job.lease.is_some(),
            task: job.task.as_ref().map_or(0, |task| {
                let hash = Sha256::digest(task.id.0.as_bytes());
                hash.first_chunk().map_or(1, |bytes| u64::from_be_bytes(*bytes).max(1))
            }),
            dues: [dues.next(), dues.next()],
        }
    }

    /// The card at the head of a stored record.
    pub(super) fn parse(record: &[u8]) -> Result<Self, Fault> {
        let card = record.first_chunk::<LENGTH>().ok_or(Fault::Damaged)?;
        Ok(Self {
            revision: number(&card[0..8]),
            phase: card[8],
            outcome: (card[9] != u8::MAX).then_some(card[9]),
            leased: card[10] != 0,
            task: number(&card[11..19]),
            dues: [parse_due(&card[19..29]), parse_due(&card[29..39])],
        })
    }

    /// Whether it implies this entry of the due index.
    pub(super) fn owes(&self, id: JobId, entry: &DueKey) -> bool {
        self.dues.iter().flatten().any(|due| keys::due(*due, id) == *entry)
    }

    /// What the outside sees of the job.
    pub(super) fn status(&self) -> Status {
        match (self.outcome, self.phase) {
            (Some(0), _) => Status::Succeeded,
            (Some(1), _) => Status::Failed,
            (Some(_), _) => Status::Canceled,
            (None, 0) => Status::Queued,
            (None, 3) => Status::Held,
            (None, _) => Status::Running,
        }
    }

    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.revision.to_be_bytes());
        to.extend_from_slice(&[self.phase, self.outcome.unwrap_or(u8::MAX), u8::from(self.leased)]);
        to.extend_from_slice(&self.task.to_be_bytes());
        for due in self.dues {
            let (duty, urgent, at) = due.map_or((0, false, 0), |due| (due.duty as u8, due.urgent, due.at.0));
            to.extend_from_slice(&[duty, u8::from(urgent)]);
            to.extend_from_slice(&at.to_be_bytes());
        }
    }
}

/// Entries of each kind that a trail keeps; the oldest go first.
const TRAIL: usize = 1024;

/// What the logs hold of a job. It lives in the record, for an entry of its own in the tree costs far more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Trail {
    /// Numbers of its events, rising.
    pub(super) events: Vec<u64>,
    /// Hashes of the deliveries that were seen.
    pub(super) seen: Vec<u64>,
}

impl Trail {
    /// The trail of a stored record, and what follows it.
    pub(super) fn parse(record: &[u8]) -> Result<(Self, &[u8]), Fault> {
        let mut rest = record.get(LENGTH..).ok_or(Fault::Damaged)?;
        let mut list = || {
            let (length, after) = rest.split_first_chunk::<2>().ok_or(Fault::Damaged)?;
            let length = 8 * usize::from(u16::from_be_bytes(*length));
            let (numbers, after) = after.split_at_checked(length).ok_or(Fault::Damaged)?;
            rest = after;
            Ok::<Vec<u64>, Fault>(numbers.chunks(8).map(number).collect())
        };
        let (events, seen) = (list()?, list()?);
        Ok((Self { events, seen }, rest))
    }

    fn write(&self, to: &mut Vec<u8>) {
        for list in [&self.events, &self.seen] {
            let kept = &list[list.len().saturating_sub(TRAIL)..];
            to.extend_from_slice(&u16::try_from(kept.len()).unwrap_or(0).to_be_bytes());
            to.extend(kept.iter().flat_map(|number| number.to_be_bytes()));
        }
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn parse_due(bytes: &[u8]) -> Option<Due> {
    let duty = [Duty::Submit, Duty::Ask, Duty::Fetch, Duty::Deliver, Duty::Expire]
        .into_iter()
        .find(|duty| *duty as u8 == bytes[0])?;
    Some(Due { duty, urgent: bytes[1] != 0, at: Millis(number(&bytes[2..10]).cast_signed()) })
}

/// A record encoded by whoever asks for the write.
#[derive(Debug)]
pub(super) struct Encoded {
    /// Its card.
    pub(super) card: Card,
    json: Vec<u8>,
}

impl Encoded {
    /// Encodes a record.
    ///
    /// # Errors
    /// JSON that cannot be written.
    pub(super) fn of(job: &Job) -> serde_json::Result<Self> {
        Ok(Self { card: Card::of(job), json: serde_json::to_vec(job)? })
    }

    /// What is stored.
    pub(super) fn with(&self, trail: &Trail) -> Vec<u8> {
        let lists = 4 + 8 * (trail.events.len() + trail.seen.len());
        let mut bytes = Vec::with_capacity(LENGTH + lists + self.json.len());
        self.card.write(&mut bytes);
        trail.write(&mut bytes);
        bytes.extend_from_slice(&self.json);
        bytes
    }
}

/// The stored record of a job.
pub(super) fn read(source: &impl Source, id: JobId) -> Result<Option<Job>, Fault> {
    value::read(source, &keys::job(id))?.map(|record| decode(&record)).transpose()
}

/// What a change of a job has to know of the record that it replaces.
#[derive(Debug)]
pub(super) struct Former {
    pub(super) card: Card,
    pub(super) trail: Trail,
    /// Pieces of the stored record.
    pub(super) pieces: u64,
}

impl Former {
    /// What of a stored record is not its JSON.
    pub(super) fn of(record: &Payload) -> Result<Self, Fault> {
        let (card, (trail, _)) = (Card::parse(record)?, Trail::parse(record)?);
        Ok(Self { card, trail, pieces: record.pieces() })
    }
}

/// The record of a job, short of its JSON.
pub(super) fn read_former(source: &impl Source, id: JobId) -> Result<Option<Former>, Fault> {
    value::read(source, &keys::job(id))?.map(|record| Former::of(&record)).transpose()
}

/// What the logs hold of a job.
pub(super) fn read_trail(source: &impl Source, id: JobId) -> Result<Option<Trail>, Fault> {
    let record = value::read(source, &keys::job(id))?;
    record.map(|record| Trail::parse(&record).map(|(trail, _)| trail)).transpose()
}

/// Adds an event that is no change of the job to what the logs hold of it. A job that is gone or damaged has no timeline.
pub(super) fn extend_trail(txn: &mut Txn, id: JobId, seq: u64) -> Result<(), StoreError> {
    let key = keys::job(id);
    let stored = match value::read(txn, &key) {
        Ok(Some(stored)) => stored,
        Ok(None) | Err(Fault::Damaged) => return Ok(()),
        Err(fault) => return Err(fault.of(|| id.to_string())),
    };
    let Ok((mut trail, json)) = Trail::parse(&stored) else { return Ok(()) };
    trail.events.push(seq);
    let mut bytes = stored[..LENGTH].to_vec();
    trail.write(&mut bytes);
    bytes.extend_from_slice(json);
    txn.put_over(&key, &bytes, stored.pieces());
    Ok(())
}

/// The job in a stored record.
pub(super) fn decode(record: &[u8]) -> Result<Job, Fault> {
    serde_json::from_slice(Trail::parse(record)?.1).map_err(|_| Fault::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::{Cost, NewJob, Outcome, Phase, Task, TaskId};

    fn job() -> Job {
        let new = NewJob { model: "kling-3".into(), deadline: Some(Millis(99)), ..NewJob::default() };
        Job::new(JobId::new(Millis(5), &[1; 10]), Millis(-5), new)
    }

    #[test]
    fn a_record_reads_back_as_it_was_written_with_and_without_dues() {
        let mut settled = job();
        settled.phase =
            Phase::Settled { outcome: Outcome::Canceled { may_still_charge: false, files: Vec::new() } };
        (settled.due_at, settled.lease) = (None, Some(3));
        settled.task = Some(Task { id: TaskId("t".into()), proven: true });
        for job in [job(), settled] {
            let encoded = Encoded::of(&job).unwrap();
            let trail = Trail { events: vec![3, u64::MAX], seen: vec![7] };
            let stored = encoded.with(&trail);
            assert_eq!(Card::parse(&stored).unwrap(), encoded.card);
            assert_eq!(encoded.card, Card::of(&job));
            assert_eq!(Trail::parse(&stored).unwrap().0, trail);
            assert_eq!(decode(&stored).unwrap(), job);
        }
        assert_eq!(Card::of(&job()).dues.iter().flatten().count(), 2);
    }

    #[test]
    fn fields_of_a_newer_version_survive_rewriting() {
        let mut newer = job();
        newer.other.insert("colour".into(), "blue".into());
        newer.cost = Cost { estimated_credits: 4, ..Cost::default() };
        let rewritten = |job| decode(&Encoded::of(job).unwrap().with(&Trail::default())).unwrap();
        assert_eq!(rewritten(&rewritten(&newer)).other["colour"], "blue");
    }

    #[test]
    fn a_trail_that_grows_without_end_forgets_its_oldest_entries() {
        let long = Trail { events: (0..5_000).collect(), seen: vec![1] };
        let stored = Encoded::of(&job()).unwrap().with(&long);
        let kept = Trail::parse(&stored).unwrap().0;
        assert_eq!((kept.events, kept.seen), ((5_000 - 1_024..5_000).collect(), vec![1]));
        assert_eq!(decode(&stored).unwrap(), job());
    }
}
