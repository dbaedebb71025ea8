//! How a command ends when it does not end well: an exit code and one line that says why.

use std::{process::ExitCode, time::Duration};

use serde_json::{Value, json};

/// Exit codes. They are part of the interface: scripts branch on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// What was looked at is not well, or something unforeseen failed.
    Failure = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// The job failed or was canceled.
    JobFailed = 3,
    /// No key, a wrong one, or one without the scope.
    Auth = 4,
    /// No such job, file or key.
    NotFound = 5,
    /// The job's state, or what is there already, forbids it.
    Conflict = 6,
    /// The job goes on; we stopped waiting.
    StillRunning = 7,
    /// It would cost more than is allowed.
    Budget = 8,
    /// The server cannot be reached or cannot serve.
    Unreachable = 9,
    /// The job waits for a person's decision.
    Held = 10,
    /// A file could not be copied, or is not what the server says it is.
    Download = 11,
    /// Another process has the store open.
    StoreLocked = 12,
}

impl Exit {
    fn slug(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Usage => "usage",
            Self::JobFailed => "job-failed",
            Self::Auth => "auth",
            Self::NotFound => "not-found",
            Self::Conflict => "conflict",
            Self::StillRunning => "still-running",
            Self::Budget => "budget",
            Self::Unreachable => "unreachable",
            Self::Held => "held",
            Self::Download => "download",
            Self::StoreLocked => "store-locked",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not succeed.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub(crate) struct Failure {
    /// The process's exit code.
    pub(crate) exit: Exit,
    detail: String,
    /// The server's own problem document, where it sent one.
    problem: Option<Value>,
    /// The server asks to come again after this time.
    pub(crate) retry_after: Option<Duration>,
}

impl Failure {
    /// What happened, whether money was spent and what to do, as far as each applies.
    pub(crate) fn new(exit: Exit, detail: impl Into<String>) -> Self {
        Self { exit, detail: detail.into(), problem: None, retry_after: None }
    }

    /// The command line or the configuration is wrong.
    pub(crate) fn usage(detail: impl Into<String>) -> Self {
        Self::new(Exit::Usage, detail)
    }

    /// What the server answered instead of what was asked for.
    pub(crate) fn from_answer(status: u16, body: &[u8]) -> Self {
        let Some(problem) = problem_document(body) else {
            let text = String::from_utf8_lossy(body);
            let first: String = text.lines().next().unwrap_or_default().chars().take(200).collect();
            let detail = format!("the server answered {status} and no reason that reelhook gives: {first}");
            return Self::new(exit_of(status, ""), detail);
        };
        let exit = exit_of(status, code(&problem));
        Self { exit, detail: detail(status, &problem), problem: Some(problem), retry_after: None }
    }

    /// The same failure, with what it means for the caller added to its text.
    #[must_use]
    pub(crate) fn and(mut self, consequence: &str) -> Self {
        self.detail = format!("{}; {consequence}", self.detail);
        if let Some(problem) = &mut self.problem {
            problem["detail"] = self.detail.clone().into();
        }
        self
    }

    /// The server's word for what kind of problem it is.
    pub(crate) fn code(&self) -> Option<&str> {
        self.problem.as_ref().map(code)
    }

    /// The problem document of this failure, RFC 9457: the server's, or one of our own.
    pub(crate) fn document(&self) -> Value {
        self.problem.clone().unwrap_or_else(|| {
            json!({ "type": "about:blank", "title": "reelhook", "code": self.exit.slug(), "detail": self.detail })
        })
    }
}

fn problem_document(body: &[u8]) -> Option<Value> {
    let document: Value = serde_json::from_slice(body).ok()?;
    (document["detail"].is_string() || document["title"].is_string()).then_some(document)
}

fn code(problem: &Value) -> &str {
    problem["code"].as_str().or_else(|| problem["type"].as_str()?.rsplit('/').next()).unwrap_or_default()
}

fn detail(status: u16, problem: &Value) -> String {
    let text = problem["detail"].as_str().or_else(|| problem["title"].as_str()).unwrap_or_default();
    let fields = problem["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    let fields: Vec<String> = fields
        .iter()
        .filter_map(|field| Some(format!("{}: {}", field["pointer"].as_str()?, field["detail"].as_str()?)))
        .collect();
    match (text, fields.is_empty()) {
        ("", true) => format!("the server answered {status}"),
        (text, true) => text.to_owned(),
        (text, false) => format!("{text} ({})", fields.join("; ")),
    }
}

fn exit_of(status: u16, code: &str) -> Exit {
    match (status, code) {
        (_, "max-credits-exceeded" | "budget-exceeded") | (402, _) => Exit::Budget,
        (_, "idempotency-key-reused") | (409, _) => Exit::Conflict,
        (401 | 403, _) => Exit::Auth,
        (404 | 410, _) => Exit::NotFound,
        (400 | 413 | 415 | 422, _) => Exit::Usage,
        (502..=504, _) => Exit::Unreachable,
        _ => Exit::Failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(status: u16, code: &str) -> Exit {
        let body = json!({ "type": format!("/problems/{code}"), "detail": "no" });
        Failure::from_answer(status, body.to_string().as_bytes()).exit
    }

    #[test]
    fn every_problem_of_the_api_has_its_exit_code() {
        for (status, code, expected) in [
            (400, "invalid-cursor", Exit::Usage),
            (401, "unauthenticated", Exit::Auth),
            (402, "budget-exceeded", Exit::Budget),
            (403, "forbidden", Exit::Auth),
            (404, "job-not-found", Exit::NotFound),
            (409, "not-held", Exit::Conflict),
            (409, "already-terminal", Exit::Conflict),
            (409, "nothing-to-retry", Exit::Conflict),
            (409, "file-not-ready", Exit::Conflict),
            (413, "body-too-large", Exit::Usage),
            (415, "unsupported-media-type", Exit::Usage),
            (422, "invalid-input", Exit::Usage),
            (422, "idempotency-key-reused", Exit::Conflict),
            (422, "max-credits-exceeded", Exit::Budget),
            (429, "queue-full", Exit::Failure),
            (500, "internal", Exit::Failure),
            (503, "store-unavailable", Exit::Unreachable),
        ] {
            assert_eq!(exit(status, code), expected, "{status} {code}");
        }
    }

    #[test]
    fn the_text_names_every_wrong_field() {
        let body = json!({ "detail": "the input is not valid", "errors": [
            { "pointer": "/input/duration", "code": "range", "detail": "must be 3 to 15" },
            { "pointer": "/input/mode", "code": "enum", "detail": "must be std or pro" },
        ]});
        let failure = Failure::from_answer(422, body.to_string().as_bytes());
        let expected =
            "the input is not valid (/input/duration: must be 3 to 15; /input/mode: must be std or pro)";
        assert_eq!(failure.to_string(), expected);
        assert_eq!(failure.document(), body);
    }

    #[test]
    fn what_is_added_to_a_failure_is_in_its_document_too() {
        let failure = Failure::from_answer(503, br#"{"detail":"shutting down","code":"shutting-down"}"#);
        let document = failure.and("nothing was spent").document();
        assert_eq!(
            document,
            json!({ "detail": "shutting down; nothing was spent", "code": "shutting-down" })
        );
    }

    #[test]
    fn an_answer_that_is_no_problem_document_is_quoted_in_one_short_line() {
        let failure = Failure::from_answer(502, b"<html>Bad gateway</html>\nmore");
        assert_eq!(failure.exit, Exit::Unreachable);
        assert!(failure.to_string().ends_with("<html>Bad gateway</html>"), "{failure}");
        assert_eq!(failure.document()["code"], "unreachable");
    }
}
