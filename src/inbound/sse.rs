//! The wire format of server-sent events (HTML standard, 9.2).

use actix_web::web::Bytes;
use serde::Serialize;

/// A message. One without an id leaves the place where a reader goes on as it was.
pub(super) fn message(kind: &str, id: Option<u64>, data: &impl Serialize) -> Bytes {
    // JSON has no line break of its own.
    let data = serde_json::to_string(data).unwrap_or_default();
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    format!("event: {kind}\n{id}data: {data}\n\n").into()
}

/// A comment, so that nobody takes a silent line for dead. A place tells the reader where to go on without any message
/// being dispatched: past what its filter left out.
pub(super) fn heartbeat(place: Option<u64>) -> Bytes {
    match place {
        Some(id) => format!(": heartbeat\nid: {id}\n\n").into(),
        None => Bytes::from_static(b": heartbeat\n\n"),
    }
}
