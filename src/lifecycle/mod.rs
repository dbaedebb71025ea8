//! The lifecycle of a job, pure: what may happen to it and what it owes next.
//!
//! A job's [`Phase`] says who owes what to whom. [`Job::dues`] derives from it the one thing to do and when;
//! [`Job::step`] is the only way from one record to the next. Nothing here reads a clock, draws a random number
//! or talks to anybody, so every interleaving can be replayed.

mod answer;
mod callback;
mod delivery;
mod draft;
mod event;
mod experience;
mod fetching;
mod id;
mod job;
mod notify;
mod phase;
mod retention;
mod retry;
mod sink;
mod step;

pub use delivery::{
    Answer, Attempt, Delivery, DeliveryChange, DeliveryEvent, DeliveryState, MAX_TRIES, SinkRule,
};
pub use event::{
    AskFault, Change, Event, EventKind, EventRecord, FetchFault, Note, Refusal, Report, Successor,
};
pub use experience::{Experience, Lesson, Turn};
pub use id::{CallbackId, DeliveryId, EventId, InvalidId, JobId, Millis, TaskId};
pub use job::{
    Attempts, Blocked, CallbackMemory, Cost, Job, NewJob, Reservation, RetryMode, Status, Task, Times, Via,
};
pub use notify::{MAX_NOTIFY, Notify, NotifyFormat, Secret, is_notify_lane};
pub use phase::{Awaiting, Due, Duty, FailCode, Link, MAX_OUTPUTS, Outcome, Output, Phase, StoredFile, Why};
pub use retention::{Past, Retention, cutoff};
pub use retry::{DeliveryPolicy, FetchPolicy, Policy, PollPolicy};
pub use sink::SinkState;
