//! A job as the API shows it, at the moment of an event; of no provider and of no store.

use serde_json::{Value, json};
use url::Url;

use super::time;
use crate::lifecycle::{EventKind, JobId, Millis};

/// The `data` of a sample event about this job, which does not exist, with links as `server` would make them.
#[must_use]
pub fn sample(kind: EventKind, id: JobId, now: Millis, server: &Url) -> Value {
    match kind {
        EventKind::CallbackSilent | EventKind::CallbackRecovered => json!({ "test": true }),
        EventKind::BudgetThreshold => {
            json!({ "test": true, "period": "daily", "percent": 80, "booked": 8_000, "limit": 10_000 })
        }
        EventKind::SinkDisabled => {
            json!({ "test": true, "sink": "app", "why": "it is a test", "failing_since": null })
        }
        _ => json!({ "test": true, "job": job(kind, id, now, server) }),
    }
}

fn job(kind: EventKind, id: JobId, now: Millis, server: &Url) -> Value {
    let (status, phase) = state(kind);
    let at = |seconds_ago: i64| time(now.plus(-1_000 * seconds_ago));
    let (stored, ended) = (status == "succeeded", phase == "done");
    let files = if stored { json!([file(id, server)]) } else { json!([]) };
    let bytes = if stored { json!(FILE_BYTES) } else { Value::Null };
    json!({
        "id": id, "revision": 7, "status": status, "phase": phase, "model": "kling-3",
        "input": { "model": "kling-3", "prompt": "a paper boat on a rainy street", "duration": 5, "mode": "std" },
        "task_id": "sample-task", "completed_via": if stored { json!("callback") } else { Value::Null },
        "progress": { "percent": stored.then_some(100), "bytes_done": bytes.as_u64().unwrap_or(0), "bytes_total": bytes },
        "files": files,
        "cost": {
            "estimated_credits": 300, "estimated_usd": 3.0, "exact": true,
            "reported_credits": stored.then_some(300),
        },
        "error": error(kind),
        "callback": { "expected": true, "received": u8::from(stored), "first_at": stored.then(|| at(6)) },
        "attempts": { "submit": 1, "ask": 1, "fetch": u8::from(stored) },
        "deliveries": { "total": 0, "succeeded": 0, "pending": 0, "exhausted": 0 },
        "tags": ["test"], "metadata": { "test": "true" }, "retry_of": null,
        "notices": ["this is a sample: no such job exists, and nothing was spent"],
        "created_at": at(90), "submitted_at": at(89), "accepted_at": at(88),
        "confirmed_at": stored.then(|| at(5)), "stored_at": stored.then(|| at(1)),
        "finished_at": ended.then(|| at(0)), "expires_at": null,
    })
}

const FILE_BYTES: u64 = 8_421_376;

fn file(id: JobId, server: &Url) -> Value {
    let base = server.as_str().trim_end_matches('/');
    json!({
        "name": "video.mp4", "location": format!("2026-01-01/{id}/video.mp4"),
        "url": format!("{base}/media/{id}/video.mp4?exp=0&sig=sample"),
        "bytes": FILE_BYTES, "sha256": "0".repeat(64), "content_type": "video/mp4", "removed_at": null,
    })
}

fn state(kind: EventKind) -> (&'static str, &'static str) {
    match kind {
        EventKind::Created => ("queued", "queued"),
        EventKind::Refused => ("queued", "queued"),
        EventKind::Submitted => ("running", "sending"),
        EventKind::Unknown => ("running", "unknown"),
        EventKind::Held => ("held", "held"),
        EventKind::Confirmed
        | EventKind::DownloadStarted
        | EventKind::DownloadRetried
        | EventKind::Stored => ("running", "fetching"),
        EventKind::Succeeded => ("succeeded", "done"),
        EventKind::Failed => ("failed", "done"),
        EventKind::Canceled => ("canceled", "done"),
        _ => ("running", "awaiting"),
    }
}

fn error(kind: EventKind) -> Value {
    match kind {
        EventKind::Failed => {
            json!({ "code": "upstream_failed", "message": "the provider could not make this video" })
        }
        _ => Value::Null,
    }
}
