//! What is posted to us: a hint that something happened, or a sender's handshake.

use super::{Mapping, Report, body::Body, report, tree::Tree};

/// What a callback says. A hint: the task route decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What it says of a task.
    pub report: Report,
    /// A handshake, to be answered with `{"challenge": …}`.
    pub challenge: Option<String>,
    /// Usable ids in the body beside `report.task_id`, in the order of trust; some may be trace ids.
    pub other_ids: Vec<String>,
}

/// A callback that cannot be read. It still means that something happened.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// Broken or cut off.
    #[error("the callback is not JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    /// A bare string, number, boolean or null.
    #[error("the callback is JSON, but neither an object nor an array")]
    NoObject,
}

/// Reads the body of a callback.
///
/// # Errors
/// It is not JSON, or neither an object nor an array.
pub fn read_callback(body: &[u8], mapping: &Mapping) -> Result<Note, Malformed> {
    let root = Tree::parse(body)?;
    if !matches!(root, Tree::Object(_) | Tree::Array(_)) {
        return Err(Malformed::NoObject);
    }
    let body = Body::new(&root, None, mapping);
    let report = report::report(&body);
    let no_task = report.task_id.is_none() && report.class.is_none();
    let challenge = root.child("challenge").and_then(Tree::text).filter(|_| no_task).map(str::to_owned);
    let mut other_ids: Vec<String> = Vec::new();
    for id in body.usable_ids() {
        if report.task_id.as_deref() != Some(id) && !other_ids.iter().any(|seen| seen == id) {
            other_ids.push(id.to_owned());
        }
    }
    Ok(Note { report, challenge, other_ids })
}
