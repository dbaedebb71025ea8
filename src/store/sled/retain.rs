//! What is forgotten after its time. Found in the tree beside the committer's work, removed by it in small requests.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use sled::{IVec, Tree};

use super::{
    SledStore, callback, keys, log, outbox,
    record::{self, Card},
    source::{Row, Source},
    stray,
    txn::{Txn, engine},
    value::{self, Fault},
};
use crate::{
    lifecycle::{DeliveryId, DeliveryState, JobId, Millis},
    store::{Ended, Litter, Retain, StoreError, Sweep, Swept, digest},
};

/// Records that one look at jobs reads.
const LOOKED_AT: usize = 1024;
/// Jobs that one request forgets: others wait meanwhile.
const AT_ONCE: usize = 32;
/// Pages or deliveries that one step of a sweep reads.
const STEP: usize = 128;

#[async_trait]
impl Retain for SledStore {
    async fn ended(&self, before: Millis, after: Option<JobId>) -> Result<Ended, StoreError> {
        self.reading(move |tree| ended(tree, before, after)).await
    }

    async fn forget(&self, jobs: Vec<(JobId, u64)>) -> Result<Vec<JobId>, StoreError> {
        self.space.for_work_under_way()?;
        let ids: HashSet<JobId> = jobs.iter().map(|(id, _)| *id).collect();
        let mut held = self.reading(move |tree| keys_of(tree, &ids)).await?;
        let mut forgotten = Vec::new();
        for some in jobs.chunks(AT_ONCE) {
            let some: Vec<_> = some
                .iter()
                .map(|(id, revision)| (*id, *revision, held.remove(id).unwrap_or_default()))
                .collect();
            let judge = move |txn: &mut Txn| {
                let mut gone = Vec::new();
                for (id, revision, keys) in some {
                    if forget(txn, id, revision, &keys)? {
                        gone.push(id);
                    }
                }
                Ok(gone)
            };
            forgotten.extend(self.committer.judge(judge).await?);
        }
        Ok(forgotten)
    }

    async fn sweep(&self, sweep: Sweep) -> Result<Swept, StoreError> {
        if sweep.dry_run {
            return self.reading(move |tree| look(tree, &sweep).map(|found| found.swept)).await;
        }
        self.space.for_work_under_way()?;
        // What there is to do is found beside the committer; most often that is nothing.
        let found = self.reading(move |tree| look(tree, &sweep)).await?;
        if found.keys.is_empty() {
            return Ok(found.swept);
        }
        self.committer.judge(move |txn| carry_out(txn, &sweep)).await
    }
}

/// Jobs that have ended. Those whose records cannot be read are left to whoever works on them.
fn ended(tree: &Tree, before: Millis, after: Option<JobId>) -> Result<Ended, StoreError> {
    let from = after.map_or_else(|| vec![keys::JOB], |id| [keys::job(id), vec![0]].concat());
    let rows = tree.scan(&from, &keys::job(JobId::new(before, &[0; 10])), LOOKED_AT).map_err(engine)?;
    let mut jobs = Vec::new();
    for (key, head) in &rows {
        let job = value::join(tree, key, head).and_then(|record| {
            let settled = Card::parse(&record)?.outcome.is_some();
            settled.then(|| record::decode(&record)).transpose()
        });
        match job {
            Ok(job) => jobs.extend(job),
            Err(Fault::Damaged | Fault::Newer(_)) => {}
            Err(fault) => return Err(fault.of(|| "a job".into())),
        }
    }
    let last = rows.last().filter(|_| rows.len() == LOOKED_AT);
    let next = last.and_then(|(key, _)| keys::parse_id(key)).map(JobId::from_bytes);
    Ok(Ended { jobs, next })
}

/// The idempotency keys that jobs hold. No job knows its own, so all are read.
fn keys_of(tree: &Tree, jobs: &HashSet<JobId>) -> Result<HashMap<JobId, Vec<IVec>>, StoreError> {
    let mut held: HashMap<JobId, Vec<IVec>> = HashMap::new();
    for row in tree.scan_prefix([keys::IDEMPOTENCY]) {
        let (key, head) = row.map_err(engine)?;
        if let Some(id) = holder(tree, &key, &head).filter(|id| jobs.contains(id)) {
            held.entry(id).or_default().push(key);
        }
    }
    Ok(held)
}

fn holder(source: &impl Source, key: &[u8], head: &IVec) -> Option<JobId> {
    let entry = value::join(source, key, head).ok()?;
    entry.get(32..)?.try_into().ok().map(JobId::from_bytes)
}

