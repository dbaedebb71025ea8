//! The log of what sinks were, are and will be told.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Path},
};
use serde::Serialize;

use super::{
    Context,
    fields::Params,
    jobs::cursor,
    problem::Problem,
    view::{List, time},
};
use crate::{
    lifecycle::{Answer, Attempt, Delivery, DeliveryId, DeliveryState, EventId, EventKind, JobId},
    store::DeliveryFilter,
};

#[derive(Serialize)]
struct DeliveryView {
    id: DeliveryId,
    event_id: EventId,
    #[serde(rename = "type")]
    kind: EventKind,
    /// None: it is about the server.
    job_id: Option<JobId>,
    /// The sink's name, or `notify:HOST`.
    sink: String,
    state: DeliveryState,
    /// Tries that were begun.
    attempts: u32,
    created_at: String,
    next_at: Option<String>,
    /// Why it is exhausted.
    why: Option<String>,
    /// The newest, in order.
    tries: Vec<AttemptView>,
}

/// One try.
#[derive(Serialize)]
pub(super) struct AttemptView {
    at: String,
    took_ms: u64,
    outcome: &'static str,
    code: Option<i32>,
    retry_after_ms: Option<i64>,
    detail: String,
}

impl From<Attempt> for AttemptView {
    fn from(attempt: Attempt) -> Self {
        let (outcome, retry_after_ms) = match attempt.answer {
            Answer::Delivered => ("delivered", None),
            Answer::Failed { retry_after } => ("failed", retry_after),
            Answer::Refused => ("refused", None),
            Answer::Gone => ("gone", None),
        };
        let Attempt { at, took, code, detail, .. } = attempt;
        Self { at: time(at), took_ms: took, outcome, code, retry_after_ms, detail }
    }
}

impl From<Delivery> for DeliveryView {
    fn from(delivery: Delivery) -> Self {
        Self {
            id: delivery.id,
            event_id: delivery.event_id,
            kind: delivery.kind,
            job_id: delivery.job_id,
            sink: delivery.lane,
            state: delivery.state,
            attempts: delivery.attempts,
            created_at: time(delivery.created_at),
            next_at: delivery.due_at.map(time),
            why: delivery.why,
            tries: delivery.tries.into_iter().map(AttemptView::from).collect(),
        }
    }
}

/// `GET /v1/deliveries`
pub(super) async fn list(request: HttpRequest, context: Data<Context>) -> Result<HttpResponse, Problem> {
    let mut params = Params::of(&request, &["job", "sink", "state", "limit", "cursor"]);
    let filter = DeliveryFilter {
        job: params.parse("job", "the id of a job"),
        lane: params.text("sink").map(str::to_owned),
        state: params.word("state", "pending, succeeded, exhausted"),
    };
    let limit = params.limit();
    let before = cursor(&params)?;
    params.finish()?;
    let page = context.app.store().deliveries(filter, before, limit).await?;
    let next_cursor = page.read_to.filter(|_| page.more).map(|id| DeliveryId::from_bytes(id).to_string());
    let data: Vec<DeliveryView> = page.items.into_iter().map(DeliveryView::from).collect();
    Ok(HttpResponse::Ok().json(List { data, next_cursor }))
}

/// `GET /v1/deliveries/{id}`
pub(super) async fn show(context: Data<Context>, id: Path<String>) -> Result<HttpResponse, Problem> {
    let delivery = context.app.delivery(delivery_id(&id)?).await?;
    Ok(HttpResponse::Ok().json(DeliveryView::from(delivery)))
}

/// `POST /v1/deliveries/{id}/retry`
pub(super) async fn retry(context: Data<Context>, id: Path<String>) -> Result<HttpResponse, Problem> {
    let delivery = context.app.retry_delivery(delivery_id(&id)?).await?;
    Ok(HttpResponse::Accepted().json(DeliveryView::from(delivery)))
}

fn delivery_id(text: &str) -> Result<DeliveryId, Problem> {
    text.parse().map_err(|error| Problem::not_found(format!("{error}, so there is no such delivery")))
}
