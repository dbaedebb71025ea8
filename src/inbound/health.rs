//! For whoever watches the process: alive and ready.

use std::sync::atomic::Ordering;

use actix_web::{HttpRequest, HttpResponse, web::Data};
use serde_json::{Value, json};

use super::{Context, fields::Params, problem::Problem, view::time};
use crate::{
    disk::Report,
    doctor::Verdict,
    outbound::archive::State,
    store::{SinkRecord, sled::backup},
};

/// `GET /livez`: the process answers.
pub(super) async fn live() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "alive" }))
}

/// `GET /readyz`: the store is open and both listeners serve. Never depends on anybody outside; `?verbose` tells of them.
pub(super) async fn ready(request: HttpRequest, context: Data<Context>) -> Result<HttpResponse, Problem> {
    let params = Params::of(&request, &["verbose"]);
    let is_verbose = params.flag("verbose");
    params.finish()?;
    let store_is_open = context.app.store().counts().await.is_ok();
    let is_ready = store_is_open && context.ready.load(Ordering::Acquire) && !context.stop.is_cancelled();
    let mut body = json!({ "status": if is_ready { "ready" } else { "not_ready" } });
    if is_verbose {
        body["checks"] = checks(&context, store_is_open).await;
    }
    let mut answer = if is_ready { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    Ok(answer.json(body))
}

async fn checks(context: &Context, store_is_open: bool) -> Value {
    let mut store = context.app.store().disk().map_or_else(|| json!({}), |report| disk(&report));
    store["open"] = store_is_open.into();
    let pause = context.app.pause();
    let written = disk(&context.archive.disk());
    // Files go to the archive's own disk, or wait on another for their upload into a bucket.
    let (archive, spool) = match context.archive.bucket() {
        None => (written, None),
        Some(state) => (bucket(&state), Some(written)),
    };
    let mut checks = json!({
        "upstream": {
            "submitting": pause.is_none(),
            "refusals": pause.as_ref().map_or(0, |pause| pause.refusals),
            "why": pause.map(|pause| pause.why),
            "clock_ahead_ms": context.doctor.clock_skew(),
        },
        "store": store,
        "stopping": context.stop.is_cancelled(),
        "archive": archive,
        "backup": context.backup.as_ref().map(|backup| backup_of_store(&backup.report())),
        "callbacks": {
            "expected": context.app.config().callback.public_url.is_some(),
            "silent": context.app.callbacks_are_silent(),
        },
        "sinks": sinks(context).await,
        "doctor": context.doctor.last().map(|report| json!({
            "at": time(report.at),
            "warnings": report.count(Verdict::Warning),
            "failed": report.count(Verdict::Failed),
        })),
    });
    if let Some(spool) = spool {
        checks["spool"] = spool;
    }
    checks
}

/// As it was when it was last looked at: nobody waits for it here.
fn bucket(state: &State) -> Value {
    match state {
        State::Unknown => json!({ "answers": null, "why": null }),
        State::Answers => json!({ "answers": true, "why": null }),
        State::Troubled(why) => json!({ "answers": false, "why": why.to_string() }),
    }
}

fn backup_of_store(report: &backup::Report) -> Value {
    let backup::Report { behind, whole, trouble } = report;
    json!({ "behind_seconds": behind.as_secs(), "whole": whole, "why": trouble })
}

/// Counts only: their names are not everybody's.
async fn sinks(context: &Context) -> Value {
    let disabled = |record: &SinkRecord| record.state.disabled_at.is_some();
    let records = context.app.sinks().await.unwrap_or_default();
    json!({ "configured": records.len(), "disabled": records.iter().filter(|record| disabled(record)).count() })
}

fn disk(report: &Report) -> Value {
    let Report { free, min_free, no_new_work, no_writes, .. } = report;
    json!({
        "free_bytes": free,
        "min_free_bytes": min_free,
        "roomy": no_new_work.is_none(),
        "refuses": refuses(report),
        "why": no_writes.or(*no_new_work).map(|trouble| trouble.to_string()),
    })
}

/// What a disk does not take at the moment.
pub(super) fn refuses(report: &Report) -> Option<&'static str> {
    match report {
        Report { no_writes: Some(_), .. } => Some("everything"),
        Report { no_new_work: Some(_), .. } => Some("new_work"),
        _ => None,
    }
}
