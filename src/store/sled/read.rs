//! Reads over many entries: pages of jobs, callbacks and events.

use bytes::Bytes;
use sled::{IVec, Tree};

use super::{
    callback,
    keys::{self, PendingKey},
    log::Reader,
    outbox,
    record::{self, Card},
    source::Source,
    txn::engine,
    value::{self, Fault},
};
use crate::{
    lifecycle::{CallbackId, Delivery, DeliveryId, EventRecord, Job, JobId},
    store::{
        CallbackFilter, CallbackRecord, DeliveryFilter, EventFilter, EventPage, JobFilter, Lane, LogEntry,
        Page, SinkRecord, StoreError,
    },
};

/// Entries that one call looks at; the caller goes on from there.
const LOOKED_AT: usize = 50_000;
/// Entries of the log that one call looks at.
const LOG_LOOKED_AT: usize = 5_000;

/// What is stored under a prefix, up to an id, from the last key to the first.
fn backwards(
    tree: &Tree,
    prefix: u8,
    before: Option<&[u8; 16]>,
) -> impl Iterator<Item = Result<(IVec, IVec), StoreError>> {
    let end = before.map_or(vec![prefix + 1], |before| [&[prefix], before.as_slice()].concat());
    tree.range(vec![prefix]..end).rev().map(|row| row.map_err(engine))
}

/// A page of entries, each with its id, and with what is to be shown of it unless it is to be left out.
fn page<T>(
    entries: impl Iterator<Item = Result<(Option<[u8; 16]>, Option<T>), StoreError>>,
    limit: usize,
) -> Result<Page<T>, StoreError> {
    let mut page = Page { items: Vec::new(), more: false, read_to: None };
    for (looked_at, entry) in entries.enumerate() {
        let (id, item) = entry?;
        if looked_at >= LOOKED_AT || (item.is_some() && page.items.len() == limit) {
            page.more = true;
            break;
        }
        page.items.extend(item);
        page.read_to = id;
    }
    Ok(page)
}

/// Jobs; the ids of damaged records go to `damaged`.
pub(super) fn jobs(
    tree: &Tree,
    filter: &JobFilter,
    before: Option<JobId>,
    limit: usize,
    damaged: &mut Vec<JobId>,
) -> Result<Page<Job>, StoreError> {
    let jobs = backwards(tree, keys::JOB, before.as_ref().map(JobId::as_bytes)).map(|row| {
        let (key, head) = row?;
        let id = keys::parse_id(&key);
        match job(tree, &key, &head, filter) {
            Err(Fault::Damaged) => {
                damaged.extend(id.map(JobId::from_bytes));
                Ok((id, None))
            }
            other => other.map(|job| (id, job)).map_err(|fault| fault.of(|| "a job".into())),
        }
    });
    page(jobs, limit)
}

fn job(tree: &Tree, key: &[u8], head: &IVec, filter: &JobFilter) -> Result<Option<Job>, Fault> {
    let record = match value::join(tree, key, head) {
        // Its pieces may have moved on meanwhile: read it as one.
        Err(Fault::Damaged) => match value::read(tree, key)? {
            Some(record) => record,
            None => return Ok(None),
        },
        other => other?,
    };
    let card = Card::parse(&record)?;
    let phase = record::PHASES.get(usize::from(card.phase));
    if filter.status.is_some_and(|status| status != card.status())
        || filter.phase.as_ref().is_some_and(|wanted| phase.is_none_or(|phase| phase != wanted))
    {
        return Ok(None);
    }
    let job = record::decode(&record)?;
    let document = || value::read(tree, &keys::document(job.id));
    let fits = matches(filter, &job) && (filter.q.is_none() || contains(filter, &job, document)?);
    Ok(fits.then_some(job))
}

fn matches(filter: &JobFilter, job: &Job) -> bool {
    filter.model.as_ref().is_none_or(|model| *model == job.model)
        && filter.tag.as_ref().is_none_or(|tag| job.tags.contains(tag))
        && filter.via.is_none_or(|via| job.completed_via == Some(via))
        && filter.created_after.is_none_or(|at| job.created_at >= at)
        && filter.created_before.is_none_or(|at| job.created_at < at)
}

fn contains(
    filter: &JobFilter,
    job: &Job,
    document: impl FnOnce() -> Result<Option<value::Payload>, Fault>,
) -> Result<bool, Fault> {
    let wanted = filter.q.as_deref().unwrap_or_default().to_lowercase();
    let has = |text: &str| text.to_lowercase().contains(&wanted);
    let task = job.task.as_ref().is_some_and(|task| has(&task.id.0));
    if task || has(&job.id.to_string()) || has(&job.model) {
        return Ok(true);
    }
    match document() {
        Ok(document) => Ok(document.is_some_and(|document| has(&String::from_utf8_lossy(&document)))),
        Err(Fault::Damaged) => Ok(false),
        Err(fault) => Err(fault),
    }
}

