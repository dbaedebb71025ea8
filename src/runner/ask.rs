//! The question: what became of the task? Its answer decides, whatever a callback said.

use metrics::counter;

use super::{
    Duties,
    duties::{job_span, millis},
};
use crate::{
    chaos::{self, Point},
    lifecycle::{AskFault, Event, FailCode, Job, Report, TaskId},
    provider::reply::{self, Class, TaskAnswer},
    spans::{Attribute, Work},
};

/// While our key is refused, questions teach nothing; this long they pause, in milliseconds.
const ACCOUNT_PAUSE: i64 = 60_000;

impl Duties {
    /// Has `call` ask about the task of a claimed job, and records the answer; `call` gives it as read and raw.
    pub async fn ask<F>(&self, job: Job, call: impl FnOnce(TaskId) -> F)
    where
        F: Future<Output = (TaskAnswer, Option<String>)>,
    {
        let (Some(lease), Some(task)) = (job.lease, job.task.clone()) else { return };
        let mut span = job_span(Work::Ask, &job);
        span.count(Attribute::Attempt, job.attempts.ask);
        chaos::pass(Point::Asking);
        let Some((answer, raw)) = self.holding(job.id, lease, call(task.id.clone())).await else {
            self.record(&job, &Event::Released(lease), None).await;
            return;
        };
        chaos::pass(Point::Asked);
        let event = match answer {
            TaskAnswer::Known(known) => Event::Reported(task.id, report(known), lease),
            TaskAnswer::NotFound => Event::Reported(task.id, Report::NotFound, lease),
            TaskAnswer::BadKey { message } | TaskAnswer::NoCredits { message } => {
                unanswered(message, Some(ACCOUNT_PAUSE), lease)
            }
            TaskAnswer::Busy { retry_after } => {
                unanswered("the upstream asks for patience".to_owned(), retry_after.map(millis), lease)
            }
            TaskAnswer::Nothing { why } => unanswered(why, None, lease),
        };
        let result = result(&event);
        counter!("reelhook_asks_total", "result" => result).increment(1);
        span.end(result, result == "unanswered");
        // What changed nothing is not worth keeping.
        let evidence =
            raw.filter(|_| !matches!(event, Event::Unanswered(..) | Event::Reported(_, Report::NotFound, _)));
        self.record(&job, &event, evidence.as_deref()).await;
    }
}

/// The word itself is the provider's, so it is counted and not named.
fn result(event: &Event) -> &'static str {
    match event {
        Event::Reported(_, Report::Running { known, .. }, _) => {
            counter!("reelhook_unknown_status_words_total").increment(u64::from(!known));
            "running"
        }
        Event::Reported(_, Report::Succeeded { .. }, _) => "succeeded",
        Event::Reported(_, Report::Failed { .. }, _) => "failed",
        Event::Reported(_, Report::NotFound, _) => "not_found",
        _ => "unanswered",
    }
}

fn unanswered(message: String, retry_after: Option<i64>, lease: u64) -> Event {
    Event::Unanswered(AskFault { message, retry_after }, lease)
}

/// What the reader saw, in the lifecycle's terms.
fn report(known: reply::Report) -> Report {
    let message = || known.error.clone().unwrap_or_else(|| "it gives no reason".to_owned());
    let credits = known.credits;
    match known.class {
        Some(Class::Succeeded) => Report::Succeeded { links: known.urls, credits },
        Some(Class::Failed) => {
            let code = if known.content_policy { FailCode::ContentPolicy } else { FailCode::UpstreamFailed };
            Report::Failed { code, message: message(), credits }
        }
        Some(Class::Cancelled) => {
            Report::Failed { code: FailCode::UpstreamCancelled, message: message(), credits }
        }
        Some(Class::Queued | Class::Running) | None => {
            Report::Running { word: known.word, known: known.known_word, progress: known.progress }
        }
    }
}
