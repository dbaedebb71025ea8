//! What the outside sees of the records.

use actix_web::{
    HttpResponse,
    http::{
        StatusCode,
        header::{self, ETag, EntityTag},
    },
};
use serde::Serialize;
use serde_json::Value;

use super::{Context, problem::Problem};
pub(super) use crate::app::{JobView, ProgressView, time};
use crate::{
    app::{AppError, Document, Fresh},
    lifecycle::{EventId, EventKind, Job, JobId},
    store::LogEntry,
};

/// The revision in which a job is created.
const FIRST: u64 = 1;

/// A page of a list.
#[derive(Serialize)]
pub(super) struct List<T> {
    pub(super) data: Vec<T>,
    /// Continue here; none at the end.
    pub(super) next_cursor: Option<String>,
}

/// The job with its request.
pub(super) async fn view(job: Job, context: &Context) -> Result<JobView, Problem> {
    let document = document(job.id, context).await?;
    let deliveries = context.app.store().delivery_counts(job.id).await?;
    Ok(JobView::new(job, document, deliveries, context.app.viewer()))
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
    fresh: Option<Fresh>,
    replayed: bool,
    status: StatusCode,
    context: &Context,
) -> Result<HttpResponse, Problem> {
    let location = format!("{}/v1/jobs/{}", context.base_path(), job.id);
    let view = match fresh.filter(|_| job.revision == FIRST) {
        Some(Fresh { document, deliveries }) => JobView::new(job, document, deliveries, context.app.viewer()),
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
    job_id: Option<JobId>,
    revision: Option<u64>,
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
