//! The headers of Standard Webhooks 1.0.0.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::Message;
use crate::provider::signing::SigningKey;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// What proves a message: its id, the same in every try; the present, which the receiver holds against its own clock;
/// and a signature by every key, so that a receiver that has the old or the new secret takes it.
pub(super) fn headers(message: &Message, keys: &[SigningKey], now_unix_s: i64) -> HeaderMap {
    let id = message.event_id.to_string();
    let signatures: Vec<String> = keys.iter().map(|key| key.sign(&id, now_unix_s, &message.body)).collect();
    let text = |text: String| HeaderValue::try_from(text).expect("ids, numbers and base64 are ASCII");
    HeaderMap::from_iter([
        (ID, text(id)),
        (TIMESTAMP, now_unix_s.into()),
        (SIGNATURE, text(signatures.join(" "))),
    ])
}
