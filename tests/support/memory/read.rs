//! Lists and the event log.

use reelhook::{
    lifecycle::{CallbackId, Job, JobId},
    store::{CallbackFilter, CallbackRecord, EventFilter, EventPage, JobFilter, LogEntry, Page},
};

use super::tables::{Row, Tables};

/// A page of what `pick` takes of `rows`, which come newest first.
pub(crate) fn page<'a, V: 'a, T>(
    rows: impl Iterator<Item = ([u8; 16], &'a V)>,
    limit: usize,
    pick: impl Fn(&V) -> Option<T>,
) -> Page<T> {
    let mut page = Page { items: Vec::new(), more: false, read_to: None };
    for (id, value) in rows {
        if let Some(item) = pick(value) {
            if page.items.len() == limit {
                page.more = true;
                break;
            }
            page.items.push(item);
        }
        page.read_to = Some(id);
    }
    page
}

pub(crate) fn jobs(tables: &Tables, filter: &JobFilter, before: Option<JobId>, limit: usize) -> Page<Job> {
    let older = tables.jobs.iter().rev().filter(|(id, _)| before.is_none_or(|before| **id < before));
    let rows = older.map(|(id, row)| (*id.as_bytes(), row));
    page(rows, limit, |row| fits(filter, row).then(|| row.job.clone()))
}

fn fits(filter: &JobFilter, row: &Row) -> bool {
    let Row { job, document, .. } = row;
    let wanted = filter.q.as_deref().unwrap_or_default().to_lowercase();
    let text = String::from_utf8_lossy(document.as_deref().unwrap_or_default()).into_owned();
    let task = job.task.as_ref().map(|task| task.id.0.clone()).unwrap_or_default();
    let contains = [job.id.to_string(), job.model.clone(), task, text]
        .iter()
        .any(|part| part.to_lowercase().contains(&wanted));
    contains
        && filter.status.is_none_or(|status| status == job.status())
        && filter.phase.as_ref().is_none_or(|phase| phase == job.phase_name())
        && filter.model.as_ref().is_none_or(|model| *model == job.model)
        && filter.tag.as_ref().is_none_or(|tag| job.tags.contains(tag))
        && filter.via.is_none_or(|via| job.completed_via == Some(via))
        && filter.created_after.is_none_or(|at| job.created_at >= at)
        && filter.created_before.is_none_or(|at| job.created_at < at)
}

pub(crate) fn callbacks(
    tables: &Tables,
    filter: &CallbackFilter,
    before: Option<CallbackId>,
    limit: usize,
) -> Page<CallbackRecord> {
    let older = tables.callbacks.iter().rev();
    let older = older.filter(|(id, _)| before.is_none_or(|before| **id < *before.as_bytes()));
    page(older.map(|(id, entry)| (*id, entry)), limit, |entry| {
        let fits = filter.job.is_none_or(|job| job == entry.0.job_id)
            && filter.verdict.is_none_or(|verdict| verdict == entry.0.verdict);
        fits.then(|| entry.0.clone())
    })
}

pub(crate) fn events(
    tables: &Tables,
    after: u64,
    newest: u64,
    limit: usize,
    filter: &EventFilter,
) -> EventPage {
    let mut page = EventPage { events: Vec::new(), read_to: after.max(newest), more: false };
    if after >= newest {
        return page;
    }
    let tagged = |job: JobId, tag: &String| tables.job(job).is_some_and(|job| job.tags.contains(tag));
    for (seq, event) in tables.events.range(after + 1..=newest) {
        let wanted = (filter.kinds.is_empty() || filter.kinds.contains(&event.kind))
            && filter.job.is_none_or(|job| event.job_id == Some(job))
            && filter.tag.as_ref().is_none_or(|tag| event.job_id.is_some_and(|job| tagged(job, tag)));
        if !wanted {
            continue;
        }
        if page.events.len() == limit {
            (page.read_to, page.more) = (seq - 1, true);
            break;
        }
        page.events.push(LogEntry { seq: *seq, event: (**event).clone() });
    }
    page
}
