//! What is known here of what is due, so that lanes need not ask the database again and again.
//!
//! What this instance writes is known at once; what others write, from the [beat](super::beat) at least every half
//! second. A time that is known may be too early, which costs a claim that finds nothing; then it is forgotten.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::row::lane;
use crate::{
    lifecycle::{Duty, Job, Millis},
    store,
};

/// One a duty; the first is nobody's.
const LANES: usize = Duty::Expire as usize + 1;

#[derive(Debug, Default)]
struct Lane {
    /// When the next is due, if that is known; `Some(None)`: nothing is.
    next: Option<Option<Millis>>,
    /// Rises with every write that touches this duty.
    writes: u64,
    /// The job that is next, if this instance wrote it and has it in hand.
    job: Option<Box<Job>>,
}

/// Where deliveries wait, if that is known, and the writes that touched any.
#[derive(Debug, Default)]
struct Waiting {
    lanes: Option<Vec<store::Lane>>,
    writes: u64,
}

#[derive(Debug)]
pub(super) struct Board {
    lanes: Mutex<[Lane; LANES]>,
    waiting: Mutex<Waiting>,
    wake: watch::Sender<u64>,
}

/// The writes of a lane before a look at the database.
#[derive(Clone, Copy, Debug)]
pub(super) struct Since(u64);

impl Board {
    pub(super) fn new() -> Self {
        Self { lanes: Mutex::default(), waiting: Mutex::default(), wake: watch::Sender::new(0) }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.wake.subscribe()
    }

    pub(super) fn wake(&self) {
        self.wake.send_modify(|changes| *changes += 1);
    }

    /// What is known of a duty, and since when.
    pub(super) fn next(&self, duty: Duty) -> (Option<Option<Millis>>, Since) {
        let lanes = self.lanes();
        let known = &lanes[lane(duty)];
        (known.next, Since(known.writes))
    }

    /// The job of a duty whose turn it is, as far as is known; asked for once.
    pub(super) fn take(&self, duty: Duty) -> Option<Box<Job>> {
        self.lanes()[lane(duty)].job.take()
    }

    /// A record was written that owed `was` before.
    pub(super) fn wrote(&self, was: Option<(u8, Millis)>, job: &Job) {
        let mut lanes = self.lanes();
        if let Some((duty, at)) = was
            && let Some(lane) = lanes.get_mut(usize::from(duty))
        {
            lane.writes += 1;
            lane.next = lane.next.filter(|next| *next != Some(at));
        }
        for due in job.dues() {
            let lane = &mut lanes[lane(due.duty)];
            lane.writes += 1;
            lane.next = lane.next.map(|next| Some(next.map_or(due.at, |next| next.min(due.at))));
            if due.urgent || lane.next.is_none_or(|next| next == Some(due.at)) {
                lane.job = Some(Box::new(job.clone()));
            }
        }
    }

    /// The database said when the next is due. Whether that is earlier than was known.
    pub(super) fn looked(&self, duty: Duty, next: Option<Millis>, since: Since) -> bool {
        let mut lanes = self.lanes();
        let lane = &mut lanes[lane(duty)];
        let before = lane.next;
        // What was written meanwhile may be missing in the answer, or gone.
        let earliest = |known: Option<Millis>| known.into_iter().chain(next).min();
        lane.next = if lane.writes == since.0 { Some(next) } else { before.map(earliest) };
        next.is_some_and(|next| before.is_none_or(|before| before.is_none_or(|before| next < before)))
    }

    /// A claim found nothing, so what is known is wrong.
    pub(super) fn forget(&self, duty: Duty) {
        self.lanes()[lane(duty)].next = None;
    }

    /// Where deliveries wait, if that is known.
    pub(super) fn waiting(&self) -> (Option<Vec<store::Lane>>, Since) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        (waiting.lanes.clone(), Since(waiting.writes))
    }

    /// The database said where deliveries wait.
    pub(super) fn saw_waiting(&self, lanes: &[store::Lane], since: Since) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.writes == since.0 {
            waiting.lanes = Some(lanes.to_vec());
        }
    }

    /// A delivery was written, or somebody else may have written one.
    pub(super) fn forget_waiting(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        (waiting.lanes, waiting.writes) = (None, waiting.writes + 1);
    }

    fn lanes(&self) -> MutexGuard<'_, [Lane; LANES]> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
