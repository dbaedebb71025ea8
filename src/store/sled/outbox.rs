//! The outbox: records of deliveries, the index of those that wait, and what is remembered of sinks.
//!
//! An index entry is all in its key and is removed with the change that makes it stale, so each lane is one run of keys in
//! the order of their time, and the next lane is one seek away.

use bytes::Bytes;

use super::{
    keys::{self, PendingKey},
    record,
    source::{Row, Source},
    txn::{Txn, engine, json},
    value::{self, Fault},
    write,
};
use crate::{
    lifecycle::{
        Delivery, DeliveryEvent, DeliveryId, DeliveryPolicy, DeliveryState, EventRecord, Job, JobId, Millis,
        SinkState, is_notify_lane,
    },
    store::{About, ClaimedDelivery, DeliveryChanged, DeliveryClaim, DeliveryCounts, Rendering, StoreError},
};

/// Deliveries that one request of a long sweep handles.
const SWEEP: usize = 256;

/// A delivery that was checked and encoded.
pub(super) struct Encoded {
    delivery: Delivery,
    json: Vec<u8>,
}

impl Encoded {
    pub(super) fn of(delivery: &Delivery) -> Result<Self, StoreError> {
        if let Err(sentence) = delivery.check() {
            let broken = format!("a change of {} breaks a rule: {sentence}", delivery.id);
            return Err(StoreError::Unavailable(broken));
        }
        Ok(Self { json: json(delivery)?, delivery: delivery.clone() })
    }
}

/// Those that a change brings.
pub(super) fn encoded(deliveries: &[Delivery]) -> Result<Vec<Encoded>, StoreError> {
    deliveries.iter().map(Encoded::of).collect()
}

/// The stored record of a delivery.
pub(super) fn read(source: &impl Source, id: DeliveryId) -> Result<Option<Delivery>, Fault> {
    value::read(source, &keys::delivery(id))?.map(|record| decode(&record)).transpose()
}

pub(super) fn decode(record: &[u8]) -> Result<Delivery, Fault> {
    serde_json::from_slice(record).map_err(|_| Fault::Damaged)
}

/// The entry of the index of those that wait that a record implies.
pub(super) fn pending_key(delivery: &Delivery) -> Option<PendingKey> {
    delivery.due_at.map(|at| keys::pending(&delivery.lane, at, delivery.id))
}

/// Writes a record in place of another with its entries in the indexes.
pub(super) fn store(txn: &mut Txn, old: Option<&Delivery>, new: &Encoded) -> Result<(), StoreError> {
    let Encoded { delivery, json } = new;
    let (id, before, after) = (delivery.id, old.and_then(pending_key), pending_key(delivery));
    match old {
        Some(_) => txn.put(&keys::delivery(id), json)?,
        None => txn.put_new(&keys::delivery(id), json),
    }
    if before != after {
        before.iter().for_each(|key| txn.unmark(key));
        after.iter().for_each(|key| txn.mark(key));
    }
    match (old.is_some_and(|old| old.lease.is_some()), delivery.lease.is_some()) {
        (false, true) => txn.mark(&keys::delivery_lease(id)),
        (true, false) => txn.unmark(&keys::delivery_lease(id)),
        _ => {}
    }
    if let Some(job) = delivery.job_id
        && old.is_none_or(|old| old.state != delivery.state)
    {
        txn.put_raw(&keys::of_job(job, id), &[delivery.state as u8]);
    }
    txn.state.tally.owes(old.map(|old| old.state), Some(delivery.state));
    Ok(())
}

/// Writes what is owed anew. One that is there already stays: the same change was written before.
pub(super) fn add(txn: &mut Txn, owed: &[Encoded]) -> Result<(), StoreError> {
    for new in owed {
        if Source::get(txn, &keys::delivery(new.delivery.id)).map_err(engine)?.is_none() {
            store(txn, None, new)?;
        }
    }
    Ok(())
}

