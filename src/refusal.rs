//! What the client of an object store means by its errors: whether the service itself said no, and in which words.

use std::error::Error;

/// Of a reason that others gave, so much is told.
const MAX_REASON: usize = 200;

/// Whether the service itself said no and would again. What passes is none: 5xx but for "not implemented", too many
/// requests, no answer.
#[must_use]
pub fn is_refusal(error: &object_store::Error) -> bool {
    // The library's own errors name some of these answers, and tell the status of the others in this text alone.
    let text = bottom(error);
    let status = text.strip_prefix("Server returned non-2xx status code: ").and_then(|rest| rest.get(..3));
    matches!(status.and_then(|status| status.parse().ok()), Some(400..=407 | 409..=428 | 430..=499 | 501))
}

/// The word that the service has for it, or what lies at the bottom: what is between repeats URLs and bodies.
#[must_use]
pub fn reason(error: &object_store::Error) -> String {
    let text = bottom(error);
    let code = text.split_once("<Code>").and_then(|(_, rest)| Some(rest.split_once("</Code>")?.0));
    code.unwrap_or(&text).chars().take(MAX_REASON).collect()
}

/// What is said at the bottom of an error.
fn bottom(error: &object_store::Error) -> String {
    let mut bottom: &dyn Error = error;
    while let Some(source) = bottom.source() {
        bottom = source;
    }
    bottom.to_string()
}
