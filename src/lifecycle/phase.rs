//! The phases of a job and what belongs to each: the debts, the waits, the ends.

use serde::{Deserialize, Serialize};

use super::{
    id::{Millis, TaskId},
    job::is_default,
};

/// More outputs than this of one task are not fetched; no model of the catalogue makes more than one.
pub const MAX_OUTPUTS: usize = 16;

/// A lane of work. Each has its own slots, so that one that hangs starves no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Duty {
    /// Send the create call.
    Submit = 1,
    /// Ask the task route.
    Ask = 2,
    /// Copy the video into storage.
    Fetch = 3,
    /// Tell a sink.
    Deliver = 4,
    /// Let a time limit take effect; makes no outside call.
    Expire = 5,
}

/// One entry of the due index: what to do, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// The lane that does it.
    pub duty: Duty,
    /// A callback asked for it: goes before work that is merely overdue.
    pub urgent: bool,
    /// Not before this.
    pub at: Millis,
}

/// Who owes what to whom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum Phase {
    /// We owe the upstream a create call.
    Queued {
        /// Create calls that provably were not sent or were plainly refused, in a row.
        attempts: u32,
    },
    /// A create call may be under way; written before a byte of it leaves.
    Sending,
    /// The answer to the create call is lost.
    Unknown {
        /// What is known about the loss.
        why: Why,
    },
    /// A person owes a decision, for money is uncertain.
    Held {
        /// What the person has to know.
        why: Why,
    },
    /// The upstream owes us a completion.
    Awaiting(Awaiting),
    /// We owe the storage a copy.
    Fetching {
        /// What the task made, in its order.
        outputs: Vec<Output>,
        /// Definite refusals of a fresh link.
        attempts: u32,
        /// Attempts in a row that ended in network or storage trouble.
        #[serde(default)]
        trouble: u32,
        /// Attempts that failed after the time limit.
        #[serde(default)]
        late: u32,
    },
    /// Nobody owes anything.
    Settled {
        /// How it ended; never changes.
        outcome: Outcome,
    },
}

/// What the wait for a task has seen so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Awaiting {
    /// Questions that were answered.
    #[serde(skip_serializing_if = "is_default")]
    pub polls: u32,
    /// Questions in a row that taught nothing.
    #[serde(skip_serializing_if = "is_default")]
    pub missed: u32,
    /// Answers in a row that did not know the task.
    #[serde(skip_serializing_if = "is_default")]
    pub not_found: u32,
    /// When the first of those came.
    #[serde(skip_serializing_if = "is_default")]
    pub not_found_since: Option<Millis>,
    /// Answers that said "succeeded" and named no video.
    #[serde(skip_serializing_if = "is_default")]
    pub empty: u32,
    /// The revision in which a callback asked us to look; an answer settles only nudges older than its claim.
    #[serde(skip_serializing_if = "is_default")]
    pub nudged: Option<u64>,
    /// Answered nudges in a row that said "running".
    #[serde(skip_serializing_if = "is_default")]
    pub early: u32,
    /// Another task that a callback named, while nobody vouches for the one that is asked about.
    #[serde(skip_serializing_if = "is_default")]
    pub rival: Option<TaskId>,
    /// The last status word of the task route.
    #[serde(skip_serializing_if = "is_default")]
    pub word: Option<String>,
}

impl Awaiting {
    /// A callback came after the claim of this lease: its answer does not settle what the callback asks for.
    pub(super) fn nudged_since(&self, lease: u64) -> bool {
        self.nudged.is_some_and(|at| at > lease)
    }
}

/// Why money is uncertain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The create call was sent and no answer is known.
    AnswerLost,
    /// The upstream took the job and named no task.
    AcceptedWithoutId,
    /// The task id that we were given is unknown to the task route, or is another job's.
    IdContradicted,
    /// The record comes from a backup; what happened since is unknown.
    Restored,
}

/// One video of a task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Output {
    /// Where to fetch it; none: ask for a fresh link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<Link>,
    /// The durable copy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<StoredFile>,
}

/// A link of the upstream's file host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// The address; judged by the address guard before use.
    pub url: String,
    /// When the task route gave it.
    pub learned_at: Millis,
}

/// A video in our storage, complete and verified.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredFile {
    /// File name, unique within the job.
    pub name: String,
    /// Key in the archive.
    pub location: String,
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 as 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// MIME type by content, not by what the host claimed.
    pub content_type: String,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    /// Every file is in storage, verified.
    Stored {
        /// The files, in the task's order.
        files: Vec<StoredFile>,
    },
    /// It ended without all of its files.
    Failed {
        /// The kind of failure.
        code: FailCode,
        /// What happened, whether money was spent, what to do.
        message: String,
        /// Files that were stored all the same.
        #[serde(default)]
        files: Vec<StoredFile>,
    },
    /// Canceled by a caller.
    Canceled {
        /// It had been sent: the upstream may finish and charge it all the same.
        may_still_charge: bool,
        /// Files that had been stored by then.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        files: Vec<StoredFile>,
    },
}

/// Why a job failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailCode {
    /// The create call was refused.
    UpstreamRejected,
    /// The task failed.
    UpstreamFailed,
    /// The task was canceled at the upstream.
    UpstreamCancelled,
    /// Refused or failed for its content.
    ContentPolicy,
    /// The task route does not know the task (any more).
    TaskNotFound,
    /// Not done in time.
    DeadlineExceeded,
    /// Succeeded without a video.
    ArtifactMissing,
    /// The video could not be fetched.
    ArtifactUnfetchable,
    /// What was fetched is not a video.
    ArtifactNotVideo,
    /// The video is larger than allowed.
    ArtifactTooLarge,
    /// A held job that was given up.
    SubmitAbandoned,
}

impl FailCode {
    /// The failure is of our making: the task may be done, and asking again costs nothing.
    #[must_use]
    pub const fn is_ours(self) -> bool {
        !matches!(
            self,
            Self::UpstreamRejected | Self::UpstreamFailed | Self::UpstreamCancelled | Self::ContentPolicy
        )
    }
}
