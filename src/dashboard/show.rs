//! Records in words.

use jiff::Timestamp;
use serde_json::Value;

use super::Page;
use crate::{
    app::{Document, remarks},
    lifecycle::{Cost, Delivery, DeliveryState, Job, Millis, Outcome, Phase, Status, StoredFile},
    provider::models::usd,
    store::{Counts, LogEntry},
};

/// Characters of a prompt in the list.
const BEGINNING: usize = 60;

/// A line of the list.
pub(super) struct Row {
    pub(super) id: String,
    pub(super) status: &'static str,
    /// The beginning of the prompt; may be empty.
    pub(super) prompt: String,
    pub(super) model: String,
    pub(super) terms: String,
    pub(super) cost: String,
    pub(super) age: String,
    pub(super) created_at: String,
}

impl Row {
    pub(super) fn new(job: &Job, document: &Document, now: Millis) -> Self {
        Self {
            id: job.id.to_string(),
            status: status(job),
            prompt: beginning(prompt(document).unwrap_or_default()),
            model: job.model.clone(),
            terms: terms(job),
            cost: cost(job),
            age: span(now.since(job.created_at)),
            created_at: instant(job.created_at),
        }
    }
}

/// All of one job.
pub(super) struct Detail {
    pub(super) row: Row,
    pub(super) is_open: bool,
    /// What a person should know or do.
    pub(super) remarks: Vec<String>,
    pub(super) facts: Vec<(&'static str, String)>,
    pub(super) prompt: Option<String>,
    pub(super) input: String,
    pub(super) videos: Vec<Video>,
}

pub(super) struct Video {
    pub(super) name: String,
    pub(super) link: String,
    pub(super) is_video: bool,
    pub(super) size: String,
    pub(super) sha256: String,
}

impl Detail {
    pub(super) fn new(job: &Job, document: &Document, page: &Page, link: impl Fn(&str) -> String) -> Self {
        let video = |file: &StoredFile| Video {
            name: file.name.clone(),
            link: link(&file.name),
            is_video: file.content_type.starts_with("video/"),
            size: bytesize::ByteSize(file.bytes).display().iec().to_string(),
            sha256: file.sha256.clone(),
        };
        Self {
            row: Row::new(job, document, page.now),
            is_open: !matches!(job.phase, Phase::Held { .. } | Phase::Settled { .. }),
            remarks: failure(job).into_iter().chain(remarks(job, page.pause.as_deref())).collect(),
            facts: facts(job),
            prompt: prompt(document).map(str::to_owned),
            input: serde_json::to_string_pretty(&document.input).unwrap_or_default(),
            videos: job.files().map(video).collect(),
        }
    }
}

fn prompt(document: &Document) -> Option<&str> {
    document.input.get("prompt").and_then(Value::as_str)
}

/// The first characters of a text, and whether it goes on.
fn beginning(text: &str) -> String {
    match text.char_indices().nth(BEGINNING) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// How it failed, whether money was spent and what to do.
fn failure(job: &Job) -> Option<String> {
    match job.outcome() {
        Some(Outcome::Failed { message, .. }) => Some(message.clone()),
        _ => None,
    }
}

fn facts(job: &Job) -> Vec<(&'static str, String)> {
    let mut facts =
        vec![("Model", job.model.clone()), ("Cost", cost(job)), ("Created", instant(job.created_at))];
    let mut add = |name, value: Option<String>| facts.extend(value.map(|value| (name, value)));
    add("Mode and length", Some(terms(job)).filter(|terms| !terms.is_empty()));
    add("Task", job.task.as_ref().map(|task| task.id.to_string()));
    add("Follows", job.retry_of.map(|id| id.to_string()));
    add("Callbacks", (job.callback.received > 0).then(|| job.callback.received.to_string()));
    let attempts = job.attempts;
    let asked = format!("{} sent, {} asked, {} fetched", attempts.submit, attempts.ask, attempts.fetch);
    add("Calls", (attempts.submit + attempts.ask + attempts.fetch > 0).then_some(asked));
    add("Took", job.times.finished_at.map(|end| span(end.since(job.created_at))));
    add("Tags", (!job.tags.is_empty()).then(|| job.tags.join(", ")));
    facts
}

/// A line of the timeline.
pub(super) struct Moment {
    pub(super) kind: String,
    /// Time since the job was created.
    pub(super) after: String,
    pub(super) time: String,
    pub(super) data: String,
}

impl Moment {
    pub(super) fn new(entry: &LogEntry, start: Millis) -> Self {
        let name = entry.event.kind.name();
        // The raw answer with its links, and the bookkeeping, are for the API.
        let data = entry
            .event
            .data
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(name, _)| !matches!(name.as_str(), "raw" | "lease"));
        let words = data
            .filter(|(_, value)| !value.is_object() && !value.is_array() && !value.is_null())
            .map(|(name, value)| match value {
                Value::String(text) => format!("{name}: {text}"),
                value => format!("{name}: {value}"),
            });
        Self {
            kind: name.strip_prefix("job.").unwrap_or(&name).replace('_', " "),
            after: format!("+{}", precise(entry.event.time.since(start))),
            time: instant(entry.event.time),
            data: words.collect::<Vec<_>>().join(" · "),
        }
    }
}

/// A line of those who are told.
pub(super) struct Told {
    pub(super) sink: String,
    pub(super) kind: String,
    pub(super) state: &'static str,
    /// The state of a job that looks like it.
    pub(super) status: &'static str,
    pub(super) tries: String,
    pub(super) detail: String,
}

impl Told {
    pub(super) fn new(delivery: &Delivery) -> Self {
        let (state, status) = match delivery.state {
            DeliveryState::Pending => ("pending", "queued"),
            DeliveryState::Succeeded => ("delivered", "succeeded"),
            DeliveryState::Exhausted => ("exhausted", "failed"),
        };
        let last = delivery.tries.last().map(|attempt| attempt.detail.clone());
        Self {
            sink: delivery.lane.clone(),
            kind: delivery.kind.name(),
            state,
            status,
            tries: match delivery.attempts {
                1 => "1 try".to_owned(),
                tries => format!("{tries} tries"),
            },
            detail: delivery.why.clone().or(last).unwrap_or_default(),
        }
    }
}

/// How many jobs are where, the quiet places left out.
pub(super) fn totals(counts: &Counts) -> Vec<(&'static str, u64)> {
    let outcome = |name: &str| counts.outcomes.get(name).copied().unwrap_or(0);
    let running = counts.in_flight() + counts.phase("fetching");
    let totals = [
        ("queued", counts.phase("queued")),
        ("running", running),
        ("held", counts.phase("held")),
        ("succeeded", outcome("succeeded")),
        ("failed", outcome("failed")),
        ("canceled", outcome("canceled")),
    ];
    totals.into_iter().filter(|(_, count)| *count > 0).collect()
}

fn status(job: &Job) -> &'static str {
    match job.status() {
        Status::Queued => "queued",
        Status::Running => "running",
        Status::Held => "held",
        Status::Succeeded => "succeeded",
        Status::Failed => "failed",
        Status::Canceled => "canceled",
    }
}

