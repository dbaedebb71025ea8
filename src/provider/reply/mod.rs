//! Reading what the upstream says, tolerantly.
//!
//! The body of a finished task is not documented, so the reader knows the shapes of many senders: [`read_submit`] for the
//! answer to a create call, [`read_task`] for the task route, [`read_callback`] for what is posted to us. None of them
//! panics or fails on any bytes; what cannot be read is said.

mod answer;
mod body;
mod callback;
mod links;
mod pointers;
mod report;
mod tree;
mod words;

pub use answer::{Refusal, RefusalKind, SubmitAnswer, TaskAnswer, read_submit, read_task};
pub use callback::{Malformed, Note, read_callback};
pub use words::Class;

/// Evidence is kept up to this many bytes.
const EVIDENCE_MAX: usize = 4096;

/// Extra pointers and words for reading upstream bodies; each list is tried before the built-in ones.
///
/// Pointers are JSON pointers in which `*` stands for each element of an array.
#[derive(Clone, Debug)]
pub struct Mapping {
    /// Where a task id stands.
    pub task_id: Vec<String>,
    /// Where a status word stands.
    pub status: Vec<String>,
    /// Where the URL of a video stands.
    pub video_url: Vec<String>,
    /// Where the reason of a failure stands.
    pub error_message: Vec<String>,
    /// Status words that mean "done".
    pub succeeded_words: Vec<String>,
    /// Status words that mean "failed".
    pub failed_words: Vec<String>,
    /// Status words that mean "still running".
    pub pending_words: Vec<String>,
    /// Models that never call back.
    pub no_callback_models: Vec<String>,
}

impl Default for Mapping {
    fn default() -> Self {
        Self {
            task_id: Vec::new(),
            status: Vec::new(),
            video_url: Vec::new(),
            error_message: Vec::new(),
            succeeded_words: Vec::new(),
            failed_words: Vec::new(),
            pending_words: Vec::new(),
            no_callback_models: vec!["ltx-2".into()],
        }
    }
}

impl Mapping {
    /// Whether a callback may be expected of this model.
    pub fn calls_back(&self, model: &str) -> bool {
        !self.no_callback_models.iter().any(|silent| silent == model)
    }
}

/// What a reply says of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// `None`: neither a status nor a URL of a video. An unknown word is [`Class::Running`].
    pub class: Option<Class>,
    /// The status word as it was written.
    pub word: Option<String>,
    /// False if nobody told us what `word` means: worth saying loudly.
    pub known_word: bool,
    /// The task that the reply names.
    pub task_id: Option<String>,
    /// Absolute http(s) URLs of the video, each once, 16 at most. Not checked for where they lead.
    pub urls: Vec<String>,
    /// The upstream's own words about a failure, cut at 2,000 characters. Means nothing unless the task failed.
    pub error: Option<String>,
    /// The content was refused, by a status word, an error code or an error type.
    pub content_policy: bool,
    /// In percent, 0 to 100.
    pub progress: Option<u8>,
    /// Credits charged, rounded up.
    pub credits: Option<u64>,
}

/// A body as text that may be kept: at most 4 KiB, with the secrets replaced by `[redacted]`.
pub fn scrub(body: &[u8], secrets: &[&str]) -> String {
    let mut text = String::from_utf8_lossy(body).into_owned();
    let mut secrets: Vec<&str> = secrets.iter().copied().filter(|secret| !secret.is_empty()).collect();
    // The longer first: one that contains another must not leave its rest behind.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    for secret in secrets {
        text = text.replace(secret, "[redacted]");
    }
    text.truncate(text.floor_char_boundary(EVIDENCE_MAX));
    text
}
