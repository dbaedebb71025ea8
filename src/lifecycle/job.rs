//! The record of a job: everything that is known of it, and what follows from that.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    id::{JobId, Millis, TaskId},
    notify::Notify,
    phase::{Due, Duty, MAX_OUTPUTS, Outcome, Output, Phase, StoredFile},
};

/// Refusals that are about the account.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Blocked {
    /// When the first came.
    pub since: Millis,
    /// How many came.
    pub times: u32,
}

/// The upstream's task of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Its name there.
    pub id: TaskId,
    /// The create call's own answer named it, or the task route knew it.
    pub proven: bool,
}

/// What told us of completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// A callback came first.
    Callback,
    /// Only our own question.
    Poll,
}

/// How a new job follows an old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryMode {
    /// Ask the upstream about the same task again: free.
    Recheck,
    /// Fetch the same task's video again: free.
    Download,
    /// Send the same request as a new task: paid.
    Resubmit,
}

impl RetryMode {
    /// Its name in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Recheck => "recheck",
            Self::Download => "download",
            Self::Resubmit => "resubmit",
        }
    }
}

/// The state that the outside sees; a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Not sent yet.
    Queued,
    /// Sent, or about to be.
    Running,
    /// Waits for a person.
    Held,
    /// Stored and verified.
    Succeeded,
    /// Ended without its files.
    Failed,
    /// Canceled.
    Canceled,
}

/// What a job costs, in credits (1 credit ≈ 0.01 US dollars).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cost {
    /// By the catalogue.
    #[serde(skip_serializing_if = "is_default")]
    pub estimated_credits: u64,
    /// Whether the catalogue's rule is documented for this request.
    #[serde(skip_serializing_if = "is_default")]
    pub exact: bool,
    /// What the upstream said that it took.
    #[serde(skip_serializing_if = "is_default")]
    pub reported_credits: Option<u64>,
    /// What is booked in the ledger; none once it is provably unpaid.
    #[serde(skip_serializing_if = "is_default")]
    pub reserved: Option<Reservation>,
}

/// Credits booked on a day of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// Days since 1970-01-01, UTC.
    pub day: i32,
    /// How many.
    pub credits: u64,
}

/// When things happened first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Times {
    /// First create call.
    #[serde(skip_serializing_if = "is_default")]
    pub submitted_at: Option<Millis>,
    /// The upstream took it.
    #[serde(skip_serializing_if = "is_default")]
    pub accepted_at: Option<Millis>,
    /// The task route said "succeeded".
    #[serde(skip_serializing_if = "is_default")]
    pub confirmed_at: Option<Millis>,
    /// Every file durable.
    #[serde(skip_serializing_if = "is_default")]
    pub stored_at: Option<Millis>,
    /// Settled.
    #[serde(skip_serializing_if = "is_default")]
    pub finished_at: Option<Millis>,
}

/// How often each call to the outside was begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attempts {
    /// Create calls.
    #[serde(skip_serializing_if = "is_default")]
    pub submit: u32,
    /// Questions to the task route.
    #[serde(skip_serializing_if = "is_default")]
    pub ask: u32,
    /// Downloads.
    #[serde(skip_serializing_if = "is_default")]
    pub fetch: u32,
}

/// What is remembered of a job's callbacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CallbackMemory {
    /// A `callback_url` was sent along and the model is known to call.
    #[serde(skip_serializing_if = "is_default")]
    pub expected: bool,
    /// How many came, repeats included.
    #[serde(skip_serializing_if = "is_default")]
    pub received: u32,
    /// How many the log kept.
    #[serde(skip_serializing_if = "is_default")]
    pub kept: u32,
    /// Bytes of bodies that the log kept.
    #[serde(skip_serializing_if = "is_default")]
    pub kept_bytes: u64,
    /// When the first came.
    #[serde(skip_serializing_if = "is_default")]
    pub first_at: Option<Millis>,
    /// Start of the current minute of nudges.
    #[serde(skip_serializing_if = "is_default")]
    pub window: Option<Millis>,
    /// Nudges in that minute.
    #[serde(skip_serializing_if = "is_default")]
    pub nudges: u32,
}

