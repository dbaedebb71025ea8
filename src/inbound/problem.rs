//! What went wrong, said by RFC 9457: one shape for every error, with a page for every kind.

use std::fmt;

use actix_web::{
    HttpResponse, ResponseError,
    http::{
        StatusCode,
        header::{self, HeaderName, HeaderValue},
    },
    web,
};
use serde::Serialize;
use serde_json::json;

use super::{
    Context,
    body::Fault,
    kinds::{self, Kind},
    pages,
};
use crate::{
    app::AppError, dashboard, outbound::archive::ArchiveError, provider::models::FieldError,
    store::StoreError,
};

/// Seconds after which a store that failed is worth another try.
pub(super) const RETRY_AFTER_S: u64 = 5;

/// An answer that says what went wrong.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    kind: &'static Kind,
    status: StatusCode,
    detail: String,
    errors: Vec<FieldError>,
    headers: Vec<(HeaderName, HeaderValue)>,
    closes: bool,
}

impl Problem {
    pub(super) fn new(kind: &'static Kind, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { kind, status: kind.status, detail, errors: Vec::new(), headers: Vec::new(), closes: false }
    }

    /// Every place that is wrong.
    pub(super) fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = AppError::Invalid(Vec::new()).to_string();
        Self { errors, ..Self::new(&kinds::INVALID_INPUT, detail) }
    }

    /// One place that is wrong.
    pub(super) fn invalid_at(pointer: &str, code: &'static str, detail: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError { pointer: pointer.to_owned(), code, detail: detail.into() }])
    }

    /// The body is no JSON.
    pub(super) fn not_json(error: &serde_json::Error) -> Self {
        let detail = format!("the body is not JSON: {error}; no job was created and nothing was spent");
        Self { status: StatusCode::BAD_REQUEST, ..Self::new(&kinds::INVALID_INPUT, detail) }
    }

    /// There is nothing of this name.
    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(&kinds::NOT_FOUND, detail)
    }

    /// With a header.
    pub(super) fn with(mut self, name: HeaderName, value: impl TryInto<HeaderValue>) -> Self {
        if let Ok(value) = value.try_into() {
            self.headers.push((name, value));
        }
        self
    }

    /// The connection is closed: what is left of the body would be read as the next request.
    pub(super) const fn closing(mut self) -> Self {
        self.closes = true;
        self
    }

    fn later(self) -> Self {
        self.with(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S))
    }

    /// For the log, where the server is at fault.
    pub(super) fn is_ours(&self) -> bool {
        self.status.is_server_error()
    }

    /// The answer, with the id under which the log knows the request.
    pub(super) fn response(&self, request_id: &str) -> HttpResponse {
        let kind = self.kind;
        let type_uri =
            kind.page.map_or_else(|| "about:blank".to_owned(), |_| format!("/problems/{}", kind.slug));
        let body = Document {
            type_uri,
            title: kind.title,
            status: self.status.as_u16(),
            detail: &self.detail,
            code: kind.slug,
            request_id,
            retryable: kind.retryable,
            errors: &self.errors,
        };
        self.build("application/problem+json", &body)
    }

    /// The same in the shape of the upstream's errors, for clients that were written for it. All that is to be said is
    /// in the message, since that is what such a client shows.
    pub(super) fn upstream_response(&self, request_id: &str) -> HttpResponse {
        let wrong: Vec<&str> = self.errors.iter().map(|error| error.detail.as_str()).collect();
        let message = match wrong.is_empty() {
            true => self.detail.clone(),
            false => format!("{}: {}", self.detail, wrong.join("; ")),
        };
        let error = UpstreamError {
            code: self.status.as_u16(),
            message,
            kind: upstream_kind(self.status),
            reason: self.kind.slug,
            request_id,
        };
        self.build("application/json", &json!({ "error": error }))
    }

    fn build(&self, content_type: &'static str, body: &impl Serialize) -> HttpResponse {
        let mut answer = HttpResponse::build(self.status);
        if self.closes {
            answer.force_close();
        }
        for header in &self.headers {
            answer.append_header(header.clone());
        }
        let body = serde_json::to_vec(body).unwrap_or_default();
        answer.content_type(content_type).body(body)
    }
}

