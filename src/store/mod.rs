//! What is remembered, and how durably. [`Store`] is the contract; every adapter passes the same conformance list.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    disk,
    lifecycle::{
        CallbackId, Change, Delivery, DeliveryEvent, DeliveryId, Duty, Event, EventRecord, Job, JobId,
        Millis, Policy, Status, TaskId,
    },
};

mod arrival;
mod digest;
mod error;
mod gate;
mod log;
mod outbox;
#[cfg(feature = "postgres")]
pub mod postgres;
mod retain;
pub mod sled;
pub mod transfer;

pub use arrival::{Arrival, CallbackRecord, Changed, Heard, Judge, Judged, Share, Verdict};
pub use error::StoreError;
pub use gate::{Gate, Pause};
pub use log::{EventFilter, EventPage, LogBounds, LogEntry};
pub use outbox::{
    About, ClaimedDelivery, DeliveryChanged, DeliveryClaim, DeliveryCounts, DeliveryFilter, Lane, Render,
    Rendering, SinkRecord,
};
pub use retain::{Ended, Litter, Retain, Sweep, Swept};

/// Who a create call's idempotency key belongs to, and the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Name of the API key that sent it; `-` is the system itself.
    pub owner: String,
    /// What the caller sent.
    pub key: String,
    /// SHA-256 of the request: the same key with another request is a mistake.
    pub fingerprint: [u8; 32],
    /// A new job may take the key over once the one that has it is settled.
    pub reusable: bool,
}

/// A job to be remembered.
#[derive(Clone, Debug)]
pub struct Insert {
    /// The record, revision 1.
    pub job: Job,
    /// Its first event.
    pub event: EventRecord,
    /// Debts to sinks for that.
    pub deliveries: Vec<Delivery>,
    /// The request: JSON that never changes.
    pub document: Bytes,
    /// The caller's key.
    pub key: Option<IdempotencyKey>,
    /// Limits that the insert must keep.
    pub limits: Limits,
}

/// Limits that hold over all jobs; 0 is none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Credits booked in a UTC day.
    pub daily_credits: u64,
    /// Credits booked in a UTC month.
    pub monthly_credits: u64,
    /// Jobs in phase `queued`.
    pub queued: u64,
}

/// What became of an insert. Durable when returned, replays too.
#[derive(Clone, Debug)]
pub enum Inserted {
    /// It is remembered.
    New(Box<Job>),
    /// The key made this job before.
    Replayed(Box<Job>),
    /// The key made a job of another request before.
    KeyReused(JobId),
    /// It would exceed a budget.
    OverBudget {
        /// `daily` or `monthly`.
        period: &'static str,
        /// Credits booked so far.
        booked: u64,
        /// The limit.
        limit: u64,
    },
    /// Too many jobs are queued.
    QueueFull {
        /// The limit.
        limit: u64,
    },
}

/// What became of a change. Durable when returned, also the record that a [`Stale`](Replaced::Stale) saw.
#[derive(Clone, Debug)]
pub enum Replaced {
    /// Written; with the successor's id as it is (an open one of the same mode stays).
    Done {
        /// The successor, new or found.
        successor: Option<JobId>,
    },
    /// The record has another revision by now, or is gone: load and step again.
    Stale,
    /// The task that the change names is this other job's.
    TaskTaken(JobId),
    /// The successor's booking would exceed a budget: nothing was written.
    OverBudget(Exceeded),
}

/// A budget that a booking would exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// `daily` or `monthly`.
    pub period: &'static str,
    /// Credits booked so far.
    pub booked: u64,
    /// The limit.
    pub limit: u64,
}

/// Which jobs to list.
#[derive(Clone, Debug, Default)]
pub struct JobFilter {
    /// In this state.
    pub status: Option<Status>,
    /// In the phase of this name.
    pub phase: Option<String>,
    /// Of this model.
    pub model: Option<String>,
    /// With this tag.
    pub tag: Option<String>,
    /// Completed via `callback` or `poll`.
    pub via: Option<crate::lifecycle::Via>,
    /// Created at or after.
    pub created_after: Option<Millis>,
    /// Created before.
    pub created_before: Option<Millis>,
    /// This text occurs in the id, the task id, the model or the request.
    pub q: Option<String>,
}

/// Which callbacks to list.
#[derive(Clone, Debug, Default)]
pub struct CallbackFilter {
    /// For this job.
    pub job: Option<JobId>,
    /// With this verdict.
    pub verdict: Option<Verdict>,
}

/// A page of a list, newest first.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// There may be older ones.
    pub more: bool,
    /// Continue before the id with these bytes; may lie beyond the last item, when others were filtered out.
    pub read_to: Option<[u8; 16]>,
}

