//! The headers of Standard Webhooks 1.0.0, and that of the trace.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::Message;
use crate::{provider::signing::SigningKey, spans::TRACEPARENT};

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

const TRACE: HeaderName = HeaderName::from_static(TRACEPARENT);

/// What proves a message: its id, the same in every try; the present, which the receiver holds against its own clock;
/// and a signature by every key, so that a receiver that has the old or the new secret takes it. The trace goes along.
pub(super) fn headers(message: &Message, keys: &[SigningKey], now_unix_s: i64) -> HeaderMap {
    let id = message.event_id.to_string();
    let signatures: Vec<String> = keys.iter().map(|key| key.sign(&id, now_unix_s, &message.body)).collect();
    let text = |text: String| HeaderValue::try_from(text).expect("ids, numbers and base64 are ASCII");
    let trace = message.trace.as_ref().and_then(|trace| HeaderValue::try_from(trace).ok());
    let proof = [(ID, text(id)), (TIMESTAMP, now_unix_s.into()), (SIGNATURE, text(signatures.join(" ")))];
    proof.into_iter().chain(trace.map(|trace| (TRACE, trace))).collect()
}