fn terms(job: &Job) -> String {
    let length = job.duration_s.map(|seconds| format!("{seconds} s"));
    job.mode.iter().cloned().chain(length).collect::<Vec<_>>().join(" · ")
}

fn cost(job: &Job) -> String {
    let Cost { estimated_credits, reported_credits, reserved, .. } = job.cost;
    // A booking is given back only for what provably cost nothing.
    if job.outcome().is_some() && reserved.is_none() && reported_credits.is_none() && estimated_credits > 0 {
        return "nothing charged".to_owned();
    }
    let credits = reported_credits.unwrap_or(estimated_credits);
    match credits {
        0 => "free".to_owned(),
        _ => format!("{credits} credits, ${:.2}", usd(credits)),
    }
}

fn instant(at: Millis) -> String {
    Timestamp::from_millisecond(at.0).map(|at| format!("{at:.3}")).unwrap_or_default()
}

/// A span of a few seconds to a tenth.
fn precise(millis: i64) -> String {
    match millis {
        1_000..=119_999 => format!("{}.{} s", millis / 1_000, millis % 1_000 / 100),
        _ => span(millis),
    }
}

/// A span in its largest fitting unit.
fn span(millis: i64) -> String {
    let seconds = millis.max(0) / 1_000;
    match seconds {
        0 => format!("{} ms", millis.max(0)),
        1..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::{JobId, NewJob, Reservation};

    #[test]
    fn a_job_that_was_refused_unpaid_is_not_shown_as_spent() {
        let reserved = Some(Reservation { day: 1, credits: 300 });
        let new = NewJob {
            cost: Cost { estimated_credits: 300, reserved, ..Cost::default() },
            ..NewJob::default()
        };
        let mut job = Job::new(JobId::new(Millis(1), &[1; 10]), Millis(1), new);
        assert_eq!(cost(&job), "300 credits, $3.00");
        job.phase =
            Phase::Settled { outcome: Outcome::Canceled { may_still_charge: false, files: Vec::new() } };
        assert_eq!(cost(&job), "300 credits, $3.00", "still booked");
        job.cost.reserved = None;
        assert_eq!(cost(&job), "nothing charged");
        job.cost.reported_credits = Some(280);
        assert_eq!(cost(&job), "280 credits, $2.80");
    }

    #[test]
    fn a_long_prompt_is_told_by_its_beginning() {
        assert_eq!(beginning(&"é".repeat(60)), "é".repeat(60));
        assert_eq!(beginning(&"é".repeat(61)), format!("{}…", "é".repeat(60)));
    }

    #[test]
    fn a_span_is_told_in_its_largest_fitting_unit() {
        let told = [-5, 0, 999, 1_000, 119_999, 120_000, 7_199_999, 7_200_000, 172_800_000].map(span);
        assert_eq!(told, ["0 ms", "0 ms", "999 ms", "1 s", "119 s", "2 min", "119 min", "2 h", "2 d"]);
    }
}
