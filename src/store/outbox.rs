//! The outbox, as callers of the store see it.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use crate::lifecycle::{Delivery, DeliveryState, Job, JobId, Millis, Notify, Policy, SinkState};

/// Deliveries that wait for one sink, or one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// As in [`Delivery::lane`].
    pub name: String,
    /// When the first of them is due; may be past.
    pub due: Millis,
}

/// What to claim of a lane.
#[derive(Clone)]
pub struct DeliveryClaim {
    /// Whose turn.
    pub lane: String,
    /// At most so many; as many again may be found to be undeliverable.
    pub max: usize,
    /// The store's clock, for a store without one of its own.
    pub now: Millis,
    /// By what to step.
    pub policy: Arc<Policy>,
    /// Makes the body at the first claim; from then on it is kept, byte for byte.
    pub render: Render,
}

/// Writes the body of a delivery. Pure, quick and without a panic: the store calls it while others wait.
pub type Render = Arc<dyn Fn(&Rendering<'_>) -> Bytes + Send + Sync>;

/// What a body is made of.
pub struct Rendering<'a> {
    /// The delivery, before it is claimed.
    pub delivery: &'a Delivery,
    /// The job that it is about.
    pub about: Option<About<'a>>,
}

/// A job, as a body shows it.
#[derive(Clone, Copy)]
pub struct About<'a> {
    /// As it is.
    pub job: &'a Job,
    /// Its request; empty where it has none.
    pub document: &'a [u8],
    /// Its deliveries.
    pub counts: DeliveryCounts,
}

/// A delivery that is to be tried now.
#[derive(Clone, Debug)]
pub struct ClaimedDelivery {
    /// The record, with its lease.
    pub delivery: Delivery,
    /// What to send.
    pub body: Bytes,
    /// The job's own URL that it goes to; none for a sink.
    pub notify: Option<Notify>,
}

/// What a step did.
#[derive(Clone, Debug)]
pub struct DeliveryChanged {
    /// The record after it.
    pub delivery: Delivery,
    /// With it its sink was disabled.
    pub disabled: bool,
}

/// Which deliveries to list.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFilter {
    /// Of this job.
    pub job: Option<JobId>,
    /// To this sink, or lane.
    pub lane: Option<String>,
    /// That stand so.
    pub state: Option<DeliveryState>,
}

impl DeliveryFilter {
    /// Whether it lets the delivery through.
    #[must_use]
    pub fn takes(&self, delivery: &Delivery) -> bool {
        self.job.is_none_or(|job| Some(job) == delivery.job_id)
            && self.lane.as_ref().is_none_or(|lane| *lane == delivery.lane)
            && self.state.is_none_or(|state| state == delivery.state)
    }
}

/// How many deliveries a job has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DeliveryCounts {
    /// In all.
    pub total: u32,
    /// Acknowledged.
    pub succeeded: u32,
    /// Owed.
    pub pending: u32,
    /// Given up.
    pub exhausted: u32,
}

impl DeliveryCounts {
    /// Counts one more.
    pub const fn add(&mut self, state: DeliveryState) {
        self.total += 1;
        match state {
            DeliveryState::Pending => self.pending += 1,
            DeliveryState::Succeeded => self.succeeded += 1,
            DeliveryState::Exhausted => self.exhausted += 1,
        }
    }
}

/// A sink of which something is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct SinkRecord {
    /// Its name.
    pub name: String,
    /// What is remembered.
    #[serde(flatten)]
    pub state: SinkState,
}
