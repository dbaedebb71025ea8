//! The lifecycle of a job, pure: what may happen to it and what it owes next.
//!
//! A job's [`Phase`] says who owes what to whom. [`Job::dues`] derives from it the one thing to do and when;
//! [`Job::step`] is the only way from one record to the next. Nothing here reads a clock, draws a random number
//! or talks to anybody, so every interleaving can be replayed.

mod answer;
mod delivery;
mod event;
mod fetching;
mod id;
mod job;
mod retry;
mod step;

pub use delivery::{Delivery, DeliveryState, SinkRule};
pub use event::{
    AskFault, Change, Event, EventKind, EventRecord, FetchFault, Note, Refusal, Report, Successor,
};
pub use id::{CallbackId, DeliveryId, EventId, InvalidId, JobId, Millis, TaskId};
pub use job::{
    Attempts, Awaiting, Blocked, CallbackMemory, Cost, Due, Duty, FailCode, Job, Link, MAX_OUTPUTS, NewJob,
    Outcome, Output, Phase, Reservation, RetryMode, Status, StoredFile, Task, Times, Via, Why,
};
pub use retry::{FetchPolicy, Policy, PollPolicy};