/// Takes deliveries of a lane that are due, and writes the bodies of those that are taken for the first time.
pub(super) fn claim(txn: &mut Txn, ask: &DeliveryClaim) -> Result<Vec<ClaimedDelivery>, StoreError> {
    let closed = if is_notify_lane(&ask.lane) { None } else { sink(txn, &ask.lane)?.closed() };
    let (from, to) = keys::pending_range(&ask.lane, ask.now.plus(1));
    let mut claimed = Vec::new();
    // Those that cannot be delivered cost no try, so more of them are looked at.
    for (key, _) in txn.scan(&from, &to, if closed.is_some() { SWEEP } else { ask.max }).map_err(engine)? {
        let Some(delivery) = keys::parse_delivery(&key).map(|id| open(txn, id)).transpose()?.flatten() else {
            txn.unmark(&key);
            continue;
        };
        if pending_key(&delivery).is_none_or(|own| own.as_slice() != &*key) {
            txn.unmark(&key);
            continue;
        }
        let ready = match &closed {
            Some(why) => Err(why.clone()),
            None => prepare(txn, &delivery, ask)?,
        };
        let event = match &ready {
            Ok(_) => DeliveryEvent::Claimed,
            Err(why) => DeliveryEvent::Withdrawn(why.clone()),
        };
        let Some(delivery) = step(txn, &delivery, &event, ask.now, &ask.policy.delivery)? else { continue };
        claimed.extend(ready.ok().map(|(body, notify)| ClaimedDelivery { delivery, body, notify }));
    }
    if !claimed.is_empty() {
        txn.state.head.clock = Some(ask.now);
    }
    Ok(claimed)
}

type Prepared = Result<(Bytes, Option<crate::lifecycle::Notify>), String>;

/// The body of a delivery and the URL that it goes to; or why there can be none.
fn prepare(txn: &mut Txn, delivery: &Delivery, ask: &DeliveryClaim) -> Result<Prepared, StoreError> {
    let key = keys::body(delivery.id);
    let kept = match value::read(txn, &key) {
        Err(Fault::Damaged) => return Ok(Err("its body is damaged".to_owned())),
        kept => kept.map_err(|fault| fault.of(|| delivery.id.to_string()))?,
    };
    let kept = kept.map(|body| Bytes::copy_from_slice(&body));
    if let (Some(body), None) = (&kept, delivery.notify) {
        return Ok(Ok((body.clone(), None)));
    }
    let job = delivery.job_id.map(|id| job(txn, id)).transpose()?;
    if job == Some(None) {
        return Ok(Err("the record of its job is gone or damaged".to_owned()));
    }
    let job = job.flatten();
    let named = |at: u8| job.as_ref().and_then(|job| job.notify.get(usize::from(at)).cloned());
    let notify = delivery.notify.map(named);
    if notify == Some(None) {
        return Ok(Err("its job does not name the URL any more".to_owned()));
    }
    let body = match kept {
        Some(body) => body,
        None => {
            let body = body(txn, delivery, job.as_ref(), ask)?;
            txn.put_new(&key, &body);
            body
        }
    };
    Ok(Ok((body, notify.flatten())))
}

fn body(
    source: &impl Source,
    delivery: &Delivery,
    job: Option<&Job>,
    ask: &DeliveryClaim,
) -> Result<Bytes, StoreError> {
    let Some(job) = job else { return Ok((ask.render)(&Rendering { delivery, about: None })) };
    let document = value::read(source, &keys::document(job.id)).ok().flatten();
    let (document, counts) = (document.as_deref().unwrap_or_default(), counts(source, job.id)?);
    Ok((ask.render)(&Rendering { delivery, about: Some(About { job, document, counts }) }))
}

fn job(source: &impl Source, id: JobId) -> Result<Option<Job>, StoreError> {
    match record::read(source, id) {
        Err(Fault::Damaged) => Ok(None),
        read => read.map_err(|fault| fault.of(|| id.to_string())),
    }
}

