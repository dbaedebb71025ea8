//! What can happen to a job, and what a change consists of.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    delivery::Delivery,
    id::{EventId, JobId, Millis, TaskId},
    job::{Job, Reservation, RetryMode},
    phase::{Duty, FailCode, StoredFile, Why},
};

/// Something that happened, or was decided, about one job. Answers carry the lease of the claim that they answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A lane takes the job's duty for the length of a lease.
    Claimed(Duty),
    /// The create call's answer: taken, as this task. Counts from any lease.
    Accepted(TaskId, u64),
    /// The create call provably was not sent or was plainly refused.
    Refused(Refusal, u64),
    /// The create call's outcome cannot be told.
    Unknown(Why, u64),
    /// A callback with a valid token came.
    Callback(Note),
    /// The task route answered about this task.
    Reported(TaskId, Report, u64),
    /// A question taught nothing.
    Unanswered(AskFault, u64),
    /// One output is durable in the archive.
    Fetched {
        /// Which output, from 0.
        index: usize,
        /// The copy.
        file: StoredFile,
        /// Of the claim.
        lease: u64,
    },
    /// One output could not be fetched.
    NotFetched {
        /// Which output, from 0.
        index: usize,
        /// Why.
        fault: FetchFault,
        /// Of the claim.
        lease: u64,
    },
    /// Every output and the manifest are durable.
    Archived(u64),
    /// The claim's work lives on.
    Renewed(u64),
    /// The claim's work is given back undone, as at shutdown. Never a create call's: before a byte of it left
    /// that is [`Refusal::NotSent`], after that nobody knows.
    Released(u64),
    /// A time limit was reached.
    Expired,
    /// The process that held the leases is gone.
    Orphaned,
    /// The task id that this job was to take is another job's.
    Contradicted(TaskId),
    /// A caller cancels.
    Cancel,
    /// An operator names the task of a held job.
    Attach(TaskId),
    /// An operator gives a held job up.
    Abandon,
    /// An operator replaces a held job by a new, paid one.
    Replace(Box<Job>),
    /// The record comes from a backup: what was sent since then, nobody knows.
    Restored,
    /// Its files are in the archive no more, for their time was over.
    FilesRemoved,
}

/// How a create call was refused.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// Provably no byte of it reached the application there.
    NotSent(String),
    /// Too many or too busy; try again after at least this many milliseconds.
    Busy(Option<i64>),
    /// Our key or our credits. `others_pass`: other jobs were accepted since this one was first refused.
    Account {
        /// The upstream's words.
        message: String,
        /// Then the refusal is about this job after all.
        others_pass: bool,
    },
    /// The job itself.
    Job(FailCode, String),
}

/// A callback, as far as the lifecycle is concerned.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// The task that its body names.
    pub task: Option<TaskId>,
    /// The log has seen this very delivery before.
    pub duplicate: bool,
    /// Bytes of its body; 0 when the log does not keep it.
    pub kept_bytes: u64,
    /// The id for a successor, should one be needed.
    pub successor: JobId,
}

/// What the task route says of a task.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// Not done.
    Running {
        /// The status word.
        word: Option<String>,
        /// Whether the word is in the vocabulary.
        known: bool,
        /// Percent.
        progress: Option<u8>,
    },
    /// Done; the links may be missing.
    Succeeded {
        /// Links to the videos, without repeats.
        links: Vec<String>,
        /// Credits taken.
        credits: Option<u64>,
    },
    /// Failed, or canceled there.
    Failed {
        /// Which of the two, or content.
        code: FailCode,
        /// The upstream's words.
        message: String,
        /// Credits taken.
        credits: Option<u64>,
    },
    /// It does not know the task.
    NotFound,
}

/// Why a question taught nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct AskFault {
    /// For people.
    pub message: String,
    /// The upstream asks to wait this many milliseconds.
    pub retry_after: Option<i64>,
}

/// Why an output could not be fetched.
#[derive(Clone, Debug, PartialEq)]
pub enum FetchFault {
    /// The file host refuses the link (403, 404, 410).
    LinkRefused(u16),
    /// The address guard refuses the link.
    Denied(String),
    /// What came is not a video.
    NotVideo(String),
    /// Larger than allowed.
    TooLarge(String),
    /// Network or storage trouble; wait at least this many milliseconds.
    Trouble(String, Option<i64>),
}

