//! The embedded store: sled, one process, one writer.
//!
//! Everything lives in one tree under prefixed keys ([`keys`]), every value behind a checked header ([`value`]).
//! Requests are encoded where they arise, then judged one after the other by the [`committer`] against what its
//! group has written so far ([`txn`]), and answered once the group is on the disk. Reads go to the tree at once.

pub mod backup;
mod callback;
mod carve;
mod check;
mod claim;
mod committer;
mod due;
mod durable;
mod export;
mod hasten;
mod import;
mod keys;
mod ledger;
mod log;
mod offline;
mod oldest;
mod open;
mod outbox;
mod read;
mod rebuild;
mod record;
mod recover;
mod restored;
mod retain;
mod source;
mod space;
mod state;
mod stray;
#[cfg(test)]
mod tests;
mod txn;
mod value;
mod write;

pub use check::{Finding, Report, check};
pub use export::{Exported, export};
pub use import::import;
pub use offline::probe;
pub use recover::{Recovered, recover};
pub use restored::restored;

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use sled::Tree;
use tokio::sync::watch;

use self::{
    backup::{Backup, Status, Target},
    committer::{Committer, closed},
    oldest::Oldest,
    source::Source,
    space::Space,
    state::Published,
    txn::engine,
    value::Fault,
    write::{New, Write},
};
use super::{
    Arrival, Booked, CallbackFilter, CallbackRecord, Claim, ClaimedDelivery, Counts, DeliveryChanged,
    DeliveryClaim, DeliveryCounts, DeliveryFilter, EventFilter, EventPage, Heard, Insert, Inserted,
    JobFilter, Lane, Limits, LogBounds, Page, Replaced, SinkRecord, Store, StoreError,
};
use crate::{
    chaos::{self, Safeguard},
    config, disk,
    lifecycle::{
        CallbackId, Change, Delivery, DeliveryEvent, DeliveryId, Duty, EventRecord, Job, JobId, Millis,
        Policy, SinkState, TaskId,
    },
};

/// A store in a folder.
#[derive(Debug)]
pub struct SledStore {
    tree: Tree,
    committer: Committer,
    published: Arc<Published>,
    space: Space,
    oldest: Oldest,
    /// Behind the committer, which has to end before it.
    backup: Option<Backup>,
}

impl SledStore {
    /// Opens the store in the folder `[store] path`, which is made when missing, and gives back every claim of
    /// the process before: what was being sent becomes unknown, the rest due at `now`.
    ///
    /// # Errors
    /// [`Locked`](StoreError::Locked), [`Newer`](StoreError::Newer), or [`Unreadable`](StoreError::Unreadable),
    /// which deletes nothing.
    pub fn open(config: &config::Store, now: Millis, policy: &Arc<Policy>) -> Result<Self, StoreError> {
        open::open(config, None, now, policy)
    }

    /// The same, with a continuous backup in `target`. Nothing waits for it, and nothing fails because of it.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn open_with_backup(
        config: &config::Store,
        target: Target,
        now: Millis,
        policy: &Arc<Policy>,
    ) -> Result<Self, StoreError> {
        open::open(config, Some(target), now, policy)
    }

    /// How the backup does; none without one.
    #[must_use]
    pub fn backup(&self) -> Option<Arc<Status>> {
        self.backup.as_ref().map(|backup| Arc::clone(backup.status()))
    }

    /// Records that were damaged and are set aside.
    #[must_use]
    pub fn quarantined(&self) -> u64 {
        self.published.tally().quarantined
    }

    fn tree(&self) -> Result<&Tree, StoreError> {
        if self.published.closed() { Err(closed()) } else { Ok(&self.tree) }
    }

    /// Runs a long read where it holds up nobody.
    async fn reading<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Tree) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let tree = self.tree()?.clone();
        let done = tokio::task::spawn_blocking(move || read(&tree)).await;
        done.map_err(|error| StoreError::Unavailable(error.to_string()))?
    }

    async fn quarantine(&self, id: JobId) -> Result<(), StoreError> {
        self.committer.judge(move |txn| claim::quarantine(txn, id)).await
    }
}

#[async_trait]
impl Store for SledStore {
    async fn insert(&self, insert: Insert) -> Result<Inserted, StoreError> {
        self.space.for_new_work()?;
        let Insert { job, event, deliveries, document, key, limits } = insert;
        let new = New::of(&job, &event, &deliveries, Some(document))?;
        let found = self.committer.judge(move |txn| write::insert(txn, &new, key.as_ref(), &limits)).await?;
        Ok(found.unwrap_or_else(|| Inserted::New(Box::new(job))))
    }

