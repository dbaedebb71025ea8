//! `GET /metrics`: what was counted, and how it stands now, as Prometheus text.

use std::collections::BTreeMap;

use actix_web::{HttpResponse, web::Data};
use metrics::gauge;

use super::{Context, health::refuses, problem::Problem};
use crate::{disk::Report, lifecycle::Millis, store::Counts, telemetry};

const OPEN_PHASES: [&str; 6] = ["queued", "sending", "unknown", "held", "awaiting", "fetching"];
const OUTCOMES: [&str; 3] = ["succeeded", "failed", "canceled"];

/// `GET /metrics`
pub(super) async fn metrics(context: Data<Context>) -> Result<HttpResponse, Problem> {
    let (app, store) = (&context.app, context.app.store());
    let counts = store.counts().await?;
    jobs(&counts);
    gauge!("reelhook_deliveries_pending").set(counts.owed as f64);
    for sink in app.sinks().await? {
        let disabled = f64::from(sink.state.disabled_at.is_some());
        gauge!("reelhook_sink_disabled", "sink" => sink.name).set(disabled);
    }
    ages(&store.oldest().await?, app.now());
    let (booked, budget) = (store.booked(app.now()).await?, app.config().budget);
    for (period, booked, limit) in
        [("day", booked.day, budget.daily_credits), ("month", booked.month, budget.monthly_credits)]
    {
        gauge!("reelhook_budget_booked_credits", "period" => period).set(booked as f64);
        gauge!("reelhook_budget_limit_credits", "period" => period).set(limit as f64);
    }
    if let Some(bytes) = store.size().await? {
        gauge!("reelhook_store_bytes").set(bytes as f64);
    }
    store.disk().into_iter().chain([context.archive.disk()]).for_each(|report| disk(&report));
    if let Some(backup) = &context.backup {
        gauge!("reelhook_backup_behind_seconds").set(backup.report().behind.as_secs_f64());
    }
    gauge!("reelhook_submits_paused").set(f64::from(app.pause().is_some()));
    gauge!("reelhook_callbacks_silent").set(f64::from(app.callbacks_are_silent()));
    let text = telemetry::recorder().map(|recorder| {
        recorder.run_upkeep();
        recorder.render()
    });
    Ok(HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(text.unwrap_or_default()))
}

fn jobs(counts: &Counts) {
    for phase in OPEN_PHASES.into_iter().chain(["done"]) {
        gauge!("reelhook_jobs", "phase" => phase).set(counts.phase(phase) as f64);
    }
    for outcome in OUTCOMES {
        let ended = counts.outcomes.get(outcome).copied().unwrap_or(0);
        gauge!("reelhook_jobs_kept", "outcome" => outcome).set(ended as f64);
    }
}

fn ages(oldest: &BTreeMap<String, Millis>, now: Millis) {
    for phase in OPEN_PHASES {
        let age = oldest.get(phase).map_or(0, |created| now.since(*created).max(0));
        gauge!("reelhook_oldest_job_age_seconds", "phase" => phase).set(age as f64 / 1e3);
    }
}

fn disk(report: &Report) {
    let (disk, refused) = (report.role.as_str(), refuses(report));
    // A disk that is gone has no room.
    gauge!("reelhook_disk_free_bytes", "disk" => disk).set(report.free.unwrap_or(0) as f64);
    gauge!("reelhook_disk_min_free_bytes", "disk" => disk).set(report.min_free as f64);
    for what in ["new_work", "everything"] {
        let is_refused = refused == Some("everything") || refused == Some(what);
        gauge!("reelhook_disk_refuses", "disk" => disk, "what" => what).set(f64::from(is_refused));
    }
}
