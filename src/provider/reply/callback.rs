//! What is posted to us: a hint that something happened, or a sender's handshake.

use super::{Mapping, Report, body::Body, report, tree::Tree};

/// What a callback says. A hint: the task route decides. So little of it is needed, and callbacks come in floods: each
/// part is looked for when it is asked for.
#[derive(Debug)]
pub struct Note<'m> {
    root: Tree,
    mapping: &'m Mapping,
}

impl Note<'_> {
    /// The task that it names.
    #[must_use]
    pub fn task_id(&self) -> Option<&str> {
        self.body().task_id()
    }

    /// The status word, as it was written.
    #[must_use]
    pub fn word(&self) -> Option<&str> {
        report::status(&self.body()).map(|status| status.word)
    }

    /// A handshake, to be answered with `{"challenge": …}`.
    #[must_use]
    pub fn challenge(&self) -> Option<&str> {
        let text = self.root.child("challenge").and_then(Tree::text)?;
        let report = self.report();
        (report.task_id.is_none() && report.class.is_none()).then_some(text)
    }

    /// All that it says of a task.
    #[must_use]
    pub fn report(&self) -> Report {
        report::report(&self.body())
    }

    fn body(&self) -> Body<'_> {
        Body::new(&self.root, None, self.mapping)
    }
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
pub fn read_callback<'m>(body: &[u8], mapping: &'m Mapping) -> Result<Note<'m>, Malformed> {
    let root = Tree::parse(body)?;
    if !matches!(root, Tree::Object(_) | Tree::Array(_)) {
        return Err(Malformed::NoObject);
    }
    Ok(Note { root, mapping })
}