    async fn load(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        let tree = self.tree()?;
        let damaged = || StoreError::Damaged(id.to_string());
        match record::read(tree, id) {
            Ok(None) => {
                let aside = Source::get(tree, &keys::quarantine(&keys::job(id))).map_err(engine)?;
                aside.map_or(Ok(None), |_| Err(damaged()))
            }
            Err(Fault::Damaged) => {
                self.quarantine(id).await?;
                record::read(tree, id).ok().flatten().map(Some).ok_or_else(damaged)
            }
            other => other.map_err(|fault| fault.of(|| id.to_string())),
        }
    }

    async fn document(&self, id: JobId) -> Result<Option<Bytes>, StoreError> {
        let document = value::read(self.tree()?, &keys::document(id));
        let document = document.map_err(|fault| fault.of(|| format!("the request of {id}")))?;
        let found = document.map(|document| Bytes::copy_from_slice(&document));
        // It is written once, with its job, and may have been seen before that was synced.
        if found.is_some() && !chaos::without(Safeguard::Claim) {
            self.barrier().await?;
        }
        Ok(found)
    }

    async fn by_task(&self, task: &TaskId) -> Result<Option<JobId>, StoreError> {
        write::task_owner(self.tree()?, task)
    }

    async fn replace_within(&self, change: Change, limits: Limits) -> Result<Replaced, StoreError> {
        self.space.for_work_under_way()?;
        let write = Write::within(&change, limits)?;
        self.committer.judge(move |txn| write::replace(txn, &write)).await
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Job>, StoreError> {
        if claim.duty == Duty::Deliver || claim.max == 0 {
            return Ok(Vec::new());
        }
        self.space.for_work_under_way()?;
        let kept = if claim.duty == Duty::Submit { Safeguard::Claim } else { Safeguard::Sync };
        self.committer.ask(move |txn| claim::claim(txn, &claim), kept).await
    }

    async fn next_due(&self, duty: Duty) -> Result<Option<Millis>, StoreError> {
        match claim::next_due(self.tree()?, duty)? {
            Some(next) => Ok(next),
            None => self.committer.judge(move |txn| claim::sweep(txn, duty)).await,
        }
    }

    async fn callback(&self, arrival: Arrival) -> Result<Heard, StoreError> {
        self.space.for_work_under_way()?;
        self.committer.judge(move |txn| callback::callback(txn, arrival)).await
    }

    async fn list(
        &self,
        filter: JobFilter,
        before: Option<JobId>,
        limit: usize,
    ) -> Result<Page<Job>, StoreError> {
        let reading = self.reading(move |tree| {
            let mut damaged = Vec::new();
            read::jobs(tree, &filter, before, limit, &mut damaged).map(|page| (page, damaged))
        });
        let (page, damaged) = reading.await?;
        for id in damaged {
            self.quarantine(id).await?;
        }
        Ok(page)
    }

    async fn callbacks(
        &self,
        filter: CallbackFilter,
        before: Option<CallbackId>,
        limit: usize,
    ) -> Result<Page<CallbackRecord>, StoreError> {
        self.reading(move |tree| read::callbacks(tree, &filter, before, limit)).await
    }

    async fn callback_body(&self, id: CallbackId) -> Result<Option<(CallbackRecord, Bytes)>, StoreError> {
        read::callback(self.tree()?, id)
    }

    async fn lanes(&self) -> Result<Vec<Lane>, StoreError> {
        // What nobody waits for is not looked for with every change.
        if self.published.tally().owed == 0 { Ok(Vec::new()) } else { read::lanes(self.tree()?) }
    }

    async fn claim_deliveries(&self, claim: DeliveryClaim) -> Result<Vec<ClaimedDelivery>, StoreError> {
        if claim.max == 0 {
            return Ok(Vec::new());
        }
        self.space.for_work_under_way()?;
        self.committer.judge(move |txn| outbox::claim(txn, &claim)).await
    }

    async fn change_delivery(
        &self,
        id: DeliveryId,
        event: DeliveryEvent,
        now: Millis,
        policy: &Arc<Policy>,
    ) -> Result<Option<DeliveryChanged>, StoreError> {
        self.space.for_work_under_way()?;
        let policy = Arc::clone(policy);
        self.committer.judge(move |txn| outbox::change(txn, id, &event, now, &policy.delivery)).await
    }

    async fn delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        outbox::read(self.tree()?, id).map_err(|fault| fault.of(|| id.to_string()))
    }

