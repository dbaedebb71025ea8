//! What the outside sees of the records.

use std::num::NonZeroU64;

use actix_web::{
    HttpResponse,
    http::{
        StatusCode,
        header::{self, ETag, EntityTag},
    },
};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Context, problem::Problem};
use crate::{
    app::{self, AppError, Document, remarks},
    lifecycle::{EventId, EventKind, FailCode, Job, JobId, Millis, Outcome, Phase, Status, Via},
    provider::models::usd,
    store::LogEntry,
};

/// RFC 3339 in UTC with milliseconds.
pub(super) fn time(at: Millis) -> String {
    let at =
        Timestamp::from_millisecond(at.0).unwrap_or(if at.0 < 0 { Timestamp::MIN } else { Timestamp::MAX });
    format!("{at:.3}")
}

fn time_of(at: Option<Millis>) -> Option<String> {
    at.map(time)
}

/// A page of a list.
#[derive(Serialize)]
pub(super) struct List<T> {
    pub(super) data: Vec<T>,
    /// Continue here; none at the end.
    pub(super) next_cursor: Option<String>,
}

/// A job.
#[derive(Serialize)]
pub(super) struct JobView {
    id: JobId,
    revision: u64,
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
    deliveries: DeliveriesView,
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
#[derive(Serialize)]
struct AttemptsView {
    submit: u32,
    ask: u32,
    fetch: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct ProgressView {
    percent: Option<u8>,
    bytes_done: u64,
    bytes_total: Option<u64>,
}

#[derive(Serialize)]
struct FileView {
    name: String,
    location: String,
    url: String,
    bytes: u64,
    sha256: String,
    content_type: String,
}

#[derive(Serialize)]
struct CostView {
    estimated_credits: u64,
    estimated_usd: f64,
    exact: bool,
    reported_credits: Option<u64>,
}

#[derive(Serialize)]
struct ErrorView {
    code: FailCode,
    message: String,
}

#[derive(Serialize)]
struct CallbackView {
    expected: bool,
    received: u32,
    first_at: Option<String>,
}

/// Nobody is told in this version, so nothing is owed.
#[derive(Default, Serialize)]
struct DeliveriesView {
    total: u32,
    succeeded: u32,
    pending: u32,
    exhausted: u32,
}

impl JobView {
    fn new(job: Job, document: Document, context: &Context) -> Self {
        let error = match job.outcome() {
            Some(Outcome::Failed { code, message, .. }) => {
                Some(ErrorView { code: *code, message: message.clone() })
            }
            _ => None,
        };
        let pause = context.app.pause().map(|pause| pause.why);
        Self {
            notices: remarks(&job, pause.as_deref()),
            status: job.status(),
            phase: job.phase_name(),
            progress: progress(&job, context),
            files: job.files().map(|file| file_view(&job, file, context)).collect(),
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
            deliveries: DeliveriesView::default(),
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

fn file_view(job: &Job, file: &crate::lifecycle::StoredFile, context: &Context) -> FileView {
    FileView {
        name: file.name.clone(),
        location: file.location.clone(),
        url: context.app.media_url(job.id, &file.name).into(),
        bytes: file.bytes,
        sha256: file.sha256.clone(),
        content_type: file.content_type.clone(),
    }
}

/// How far a job is: by the download once there is one, before that by what the upstream said.
pub(super) fn progress(job: &Job, context: &Context) -> ProgressView {
    let stored: u64 = job.files().map(|file| file.bytes).sum();
    if matches!(job.outcome(), Some(Outcome::Stored { .. })) {
        return ProgressView { percent: Some(100), bytes_done: stored, bytes_total: Some(stored) };
    }
    let live = context.app.progress(job.id).unwrap_or(app::Progress { done: stored, total: None });
    let percent = match job.phase {
        // The upstream is done, the download is not.
        Phase::Fetching { .. } => live.total.and_then(|total| percent(live.done, total)),
        _ => job.progress,
    };
    ProgressView { percent, bytes_done: live.done, bytes_total: live.total }
}

impl From<app::Progress> for ProgressView {
    fn from(app::Progress { done, total }: app::Progress) -> Self {
        let percent = total.and_then(|total| percent(done, total));
        Self { percent, bytes_done: done, bytes_total: total }
    }
}

fn percent(done: u64, total: u64) -> Option<u8> {
    let percent = u128::from(done) * 100 / u128::from(NonZeroU64::new(total)?.get());
    Some(u8::try_from(percent).unwrap_or(100).min(100))
}

/// The job with its request.
pub(super) async fn view(job: Job, context: &Context) -> Result<JobView, Problem> {
    let document = document(job.id, context).await?;
    Ok(JobView::new(job, document, context))
}

/// The request of a job. One that follows another by itself has none of its own.
pub(super) async fn document(id: JobId, context: &Context) -> Result<Document, Problem> {
    match context.app.document(id).await {
        Err(AppError::NotFound(_)) => Ok(Document::default()),
        read => Ok(read?),
    }
}

/// The job as the whole answer, with its revision as ETag.
pub(super) async fn answer(job: Job, status: StatusCode, context: &Context) -> Result<HttpResponse, Problem> {
    Ok(whole(&view(job, context).await?, status))
}

fn whole(view: &JobView, status: StatusCode) -> HttpResponse {
    HttpResponse::build(status).insert_header(ETag(etag(view.revision))).json(view)
}

/// The job as the answer to whoever made it.
pub(super) async fn created(
    job: Job,
    document: Option<Document>,
    replayed: bool,
    status: StatusCode,
    context: &Context,
) -> Result<HttpResponse, Problem> {
    let location = format!("{}/v1/jobs/{}", context.base_path(), job.id);
    let view = match document {
        Some(document) => JobView::new(job, document, context),
        None => view(job, context).await?,
    };
    let mut answer = whole(&view, status);
    if let Ok(location) = location.try_into() {
        answer.headers_mut().insert(header::LOCATION, location);
    }
    if replayed {
        let name = header::HeaderName::from_static("idempotent-replayed");
        answer.headers_mut().insert(name, header::HeaderValue::from_static("true"));
    }
    Ok(answer)
}

/// A strong validator: each change of a job is a new revision.
pub(super) fn etag(revision: u64) -> EntityTag {
    EntityTag::new_strong(revision.to_string())
}

/// An entry of the event log.
#[derive(Serialize)]
pub(super) struct EventView {
    pub(super) seq: u64,
    id: EventId,
    #[serde(rename = "type")]
    pub(super) kind: EventKind,
    time: String,
    job_id: JobId,
    revision: u64,
    data: Value,
}

impl From<LogEntry> for EventView {
    fn from(LogEntry { seq, event }: LogEntry) -> Self {
        Self {
            seq,
            id: event.id,
            kind: event.kind,
            time: time(event.time),
            job_id: event.job_id,
            revision: event.revision,
            data: event.data,
        }
    }
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
