//! The event log: of everything, or of one job; as JSON, or live.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Path},
};

use super::{
    Context,
    fields::Params,
    jobs::{invalid_cursor, job_id},
    problem::Problem,
    stream::Follower,
    view::{EventView, List},
};
use crate::{
    lifecycle::EventKind,
    store::{EventFilter, LogEntry},
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
    let fits = after.is_none_or(|after| after <= bounds.newest && after + 1 >= bounds.oldest);
    let follower = if fits { follower } else { follower.reset(bounds.oldest, bounds.newest) };
    Ok(follower.respond(&request))
}

/// `GET /v1/jobs/{id}/events`
pub(super) async fn of_job(
    request: HttpRequest,
    context: Data<Context>,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let mut params = Params::of(&request, &["after", "limit"]);
    let limit = params.limit();
    let after = position(&request, &params)?.unwrap_or(0);
    params.finish()?;
    let id = context.app.get(job_id(&id)?).await?.id;
    if wants_stream(&request) {
        return Ok(Follower::of_job(context, id, after).respond(&request));
    }
    let filter = EventFilter { job: Some(id), ..EventFilter::default() };
    page(&context, after, limit, filter).await
}

async fn page(
    context: &Context,
    after: u64,
    limit: usize,
    filter: EventFilter,
) -> Result<HttpResponse, Problem> {
    let mut found: Vec<LogEntry> = Vec::new();
    let (mut read_to, mut more) = (after, true);
    // What is filtered out does not count.
    while more && found.len() < limit {
        let page = context.app.store().events(read_to, limit - found.len(), filter.clone()).await?;
        found.extend(page.events);
        (read_to, more) = (page.read_to, page.more);
    }
    let next_cursor = more.then(|| read_to.to_string());
    let data: Vec<EventView> = found.into_iter().map(EventView::from).collect();
    Ok(HttpResponse::Ok().json(List { data, next_cursor }))
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
