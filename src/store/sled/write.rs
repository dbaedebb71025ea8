//! What changes write: encoded by whoever asks, judged and stored by the committer.

use bytes::Bytes;

use super::{
    keys, ledger, outbox,
    record::{self, Encoded, Former, Trail},
    source::Source,
    txn::{Txn, engine, json},
    value::{self, Fault},
};
use crate::{
    chaos::{self, Safeguard},
    lifecycle::{Change, Delivery, EventRecord, Job, JobId, Millis, Phase, Reservation, RetryMode, TaskId},
    store::{Exceeded, IdempotencyKey, Inserted, Limits, Replaced, StoreError},
};

/// A record of a job that was checked and encoded.
pub(super) struct Record {
    id: JobId,
    encoded: Encoded,
    task: Option<TaskId>,
    retry_of: Option<JobId>,
    /// It follows another job up for free, and may so have that job's task.
    follows_up: bool,
    settled: bool,
    queued: bool,
}

impl Record {
    fn of(job: &Job) -> Result<Self, StoreError> {
        if let Err(sentence) = job.check() {
            tracing::error!(job = %job.id, "a record was refused, for it must hold that {sentence}");
            return Err(StoreError::Unavailable(format!("a change of {} breaks a rule: {sentence}", job.id)));
        }
        let encoded = Encoded::of(job).map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let task = job.task.as_ref().map(|task| task.id.clone());
        let settled = job.outcome().is_some();
        let follows_up = job.retry_of.is_some() && job.attempts.submit == 0;
        let queued = matches!(job.phase, Phase::Queued { .. });
        Ok(Self { id: job.id, encoded, task, retry_of: job.retry_of, follows_up, settled, queued })
    }
}

/// An event that awaits its number.
struct Entry {
    time: Millis,
    json: Vec<u8>,
}

impl Entry {
    fn of(event: &EventRecord) -> Result<Self, StoreError> {
        Ok(Self { time: event.time, json: json(event)? })
    }
}

/// A job that is not stored yet.
pub(super) struct New {
    record: Record,
    event: Entry,
    /// None: that of the job it follows.
    document: Option<Bytes>,
    deliveries: Vec<outbox::Encoded>,
    reserved: Option<Reservation>,
}

impl New {
    pub(super) fn of(
        job: &Job,
        event: &EventRecord,
        deliveries: &[Delivery],
        document: Option<Bytes>,
    ) -> Result<Self, StoreError> {
        let document = document.filter(|document| !document.is_empty() || job.retry_of.is_none());
        let (record, event, deliveries) = (Record::of(job)?, Entry::of(event)?, outbox::encoded(deliveries)?);
        Ok(Self { record, event, document, deliveries, reserved: job.cost.reserved })
    }
}

/// A change of a stored job.
pub(super) struct Write {
    record: Record,
    events: Vec<Entry>,
    deliveries: Vec<outbox::Encoded>,
    successor: Option<(RetryMode, New)>,
    release: Option<Reservation>,
    book: Option<Reservation>,
    /// What the successor's booking must keep.
    limits: Limits,
}

impl Write {
    pub(super) fn of(change: &Change) -> Result<Self, StoreError> {
        Self::within(change, Limits::default())
    }

    pub(super) fn within(change: &Change, limits: Limits) -> Result<Self, StoreError> {
        let successor = change.successor.as_ref();
        Ok(Self {
            record: Record::of(&change.job)?,
            events: change.events.iter().map(Entry::of).collect::<Result<_, _>>()?,
            deliveries: outbox::encoded(&change.deliveries)?,
            successor: successor
                .map(|next| {
                    Ok::<_, StoreError>((next.mode, New::of(&next.job, &next.event, &next.deliveries, None)?))
                })
                .transpose()?,
            release: change.release,
            book: change.book,
            limits,
        })
    }
}

pub(super) fn insert(
    txn: &mut Txn,
    new: &New,
    key: Option<&IdempotencyKey>,
    limits: &Limits,
) -> Result<Option<Inserted>, StoreError> {
    if let Some(key) = key
        && let Some(Holder { fingerprint, job }) = holder(txn, key)?
    {
        let same = fingerprint == key.fingerprint;
        return Ok(Some(if same { Inserted::Replayed(job) } else { Inserted::KeyReused(job.id) }));
    }
    if new.record.queued && limits.queued > 0 && txn.state.tally.queued() >= limits.queued {
        return Ok(Some(Inserted::QueueFull { limit: limits.queued }));
    }
    if let Some(reserved) = new.reserved
        && let Some(Exceeded { period, booked, limit }) = ledger::exceeded(txn, reserved, limits)?
    {
        return Ok(Some(Inserted::OverBudget { period, booked, limit }));
    }
    create(txn, new)?;
    if let Some(key) = key {
        remember_key(txn, key, new.record.id)?;
    }
    Ok(None)
}

