//! What the outside sees of a job.

use std::{num::NonZeroU64, sync::Arc};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    create::Document,
    links::Links,
    live::{Live, Progress},
    remarks,
};
use crate::{
    lifecycle::{FailCode, Job, JobId, Millis, Outcome, Phase, Status, StoredFile, Via},
    provider::models::usd,
    store::DeliveryCounts,
};

/// What a view of a job takes that is not in its record.
#[derive(Clone)]
pub struct Viewer {
    pub(super) links: Links,
    pub(super) live: Arc<Live>,
}

/// RFC 3339 in UTC with milliseconds.
#[must_use]
pub fn time(at: Millis) -> String {
    let at =
        Timestamp::from_millisecond(at.0).unwrap_or(if at.0 < 0 { Timestamp::MIN } else { Timestamp::MAX });
    format!("{at:.3}")
}

fn time_of(at: Option<Millis>) -> Option<String> {
    at.map(time)
}

/// A job, as the API and every sink are shown it.
#[derive(Debug, Serialize)]
pub struct JobView {
    id: JobId,
    /// Rises with each change.
    pub revision: u64,
    status: Status,
    phase: &'static str,
    model: String,
    input: Map<String, Value>,
    task_id: Option<String>,
    completed_via: Option<Via>,
    progress: ProgressView,
    files: Vec<FileView>,
    cost: CostView,
    error: Option<ErrorView>,
    callback: CallbackView,
    attempts: AttemptsView,
    deliveries: DeliveryCounts,
    tags: Vec<String>,
    metadata: Map<String, Value>,
    retry_of: Option<JobId>,
    notices: Vec<String>,
    created_at: String,
    submitted_at: Option<String>,
    accepted_at: Option<String>,
    confirmed_at: Option<String>,
    stored_at: Option<String>,
    finished_at: Option<String>,
    expires_at: Option<String>,
}

/// All of them, noughts too: unlike the record, an answer has always the same members.
#[derive(Debug, Serialize)]
struct AttemptsView {
    submit: u32,
    ask: u32,
    fetch: u32,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ProgressView {
    percent: Option<u8>,
    bytes_done: u64,
    bytes_total: Option<u64>,
}

#[derive(Debug, Serialize)]
struct FileView {
    name: String,
    location: String,
    url: String,
    bytes: u64,
    sha256: String,
    content_type: String,
    /// It is not in storage any more since then.
    removed_at: Option<String>,
}

#[derive(Debug, Serialize)]
struct CostView {
    estimated_credits: u64,
    estimated_usd: f64,
    exact: bool,
    reported_credits: Option<u64>,
}

#[derive(Debug, Serialize)]
struct ErrorView {
    code: FailCode,
    message: String,
}

#[derive(Debug, Serialize)]
struct CallbackView {
    expected: bool,
    received: u32,
    first_at: Option<String>,
}

impl JobView {
    /// The job with its request and the counts of its deliveries.
    #[must_use]
    pub fn new(job: Job, document: Document, deliveries: DeliveryCounts, viewer: &Viewer) -> Self {
        let error = match job.outcome() {
            Some(Outcome::Failed { code, message, .. }) => {
                Some(ErrorView { code: *code, message: message.clone() })
            }
            _ => None,
        };
        let pause = viewer.live.pause().map(|pause| pause.why);
        Self {
            notices: remarks(&job, pause.as_deref()),
            status: job.status(),
            phase: job.phase_name(),
            progress: progress(&job, viewer),
            files: job.files().map(|file| file_view(&job, file, viewer)).collect(),
            error,
            id: job.id,
            revision: job.revision,
            model: job.model,
            input: document.input,
            task_id: job.task.map(|task| task.id.0),
            completed_via: job.completed_via,
            cost: CostView {
                estimated_credits: job.cost.estimated_credits,
                estimated_usd: usd(job.cost.estimated_credits),
                exact: job.cost.exact,
                reported_credits: job.cost.reported_credits,
            },
            callback: CallbackView {
                expected: job.callback.expected,
                received: job.callback.received,
                first_at: time_of(job.callback.first_at),
            },
            attempts: AttemptsView {
                submit: job.attempts.submit,
                ask: job.attempts.ask,
                fetch: job.attempts.fetch,
            },
            deliveries,
            tags: job.tags,
            metadata: document.metadata,
            retry_of: job.retry_of,
            created_at: time(job.created_at),
            submitted_at: time_of(job.times.submitted_at),
            accepted_at: time_of(job.times.accepted_at),
            confirmed_at: time_of(job.times.confirmed_at),
            stored_at: time_of(job.times.stored_at),
            finished_at: time_of(job.times.finished_at),
            expires_at: time_of(job.deadline),
        }
    }
}

fn file_view(job: &Job, file: &StoredFile, viewer: &Viewer) -> FileView {
    FileView {
        name: file.name.clone(),
        location: file.location.clone(),
        url: viewer.links.media_url(job.id, &file.name).into(),
        bytes: file.bytes,
        sha256: file.sha256.clone(),
        content_type: file.content_type.clone(),
        removed_at: time_of(job.files_removed_at),
    }
}

/// How far a job is: by the download once there is one, before that by what the upstream said.
#[must_use]
pub fn progress(job: &Job, viewer: &Viewer) -> ProgressView {
    let stored: u64 = job.files().map(|file| file.bytes).sum();
    if matches!(job.outcome(), Some(Outcome::Stored { .. })) {
        return ProgressView { percent: Some(100), bytes_done: stored, bytes_total: Some(stored) };
    }
    let live = viewer.live.progress(job.id).unwrap_or(Progress { done: stored, total: None });
    let percent = match job.phase {
        // The upstream is done, the download is not.
        Phase::Fetching { .. } => live.total.and_then(|total| percent(live.done, total)),
        _ => job.progress,
    };
    ProgressView { percent, bytes_done: live.done, bytes_total: live.total }
}

impl From<Progress> for ProgressView {
    fn from(Progress { done, total }: Progress) -> Self {
        let percent = total.and_then(|total| percent(done, total));
        Self { percent, bytes_done: done, bytes_total: total }
    }
}

fn percent(done: u64, total: u64) -> Option<u8> {
    let percent = u128::from(done) * 100 / u128::from(NonZeroU64::new(total)?.get());
    Some(u8::try_from(percent).unwrap_or(100).min(100))
}

#[cfg(test)]
mod tests {
    use super::percent;

    #[test]
    fn a_download_is_told_in_whole_percent_and_of_unknown_length_in_none() {
        assert_eq!(percent(0, 0), None);
        assert_eq!([percent(0, 3), percent(2, 3), percent(3, 3)], [Some(0), Some(66), Some(100)]);
        assert_eq!([percent(9, 3), percent(u64::MAX, u64::MAX)], [Some(100), Some(100)]);
    }
}