/// What says nothing is not written: records are rewritten with every change.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What makes a new job, beside its id and the time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewJob {
    /// The model, as sent.
    pub model: String,
    /// `std`, `pro`, … where the model has modes.
    pub mode: Option<String>,
    /// Requested length of the video in seconds.
    pub duration_s: Option<u32>,
    /// Labels for listing.
    pub tags: Vec<String>,
    /// Not submitted after this.
    pub deadline: Option<Millis>,
    /// By the catalogue.
    pub cost: Cost,
    /// A callback can come.
    pub callback_expected: bool,
    /// What a person should know of the request.
    pub notices: Vec<String>,
    /// Who is told of it beside the sinks, at most [`MAX_NOTIFY`](super::MAX_NOTIFY).
    pub notify: Vec<Notify>,
    /// Where its trace begins, as a W3C `traceparent`.
    pub trace: Option<String>,
}

/// The record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// 1 when created; one more with each change.
    pub revision: u64,
    /// When it was created.
    pub created_at: Millis,
    /// When the next thing is to be done; none exactly when held or settled.
    pub due_at: Option<Millis>,
    /// Who owes what.
    pub phase: Phase,
    /// The revision of the claim that is being worked on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<u64>,
    /// Refusals about the account (key, credits) that it met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<Blocked>,
    /// The upstream's task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// The model.
    pub model: String,
    /// The model's mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Requested length of the video in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_s: Option<u32>,
    /// Labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Not submitted after this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Millis>,
    /// The job that it follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<JobId>,
    /// What it costs.
    pub cost: Cost,
    /// When things happened.
    #[serde(default, skip_serializing_if = "is_default")]
    pub times: Times,
    /// Calls to the outside.
    #[serde(default, skip_serializing_if = "is_default")]
    pub attempts: Attempts,
    /// Its callbacks.
    #[serde(default, skip_serializing_if = "is_default")]
    pub callback: CallbackMemory,
    /// What told us of completion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_via: Option<Via>,
    /// Percent done, by the upstream's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<u8>,
    /// What a person should know; at most eight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
    /// Why what is due did not succeed the last time; none once there was progress. At most 300 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Who is told of it beside the sinks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notify: Vec<Notify>,
    /// Where its trace begins, as a W3C `traceparent`; none for a job that is not traced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// When its files were removed from the archive, after their time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files_removed_at: Option<Millis>,
    /// Fields of a newer version, carried along.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Job {
    /// A job that owes the upstream a create call, due at once.
    #[must_use]
    pub fn new(id: JobId, now: Millis, new: NewJob) -> Self {
        Self {
            id,
            revision: 1,
            created_at: now,
            due_at: Some(now),
            phase: Phase::Queued { attempts: 0 },
            lease: None,
            blocked: None,
            task: None,
            model: new.model,
            mode: new.mode,
            duration_s: new.duration_s,
            tags: new.tags,
            deadline: new.deadline,
            retry_of: None,
            cost: new.cost,
            times: Times::default(),
            attempts: Attempts::default(),
            callback: CallbackMemory { expected: new.callback_expected, ..CallbackMemory::default() },
            completed_via: None,
            progress: None,
            notices: new.notices,
            trouble: None,
            notify: new.notify,
            trace: new.trace,
            files_removed_at: None,
            other: Map::new(),
        }
    }

    /// What is owed, and when: the entries of the due index that this record implies.
    pub fn dues(&self) -> impl Iterator<Item = Due> + use<> {
        let main = self.due_at.zip(self.duty()).map(|(at, duty)| {
            let urgent = matches!(&self.phase, Phase::Awaiting(wait) if wait.nudged.is_some());
            Due { duty, urgent, at }
        });
        let deadline = match (&self.phase, self.deadline) {
            (Phase::Queued { .. }, Some(at)) => Some(Due { duty: Duty::Expire, urgent: false, at }),
            _ => None,
        };
        main.into_iter().chain(deadline)
    }

    /// The lane whose turn it is.
    #[must_use]
    pub fn duty(&self) -> Option<Duty> {
        match &self.phase {
            Phase::Queued { .. } => Some(Duty::Submit),
            Phase::Sending | Phase::Unknown { .. } => Some(Duty::Expire),
            Phase::Awaiting(_) => Some(Duty::Ask),
            Phase::Fetching { outputs, .. } => {
                let linkless = outputs.iter().any(|output| output.file.is_none() && output.link.is_none());
                Some(if linkless { Duty::Ask } else { Duty::Fetch })
            }
            Phase::Held { .. } | Phase::Settled { .. } => None,
        }
    }

    /// What the outside sees.
    #[must_use]
    pub const fn status(&self) -> Status {
        match &self.phase {
            Phase::Queued { .. } => Status::Queued,
            Phase::Held { .. } => Status::Held,
            Phase::Settled { outcome: Outcome::Stored { .. } } => Status::Succeeded,
            Phase::Settled { outcome: Outcome::Failed { .. } } => Status::Failed,
            Phase::Settled { outcome: Outcome::Canceled { .. } } => Status::Canceled,
            _ => Status::Running,
        }
    }

    /// The phase's name in the API.
    #[must_use]
    pub const fn phase_name(&self) -> &'static str {
        match &self.phase {
            Phase::Queued { .. } => "queued",
            Phase::Sending => "sending",
            Phase::Unknown { .. } => "unknown",
            Phase::Held { .. } => "held",
            Phase::Awaiting(_) => "awaiting",
            Phase::Fetching { .. } => "fetching",
            Phase::Settled { .. } => "done",
        }
    }

    /// How it ended, if it has.
    #[must_use]
    pub const fn outcome(&self) -> Option<&Outcome> {
        match &self.phase {
            Phase::Settled { outcome } => Some(outcome),
            _ => None,
        }
    }

    /// The files that are in storage so far.
    pub fn files(&self) -> impl Iterator<Item = &StoredFile> {
        let (outputs, files): (&[Output], &[StoredFile]) = match &self.phase {
            Phase::Fetching { outputs, .. } => (outputs, &[]),
            Phase::Settled {
                outcome:
                    Outcome::Stored { files } | Outcome::Failed { files, .. } | Outcome::Canceled { files, .. },
            } => (&[], files),
            _ => (&[], &[]),
        };
        outputs.iter().filter_map(|output| output.file.as_ref()).chain(files)
    }

    /// A create call is, or may be, under way or running at the upstream.
    #[must_use]
    pub const fn in_flight(&self) -> bool {
        matches!(&self.phase, Phase::Sending | Phase::Unknown { .. } | Phase::Awaiting(_))
    }

    /// What must hold of any record, whatever happened.
    ///
    /// # Errors
    /// The sentence that does not hold.
    pub fn check(&self) -> Result<(), &'static str> {
        let settled = matches!(self.phase, Phase::Settled { .. });
        let idle = settled || matches!(self.phase, Phase::Held { .. });
        let sending = matches!(self.phase, Phase::Sending);
        let with_task = matches!(self.phase, Phase::Awaiting(_) | Phase::Fetching { .. });
        let must = |holds: bool, sentence| if holds { Ok(()) } else { Err(sentence) };
        must(self.due_at.is_none() == idle, "due_at is none exactly when the job is held or settled")?;
        must(self.revision >= 1, "revision starts at 1")?;
        must(
            self.lease.is_none_or(|lease| lease <= self.revision),
            "a lease is a revision that was written",
        )?;
        must(!sending || self.lease.is_some(), "sending is always claimed")?;
        must(self.lease.is_none() || sending || with_task, "only a call to the outside is claimed")?;
        must(!with_task || self.task.is_some(), "awaiting and fetching have a task")?;
        must(!idle || self.trouble.is_none(), "only a job that goes on by itself has trouble")?;
        must(settled || self.files_removed_at.is_none(), "only a settled job's files are removed")?;
        must(settled == self.times.finished_at.is_some(), "a job has an end exactly when it is settled")?;
        if let Phase::Settled { outcome: Outcome::Stored { files } } = &self.phase {
            must(!files.is_empty(), "stored has files")?;
        }
        if let Phase::Fetching { outputs, .. } = &self.phase {
            must(!outputs.is_empty() && outputs.len() <= MAX_OUTPUTS, "fetching has outputs")?;
        }
        Ok(())
    }
}