/// What holds an idempotency key.
struct Holder {
    /// Of the request that it came with.
    fingerprint: [u8; 32],
    job: Box<Job>,
}

/// The job that a key made and that still holds it.
fn holder(txn: &Txn, key: &IdempotencyKey) -> Result<Option<Holder>, StoreError> {
    let stored = value::read(txn, &keys::idempotency(&key.owner, &key.key))
        .map_err(|fault| fault.of(|| "an idempotency key".into()))?;
    let Some((fingerprint, id)) = stored.as_deref().and_then(|entry| entry.split_first_chunk::<32>()) else {
        return Ok(None);
    };
    let Ok(id) = id.try_into().map(JobId::from_bytes) else { return Ok(None) };
    let Some(job) = record::read(txn, id).map_err(|fault| fault.of(|| id.to_string()))? else {
        let aside = Source::get(txn, &keys::quarantine(&keys::job(id))).map_err(engine)?;
        // To make the job anew might pay for it twice.
        return aside.map_or(Ok(None), |_| Err(StoreError::Damaged(id.to_string())));
    };
    let free = key.reusable && job.outcome().is_some();
    Ok((!free).then(|| Holder { fingerprint: *fingerprint, job: Box::new(job) }))
}

fn remember_key(txn: &mut Txn, key: &IdempotencyKey, id: JobId) -> Result<(), StoreError> {
    let entry = [key.fingerprint.as_slice(), id.as_bytes()].concat();
    txn.put(&keys::idempotency(&key.owner, &key.key), &entry)
}

fn create(txn: &mut Txn, new: &New) -> Result<(), StoreError> {
    let id = new.record.id;
    if Source::get(txn, &keys::job(id)).map_err(engine)?.is_some() {
        return Err(StoreError::Unavailable(format!("{id} exists already")));
    }
    let copied;
    let document = match (&new.document, new.record.retry_of) {
        (Some(document), _) => Some(&**document),
        (None, Some(old)) => {
            copied = value::read(txn, &keys::document(old)).map_err(|fault| fault.of(|| old.to_string()))?;
            copied.as_deref()
        }
        (None, None) => None,
    };
    if let Some(document) = document {
        txn.put_new(&keys::document(id), document);
    }
    if let Task::Free(key) = task(txn, &new.record, 0)? {
        txn.put(&key, id.as_bytes())?;
    }
    let trail = Trail { events: vec![txn.log(new.event.time, &new.event.json)], seen: Vec::new() };
    store(txn, &new.record, None, &trail);
    outbox::add(txn, &new.deliveries)?;
    new.reserved.map_or(Ok(()), |booking| ledger::book(txn, booking))
}

pub(super) fn replace(txn: &mut Txn, write: &Write) -> Result<Replaced, StoreError> {
    replace_having_seen(txn, write, None)
}

/// As [`replace`], for a change that this delivery brought.
pub(super) fn replace_having_seen(
    txn: &mut Txn,
    write: &Write,
    delivery: Option<u64>,
) -> Result<Replaced, StoreError> {
    let id = write.record.id;
    let old = record::read_former(txn, id).map_err(|fault| fault.of(|| id.to_string()))?;
    old.map_or(Ok(Replaced::Stale), |old| replace_former(txn, write, &old, delivery))
}

/// As [`replace_having_seen`], when the record that is there was read already.
pub(super) fn replace_former(
    txn: &mut Txn,
    write: &Write,
    old: &Former,
    delivery: Option<u64>,
) -> Result<Replaced, StoreError> {
    let record = &write.record;
    let follows = old.card.revision.checked_add(1) == Some(record.encoded.card.revision);
    if !follows && !chaos::without(Safeguard::Cas) {
        return Ok(Replaced::Stale);
    }
    if let Some(booking) = write.successor.as_ref().and_then(|(_, next)| next.reserved)
        && let Some(exceeded) = ledger::exceeded(txn, booking, &write.limits)?
    {
        return Ok(Replaced::OverBudget(exceeded));
    }
    match task(txn, record, old.card.task)? {
        Task::Taken(owner) => return Ok(Replaced::TaskTaken(owner)),
        Task::Free(key) => txn.put(&key, record.id.as_bytes())?,
        Task::Settled => {}
    }
    let mut trail = old.trail.clone();
    trail.events.extend(write.events.iter().map(|entry| txn.log(entry.time, &entry.json)));
    trail.seen.extend(delivery.filter(|delivery| !trail.seen.contains(delivery)));
    store(txn, record, Some(old), &trail);
    outbox::add(txn, &write.deliveries)?;
    if let Some(booking) = write.release {
        ledger::release(txn, booking)?;
    }
    if let Some(booking) = write.book {
        ledger::book(txn, booking)?;
    }
    let successor = write.successor.as_ref().map(|(mode, new)| follow(txn, record.id, *mode, new));
    Ok(Replaced::Done { successor: successor.transpose()? })
}