/// Jobs by phase and by outcome, and what is booked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Open jobs and settled ones (`done`), by the phase's name.
    pub phases: BTreeMap<String, u64>,
    /// Settled jobs, by status.
    pub outcomes: BTreeMap<String, u64>,
    /// Deliveries that are owed.
    #[serde(skip_serializing_if = "nothing")]
    pub owed: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn nothing(count: &u64) -> bool {
    *count == 0
}

impl Counts {
    /// Jobs in the phase of this name.
    #[must_use]
    pub fn phase(&self, name: &str) -> u64 {
        self.phases.get(name).copied().unwrap_or(0)
    }

    /// Jobs whose create call is or may be under way or running.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        ["sending", "unknown", "awaiting"].iter().map(|name| self.phase(name)).sum()
    }
}

/// Credits booked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Booked {
    /// In the UTC day.
    pub day: u64,
    /// In the UTC month.
    pub month: u64,
}

/// What every store does. "Durable" means: survives SIGKILL and power loss.
#[async_trait]
pub trait Store: Retain + 'static {
    /// Remembers a new job with its booking, or finds the one that its key made. Durable when it returns,
    /// whatever it returns.
    async fn insert(&self, insert: Insert) -> Result<Inserted, StoreError>;

    /// The record as it is now; it may not be durable yet, see [`barrier`](Self::barrier).
    async fn load(&self, id: JobId) -> Result<Option<Job>, StoreError>;

    /// The request of a job. Durable.
    async fn document(&self, id: JobId) -> Result<Option<Bytes>, StoreError>;

    /// The job that has this task, jobs that follow it up for free aside.
    async fn by_task(&self, task: &TaskId) -> Result<Option<JobId>, StoreError>;

    /// Writes a change if the record still has the revision before it: record, due index, events, deliveries,
    /// successor and booking, all or nothing. Durable when it returns, whatever it returns.
    async fn replace(&self, change: Change) -> Result<Replaced, StoreError> {
        self.replace_within(change, Limits::default()).await
    }

    /// The same, if the successor's booking keeps the budgets of `limits`.
    async fn replace_within(&self, change: Change, limits: Limits) -> Result<Replaced, StoreError>;

    /// Takes up to `max` due jobs of a duty, urgent ones first, by stepping each with [`Event::Claimed`]
    /// (for [`Duty::Expire`]: with [`Event::Expired`], which settles the matter at once). `in_flight` bounds
    /// [`Counts::in_flight`] for [`Duty::Submit`]. Durable when it returns.
    async fn claim(&self, claim: Claim) -> Result<Vec<Job>, StoreError>;

    /// When the next job of a duty is due; may be past.
    async fn next_due(&self, duty: Duty) -> Result<Option<Millis>, StoreError>;

    /// Remembers a callback: log entry, the key by which repeats are known, and what it does to its job, all or
    /// nothing. Of callbacks for jobs without a record no more is kept than [`Share::OF_A_JOB`] of each and
    /// [`Share::OF_STRAYS`] of all. Durable when it returns.
    async fn callback(&self, arrival: Arrival) -> Result<Heard, StoreError>;

    /// Jobs, newest first, older than `before`.
    async fn list(
        &self,
        filter: JobFilter,
        before: Option<JobId>,
        limit: usize,
    ) -> Result<Page<Job>, StoreError>;

    /// Callbacks, newest first, older than `before`.
    async fn callbacks(
        &self,
        filter: CallbackFilter,
        before: Option<CallbackId>,
        limit: usize,
    ) -> Result<Page<CallbackRecord>, StoreError>;

    /// One callback and its body.
    async fn callback_body(&self, id: CallbackId) -> Result<Option<(CallbackRecord, Bytes)>, StoreError>;

    /// The lanes in which deliveries wait, each with the time at which its first is due.
    async fn lanes(&self) -> Result<Vec<Lane>, StoreError>;

    /// Takes deliveries of a lane that are due, the longest due first, and keeps the body of each that is taken for the
    /// first time. Those of a disabled sink, and those whose job is gone, are exhausted instead. Durable when it returns.
    async fn claim_deliveries(&self, claim: DeliveryClaim) -> Result<Vec<ClaimedDelivery>, StoreError>;

    /// Steps a delivery, with its events and what is remembered of its sink, all or nothing; none when there is no such
    /// delivery or the event changes nothing. Durable when it returns, whatever it returns.
    async fn change_delivery(
        &self,
        id: DeliveryId,
        event: DeliveryEvent,
        now: Millis,
        policy: &std::sync::Arc<Policy>,
    ) -> Result<Option<DeliveryChanged>, StoreError>;

    /// The record of a delivery.
    async fn delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, StoreError>;

    /// What is sent for it; none before its first try.
    async fn delivery_body(&self, id: DeliveryId) -> Result<Option<Bytes>, StoreError>;

    /// Deliveries, newest first, older than `before`.
    async fn deliveries(
        &self,
        filter: DeliveryFilter,
        before: Option<DeliveryId>,
        limit: usize,
    ) -> Result<Page<Delivery>, StoreError>;

    /// How many deliveries a job has.
    async fn delivery_counts(&self, job: JobId) -> Result<DeliveryCounts, StoreError>;

    /// The sinks of which something is remembered.
    async fn sinks(&self) -> Result<Vec<SinkRecord>, StoreError>;

    /// Enables a sink and replays what is exhausted of events from `since` on; how many that were. What comes due
    /// meanwhile is tried at once. Durable when it returns; cut short, it can be asked for again.
    async fn recover_sink(
        &self,
        name: &str,
        since: Millis,
        now: Millis,
        policy: &std::sync::Arc<Policy>,
    ) -> Result<u64, StoreError>;

    /// Durable events after `after`, oldest first.
    async fn events(&self, after: u64, limit: usize, filter: EventFilter) -> Result<EventPage, StoreError>;

    /// Appends an event that is no change of a job to the log, with the debts to sinks that it brings, all or nothing.
    /// Durable when it returns.
    async fn log(&self, event: EventRecord, deliveries: Vec<Delivery>) -> Result<(), StoreError>;

    /// The same in one change with the note that an event of this name was logged; nothing where there is such a note. Whether
    /// this event is the one that was logged. A name is [kept](Self::keep) for ever. Durable when it returns.
    async fn log_once(
        &self,
        name: &str,
        event: EventRecord,
        deliveries: Vec<Delivery>,
    ) -> Result<bool, StoreError>;

    /// The durable ends of the log.
    async fn bounds(&self) -> Result<LogBounds, StoreError>;

    /// Returns once everything that any earlier read saw is durable.
    async fn barrier(&self) -> Result<(), StoreError>;

    /// Writes something of no meaning, as every change is written. Durable when it returns.
    async fn probe(&self) -> Result<(), StoreError>;

    /// How many jobs are where.
    async fn counts(&self) -> Result<Counts, StoreError>;

    /// When the oldest job was created, of each phase but `done` that has one, by the phase's name.
    async fn oldest(&self) -> Result<BTreeMap<String, Millis>, StoreError> {
        let mut oldest = BTreeMap::new();
        for phase in self.counts().await?.phases.into_keys().filter(|phase| phase != "done") {
            let filter = JobFilter { phase: Some(phase.clone()), ..JobFilter::default() };
            let mut before = None;
            loop {
                let page = self.list(filter.clone(), before, 250).await?;
                if let Some(job) = page.items.last() {
                    oldest.insert(phase.clone(), job.created_at);
                }
                before = page.read_to.filter(|_| page.more).map(JobId::from_bytes);
                if before.is_none() {
                    break;
                }
            }
        }
        Ok(oldest)
    }

    /// Bytes that the store takes, where that is known.
    async fn size(&self) -> Result<Option<u64>, StoreError> {
        Ok(None)
    }

    /// What is booked in the day and month of `now`.
    async fn booked(&self, now: Millis) -> Result<Booked, StoreError>;

    /// A value that was made once and is kept for ever: the stored one, else `fresh` after storing it. Durable.
    async fn keep(&self, name: &str, fresh: Vec<u8>) -> Result<Vec<u8>, StoreError>;

    /// After a jump of the clock: what is due beyond `now` and the longest wait of `policy`, jobs and deliveries, is due
    /// now. The deadlines of queued jobs stay.
    async fn reclamp(&self, now: Millis, policy: &std::sync::Arc<Policy>) -> Result<(), StoreError>;

    /// Signals that something changed: a hint, never the truth. Register before you look.
    fn wake(&self) -> tokio::sync::watch::Receiver<u64>;

    /// How the disk does that it is on; none for a store that is elsewhere.
    fn disk(&self) -> Option<disk::Report>;

    /// What instances that share this store keep together; none: there is one instance, which keeps it by itself.
    fn gate(&self) -> Option<&dyn Gate> {
        None
    }

    /// Ends orderly: everything acknowledged is on disk, later calls fail.
    async fn close(&self);
}

/// What to claim.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Whose turn.
    pub duty: Duty,
    /// At most so many.
    pub max: usize,
    /// For Submit: at most so many in flight, this claim included.
    pub in_flight: u64,
    /// The store's clock, for a store without one of its own.
    pub now: Millis,
    /// By what to step.
    pub policy: std::sync::Arc<Policy>,
}

impl Claim {
    /// The event that this claim is to each job.
    #[must_use]
    pub const fn event(&self) -> Event {
        match self.duty {
            Duty::Expire => Event::Expired,
            duty => Event::Claimed(duty),
        }
    }
}