/// Forgets a job, unless it changed or owes something; whether it did.
fn forget(txn: &mut Txn, id: JobId, revision: u64, held: &[IVec]) -> Result<bool, StoreError> {
    let Ok(Some(stored)) = value::read(txn, &keys::job(id)) else { return Ok(false) };
    let (Ok(card), Ok(job)) = (Card::parse(&stored), record::decode(&stored)) else { return Ok(false) };
    let owed = outbox::counts(txn, id)?.pending;
    if card.revision != revision || card.outcome.is_none() || owed > 0 {
        return Ok(false);
    }
    for delivery in deliveries_of(txn, id)? {
        remove_delivery(txn, Some(id), delivery)?;
    }
    for key in held {
        // Another job may have got it meanwhile.
        let head = Source::get(txn, key).map_err(engine)?;
        if head.is_some_and(|head| holder(txn, key, &head) == Some(id)) {
            remove(txn, key)?;
        }
    }
    if let Some(task) = &job.task {
        let owner = value::read(txn, &keys::task(&task.id)).ok().flatten();
        if owner.is_some_and(|owner| *owner == *id.as_bytes()) {
            remove(txn, &keys::task(&task.id))?;
        }
    }
    remove(txn, &keys::document(id))?;
    remove(txn, &keys::job(id))?;
    txn.state.tally.moved(Some(&card), None);
    txn.state.head.forgotten += 1;
    Ok(true)
}

fn deliveries_of(txn: &Txn, job: JobId) -> Result<Vec<DeliveryId>, StoreError> {
    let (from, to) = keys::of_job_range(job);
    let rows = txn.scan(&from, &to, usize::MAX).map_err(engine)?;
    Ok(rows.iter().filter_map(|(key, _)| keys::parse_delivery(key)).collect())
}

fn remove_delivery(txn: &mut Txn, job: Option<JobId>, id: DeliveryId) -> Result<(), StoreError> {
    remove(txn, &keys::body(id))?;
    remove(txn, &keys::delivery(id))?;
    if let Some(job) = job {
        txn.unmark(&keys::of_job(job, id));
    }
    Ok(())
}

/// Removes a value with its pieces.
fn remove(txn: &mut Txn, key: &[u8]) -> Result<(), StoreError> {
    let Some(head) = Source::get(txn, key).map_err(engine)? else { return Ok(()) };
    for number in 0..value::pieces(&head) {
        txn.unmark(&keys::piece(key, number));
    }
    txn.unmark(key);
    Ok(())
}

/// What a step of a sweep comes upon.
#[derive(Default)]
struct Found {
    /// The values that it is about.
    keys: Vec<IVec>,
    swept: Swept,
}

impl Found {
    fn add(&mut self, key: &IVec, count: u64, bytes: usize, oldest: Option<Millis>) {
        self.keys.push(key.clone());
        self.swept.count += count;
        self.swept.bytes += bytes as u64;
        self.swept.oldest = self.swept.oldest.or(oldest);
    }
}

fn look(source: &impl Source, sweep: &Sweep) -> Result<Found, StoreError> {
    match sweep.litter {
        Litter::Events | Litter::Callbacks => pages(source, sweep),
        Litter::Bodies => bodies(source, sweep),
        Litter::Deliveries => deliveries(source, sweep),
    }
}

fn carry_out(txn: &mut Txn, sweep: &Sweep) -> Result<Swept, StoreError> {
    let Found { keys, swept } = look(txn, sweep)?;
    for key in &keys {
        match sweep.litter {
            Litter::Events => remove(txn, key)?,
            Litter::Callbacks => {
                forget_strays(txn, key)?;
                remove(txn, key)?;
            }
            Litter::Bodies => strip(txn, key)?,
            Litter::Deliveries => {
                let id = keys::parse_id(key).map(DeliveryId::from_bytes);
                let delivery = id.and_then(|id| outbox::read(txn, id).ok().flatten());
                if let Some(delivery) = delivery {
                    remove_delivery(txn, delivery.job_id, delivery.id)?;
                }
            }
        }
    }
    if sweep.litter == Litter::Events {
        let first = txn.scan(&[keys::EVENT], &[keys::EVENT + 1], 1).map_err(engine)?.pop();
        let first = first.and_then(|(key, _)| keys::parse_seq(&key));
        txn.state.head.swept = first.map_or(txn.state.head.swept, |first| first.saturating_sub(1));
    }
    Ok(swept)
}

/// The place of a row: its number or id, behind the prefix.
fn place(key: &[u8]) -> u128 {
    key.iter().skip(1).fold(0, |sum, byte| sum << 8 | u128::from(*byte))
}

/// Rows under a prefix behind the place at which a step begins.
fn rows(source: &impl Source, prefix: u8, sweep: &Sweep, limit: usize) -> Result<Vec<Row>, StoreError> {
    let from = match (sweep.after, prefix) {
        (0, _) => vec![prefix],
        (after, keys::EVENT) => keys::event(u64::try_from(after).unwrap_or(u64::MAX).saturating_add(1)),
        (after, _) => [&[prefix], after.saturating_add(1).to_be_bytes().as_slice()].concat(),
    };
    source.scan(&from, &[prefix + 1], limit).map_err(engine)
}

