//! Callbacks, as they are remembered.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::lifecycle::{CallbackId, Job, JobId, Millis, Note, Policy};

/// An entry of the inbound log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallbackRecord {
    /// Its id.
    pub id: CallbackId,
    /// The job in the URL.
    pub job_id: JobId,
    /// When it came.
    pub received_at: Millis,
    /// What we made of it.
    pub verdict: Verdict,
    /// Delivery id of the sender, else the hash of the body: equal ones are repeats.
    pub delivery_id: String,
    /// Length of the body in bytes.
    pub bytes: u64,
    /// SHA-256 of the body, hexadecimal.
    pub sha256: String,
    /// The status word in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word: Option<String>,
    /// The task in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    /// Why it was not taken, for verdicts that need it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// How much of the inbound log is somebody's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Entries.
    pub entries: u64,
    /// Bytes of bodies.
    pub bytes: u64,
}

impl Share {
    /// Of one job. What comes then is only counted.
    pub const OF_A_JOB: Self = Self { entries: 64, bytes: 1 << 20 };
    /// Of all jobs together that have no record: whoever has a token of one that is gone could fill the disk.
    pub const OF_STRAYS: Self = Self { entries: 4096, bytes: 16 << 20 };

    /// Whether an entry more, with a body of so many bytes, stays within `limit`.
    #[must_use]
    pub const fn has_room(self, bytes: u64, limit: Self) -> bool {
        self.entries < limit.entries && self.bytes.saturating_add(bytes) <= limit.bytes
    }

    /// With an entry more.
    #[must_use]
    pub const fn with(self, bytes: u64) -> Self {
        Self { entries: self.entries.saturating_add(1), bytes: self.bytes.saturating_add(bytes) }
    }

    /// With an entry less.
    pub(super) const fn without(self, bytes: u64) -> Self {
        Self { entries: self.entries.saturating_sub(1), bytes: self.bytes.saturating_sub(bytes) }
    }
}

/// What we made of a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// For an open job of ours.
    Matched,
    /// Seen before.
    Duplicate,
    /// For a job that was settled.
    Late,
    /// A valid token, but no such job (any more).
    Unmatched,
    /// The signature does not verify.
    Forged,
    /// The body cannot be read.
    Malformed,
}

impl Verdict {
    /// Its name in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Matched => "matched",
            Self::Duplicate => "duplicate",
            Self::Late => "late",
            Self::Unmatched => "unmatched",
            Self::Forged => "forged",
            Self::Malformed => "malformed",
        }
    }
}

/// A callback to be remembered. What it means is judged in the same atomic change, where nobody can be faster.
pub struct Arrival {
    /// The job it is for.
    pub job_id: JobId,
    /// By which repeats are known, together with the job.
    pub delivery_id: String,
    /// The body as it came.
    pub body: Bytes,
    /// When it came.
    pub now: Millis,
    /// By what to step.
    pub policy: std::sync::Arc<Policy>,
    /// What to make of it, given the job as it is, if there is one, and whether this delivery was seen before.
    pub judge: Judge,
}

/// Judges a callback. Pure: a store asks again where its first try came to nothing.
pub type Judge = Box<dyn Fn(Option<&Job>, bool) -> Judged + Send + Sync>;

/// What a callback means.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The entry of the inbound log. The store gives it a later id when its log has come past this one.
    pub record: CallbackRecord,
    /// The log keeps it; not so when the job's share of the log is used up.
    pub keep: bool,
    /// The log keeps the body with it.
    pub keep_body: bool,
    /// What happens to the job.
    pub note: Note,
}

/// A callback that was remembered.
#[derive(Clone, Debug)]
pub struct Heard {
    /// What it was judged to be.
    pub verdict: Verdict,
    /// What it did to its job, if anything.
    pub changed: Option<Changed>,
}

/// A job before and after a change.
#[derive(Clone, Debug)]
pub struct Changed {
    /// The record that was read.
    pub before: Box<Job>,
    /// The record that was written.
    pub after: Box<Job>,
}