/// Lets something happen to a delivery; nothing when there is none, or the event is not its.
pub(super) fn change(
    txn: &mut Txn,
    id: DeliveryId,
    event: &DeliveryEvent,
    now: Millis,
    policy: &DeliveryPolicy,
) -> Result<Option<DeliveryChanged>, StoreError> {
    let Some(old) = open(txn, id)? else { return Ok(None) };
    let Some(delivery) = step(txn, &old, event, now, policy)? else { return Ok(None) };
    let mut disabled = false;
    if let DeliveryEvent::Answered(attempt, _) = event
        && let Some((state, said)) = sink(txn, &delivery.lane)?.heard(&delivery, attempt, now, policy)
    {
        disabled = state.disabled_at.is_some();
        put_sink(txn, &delivery.lane, &state)?;
        said.iter().try_for_each(|event| log(txn, event))?;
    }
    Ok(Some(DeliveryChanged { delivery, disabled }))
}

/// Steps a record and writes what comes of it.
fn step(
    txn: &mut Txn,
    old: &Delivery,
    event: &DeliveryEvent,
    now: Millis,
    policy: &DeliveryPolicy,
) -> Result<Option<Delivery>, StoreError> {
    let Some(change) = old.step(event, now, policy) else { return Ok(None) };
    store(txn, Some(old), &Encoded::of(&change.delivery)?)?;
    change.event.iter().try_for_each(|event| log(txn, event))?;
    Ok(Some(change.delivery))
}

/// Appends an event that is no change of a job to the log, and to the job's timeline if it has one.
pub(super) fn log(txn: &mut Txn, event: &EventRecord) -> Result<(), StoreError> {
    let seq = txn.log(event.time, &json(event)?);
    match event.job_id {
        Some(job) => record::extend_trail(txn, job, seq),
        None => Ok(()),
    }
}

/// The same with what is owed for it.
pub(super) fn log_owing(txn: &mut Txn, event: &EventRecord, owed: &[Encoded]) -> Result<(), StoreError> {
    log(txn, event)?;
    add(txn, owed)
}

/// The same unless an event of this name was logged before; whether it is this one that was.
pub(super) fn log_once(
    txn: &mut Txn,
    name: &str,
    event: &EventRecord,
    owed: &[Encoded],
) -> Result<bool, StoreError> {
    let id = event.id.as_bytes();
    if let Some(logged) = write::kept(txn, name)? {
        return Ok(logged == id);
    }
    txn.put_new(&keys::kept(name), id);
    log_owing(txn, event, owed)?;
    Ok(true)
}

/// The delivery, unless there is none or its record is damaged, which sets it aside.
fn open(txn: &mut Txn, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
    match read(txn, id) {
        Err(Fault::Damaged) => quarantine(txn, id).map(|()| None),
        other => other.map_err(|fault| fault.of(|| id.to_string())),
    }
}

/// Sets a damaged record aside; one that can be read stays.
pub(super) fn quarantine(txn: &mut Txn, id: DeliveryId) -> Result<(), StoreError> {
    let key = keys::delivery(id);
    let Err(Fault::Damaged) = read(txn, id) else { return Ok(()) };
    let Some(head) = Source::get(txn, &key).map_err(engine)? else { return Ok(()) };
    txn.set_aside(&key, head)?;
    txn.unmark(&keys::delivery_lease(id));
    txn.state.tally.recount = true;
    tracing::error!(delivery = %id, "the record is damaged; it was set aside and is left out of all work");
    Ok(())
}

/// How many deliveries a job has, by the index alone.
pub(super) fn counts(source: &impl Source, job: JobId) -> Result<DeliveryCounts, StoreError> {
    let mut counts = DeliveryCounts::default();
    let (mut from, to) = keys::of_job_range(job);
    loop {
        let rows = source.scan(&from, &to, SWEEP).map_err(engine)?;
        rows.iter().filter_map(|(_, state)| state_of(state)).for_each(|state| counts.add(state));
        match rows.last() {
            Some((key, _)) if rows.len() == SWEEP => from = [key, [0].as_slice()].concat(),
            _ => return Ok(counts),
        }
    }
}

