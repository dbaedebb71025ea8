//! The answers to our own calls, and what they mean for money.

use std::time::Duration;

use super::{Class, Mapping, Report, body::Body, pointers, report, tree::Tree, words::is_about_funds};

/// What became of a create call. Only [`SubmitAnswer::Refused`] says that nothing was charged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubmitAnswer {
    /// The upstream took the job.
    Accepted {
        /// By this id it is asked for.
        task_id: String,
    },
    /// Plainly refused before it was taken.
    Refused(Refusal),
    /// It may have been taken, and paid for.
    Unknown {
        /// What was seen.
        why: String,
        /// The answer reads as a yes, but has no usable task id.
        without_id: bool,
    },
}

/// A plain no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What was refused: this job, or every job for the time being.
    pub kind: RefusalKind,
    /// The HTTP status, or the body's own `code` where that took its place.
    pub status: u16,
    /// The upstream's own words, else a sentence of ours.
    pub message: String,
    /// When to come back, as the upstream says.
    pub retry_after: Option<Duration>,
}

/// Why the upstream said no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// This job, for its parameters.
    Rejected,
    /// This job, for its content.
    ContentPolicy,
    /// Our key.
    BadKey,
    /// The account is out of funds.
    NoCredits,
    /// Too much at once; later it may pass.
    Busy,
}

/// What the task route said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskAnswer {
    /// It knows the task.
    Known(Report),
    /// It does not know the task, which right after a submit may be replication lag.
    NotFound,
    /// Our key was refused.
    BadKey {
        /// The upstream's own words.
        message: String,
    },
    /// The account is out of funds.
    NoCredits {
        /// The upstream's own words.
        message: String,
    },
    /// Too many questions.
    Busy {
        /// When to come back, as the upstream says.
        retry_after: Option<Duration>,
    },
    /// Nothing was learned.
    Nothing {
        /// What was seen.
        why: String,
    },
}

/// Reads the answer to a create call. In doubt the outcome is unknown: a second call could be a second charge.
pub fn read_submit(
    status: u16,
    retry_after: Option<Duration>,
    body: &[u8],
    mapping: &Mapping,
) -> SubmitAnswer {
    let tree = Tree::parse(body);
    let root = tree.as_ref().unwrap_or(&Tree::Null);
    let answer = Answer { status, retry_after, body: Body::new(root, None, mapping) };
    let accepted = |id: &str| SubmitAnswer::Accepted { task_id: id.to_owned() };
    let unknown = |why| SubmitAnswer::Unknown { why, without_id: false };
    match (status, &tree) {
        (200..=299, Err(error)) => unknown(format!("HTTP {status} with a body that is not JSON: {error}")),
        (200..=299, Ok(_)) => answer.created(),
        // A conflict that names a task says that it was created before.
        (409, _) => match answer.body.sure_task_id() {
            Some(id) => accepted(id),
            None => unknown(format!("HTTP 409 without a task id: {}", answer.message())),
        },
        (300..=399, _) => unknown(format!("HTTP {status}: a redirect, which is not followed")),
        _ => match answer.refusal() {
            Some(refusal) => SubmitAnswer::Refused(refusal),
            None => unknown(format!("HTTP {status}: {}", answer.message())),
        },
    }
}

/// Reads the answer of the task route. `ours` picks our task where the answer lists several.
pub fn read_task(
    status: u16,
    retry_after: Option<Duration>,
    body: &[u8],
    ours: Option<&str>,
    mapping: &Mapping,
) -> TaskAnswer {
    let tree = Tree::parse(body);
    let root = tree.as_ref().unwrap_or(&Tree::Null);
    let answer = Answer { status, retry_after, body: Body::new(root, ours, mapping) };
    if !(200..=299).contains(&status) {
        return answer.not_told();
    }
    if let Err(error) = tree {
        return TaskAnswer::Nothing { why: format!("HTTP {status} with a body that is not JSON: {error}") };
    }
    let report = report::report(&answer.body);
    let has_task = answer.body.found || !report.urls.is_empty();
    match answer.code() {
        Code::Http(code) if !has_task => Answer { status: code, ..answer }.not_told(),
        Code::Other if !has_task => answer.not_told(),
        _ if report.class.is_none() && report.task_id.is_none() => {
            TaskAnswer::Nothing { why: format!("HTTP {status} without a task: {}", answer.message()) }
        }
        _ => TaskAnswer::Known(report),
    }
}

/// The body's own `code`, which some senders put under a 200.
enum Code {
    Absent,
    Fine,
    /// 400 to 599.
    Http(u16),
    Other,
}

struct Answer<'a> {
    status: u16,
    retry_after: Option<Duration>,
    body: Body<'a>,
}