/// Whole pages of a log that are old, and all pages before them. The newest page stays: by it the log's end is known.
fn pages(source: &impl Source, sweep: &Sweep) -> Result<Found, StoreError> {
    let prefix = if sweep.litter == Litter::Events { keys::EVENT } else { keys::CALLBACK };
    let rows = rows(source, prefix, sweep, STEP + 1)?;
    let (mut found, mut damaged) = (Found::default(), Vec::new());
    for (key, head) in rows.iter().take(rows.len().saturating_sub(1)) {
        let times = match times(source, sweep.litter, key, head) {
            Ok(times) => times,
            // It goes with what comes after it.
            Err(Fault::Damaged) => {
                damaged.push(key);
                continue;
            }
            Err(fault) => return Err(fault.of(|| "a log".into())),
        };
        if times.iter().any(|time| *time >= sweep.before) {
            return Ok(found);
        }
        damaged.drain(..).for_each(|key| found.add(key, 0, 0, None));
        found.add(key, times.len() as u64, length(head), times.first().copied());
        found.swept.read_to = place(key);
    }
    found.swept.more = rows.len() > STEP && damaged.is_empty();
    Ok(found)
}

/// When the entries of a page are of.
fn times(source: &impl Source, litter: Litter, key: &[u8], head: &IVec) -> Result<Vec<Millis>, Fault> {
    if litter == Litter::Events {
        let events = log::parse(source, key, head)?;
        return Ok(events.into_iter().map(|(_, event)| event.time).collect());
    }
    let page = value::join(source, key, head)?;
    Ok(callback::entries(&page)?.into_iter().map(|(record, _)| record.received_at).collect())
}

/// Length of a stored value, pieces included.
fn length(head: &IVec) -> usize {
    head.len() + usize::try_from(value::pieces(head)).unwrap_or_default() * value::MAX
}

/// Gives back what the callbacks of a page take of the share of those for jobs without a record.
fn forget_strays(txn: &mut Txn, key: &IVec) -> Result<(), StoreError> {
    let Ok(Some(page)) = value::read(txn, key) else { return Ok(()) };
    for (record, _) in callback::entries(&page).unwrap_or_default() {
        stray::forget(txn, record.job_id, digest::delivery(&record.delivery_id))?;
    }
    Ok(())
}

/// Old pages of the inbound log that hold bodies.
fn bodies(source: &impl Source, sweep: &Sweep) -> Result<Found, StoreError> {
    let rows = rows(source, keys::CALLBACK, sweep, STEP)?;
    let mut found = Found::default();
    for (key, head) in &rows {
        let page = match value::join(source, key, head) {
            Err(Fault::Damaged) => continue,
            page => page.map_err(|fault| fault.of(|| "a log".into()))?,
        };
        let entries = callback::entries(&page).unwrap_or_default();
        if entries.iter().any(|(record, _)| record.received_at >= sweep.before) {
            return Ok(found);
        }
        let (bytes, count) = entries
            .iter()
            .filter(|(_, body)| !body.is_empty())
            .fold((0, 0), |sum, entry| (sum.0 + entry.1.len(), sum.1 + 1));
        if count > 0 {
            found.add(key, count, bytes, entries.first().map(|(record, _)| record.received_at));
        }
        found.swept.read_to = place(key);
    }
    found.swept.more = rows.len() == STEP;
    Ok(found)
}

/// Leaves of a page the entries without their bodies.
fn strip(txn: &mut Txn, key: &IVec) -> Result<(), StoreError> {
    let Ok(Some(page)) = value::read(txn, key) else { return Ok(()) };
    let mut bare = Vec::new();
    for (record, _) in callback::entries(&page).unwrap_or_default() {
        bare.extend(callback::entry(record, &[])?);
    }
    txn.put(key, &bare)
}

/// Deliveries that are over and old. Those that are not are passed over.
fn deliveries(source: &impl Source, sweep: &Sweep) -> Result<Found, StoreError> {
    let rows = rows(source, keys::DELIVERY, sweep, STEP)?;
    let mut found = Found::default();
    for (key, head) in &rows {
        let made = keys::parse_id(key).map(|id| DeliveryId::from_bytes(id).made_at());
        if made.is_none_or(|made| made >= sweep.before) {
            return Ok(found);
        }
        found.swept.read_to = place(key);
        let delivery = match value::join(source, key, head).and_then(|record| outbox::decode(&record)) {
            Err(Fault::Damaged | Fault::Newer(_)) => continue,
            delivery => delivery.map_err(|fault| fault.of(|| "a delivery".into()))?,
        };
        let ended = delivery.ended_at().filter(|at| *at < sweep.before);
        if ended.is_some() && delivery.state != DeliveryState::Pending {
            let body = Source::get(source, &keys::body(delivery.id)).map_err(engine)?;
            found.add(key, 1, length(head) + body.map_or(0, |body| length(&body)), ended);
        }
    }
    found.swept.more = rows.len() == STEP;
    Ok(found)
}
