//! How the backup does, for whoever watches it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::now;
use crate::lifecycle::Millis;

/// How the backup of a running store does.
#[derive(Debug)]
pub struct Status(Mutex<Known>);

#[derive(Debug)]
struct Known {
    /// Since when there has been something durable that is not in the backup.
    waiting_since: Option<Millis>,
    /// Since when the backup has had a hole that only a whole snapshot closes.
    open_since: Option<Millis>,
    /// Why the last upload failed, or groups were left out.
    trouble: Option<String>,
}

/// How it does at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What a lost disk would lose: the time since the oldest change that could not be restored. Zero when there is none.
    pub behind: Duration,
    /// Whether a snapshot and all that follows it are there.
    pub whole: bool,
    /// What is wrong, if anything.
    pub trouble: Option<String>,
}

impl Status {
    /// Of a backup of which nobody knows anything so far.
    pub(super) fn new() -> Self {
        Self(Mutex::new(Known { waiting_since: None, open_since: Some(now()), trouble: None }))
    }

    /// How it does now.
    #[must_use]
    pub fn report(&self) -> Report {
        let known = self.known();
        let since = known.waiting_since.into_iter().chain(known.open_since).min();
        let behind = since.map_or(0, |since| now().since(since).max(1));
        Report {
            behind: Duration::from_millis(behind.unsigned_abs()),
            whole: known.open_since.is_none(),
            trouble: known.trouble.clone(),
        }
    }

    /// A durable change waits to be uploaded. Older ones may come to be known later.
    pub(super) fn waits(&self, at: Millis) {
        let mut known = self.known();
        known.waiting_since = Some(known.waiting_since.map_or(at, |since| since.min(at)));
    }

    /// A durable change found no room.
    pub(super) fn left_out(&self, at: Millis) {
        let mut known = self.known();
        if known.open_since.is_none() {
            tracing::error!(
                "the backup cannot keep up with the store or its target is away: changes are left out of it until a new \
                 snapshot is whole; a disk that is lost meanwhile loses them"
            );
        }
        known.open_since.get_or_insert(at);
    }

    /// What waited is uploaded.
    pub(super) fn uploaded(&self) {
        self.known().waiting_since = None;
    }

    /// There is no whole snapshot to restore from.
    pub(super) fn opened(&self, at: Millis) {
        self.known().open_since.get_or_insert(at);
    }

    /// A snapshot is whole.
    pub(super) fn closed(&self) {
        self.known().open_since = None;
    }

    /// The target does not take it.
    pub(super) fn failed(&self, why: &str) {
        let mut known = self.known();
        if known.trouble.is_none() {
            tracing::warn!(
                why,
                "the backup of the store cannot be written and is tried again; nothing waits for it"
            );
        }
        known.trouble = Some(why.to_owned());
    }

    /// The target takes it.
    pub(super) fn succeeded(&self) {
        if self.known().trouble.take().is_some() {
            tracing::info!("the backup of the store is written again");
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
