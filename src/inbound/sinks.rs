//! Who is told: how each sink fares, a test of one, and the way back after it was disabled.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use serde::Serialize;
use serde_json::json;

use super::{
    Context,
    body::Json,
    deliveries::AttemptView,
    fields::Members,
    problem::Problem,
    view::{List, time},
};
use crate::{
    config::{Format, Target},
    doctor::{self, Tested},
    lifecycle::{EventKind, Millis},
};

#[derive(Serialize)]
struct SinkView {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    format: &'static str,
    events: Vec<EventKind>,
    failing_since: Option<String>,
    disabled_at: Option<String>,
    /// Why it is disabled.
    why: Option<String>,
}

/// `GET /v1/sinks`
pub(super) async fn list(context: Data<Context>) -> Result<HttpResponse, Problem> {
    let config = context.app.config();
    let shown = context.app.sinks().await?.into_iter().filter_map(|record| {
        let sink = config.sinks.get(&record.name)?;
        Some(SinkView {
            kind: kind(&sink.target),
            format: match sink.format {
                Format::Standard => "standard",
                Format::CloudEvents => "cloudevents",
            },
            events: sink.events.clone(),
            failing_since: record.state.failing_since.map(time),
            disabled_at: record.state.disabled_at.map(time),
            why: record.state.why,
            name: record.name,
        })
    });
    let data: Vec<SinkView> = shown.collect();
    Ok(HttpResponse::Ok().json(List { data, next_cursor: None }))
}

/// `GET /v1/sinks/secret`: what verifies the events for whoever has no secret of its own.
pub(super) async fn secret(context: Data<Context>) -> Result<HttpResponse, Problem> {
    let secret = context.app.delivery_secret().await?;
    Ok(HttpResponse::Ok().json(json!({ "secret": secret.expose_secret() })))
}

/// Its name in the configuration. Where it leads is the operator's, not every reader's.
const fn kind(target: &Target) -> &'static str {
    match target {
        Target::Webhook { .. } => "webhook",
        Target::Exec { .. } => "exec",
        Target::Nats { .. } => "nats",
        Target::Stdout => "stdout",
    }
}

/// `POST /v1/sinks/{name}/test`: sends a ping, or a sample of the event that `type` names, at once, also to a disabled sink
/// and one that does not want it, and tells what came of it. Nothing of it is kept.
pub(super) async fn test(
    context: Data<Context>,
    name: Path<String>,
    body: Json,
) -> Result<HttpResponse, Problem> {
    let mut members = Members::of(body.0, &["type"], "")?;
    let kind = members.text("type").map(|text| serde_json::from_value::<EventKind>(text.into()));
    if matches!(kind, Some(Err(_))) {
        members.wrong("type", "not_one_of", "type must be that of an event, such as job.succeeded");
    }
    members.finish().map_err(Problem::invalid)?;
    let kind = kind.and_then(Result::ok).unwrap_or(EventKind::Ping);
    let tested = doctor::test(&context.app, &context.sinks.get(), &name, kind).await?;
    let Tested { kind, event_id, attempt } = tested;
    let attempt = AttemptView::from(attempt);
    Ok(HttpResponse::Ok().json(json!({ "type": kind, "event_id": event_id, "attempt": attempt })))
}

/// `POST /v1/sinks/{name}/recover`
pub(super) async fn recover(
    context: Data<Context>,
    name: Path<String>,
    body: Json,
) -> Result<HttpResponse, Problem> {
    let mut members = Members::of(body.0, &["since"], "")?;
    let since = members.text("since").and_then(|text| text.parse::<Timestamp>().ok());
    if since.is_none() {
        members.wrong("since", "required", "since must be a time such as 2026-11-30T12:00:00Z");
    }
    members.finish().map_err(Problem::invalid)?;
    let since = Millis(since.unwrap_or_default().as_millisecond());
    let replayed = context.app.recover_sink(&name, since).await?;
    Ok(HttpResponse::Ok().json(json!({ "sink": *name, "replayed": replayed })))
}
