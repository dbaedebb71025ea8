//! The event log as it is read.

use serde::{Deserialize, Serialize};

use crate::lifecycle::{EventKind, EventRecord, JobId};

/// A numbered entry of the event log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogEntry {
    /// Rises by one; survives restarts.
    pub seq: u64,
    /// The entry.
    #[serde(flatten)]
    pub event: EventRecord,
}

/// Which events to read.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Only these kinds; empty is all.
    pub kinds: Vec<EventKind>,
    /// Only this job.
    pub job: Option<JobId>,
    /// Only jobs with this tag.
    pub tag: Option<String>,
}

/// Some events, and how far the log was read.
#[derive(Clone, Debug, Default)]
pub struct EventPage {
    /// In order.
    pub events: Vec<LogEntry>,
    /// Continue after this; may lie beyond the last event, when others were filtered out.
    pub read_to: u64,
    /// More may follow at once.
    pub more: bool,
}

/// The ends of the event log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogBounds {
    /// Number of the oldest entry kept; `newest + 1` when there is none.
    pub oldest: u64,
    /// Number of the newest durable entry; 0 before the first.
    pub newest: u64,
}