/// Creates the successor, or finds the one that there is.
fn follow(txn: &mut Txn, old: JobId, mode: RetryMode, new: &New) -> Result<JobId, StoreError> {
    let key = IdempotencyKey {
        owner: "-".into(),
        key: format!("{}:{old}", mode.as_str()),
        fingerprint: [0; 32],
        reusable: mode != RetryMode::Resubmit,
    };
    if let Some(holder) = holder(txn, &key)? {
        return Ok(holder.job.id);
    }
    create(txn, new)?;
    remember_key(txn, &key, new.record.id)?;
    Ok(new.record.id)
}

/// Whose task the record names.
enum Task {
    /// Nothing to write: it names none, the one it had, its own, or one that it need not own.
    Settled,
    /// Nobody's so far.
    Free(Vec<u8>),
    /// Another job's.
    Taken(JobId),
}

fn task(txn: &Txn, record: &Record, before: u64) -> Result<Task, StoreError> {
    let Some(id) = &record.task else { return Ok(Task::Settled) };
    if record.encoded.card.task == before {
        return Ok(Task::Settled);
    }
    Ok(match task_owner(txn, id)? {
        None => Task::Free(keys::task(id)),
        Some(owner) if owner == record.id || record.follows_up || record.settled => Task::Settled,
        Some(owner) => Task::Taken(owner),
    })
}

/// The job that has a task. An entry whose job names another task by now counts for nothing.
pub(super) fn task_owner(source: &impl Source, task: &TaskId) -> Result<Option<JobId>, StoreError> {
    let stored = value::read(source, &keys::task(task)).map_err(|fault| fault.of(|| task.to_string()))?;
    let Some(owner) = stored.and_then(|id| (*id).try_into().ok()).map(JobId::from_bytes) else {
        return Ok(None);
    };
    match record::read(source, owner) {
        Ok(job) => Ok(job.and_then(|job| job.task).filter(|named| named.id == *task).map(|_| owner)),
        // Its record cannot say otherwise.
        Err(Fault::Damaged) => Ok(Some(owner)),
        Err(fault) => Err(fault.of(|| owner.to_string())),
    }
}

/// Writes a record, its entries in the indexes and its place in the tally.
fn store(txn: &mut Txn, record: &Record, old: Option<&Former>, trail: &Trail) {
    let (id, card) = (record.id, &record.encoded.card);
    let before = old.map(|old| &old.card);
    txn.put_over(&keys::job(id), &record.encoded.with(trail), old.map_or(0, |old| old.pieces));
    let gone = before.map_or([None; 2], |before| before.dues);
    for due in card.dues.iter().flatten().filter(|due| !gone.contains(&Some(**due))) {
        txn.owe(keys::due(*due, id));
    }
    match (before.is_some_and(|before| before.leased), card.leased) {
        (false, true) => txn.mark(&keys::lease(id)),
        (true, false) => txn.unmark(&keys::lease(id)),
        _ => {}
    }
    txn.state.tally.moved(before, Some(card));
}

/// A value that was made once and is kept for ever: the stored one, else `fresh` after storing it.
pub(super) fn keep(txn: &mut Txn, name: &str, fresh: Vec<u8>) -> Result<Vec<u8>, StoreError> {
    if let Some(kept) = kept(txn, name)? {
        return Ok(kept);
    }
    txn.put_new(&keys::kept(name), &fresh);
    Ok(fresh)
}

/// The value that is kept under a name.
pub(super) fn kept(txn: &Txn, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let kept = value::read(txn, &keys::kept(name)).map_err(|fault| fault.of(|| name.to_owned()))?;
    Ok(kept.map(|kept| kept.to_vec()))
}
