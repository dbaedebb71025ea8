//! What the committer knows without looking: where the log stands, how many jobs are where.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::record::{Card, OUTCOMES, PHASES};
pub(super) use crate::store::transfer::LIFT;
use crate::{
    lifecycle::{CallbackId, DeliveryState, Millis},
    store::Counts,
};

/// Ends of the log, written with every group that moves them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Head {
    /// Number of the newest event.
    pub(super) newest: u64,
    /// The last time that something durable named.
    pub(super) clock: Option<Millis>,
    /// Id of the newest entry of the inbound log.
    pub(super) heard: Option<CallbackId>,
    /// Number of the newest event that was removed after its time.
    pub(super) swept: u64,
    /// Jobs that were forgotten after their time: what they cost stays booked.
    pub(super) forgotten: u64,
}

/// Numbers of jobs, written with every group that moves them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    phases: [u64; PHASES.len()],
    outcomes: [u64; OUTCOMES.len()],
    /// Deliveries that are owed.
    pub(super) owed: u64,
    /// Records set aside.
    pub(super) quarantined: u64,
    /// A record was lost to damage with its card, or a page of the due index: count anew at the next start, and make the
    /// index anew.
    pub(super) recount: bool,
}

/// [`Tally`] with names in place of positions.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct StoredTally {
    #[serde(flatten)]
    counts: Counts,
    quarantined: u64,
    recount: bool,
}

impl Tally {
    /// One that cannot be trusted.
    pub(super) fn after_damage(quarantined: u64) -> Self {
        Self { quarantined, recount: true, ..Self::default() }
    }

    /// One record goes and another comes.
    pub(super) fn moved(&mut self, from: Option<&Card>, to: Option<&Card>) {
        for (card, step) in [(from, -1), (to, 1)] {
            let Some(card) = card else { continue };
            if let Some(count) = self.phases.get_mut(usize::from(card.phase)) {
                *count = count.saturating_add_signed(step);
            }
            if let Some(count) = card.outcome.and_then(|at| self.outcomes.get_mut(usize::from(at))) {
                *count = count.saturating_add_signed(step);
            }
        }
    }

    /// One delivery goes and another comes.
    pub(super) fn owes(&mut self, from: Option<DeliveryState>, to: Option<DeliveryState>) {
        for (state, step) in [(from, -1), (to, 1)] {
            if state == Some(DeliveryState::Pending) {
                self.owed = self.owed.saturating_add_signed(step);
            }
        }
    }

    /// Jobs that owe a create call.
    pub(super) fn queued(&self) -> u64 {
        self.phases[0]
    }

    /// Jobs in flight, as [`Counts::in_flight`] has it.
    pub(super) fn in_flight(&self) -> u64 {
        self.phases[1] + self.phases[2] + self.phases[4]
    }

    pub(super) fn counts(&self) -> Counts {
        let phases = PHASES.iter().zip(self.phases).filter(|(_, count)| *count > 0);
        let outcomes = OUTCOMES.iter().zip(self.outcomes).filter(|(_, count)| *count > 0);
        Counts {
            phases: phases.map(|(name, count)| ((*name).to_owned(), count)).collect(),
            outcomes: outcomes.map(|(name, count)| ((*name).to_owned(), count)).collect(),
            owed: self.owed,
        }
    }

    pub(super) fn stored(&self) -> StoredTally {
        StoredTally { counts: self.counts(), quarantined: self.quarantined, recount: self.recount }
    }
}

impl From<StoredTally> for Tally {
    fn from(stored: StoredTally) -> Self {
        Self {
            phases: PHASES.map(|name| stored.counts.phase(name)),
            outcomes: OUTCOMES.map(|name| stored.counts.outcomes.get(name).copied().unwrap_or(0)),
            owed: stored.counts.owed,
            quarantined: stored.quarantined,
            recount: stored.recount,
        }
    }
}

/// Both, as a group finds and leaves them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) head: Head,
    pub(super) tally: Tally,
}

/// What of it is durable, for readers.
#[derive(Debug)]
pub(super) struct Published {
    newest: AtomicU64,
    tally: Mutex<Tally>,
    wake: watch::Sender<u64>,
    closed: AtomicBool,
}

impl Published {
    pub(super) fn new(state: &State) -> Self {
        Self {
            newest: AtomicU64::new(state.head.newest),
            tally: Mutex::new(state.tally),
            wake: watch::Sender::new(0),
            closed: AtomicBool::new(false),
        }
    }

    /// A group that wrote is durable.
    pub(super) fn publish(&self, state: &State) {
        self.newest.store(state.head.newest, Ordering::Release);
        *self.tally.lock().unwrap_or_else(PoisonError::into_inner) = state.tally;
        self.wake.send_modify(|groups| *groups += 1);
    }

    pub(super) fn newest(&self) -> u64 {
        self.newest.load(Ordering::Acquire)
    }

    pub(super) fn tally(&self) -> Tally {
        *self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wake(&self) -> watch::Receiver<u64> {
        self.wake.subscribe()
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(super) fn closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_counts_as_its_named_form_does_and_reads_back() {
        let mut tally = Tally::default();
        for phase in 0..7 {
            for _ in 0..=phase {
                let outcome = (phase == 6).then_some(1);
                let card = Card { revision: 1, phase, outcome, leased: false, task: 0, dues: [None; 2] };
                tally.moved(None, Some(&card));
            }
        }
        let counts = tally.counts();
        assert_eq!((tally.queued(), tally.in_flight()), (counts.phase("queued"), counts.in_flight()));
        assert_eq!((tally.in_flight(), counts.outcomes["failed"]), (2 + 3 + 5, 7));
        let json = serde_json::to_vec(&tally.stored()).unwrap();
        assert_eq!(Tally::from(serde_json::from_slice::<StoredTally>(&json).unwrap()), tally);
    }
}
