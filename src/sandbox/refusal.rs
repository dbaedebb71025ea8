//! The upstream's documented error body.

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header},
};
use serde_json::json;

/// An answer that is not a success: `{"error":{"code":401,"message":"…","type":"…"}}`.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Refusal {
    status: StatusCode,
    message: String,
}

impl Refusal {
    pub(super) fn new(status: u16, message: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        Self { status, message: message.into() }
    }

    pub(super) fn bad_request(message: String) -> Self {
        Self::new(400, message)
    }

    /// The refusal that a directive asks for.
    pub(super) fn on_request(status: u16) -> Self {
        let message = match status {
            401 | 403 => "Invalid API key",
            402 => "Insufficient credits",
            429 => "Rate limit exceeded",
            503 => "Service busy, please try again",
            _ => "Request rejected",
        };
        Self::new(status, message)
    }

    pub(super) fn status(&self) -> u16 {
        self.status.as_u16()
    }

    fn kind(&self) -> &'static str {
        match self.status.as_u16() {
            401 | 403 => "authentication_error",
            402 => "insufficient_credits",
            404 => "not_found",
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        }
    }
}

impl ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        if matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            response.insert_header((header::RETRY_AFTER, "1"));
        }
        response.json(json!({"error": {"code": self.status(), "message": self.message, "type": self.kind()}}))
    }
}
