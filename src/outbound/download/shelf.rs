//! Unfinished files between two attempts, and who works on which.
//!
//! A link that expires in the middle of a file costs an attempt, and the next comes with a fresh link: the part waits
//! here. It waits in memory with its file open, so nothing found on disk after a crash is ever trusted.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::time::Instant;

use super::{FetchFault, part::Part};
use crate::outbound::archive::{Archive, Lock};

/// Parts that wait at most; the oldest makes room.
const MAX_PARKED: usize = 16;

/// A part waits this long at most: it holds the lock that keeps other processes away from its file.
const MAX_PARKED_FOR: Duration = Duration::from_secs(600);

/// A job's id and the place of the output in its answer.
pub(super) type Id = (String, usize);

#[derive(Debug)]
enum Slot {
    Claimed,
    Parked(Box<Parked>),
}

#[derive(Debug)]
struct Parked {
    part: Part,
    lock: Lock,
    since: Instant,
}

/// The unfinished files of this process.
#[derive(Debug)]
pub(super) struct Shelf {
    archive: Arc<Archive>,
    slots: Mutex<HashMap<Id, Slot>>,
}

/// The sole right to work on an output, with the part that had been parked. Ends with [`Claim::park`] or
/// [`Claim::clear`]; dropping it (the caller was cancelled) removes the part too.
#[derive(Debug)]
pub(super) struct Claim {
    shelf: Arc<Shelf>,
    id: Id,
    pub(super) part: Option<Part>,
    lock: Option<Lock>,
    /// False once the part is parked: the slot may then be another claim's.
    owns_slot: bool,
}

impl Shelf {
    pub(super) fn new(archive: Arc<Archive>) -> Arc<Self> {
        Arc::new(Self { archive, slots: Mutex::default() })
    }

    /// Claims an output whose file names begin with `stem`.
    ///
    /// # Errors
    /// [`FetchFault::Busy`] while another claim lives, here or in another process; [`FetchFault::Storage`].
    pub(super) async fn claim(self: &Arc<Self>, id: Id, stem: &str) -> Result<Claim, FetchFault> {
        let parked = match self.slots().insert(id.clone(), Slot::Claimed) {
            Some(Slot::Claimed) => return Err(FetchFault::Busy),
            Some(Slot::Parked(parked)) => Some(*parked),
            None => None,
        };
        let mut claim = Claim { shelf: Arc::clone(self), id, part: None, lock: None, owns_slot: true };
        (claim.part, claim.lock) = match parked {
            Some(Parked { part, lock, .. }) => (Some(part), Some(lock)),
            None => (None, Some(self.archive.lock(stem).await?.ok_or(FetchFault::Busy)?)),
        };
        Ok(claim)
    }

    /// Removes the parked parts of a job.
    pub(super) async fn forget(&self, job_id: &str) {
        self.remove_where(|id, _| id.0 == job_id).await;
    }

    async fn remove_where(&self, mut is_due: impl FnMut(&Id, Instant) -> bool) {
        let removed: Vec<_> = self
            .slots()
            .extract_if(|id, slot| matches!(slot, Slot::Parked(parked) if is_due(id, parked.since)))
            .collect();
        for (_, slot) in removed {
            if let Slot::Parked(parked) = slot {
                remove(Some(parked.part), Some(parked.lock)).await;
            }
        }
    }

    /// When the part was parked that has to make room, if one has to.
    fn overflow(&self) -> Option<Instant> {
        let slots = self.slots();
        let parked = slots.values().filter_map(|slot| match slot {
            Slot::Parked(parked) => Some(parked.since),
            Slot::Claimed => None,
        });
        let times: Vec<_> = parked.collect();
        (times.len() > MAX_PARKED).then(|| times.into_iter().min()).flatten()
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Id, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// Keeps the part for the next attempt.
    pub(super) async fn park(mut self) {
        let Some(mut part) = self.part.take() else { return self.clear().await };
        if !part.is_spooled()
            && let Err(error) = part.rest().await
        {
            tracing::warn!(job_id = self.id.0, %error, "a part is dropped, since it cannot be written");
            self.part = Some(part);
            return self.clear().await;
        }
        let Some(lock) = self.lock.take() else { return };
        let shelf = Arc::clone(&self.shelf);
        self.owns_slot = false;
        let parked = Parked { part, lock, since: Instant::now() };
        shelf.slots().insert(self.id.clone(), Slot::Parked(Box::new(parked)));
        if let Some(oldest) = shelf.overflow() {
            shelf.remove_where(|_, since| since <= oldest).await;
        }
        tokio::spawn(expire(Arc::downgrade(&shelf)));
    }

    /// Removes the part, where there still is one, and gives the right back.
    pub(super) async fn clear(mut self) {
        remove(self.part.take(), self.lock.take()).await;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.owns_slot {
            self.shelf.slots().remove(&self.id);
        }
    }
}

async fn remove(part: Option<Part>, lock: Option<Lock>) {
    let removed = match part {
        Some(part) => part.discard().await,
        None => true,
    };
    let Some(lock) = lock else { return };
    match if removed { Ok(()) } else { lock.remove_staging() } {
        Ok(()) => lock.release(),
        // The lock file stays, so that the next start tries again.
        Err(error) => tracing::warn!(%error, "a staging file cannot be removed"),
    }
}

async fn expire(shelf: Weak<Shelf>) {
    tokio::time::sleep(MAX_PARKED_FOR).await;
    if let Some(shelf) = shelf.upgrade() {
        let now = Instant::now();
        shelf.remove_where(|_, since| now.duration_since(since) >= MAX_PARKED_FOR).await;
    }
}