fn state_of(value: &[u8]) -> Option<DeliveryState> {
    let states = [DeliveryState::Pending, DeliveryState::Succeeded, DeliveryState::Exhausted];
    states.into_iter().find(|state| value == [*state as u8])
}

/// What is remembered of a sink.
pub(super) fn sink(source: &impl Source, name: &str) -> Result<SinkState, StoreError> {
    match value::read(source, &keys::sink(name)) {
        Ok(state) => Ok(state.and_then(|state| serde_json::from_slice(&state).ok()).unwrap_or_default()),
        // It starts anew: at worst a dead sink is tried for some days more.
        Err(Fault::Damaged) => Ok(SinkState::default()),
        Err(fault) => Err(fault.of(|| format!("sink {name}"))),
    }
}

pub(super) fn put_sink(txn: &mut Txn, name: &str, state: &SinkState) -> Result<(), StoreError> {
    txn.put(&keys::sink(name), &json(state)?)
}

/// Gives back up to [`SWEEP`] claims of a process that is gone; says how many there were.
pub(super) fn release(txn: &mut Txn, now: Millis, policy: &DeliveryPolicy) -> Result<usize, StoreError> {
    let leases = txn.scan(&[keys::DELIVERY_LEASE], &[keys::DELIVERY_LEASE + 1], SWEEP).map_err(engine)?;
    for (entry, _) in &leases {
        if let Some(id) = keys::parse_id(entry).map(DeliveryId::from_bytes) {
            change(txn, id, &DeliveryEvent::Orphaned, now, policy)?;
        }
        txn.unmark(entry);
    }
    Ok(leases.len())
}

/// Makes due what only a wrong clock can have put off so far, of [`SWEEP`] entries of the index of those that wait; where
/// to go on.
pub(super) fn hasten(
    txn: &mut Txn,
    from: &[u8],
    now: Millis,
    policy: &DeliveryPolicy,
) -> Result<Option<Vec<u8>>, StoreError> {
    let beyond = now.plus(policy.longest_wait());
    let rows = txn.scan(from, &[keys::PENDING + 1], SWEEP).map_err(engine)?;
    for (key, _) in &rows {
        let Some(delivery) = keys::parse_delivery(key).map(|id| open(txn, id)).transpose()?.flatten() else {
            continue;
        };
        if delivery.due_at.is_some_and(|at| at > beyond) {
            step(txn, &delivery, &DeliveryEvent::Hastened, now, policy)?;
        }
    }
    Ok(after_sweep(&rows))
}

/// Where a sweep goes on, unless it has come to the end.
fn after_sweep(rows: &[Row]) -> Option<Vec<u8>> {
    rows.last().filter(|_| rows.len() == SWEEP).map(|(key, _)| [key, [0].as_slice()].concat())
}

/// Replays what is exhausted in one lane, of [`SWEEP`] deliveries from `from` on; how many, and where to go on.
pub(super) fn replay(
    txn: &mut Txn,
    lane: &str,
    from: &[u8],
    now: Millis,
    policy: &DeliveryPolicy,
) -> Result<(u64, Option<Vec<u8>>), StoreError> {
    let rows = txn.scan(from, &[keys::DELIVERY + 1], SWEEP).map_err(engine)?;
    let mut replayed = 0;
    for (key, _) in &rows {
        let Some(delivery) =
            keys::parse_id(key).map(|id| open(txn, DeliveryId::from_bytes(id))).transpose()?.flatten()
        else {
            continue;
        };
        if delivery.lane == lane && delivery.state == DeliveryState::Exhausted {
            replayed += u64::from(step(txn, &delivery, &DeliveryEvent::Replayed, now, policy)?.is_some());
        }
    }
    Ok((replayed, after_sweep(&rows)))
}
