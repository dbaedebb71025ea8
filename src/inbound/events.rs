//! The event log: of everything, or of one job; as JSON, or live.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Path},
};
use serde::Serialize;

use super::{
    Context,
    fields::Params,
    jobs::{invalid_cursor, job_id},
    problem::Problem,
    stream::Follower,
    view::EventView,
};
use crate::{
    lifecycle::EventKind,
    store::{EventFilter, EventPage},
};

/// `GET /v1/events`
pub(super) async fn all(request: HttpRequest, context: Data<Context>) -> Result<HttpResponse, Problem> {
    let mut params = Params::of(&request, &["after", "limit", "types", "job", "tag"]);
    let kinds = params.read("types", "names of events such as job.succeeded, separated by commas", |text| {
        text.split(',')
            .map(|name| serde_json::from_value(name.trim().into()).ok())
            .collect::<Option<Vec<EventKind>>>()
    });
    let filter = EventFilter {
        kinds: kinds.unwrap_or_default(),
        job: params.parse("job", "the id of a job"),
        tag: params.text("tag").map(str::to_owned),
    };
    let limit = params.limit();
    let after = position(&request, &params)?;
    params.finish()?;
    if !wants_stream(&request) {
        return page(&context, after.unwrap_or(0), limit, filter).await;
    }
    let bounds = context.app.store().bounds().await?;
    // Who names no place wants to hear what happens from now on.
    let follower = Follower::new(context, filter, after.unwrap_or(bounds.newest));
    Ok(follower.within(bounds).respond())
}

/// `GET /v1/jobs/{id}/events`
pub(super) async fn of_job(
    request: HttpRequest,
    context: Data<Context>,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let mut params = Params::of(&request, &["after", "limit"]);
    let limit = params.limit();
    let after = position(&request, &params)?;
    params.finish()?;
    let job = context.app.get(job_id(&id)?).await?;
    if !wants_stream(&request) {
        let filter = EventFilter { job: Some(job.id), ..EventFilter::default() };
        return page(&context, after.unwrap_or(0), limit, filter).await;
    }
    let follower = Follower::of_job(context.clone(), &job, after.unwrap_or(0)).await?;
    if after.is_none() {
        return Ok(follower.respond());
    }
    let follower = follower.within(context.app.store().bounds().await?);
    // By this a browser knows not to come back.
    Ok(if follower.is_finished().await? { HttpResponse::NoContent().finish() } else { follower.respond() })
}

/// A page of the log.
#[derive(Serialize)]
struct LogPage {
    data: Vec<EventView>,
    /// Continue after this; none when everything was read.
    next_cursor: Option<String>,
    /// The last event that was looked at, whether the filter let it through or not: `after` for whoever comes back later.
    read_to: u64,
}

/// One read of the log, which looks at a bounded number of events: a filter that lets few through gives short pages.
async fn page(
    context: &Context,
    after: u64,
    limit: usize,
    filter: EventFilter,
) -> Result<HttpResponse, Problem> {
    let EventPage { events, read_to, more } = context.app.store().events(after, limit, filter).await?;
    let next_cursor = more.then(|| read_to.to_string());
    let data = events.into_iter().map(EventView::from).collect();
    Ok(HttpResponse::Ok().json(LogPage { data, next_cursor, read_to }))
}

/// After which event to begin. A browser that connects again sends the header, and it is the newer word.
fn position(request: &HttpRequest, params: &Params) -> Result<Option<u64>, Problem> {
    let header = request.headers().get("last-event-id").map(|value| value.to_str().unwrap_or("?"));
    let (name, text) = match header.filter(|text| !text.is_empty()) {
        Some(text) => ("Last-Event-ID", Some(text)),
        None => ("after", params.text("after")),
    };
    text.map(|text| text.parse().map_err(|_| invalid_cursor(name))).transpose()
}

fn wants_stream(request: &HttpRequest) -> bool {
    let accept =
        request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.split(',').any(|range| range.split(';').next().unwrap_or_default().trim() == "text/event-stream")
}
