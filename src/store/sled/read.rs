//! Reads over many entries: pages of jobs, callbacks and events.

use sled::{IVec, Tree};

use super::{
    callback, keys,
    log::Reader,
    record::{self, Card},
    source::Source,
    txn::engine,
    value::{self, Fault},
};
use crate::{
    lifecycle::{CallbackId, EventRecord, Job, JobId},
    store::{CallbackFilter, CallbackRecord, EventFilter, EventPage, JobFilter, LogEntry, Page, StoreError},
};

/// Entries that one call looks at; the caller goes on from there.
const LOOKED_AT: usize = 50_000;
/// Entries of the log that one call looks at.
const LOG_LOOKED_AT: usize = 5_000;

/// A page of entries with this prefix, newest first, of those that `pick` takes.
fn newest_first<T>(
    tree: &Tree,
    prefix: u8,
    before: Option<&[u8; 16]>,
    limit: usize,
    mut pick: impl FnMut(&IVec, &IVec) -> Result<Option<T>, StoreError>,
) -> Result<Page<T>, StoreError> {
    let end = before.map_or(vec![prefix + 1], |before| [&[prefix], before.as_slice()].concat());
    let mut page = Page { items: Vec::new(), more: false, read_to: None };
    for (looked_at, row) in tree.range(vec![prefix]..end).rev().enumerate() {
        let (key, value) = row.map_err(engine)?;
        if looked_at >= LOOKED_AT {
            page.more = true;
            break;
        }
        if let Some(item) = pick(&key, &value)? {
            if page.items.len() == limit {
                page.more = true;
                break;
            }
            page.items.push(item);
        }
        page.read_to = keys::parse_id(&key);
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
    newest_first(tree, keys::JOB, before.as_ref().map(JobId::as_bytes), limit, |key, head| {
        match job(tree, key, head, filter) {
            Err(Fault::Damaged) => {
                damaged.extend(keys::parse_id(key).map(JobId::from_bytes));
                Ok(None)
            }
            other => other.map_err(|fault| fault.of(|| "a job".into())),
        }
    })
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
    newest_first(tree, keys::CALLBACK, before.as_ref().map(CallbackId::as_bytes), limit, |key, head| {
        let entry =
            value::join(tree, key, head).and_then(|entry| callback::parse(&entry).map(|(record, _)| record));
        let entry = readable(entry, key)?;
        Ok(entry.filter(|entry| {
            filter.job.is_none_or(|job| job == entry.job_id)
                && filter.verdict.is_none_or(|verdict| verdict == entry.verdict)
        }))
    })
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
    if let Some((_, has)) = tagged.filter(|(job, _)| *job == event.job_id) {
        return Ok(has);
    }
    let has = match record::read(tree, event.job_id) {
        Ok(job) => job.is_some_and(|job| job.tags.contains(tag)),
        Err(Fault::Damaged) => false,
        Err(fault) => return Err(fault.of(|| event.job_id.to_string())),
    };
    *tagged = Some((event.job_id, has));
    Ok(has)
}

/// Number of the oldest event kept.
pub(super) fn oldest(tree: &Tree) -> Result<Option<u64>, StoreError> {
    let first = tree.scan(&[keys::EVENT], &[keys::EVENT + 1], 1).map_err(engine)?;
    Ok(first.first().and_then(|(key, _)| keys::parse_seq(key)))
}