impl Answer<'_> {
    /// A 2xx to a create call.
    fn created(&self) -> SubmitAnswer {
        let code = self.code();
        let id = match code {
            Code::Fine | Code::Absent => self.body.task_id(),
            Code::Http(_) | Code::Other => self.body.sure_task_id(),
        };
        if let Some(id) = id {
            return SubmitAnswer::Accepted { task_id: id.to_owned() };
        }
        let refusal = match code {
            Code::Fine => None,
            Code::Http(status) => self.refusal_as(status),
            Code::Absent | Code::Other => self.spoken_refusal().map(|kind| self.refuse(kind, self.status)),
        };
        if let Some(refusal) = refusal {
            return SubmitAnswer::Refused(refusal);
        }
        let complains = self.body.root.child("error").is_some_and(|error| *error != Tree::Null)
            || self.body.root.child("success") == Some(&Tree::Bool(false));
        let without_id = matches!(code, Code::Fine | Code::Absent) && !complains;
        let why = format!("HTTP {} without a usable task id: {}", self.status, self.message());
        SubmitAnswer::Unknown { why, without_id }
    }

    /// An answer of the task route that tells nothing of the task.
    fn not_told(&self) -> TaskAnswer {
        if matches!(self.status, 404 | 410) {
            return TaskAnswer::NotFound;
        }
        let message = self.message();
        match self.refusal().map(|refusal| refusal.kind) {
            Some(RefusalKind::BadKey) => TaskAnswer::BadKey { message },
            Some(RefusalKind::NoCredits) => TaskAnswer::NoCredits { message },
            Some(RefusalKind::Busy) => TaskAnswer::Busy { retry_after: self.retry_after },
            Some(RefusalKind::ContentPolicy) => TaskAnswer::Known(self.refused_content(message)),
            Some(RefusalKind::Rejected) | None => {
                TaskAnswer::Nothing { why: format!("HTTP {}: {message}", self.status) }
            }
        }
    }

    /// The task route refuses to speak of this job because of its content: the job has failed.
    fn refused_content(&self, message: String) -> Report {
        let report = report::report(&self.body);
        Report {
            class: Some(Class::Failed),
            urls: Vec::new(),
            error: Some(message),
            content_policy: true,
            ..report
        }
    }

    fn refusal(&self) -> Option<Refusal> {
        self.refusal_as(self.status)
    }

    /// What a status means; `None` where it proves nothing.
    fn refusal_as(&self, status: u16) -> Option<Refusal> {
        let kind = match status {
            // Timed out, conflict, too early: the call may have been carried out.
            408 | 409 | 425 => return None,
            401 => RefusalKind::BadKey,
            402 => RefusalKind::NoCredits,
            // Some limits are not a matter of waiting: the account's.
            429 if !self.is_about_funds() => RefusalKind::Busy,
            429 => RefusalKind::NoCredits,
            503 if self.retry_after.is_some() && self.has_documented_error() => RefusalKind::Busy,
            400..=499 => match (self.spoken_refusal(), status) {
                (Some(kind), _) => kind,
                (None, 403) => RefusalKind::BadKey,
                (None, 400 | 404..=406 | 410 | 411 | 413..=415 | 422 | 431 | 451) => RefusalKind::Rejected,
                (None, _) => return None,
            },
            _ => return None,
        };
        Some(self.refuse(kind, status))
    }

    fn refuse(&self, kind: RefusalKind, status: u16) -> Refusal {
        Refusal { kind, status, message: self.message(), retry_after: self.retry_after }
    }

    /// What codes and words say, whatever the status.
    fn spoken_refusal(&self) -> Option<RefusalKind> {
        if report::has_policy_code(&self.body) {
            return Some(RefusalKind::ContentPolicy);
        }
        self.is_about_funds().then_some(RefusalKind::NoCredits)
    }

    fn is_about_funds(&self) -> bool {
        let places = pointers::REFUSAL_TEXT.iter().chain(pointers::ERROR_CODE).copied();
        self.body.values(places).filter_map(|(_, tree)| tree.text()).any(is_about_funds)
    }

    /// `{"error": {"code": 503, "message": …}}`.
    fn has_documented_error(&self) -> bool {
        let error = |key| self.body.root.child("error").and_then(|error| error.child(key));
        matches!(error("code"), Some(Tree::Number(_)))
            && error("message").is_some_and(|words| words.text().is_some())
    }

    fn message(&self) -> String {
        let texts = pointers::REFUSAL_TEXT.iter().flat_map(|pointer| self.body.root.at(pointer));
        let words = texts.into_iter().find_map(Tree::text).map(report::shortened);
        words.unwrap_or_else(|| "no error text that we can read".into())
    }

    fn code(&self) -> Code {
        let at = |pointer| self.body.root.at(pointer).into_iter().find_map(Tree::scalar);
        match at("/code").or_else(|| at("/error/code")) {
            None => Code::Absent,
            Some("0" | "200" | "success" | "SUCCESS" | "1000") => Code::Fine,
            Some(code) => match code.parse() {
                Ok(status @ 400..=599) => Code::Http(status),
                _ => Code::Other,
            },
        }
    }
}
