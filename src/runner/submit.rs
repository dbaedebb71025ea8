//! The create call: the one act that costs money. It is made once per claim and never repeated here.

use std::time::Duration;

use serde_json::Value;
use tracing::warn;

use super::{
    Duties,
    duties::{job_span, millis},
};
use crate::{
    chaos::{self, Point},
    lifecycle::{Event, FailCode, Job, JobId, Refusal, TaskId, Why},
    outbound::upstream::Submitted,
    provider::{
        reply::{self, RefusalKind, SubmitAnswer},
        request,
    },
    spans::{Attribute, Work},
};

/// A create call that may leave now.
#[derive(Clone, Debug)]
pub struct CreateCall {
    /// The job, whose id is the call's idempotency key: the same each time, so that should a refusal not have been one,
    /// an upstream that honours it finds the first call.
    pub id: JobId,
    /// What to send.
    pub body: Value,
}

impl Duties {
    /// Has `call` send the create call of a claimed job, unless it is too late for that, and records what came of it.
    /// `claimed_at`: what [`Clock::elapsed`](crate::clock::Clock::elapsed) said before the claim was asked for.
    pub async fn submit<F>(&self, job: Job, claimed_at: Duration, call: impl FnOnce(CreateCall) -> F)
    where
        F: Future<Output = Submitted>,
    {
        let Some(lease) = job.lease else { return };
        // The claim was written before this; a byte that leaves later than this could outlive the lease.
        let lease_time = Duration::from_millis(self.app.policy().submit_lease.cast_unsigned());
        let last_moment = (claimed_at + lease_time).saturating_sub(self.app.config().upstream.submit_timeout);
        let document = match self.app.document(job.id).await {
            Ok(document) => document,
            Err(error) => {
                let refusal = Refusal::NotSent(format!("the request could not be read: {error}"));
                self.record(&job, &Event::Refused(refusal, lease), None).await;
                return;
            }
        };
        let callback_url = job.callback.expected.then(|| self.app.callback_url(job.id)).flatten();
        let body = request::create_body(&document.input, callback_url.as_ref().map(url::Url::as_str));
        if let Some(why) = self.too_late(last_moment) {
            let refusal = Refusal::NotSent(format!("{why}; nothing was sent"));
            self.record(&job, &Event::Refused(refusal, lease), None).await;
            return;
        }
        let mut span = job_span(Work::Submit, &job);
        span.count(Attribute::Attempt, job.attempts.submit);
        chaos::pass(Point::Submitting);
        let (event, evidence) = match call(CreateCall { id: job.id, body }).await {
            Submitted::NotSent(why) => (Event::Refused(Refusal::NotSent(why), lease), None),
            Submitted::Silence(why) => {
                warn!(job = %job.id, why, "the create call was sent and no answer came back");
                (Event::Unknown(Why::AnswerLost, lease), None)
            }
            Submitted::Answered(answer, raw) => (self.answered(&job, answer, lease).await, Some(raw)),
        };
        chaos::pass(Point::Submitted);
        let (outcome, is_error) = outcome(&event);
        span.end(outcome, is_error);
        if matches!(event, Event::Accepted(..)) {
            self.gate.accepted(self.app.now()).await;
            self.app.set_pause(None);
        }
        self.record(&job, &event, evidence.as_deref()).await;
    }

    /// Why the call must not begin any more. By the clock that counts on while the machine sleeps, as the lease does;
    /// and not while the process ends, which would cut it off from its answer.
    fn too_late(&self, last_moment: Duration) -> Option<&'static str> {
        if self.stop.is_cancelled() {
            return Some("the server is stopping");
        }
        (self.app.clock().elapsed() >= last_moment).then_some("this machine was too slow")
    }

    async fn answered(&self, job: &Job, answer: SubmitAnswer, lease: u64) -> Event {
        match answer {
            SubmitAnswer::Accepted { task_id } => Event::Accepted(TaskId(task_id), lease),
            SubmitAnswer::Unknown { without_id, .. } => {
                // Not its words, which may quote the prompt or the callback URL; the timeline has them.
                warn!(job = %job.id, "the answer to the create call does not say what became of it");
                Event::Unknown(if without_id { Why::AcceptedWithoutId } else { Why::AnswerLost }, lease)
            }
            SubmitAnswer::Refused(refusal) => Event::Refused(self.refusal(job, refusal).await, lease),
        }
    }

    async fn refusal(&self, job: &Job, refusal: reply::Refusal) -> Refusal {
        match refusal.kind {
            RefusalKind::Rejected => Refusal::Job(FailCode::UpstreamRejected, refusal.message),
            RefusalKind::ContentPolicy => Refusal::Job(FailCode::ContentPolicy, refusal.message),
            RefusalKind::Busy => Refusal::Busy(refusal.retry_after.map(millis)),
            RefusalKind::BadKey | RefusalKind::NoCredits => {
                self.gate.refused(&refusal.message, self.app.now()).await;
                self.app.set_pause(self.gate.pause());
                let others_pass = job.blocked.is_some_and(|blocked| self.gate.passed_since(blocked.since));
                Refusal::Account { message: refusal.message, others_pass }
            }
        }
    }
}

/// What a trace tells of it.
const fn outcome(event: &Event) -> (&'static str, bool) {
    match event {
        Event::Accepted(..) => ("accepted", false),
        Event::Refused(Refusal::NotSent(_), _) => ("not_sent", true),
        Event::Refused(Refusal::Busy(_), _) => ("busy", false),
        Event::Refused(..) => ("refused", true),
        _ => ("unknown", true),
    }
}