    async fn delivery_body(&self, id: DeliveryId) -> Result<Option<Bytes>, StoreError> {
        let body = value::read(self.tree()?, &keys::body(id));
        let body = body.map_err(|fault| fault.of(|| format!("the body of {id}")))?;
        Ok(body.map(|body| Bytes::copy_from_slice(&body)))
    }

    async fn deliveries(
        &self,
        filter: DeliveryFilter,
        before: Option<DeliveryId>,
        limit: usize,
    ) -> Result<Page<Delivery>, StoreError> {
        self.reading(move |tree| read::deliveries(tree, &filter, before, limit)).await
    }

    async fn delivery_counts(&self, job: JobId) -> Result<DeliveryCounts, StoreError> {
        outbox::counts(self.tree()?, job)
    }

    async fn sinks(&self) -> Result<Vec<SinkRecord>, StoreError> {
        read::sinks(self.tree()?)
    }

    async fn recover_sink(
        &self,
        name: &str,
        since: Millis,
        now: Millis,
        policy: &Arc<Policy>,
    ) -> Result<u64, StoreError> {
        let sink = name.to_owned();
        self.committer.judge(move |txn| outbox::put_sink(txn, &sink, &SinkState::default())).await?;
        let (mut replayed, mut from) = (0, Some(keys::delivery(DeliveryId::new(since, &[0; 10]))));
        while let Some(start) = from {
            let (lane, policy) = (name.to_owned(), Arc::clone(policy));
            let replay = move |txn: &mut txn::Txn| outbox::replay(txn, &lane, &start, now, &policy.delivery);
            let (more, next) = self.committer.judge(replay).await?;
            (replayed, from) = (replayed + more, next);
        }
        Ok(replayed)
    }

    async fn events(&self, after: u64, limit: usize, filter: EventFilter) -> Result<EventPage, StoreError> {
        let newest = self.published.newest();
        self.reading(move |tree| read::events(tree, after, newest, limit, &filter)).await
    }

    async fn log(&self, event: EventRecord, deliveries: Vec<Delivery>) -> Result<(), StoreError> {
        let owed = outbox::encoded(&deliveries)?;
        self.space.for_work_under_way()?;
        self.committer.judge(move |txn| outbox::log_owing(txn, &event, &owed)).await
    }

    async fn log_once(
        &self,
        name: &str,
        event: EventRecord,
        deliveries: Vec<Delivery>,
    ) -> Result<bool, StoreError> {
        let (name, owed) = (name.to_owned(), outbox::encoded(&deliveries)?);
        self.space.for_work_under_way()?;
        self.committer.judge(move |txn| outbox::log_once(txn, &name, &event, &owed)).await
    }

    async fn bounds(&self) -> Result<LogBounds, StoreError> {
        let newest = self.published.newest();
        let oldest = read::oldest(self.tree()?)?.filter(|oldest| *oldest <= newest);
        Ok(LogBounds { oldest: oldest.unwrap_or(newest + 1), newest })
    }

    async fn barrier(&self) -> Result<(), StoreError> {
        self.committer.judge(|_| Ok(())).await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        let key = keys::kept("probe");
        self.committer.judge(move |txn| txn.put(&key, &[])).await
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        self.tree().map(|_| self.published.tally().counts())
    }

    async fn oldest(&self) -> Result<BTreeMap<String, Millis>, StoreError> {
        let phases = self.counts().await?.phases.keys().filter(|phase| *phase != "done").count();
        let oldest = self.oldest.clone();
        self.reading(move |tree| oldest.look(tree, phases)).await
    }

    async fn size(&self) -> Result<Option<u64>, StoreError> {
        let folder = self.space.path().to_owned();
        self.reading(move |_| Ok(space::taken(&folder).ok())).await
    }

    async fn booked(&self, now: Millis) -> Result<Booked, StoreError> {
        ledger::booked(self.tree()?, now.day())
    }

    async fn keep(&self, name: &str, fresh: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        let name = name.to_owned();
        self.committer.judge(move |txn| write::keep(txn, &name, fresh)).await
    }

    async fn reclamp(&self, now: Millis, policy: &Arc<Policy>) -> Result<(), StoreError> {
        let mut rest = Some(hasten::all(now, policy));
        while let Some(part) = rest {
            let policy = Arc::clone(policy);
            rest = self.committer.judge(move |txn| hasten::step(txn, part, now, &policy)).await?;
        }
        Ok(())
    }

    fn wake(&self) -> watch::Receiver<u64> {
        self.published.wake()
    }

    fn disk(&self) -> Option<disk::Report> {
        Some(self.space.report())
    }

    async fn close(&self) {
        self.committer.close().await;
        self.published.close();
        if let Some(backup) = &self.backup {
            backup.close().await;
        }
    }
}
