//! What a store forgets: jobs one by one, entries of logs in sweeps. Each call is one small step, and may be repeated.

use async_trait::async_trait;

use super::StoreError;
use crate::lifecycle::{Job, JobId, Millis};

/// How a store lets go of what is past its time. What is gone is gone for every reader at once.
#[async_trait]
pub trait Retain: Send + Sync {
    /// Some jobs that have ended and were created before `before`, oldest first, after `after`.
    async fn ended(&self, before: Millis, after: Option<JobId>) -> Result<Ended, StoreError>;

    /// Forgets jobs that have ended, still have this revision and are owed no delivery: each with its request, its
    /// deliveries, its idempotency keys and what is known of its callbacks, all or nothing. Its entries of the logs stay, and so
    /// does what is booked. Which were forgotten; durable when it returns.
    async fn forget(&self, jobs: Vec<(JobId, u64)>) -> Result<Vec<JobId>, StoreError>;

    /// One step of a sweep. Durable when it returns.
    async fn sweep(&self, sweep: Sweep) -> Result<Swept, StoreError>;
}

/// A part of the jobs that have ended.
#[derive(Clone, Debug, Default)]
pub struct Ended {
    /// In the order of their ids.
    pub jobs: Vec<Job>,
    /// Continue after this one; none when that was all.
    pub next: Option<JobId>,
}

/// What grows without end unless it is swept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Litter {
    /// Entries of the event log, from the oldest on without a gap; the newest stays.
    Events,
    /// Entries of the inbound log, from the oldest on without a gap; the newest may stay. With those of jobs without a record
    /// goes what they take of the share of such callbacks.
    Callbacks,
    /// Bodies of callbacks; their entries stay.
    Bodies,
    /// Deliveries that succeeded or were given up, with what was sent.
    Deliveries,
}

/// A step of a sweep.
#[derive(Clone, Copy, Debug)]
pub struct Sweep {
    /// What to look for.
    pub litter: Litter,
    /// Only what is of before this time.
    pub before: Millis,
    /// Begins after this place: 0, or where an earlier step came to.
    pub after: u128,
    /// Only looks.
    pub dry_run: bool,
}

/// What a step found, and removed unless it only looked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// How many.
    pub count: u64,
    /// What they took, roundly.
    pub bytes: u64,
    /// When the oldest is of.
    pub oldest: Option<Millis>,
    /// How far it came: nothing up to here has to be looked at again with the same limit.
    pub read_to: u128,
    /// There may be more after that.
    pub more: bool,
}