/// The kinds of entries of the event log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EventKind {
    /// A job exists.
    #[serde(rename = "job.created")]
    Created,
    /// A create call is about to leave.
    #[serde(rename = "job.submitted")]
    Submitted,
    /// The create call was refused or did not leave; it will be repeated.
    #[serde(rename = "job.refused")]
    Refused,
    /// The upstream took it.
    #[serde(rename = "job.accepted")]
    Accepted,
    /// The create call's outcome is unknown.
    #[serde(rename = "job.unknown")]
    Unknown,
    /// An unknown outcome became known.
    #[serde(rename = "job.recovered")]
    Recovered,
    /// A person must decide.
    #[serde(rename = "job.held")]
    Held,
    /// A callback came.
    #[serde(rename = "job.callback_received")]
    CallbackReceived,
    /// The task route's word changed.
    #[serde(rename = "job.polled")]
    Polled,
    /// The task route says "succeeded".
    #[serde(rename = "job.confirmed")]
    Confirmed,
    /// The first download begins.
    #[serde(rename = "job.download_started")]
    DownloadStarted,
    /// A later download begins.
    #[serde(rename = "job.download_retried")]
    DownloadRetried,
    /// Every file is durable.
    #[serde(rename = "job.stored")]
    Stored,
    /// Terminal: stored and verified.
    #[serde(rename = "job.succeeded")]
    Succeeded,
    /// Terminal: failed.
    #[serde(rename = "job.failed")]
    Failed,
    /// Terminal: canceled.
    #[serde(rename = "job.canceled")]
    Canceled,
    /// A sink took an event.
    #[serde(rename = "delivery.succeeded")]
    DeliverySucceeded,
    /// A try at a delivery failed; another follows.
    #[serde(rename = "delivery.failed")]
    DeliveryFailed,
    /// A delivery is given up, until somebody replays it.
    #[serde(rename = "delivery.exhausted")]
    DeliveryExhausted,
    /// A sink is told nothing any more, until somebody recovers it.
    #[serde(rename = "sink.disabled")]
    SinkDisabled,
    /// Callbacks that were asked for do not come: several finished tasks in a row had to be asked about.
    #[serde(rename = "callback.silent")]
    CallbackSilent,
    /// They come again.
    #[serde(rename = "callback.recovered")]
    CallbackRecovered,
    /// Much or all of a budget is booked.
    #[serde(rename = "budget.threshold")]
    BudgetThreshold,
    /// A test of a sink. It is sent and never logged.
    #[serde(rename = "ping")]
    Ping,
}

impl EventKind {
    /// Exactly one of these ends a job's timeline.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Canceled)
    }

    /// It is about the server and no job, so its own data is all that there is to tell.
    #[must_use]
    pub const fn is_about_no_job(self) -> bool {
        matches!(
            self,
            Self::SinkDisabled
                | Self::CallbackSilent
                | Self::CallbackRecovered
                | Self::BudgetThreshold
                | Self::Ping
        )
    }

    /// Its name on the wire, such as `job.created`.
    #[must_use]
    pub fn name(self) -> String {
        serde_json::to_value(self).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
    }
}

/// An entry of the event log; the store numbers it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventRecord {
    /// Stable, the same for every reader and sink.
    pub id: EventId,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// When.
    pub time: Millis,
    /// To which job; none when it is about none.
    pub job_id: Option<JobId>,
    /// The job's revision after it; none when it is no change of the job.
    pub revision: Option<u64>,
    /// Details by kind.
    pub data: Value,
}

/// A job that a change creates beside the one that it changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Successor {
    /// The new job; its `retry_of` names the changed one.
    pub job: Job,
    /// Its first event.
    pub event: EventRecord,
    /// Debts to sinks for that.
    pub deliveries: Vec<Delivery>,
    /// What it is to the changed job: at most one open at a time for a mode.
    pub mode: RetryMode,
}

/// Everything that one step writes, atomically.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The record after the step; its revision is one more than the one that was read.
    pub job: Job,
    /// New entries of the event log.
    pub events: Vec<EventRecord>,
    /// New debts to sinks.
    pub deliveries: Vec<Delivery>,
    /// A job that follows.
    pub successor: Option<Successor>,
    /// A booking to take out of the ledger.
    pub release: Option<Reservation>,
    /// A booking to put back: what was taken for unpaid was charged after all. Never refused for a limit.
    pub book: Option<Reservation>,
}