/// Entries of the inbound log.
pub(super) fn callbacks(
    tree: &Tree,
    filter: &CallbackFilter,
    before: Option<CallbackId>,
    limit: usize,
) -> Result<Page<CallbackRecord>, StoreError> {
    let pages = backwards(tree, keys::CALLBACK, before.as_ref().map(CallbackId::as_bytes)).map(|row| {
        let (key, head) = row?;
        let records = value::join(tree, &key, &head).and_then(|page| {
            Ok(callback::entries(&page)?.into_iter().map(|(record, _)| record).collect::<Vec<_>>())
        });
        readable(records, &key).map(Option::unwrap_or_default)
    });
    let records = pages.flat_map(|page| match page {
        Ok(records) => records.into_iter().rev().map(Ok).collect::<Vec<_>>(),
        Err(error) => vec![Err(error)],
    });
    let earlier = records
        .filter(|record| record.as_ref().map_or(true, |record| before.is_none_or(|end| record.id < end)));
    let wanted = |record: &CallbackRecord| {
        filter.job.is_none_or(|job| job == record.job_id)
            && filter.verdict.is_none_or(|verdict| verdict == record.verdict)
    };
    let picked = earlier.map(|record| {
        let record = record?;
        Ok((Some(*record.id.as_bytes()), Some(record).filter(wanted)))
    });
    page(picked, limit)
}

/// The entry of the inbound log that has this id, and its body.
pub(super) fn callback(tree: &Tree, id: CallbackId) -> Result<Option<(CallbackRecord, Bytes)>, StoreError> {
    let Some(row) = tree.range(vec![keys::CALLBACK]..=keys::callback(id)).next_back() else {
        return Ok(None);
    };
    let (key, head) = row.map_err(engine)?;
    let found = value::join(tree, &key, &head).and_then(|page| {
        let mut entries = callback::entries(&page)?.into_iter();
        let entry = entries.find(|(record, _)| record.id == id);
        Ok(entry.map(|(record, body)| (record, Bytes::copy_from_slice(body))))
    });
    found.map_err(|fault| fault.of(|| id.to_string()))
}

/// Deliveries. A damaged record is passed over: whoever claims it sets it aside.
pub(super) fn deliveries(
    tree: &Tree,
    filter: &DeliveryFilter,
    before: Option<DeliveryId>,
    limit: usize,
) -> Result<Page<Delivery>, StoreError> {
    let end = before.as_ref().map(DeliveryId::as_bytes);
    let picked = |id: [u8; 16], delivery: Result<Option<Delivery>, Fault>| {
        let delivery = readable(delivery, &id)?.flatten();
        Ok((Some(id), delivery.filter(|delivery| filter.takes(delivery))))
    };
    let Some(job) = filter.job else {
        let rows = backwards(tree, keys::DELIVERY, end).map(|row| {
            let (key, head) = row?;
            let delivery =
                value::join(tree, &key, &head).and_then(|record| outbox::decode(&record)).map(Some);
            picked(keys::parse_id(&key).unwrap_or_default(), delivery)
        });
        return page(rows, limit);
    };
    let (from, to) = keys::of_job_range(job);
    let to = before.map_or(to, |before| keys::of_job(job, before));
    let rows = tree.range(from..to).rev().map(|row| {
        let (key, _) = row.map_err(engine)?;
        let id = *key.last_chunk().unwrap_or(&[0; 16]);
        picked(id, outbox::read(tree, DeliveryId::from_bytes(id)))
    });
    page(rows, limit)
}

/// The lanes in which deliveries wait: one seek for each.
pub(super) fn lanes(tree: &Tree) -> Result<Vec<Lane>, StoreError> {
    let (mut lanes, mut from) = (Vec::new(), Some(vec![keys::PENDING]));
    while let Some(start) = from {
        let Some((key, _)) = tree.scan(&start, &[keys::PENDING + 1], 1).map_err(engine)?.pop() else { break };
        let Ok(key) = PendingKey::try_from(&*key) else { break };
        let (due, id) = keys::parse_pending(&key);
        from = keys::next_lane(&key);
        match outbox::read(tree, id) {
            Ok(Some(delivery)) => lanes.push(Lane { name: delivery.lane, due }),
            // It went meanwhile, and the change that took it wakes whoever looks.
            Ok(None) => {}
            Err(Fault::Damaged) => lanes.extend(beyond(tree, &key)?),
            Err(fault) => return Err(fault.of(|| id.to_string())),
        }
    }
    Ok(lanes)
}