/// The upstream's `error`: its documentation names the first three members.
#[derive(Serialize)]
struct UpstreamError<'a> {
    code: u16,
    message: String,
    #[serde(rename = "type")]
    kind: &'static str,
    /// Our name for the kind of problem.
    reason: &'a str,
    request_id: &'a str,
}

fn upstream_kind(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 | 403 => "authentication_error",
        402 => "insufficient_credits",
        404 => "not_found",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "type")]
    type_uri: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    request_id: &'a str,
    retryable: bool,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.slug, self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        self.response("")
    }
}

impl From<AppError> for Problem {
    fn from(error: AppError) -> Self {
        let kind = match error {
            AppError::Invalid(errors) => return Self::invalid(errors),
            AppError::TaskTaken { .. } => return Self::invalid_at("/task_id", "taken", error.to_string()),
            AppError::Store(error) => return error.into(),
            AppError::KeyReused(_) => &kinds::IDEMPOTENCY_KEY_REUSED,
            AppError::MaxCredits { .. } => &kinds::MAX_CREDITS_EXCEEDED,
            AppError::OverBudget { .. } => &kinds::BUDGET_EXCEEDED,
            AppError::QueueFull(_) => return Self::new(&kinds::QUEUE_FULL, error.to_string()).later(),
            AppError::NoDelivery(_) | AppError::NoSink(_) => return Self::not_found(error.to_string()),
            AppError::NotFound(_) => &kinds::JOB_NOT_FOUND,
            AppError::NotHeld(_) => &kinds::NOT_HELD,
            AppError::Terminal(_) => &kinds::ALREADY_TERMINAL,
            AppError::NothingToRetry { .. } => &kinds::NOTHING_TO_RETRY,
            AppError::NoEntropy(_) => &kinds::INTERNAL,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Damaged(_) => Self::new(&kinds::INTERNAL, error.to_string()),
            _ => Self::new(&kinds::STORE_UNAVAILABLE, error.to_string()).later(),
        }
    }
}

impl From<ArchiveError> for Problem {
    fn from(error: ArchiveError) -> Self {
        // Not the error's own words: they name folders of this machine.
        tracing::warn!(%error, "a stored file cannot be read");
        match error {
            ArchiveError::NotFound(_) => Self::not_found("the file is not in the archive any more"),
            _ => {
                Self::new(&kinds::STORE_UNAVAILABLE, "the archive of videos cannot be read just now").later()
            }
        }
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        let kind = match fault {
            Fault::Encoded => &kinds::UNSUPPORTED_MEDIA_TYPE,
            Fault::TooLarge(_) => &kinds::BODY_TOO_LARGE,
            Fault::Slow => &kinds::REQUEST_TIMEOUT,
            Fault::Broken => {
                let detail = fault.to_string();
                let status = StatusCode::BAD_REQUEST;
                return Self { status, ..Self::new(&kinds::INVALID_INPUT, detail) }.closing();
            }
        };
        Self::new(kind, fault.to_string()).closing()
    }
}

/// For every path that is none of ours.
pub(super) async fn no_such_route() -> Result<HttpResponse, Problem> {
    Err(Problem::not_found("there is nothing at this path; /openapi.json lists every route"))
}

/// For a path of ours and a method that it does not take.
pub(super) fn method_not_allowed(allow: &str) -> Problem {
    let detail = format!("this path takes {allow}");
    Problem::new(&kinds::METHOD_NOT_ALLOWED, detail).with(header::ALLOW, allow)
}

/// `GET /problems/{slug}`: what a kind of problem means and what to do.
pub(super) async fn page(
    context: web::Data<Context>,
    slug: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let kind = kinds::ALL.iter().find(|kind| kind.slug == slug.as_str());
    let kind = kind.ok_or_else(|| Problem::not_found("there is no such kind of problem"))?;
    let text = kind.page.unwrap_or_default();
    let base = context.base_path();
    let html = dashboard::problem(base, kind.slug, kind.title, kind.status.as_u16(), kind.retryable, text);
    Ok(pages::html(html))
}
