//! One log line and one count per change of state. Never a prompt, a link or a token.

use metrics::{counter, histogram};
use serde::Serialize;
use serde_json::json;
use tracing::{debug, info};

use crate::{
    lifecycle::{Job, JobId, Millis, Outcome, Phase, Via},
    store::Verdict,
};

/// A job exists.
pub(super) fn created(job: &Job) {
    counter!("reelhook_jobs_created_total", "model" => job.model.clone()).increment(1);
    counter!("reelhook_credits_total", "kind" => "estimated").increment(job.cost.estimated_credits);
    info!(job = %job.id, model = job.model, credits = job.cost.estimated_credits, "job created");
}

/// A job changed; said when its phase did.
pub(super) fn changed(before: &Job, after: &Job) {
    if before.phase_name() != after.phase_name() {
        moved(before.phase_name(), after);
    }
    if let (None, Some(via)) = (before.completed_via, after.completed_via) {
        completed(after, via);
    }
    if let (None, Some(credits)) = (before.cost.reported_credits, after.cost.reported_credits) {
        counter!("reelhook_credits_total", "kind" => "reported").increment(credits);
    }
}

/// The task route confirmed a job's video.
fn completed(job: &Job, via: Via) {
    counter!("reelhook_completions_total", "via" => name(&via)).increment(1);
    let until_confirmed =
        |from: Option<Millis>| Some(job.times.confirmed_at?.since(from?).max(0) as f64 / 1e3);
    if let Some(seconds) = until_confirmed(job.callback.first_at) {
        histogram!("reelhook_callback_lag_seconds").record(seconds);
    }
    if let Some(seconds) = until_confirmed(job.times.accepted_at) {
        histogram!("reelhook_completion_seconds").record(seconds);
    }
}

/// A claim was written; said when it moved the job on, as those of the submit lane and of time limits do.
pub(super) fn claimed(job: &Job) {
    let from = match &job.phase {
        Phase::Sending | Phase::Settled { .. } => "queued",
        Phase::Unknown { .. } => "sending",
        Phase::Held { .. } if job.callback.expected => "unknown",
        // Without a callback to hope for, a lost answer is a person's affair at once.
        Phase::Held { .. } => "sending",
        Phase::Queued { .. } | Phase::Awaiting(_) | Phase::Fetching { .. } => return,
    };
    moved(from, job);
}

fn moved(from: &'static str, after: &Job) {
    let to = after.phase_name();
    counter!("reelhook_job_transitions_total", "from" => from, "to" => to).increment(1);
    let task = after.task.as_ref().map(|task| tracing::field::display(&task.id));
    if after.outcome().is_some() {
        counter!("reelhook_jobs_finished_total", "outcome" => name(&after.status())).increment(1);
    }
    match &after.phase {
        Phase::Settled { outcome: Outcome::Failed { code, .. } } => {
            counter!("reelhook_job_failures_total", "code" => name(code)).increment(1);
            // Not the message: an upstream may quote the prompt in it.
            info!(job = %after.id, from, to, task, code = name(code), "job failed");
        }
        Phase::Settled { outcome } => {
            let via = after.completed_via.as_ref().map(name);
            let bytes: u64 = after.files().map(|file| file.bytes).sum();
            let end =
                if matches!(outcome, Outcome::Stored { .. }) { "job succeeded" } else { "job canceled" };
            info!(job = %after.id, from, to, task, bytes, via, "{end}");
        }
        Phase::Held { why } => {
            tracing::warn!(job = %after.id, from, to, task, why = name(why), "job held: a person must decide")
        }
        _ => info!(job = %after.id, from, to, task, "job moved on"),
    }
}

/// What the API calls it.
fn name(value: &impl Serialize) -> String {
    json!(value).as_str().unwrap_or_default().to_owned()
}

/// A callback was remembered. The inbound log has them all: a line is for those that may want looking into, so that a
/// flood of callbacks is no flood of lines.
pub(super) fn callback(id: JobId, verdict: Verdict) {
    let verdict_name = name(&verdict);
    counter!("reelhook_callbacks_total", "verdict" => verdict_name.clone()).increment(1);
    if matches!(verdict, Verdict::Matched | Verdict::Duplicate) {
        debug!(job = %id, verdict = verdict_name, "callback received");
    } else {
        info!(job = %id, verdict = verdict_name, "callback received");
    }
}