/// A lane whose first entry leads to a damaged record, by the name that a later one gives; a claim of the lane then sets the
/// damaged one aside.
fn beyond(tree: &Tree, first: &PendingKey) -> Result<Option<Lane>, StoreError> {
    let end = keys::next_lane(first).unwrap_or_else(|| vec![keys::PENDING + 1]);
    for row in tree.range(first.to_vec()..end).take(LOOKED_AT) {
        let (key, _) = row.map_err(engine)?;
        let named = keys::parse_delivery(&key).map(|id| outbox::read(tree, id));
        if let Some(Ok(Some(delivery))) = named {
            return Ok(Some(Lane { name: delivery.lane, due: keys::parse_pending(first).0 }));
        }
    }
    Ok(None)
}

/// The sinks of which something is remembered.
pub(super) fn sinks(tree: &Tree) -> Result<Vec<SinkRecord>, StoreError> {
    let rows = tree.scan_prefix([keys::SINK]).keys();
    rows.map(|key| {
        let key = key.map_err(engine)?;
        let name = String::from_utf8_lossy(&key[1..]).into_owned();
        Ok(SinkRecord { state: outbox::sink(tree, &name)?, name })
    })
    .collect()
}

/// An entry of a log that is damaged is said and passed over.
pub(super) fn readable<T>(entry: Result<T, Fault>, key: &[u8]) -> Result<Option<T>, StoreError> {
    match entry {
        Ok(entry) => Ok(Some(entry)),
        Err(Fault::Damaged) => {
            tracing::error!(key = hex::encode(key), "an entry of a log is damaged and was passed over");
            Ok(None)
        }
        Err(fault) => Err(fault.of(|| "a log".into())),
    }
}

/// Events after `after`, up to `newest`, the durable end.
pub(super) fn events(
    tree: &Tree,
    after: u64,
    newest: u64,
    limit: usize,
    filter: &EventFilter,
) -> Result<EventPage, StoreError> {
    let mut page = EventPage { events: Vec::new(), read_to: after.max(newest), more: false };
    let Some(first) = after.checked_add(1).filter(|first| *first <= newest) else {
        page.read_to = after;
        return Ok(page);
    };
    let mut trail = filter.job.map(|job| trail(tree, job)).transpose()?;
    let (mut log, mut next) = (Reader::new(tree, newest), first);
    let (mut looked_at, mut tagged) = (0, None);
    while let Some(from) = trail.as_mut().map_or(Some(next), |trail| trail.find(|seq| *seq >= first)) {
        let Some((seq, event)) = log.from(from)? else { break };
        if trail.is_some() && seq != from {
            continue; // that one is not kept any more
        }
        if page.events.len() == limit || looked_at == LOG_LOOKED_AT {
            (page.read_to, page.more) = (seq - 1, true);
            break;
        }
        looked_at += 1;
        next = seq + 1;
        if wanted(tree, filter, &event, &mut tagged)? {
            page.events.push(LogEntry { seq, event });
        }
    }
    Ok(page)
}

/// The numbers of a job's events; none of one that is gone or cannot be read.
fn trail(tree: &Tree, job: JobId) -> Result<std::vec::IntoIter<u64>, StoreError> {
    let trail = match record::read_trail(tree, job) {
        Err(Fault::Damaged) => None,
        trail => trail.map_err(|fault| fault.of(|| job.to_string()))?,
    };
    Ok(trail.unwrap_or_default().events.into_iter())
}

/// Whether the filter takes the event. `tagged` remembers the last job that was looked up for its tags.
fn wanted(
    tree: &Tree,
    filter: &EventFilter,
    event: &EventRecord,
    tagged: &mut Option<(JobId, bool)>,
) -> Result<bool, StoreError> {
    if !filter.kinds.is_empty() && !filter.kinds.contains(&event.kind) {
        return Ok(false);
    }
    let Some(tag) = &filter.tag else { return Ok(true) };
    let Some(id) = event.job_id else { return Ok(false) };
    if let Some((_, has)) = tagged.filter(|(job, _)| *job == id) {
        return Ok(has);
    }
    let has = match record::read(tree, id) {
        Ok(job) => job.is_some_and(|job| job.tags.contains(tag)),
        Err(Fault::Damaged) => false,
        Err(fault) => return Err(fault.of(|| id.to_string())),
    };
    *tagged = Some((id, has));
    Ok(has)
}

/// Number of the oldest event kept.
pub(super) fn oldest(tree: &Tree) -> Result<Option<u64>, StoreError> {
    let first = tree.scan(&[keys::EVENT], &[keys::EVENT + 1], 1).map_err(engine)?;
    Ok(first.first().and_then(|(key, _)| keys::parse_seq(key)))
}
