//! A store in memory, for simulations: what it does is the contract's, when it does it is the test's.
//!
//! It passes the same conformance list as the embedded store. By hand, nothing is durable before [`Disk::sync`], every
//! call gives way to others first, and [`Disk::crash`] takes back what was not synced.

#![allow(dead_code, clippy::unwrap_used, reason = "each test binary uses its part; a test may panic")]

mod outbox;
mod read;
mod requests;
mod retain;
mod table;
mod tables;

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
};

use async_trait::async_trait;
use bytes::Bytes;
use reelhook::{
    disk,
    lifecycle::{
        CallbackId, Change, Delivery, DeliveryEvent, DeliveryId, Duty, EventRecord, Job, JobId, Millis,
        Policy, TaskId,
    },
    store::{
        Arrival, Booked, CallbackFilter, CallbackRecord, Claim, ClaimedDelivery, Counts, DeliveryChanged,
        DeliveryClaim, DeliveryCounts, DeliveryFilter, EventFilter, EventPage, Heard, Insert, Inserted,
        JobFilter, Lane, Limits, LogBounds, Page, Replaced, SinkRecord, Store, StoreError,
    },
};
pub(crate) use tables::Tables;
use tokio::sync::watch;

/// A record that is being written.
pub(crate) struct Written<'a> {
    pub(crate) before: Option<&'a Job>,
    pub(crate) after: &'a Job,
    pub(crate) events: &'a [EventRecord],
    /// Jobs in flight, this one included.
    pub(crate) in_flight: u64,
    /// Credits booked on the day of its booking and in that month, its own included.
    pub(crate) booked: Booked,
}

/// A rule of the contract that is broken on purpose, to see that somebody notices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fault {
    #[default]
    None,
    /// Everything but claims is acknowledged before it is durable.
    AcknowledgesEarly,
    /// Claims are, and the request that is read next, which would wait for them.
    ClaimsEarly,
    /// A change is written over whatever revision is there.
    SwapsBlindly,
    /// Budgets are not judged with an insert.
    InsertsBeyondBudgets,
    /// Budgets are not judged with a replacement.
    ReplacesBeyondBudgets,
    /// More may be sent than may be in flight.
    ClaimsWithoutBound,
    /// A create call's lease that lapses brings the job back to the queue.
    RequeuesSending,
    /// A callback's log entry is written, what it does to its job is not.
    DropsNotes,
    /// Numbers of the event log are left out.
    SkipsNumbers,
    /// Whoever answers is told that it holds the claim.
    LendsLeases,
}

#[derive(Default)]
struct Inner {
    tables: Tables,
    by_hand: bool,
    /// The store is away: every request fails.
    away: bool,
    /// So many requests are carried out and answered by an error.
    unsure: u32,
    /// Rises with every opening and every crash: a store of another time is closed.
    epoch: u64,
    written: u64,
    synced: u64,
    /// Number of the newest durable event.
    durable: u64,
    waiting: Vec<Waker>,
    /// Of the claim that the caller answers, for [`Fault::LendsLeases`].
    answers_for: Option<u64>,
}

impl Inner {
    fn sync(&mut self) {
        self.synced = self.written;
        self.durable = self.tables.newest();
        self.tables.sync();
        self.waiting.drain(..).for_each(Waker::wake);
    }
}

/// What outlives a process.
#[derive(Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<Inner>>);

impl Disk {
    /// A disk on which nothing happens but by hand.
    pub(crate) fn by_hand(fault: Fault, observer: tables::Observer) -> Self {
        let disk = Self::default();
        let mut inner = disk.lock();
        inner.by_hand = true;
        inner.tables.fault = fault;
        inner.tables.observer = Some(observer);
        drop(inner);
        disk
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// Opens the store, which gives back every claim of the process before.
    pub(crate) fn start(&self, now: Millis, policy: &Policy) -> MemoryStore {
        let mut inner = self.lock();
        inner.epoch += 1;
        inner.unsure = 0;
        inner.tables.release_leases(now, policy);
        inner.tables.release_deliveries(now, policy);
        inner.written += 1;
        inner.sync();
        MemoryStore { disk: self.clone(), epoch: inner.epoch, wake: watch::Sender::new(0) }
    }

    /// Makes durable what was written, and answers whoever waits for it.
    pub(crate) fn sync(&self) {
        self.lock().sync();
    }

    /// Whether anybody waits for a sync.
    pub(crate) fn owes_a_sync(&self) -> bool {
        !self.lock().waiting.is_empty()
    }

    /// The power fails: what was not synced is gone, and who waited for it hears nothing.
    pub(crate) fn crash(&self) {
        let mut inner = self.lock();
        inner.epoch += 1;
        inner.tables.crash();
        inner.written = inner.synced;
        inner.waiting.clear();
    }

    pub(crate) fn set_away(&self, away: bool) {
        self.lock().away = away;
    }

    /// The next requests are carried out, but whoever asked for them is told that they failed.
    pub(crate) fn lose_answers(&self, requests: u32) {
        self.lock().unsure = requests;
    }

    pub(crate) fn answers_for(&self, lease: Option<u64>) {
        self.lock().answers_for = lease;
    }

    /// Looks at everything.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Tables) -> T) -> T {
        look(&self.lock().tables)
    }
}

/// A disk that is open.
pub(crate) struct MemoryStore {
    disk: Disk,
    epoch: u64,
    wake: watch::Sender<u64>,
}

/// Lets others go first, once.
#[derive(Default)]
pub(crate) struct Turn(bool);

impl Future for Turn {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("it is closed".into())
}

impl MemoryStore {
    async fn turn(&self) {
        let by_hand = self.disk.lock().by_hand;
        if by_hand {
            Turn::default().await;
        }
    }

    fn open(&self) -> Result<MutexGuard<'_, Inner>, StoreError> {
        let inner = self.disk.lock();
        match () {
            () if inner.epoch != self.epoch => Err(closed()),
            () if inner.away => Err(StoreError::Unavailable("the disk is away".into())),
            () => Ok(inner),
        }
    }

    async fn read<T>(&self, read: impl FnOnce(&Inner) -> T + Send) -> Result<T, StoreError> {
        self.turn().await;
        self.open().map(|inner| read(&inner))
    }

    /// Judges a request against everything before it; what it saw and wrote is durable when this returns.
    async fn judge<T>(
        &self,
        claims: bool, // or reads what a claim needs
        judge: impl FnOnce(&mut Tables) -> Result<T, StoreError> + Send,
    ) -> Result<T, StoreError> {
        self.turn().await;
        let (verdict, seen) = {
            let mut inner = self.open()?;
            let verdict = judge(&mut inner.tables);
            inner.written += 1;
            let fault = inner.tables.fault;
            let early = fault == if claims { Fault::ClaimsEarly } else { Fault::AcknowledgesEarly };
            if !inner.by_hand {
                inner.sync();
            }
            (verdict, if early { 0 } else { inner.written })
        };
        poll_fn(|context| {
            let mut inner = self.disk.lock();
            if inner.epoch != self.epoch {
                return Poll::Ready(Err(closed()));
            }
            if inner.synced >= seen {
                return Poll::Ready(Ok(()));
            }
            inner.waiting.push(context.waker().clone());
            Poll::Pending
        })
        .await?;
        self.wake.send_modify(|changes| *changes += 1);
        let mut inner = self.disk.lock();
        if inner.unsure > 0 {
            inner.unsure -= 1;
            return Err(StoreError::Unavailable("the answer was lost".into()));
        }
        verdict
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn insert(&self, insert: Insert) -> Result<Inserted, StoreError> {
        self.judge(false, |tables| tables.insert(insert)).await
    }

    async fn load(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        let lent = |inner: &Inner, mut job: Job| {
            let lends = inner.tables.fault == Fault::LendsLeases && job.lease.is_some();
            if let (true, Some(lease)) = (lends, inner.answers_for) {
                job.lease = Some(lease);
            }
            job
        };
        self.read(|inner| inner.tables.job(id).map(|job| lent(inner, job.clone()))).await
    }

    async fn document(&self, id: JobId) -> Result<Option<Bytes>, StoreError> {
        self.judge(true, |tables| Ok(tables.jobs.get(&id).and_then(|row| row.document.clone()))).await
    }

    async fn by_task(&self, task: &TaskId) -> Result<Option<JobId>, StoreError> {
        self.read(|inner| inner.tables.owner(task)).await
    }

    async fn replace_within(&self, change: Change, limits: Limits) -> Result<Replaced, StoreError> {
        self.judge(false, |tables| tables.replace_within(change, &limits)).await
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Job>, StoreError> {
        self.judge(true, |tables| Ok(tables.claim(&claim))).await
    }

    async fn next_due(&self, duty: Duty) -> Result<Option<Millis>, StoreError> {
        self.read(|inner| inner.tables.next_due(duty)).await
    }

    async fn callback(&self, arrival: Arrival) -> Result<Heard, StoreError> {
        self.judge(false, |tables| tables.callback(arrival)).await
    }

    async fn list(
        &self,
        filter: JobFilter,
        before: Option<JobId>,
        limit: usize,
    ) -> Result<Page<Job>, StoreError> {
        self.read(|inner| read::jobs(&inner.tables, &filter, before, limit)).await
    }

    async fn callbacks(
        &self,
        filter: CallbackFilter,
        before: Option<CallbackId>,
        limit: usize,
    ) -> Result<Page<CallbackRecord>, StoreError> {
        self.read(|inner| read::callbacks(&inner.tables, &filter, before, limit)).await
    }

    async fn callback_body(&self, id: CallbackId) -> Result<Option<(CallbackRecord, Bytes)>, StoreError> {
        self.read(|inner| inner.tables.callbacks.get(id.as_bytes()).map(|entry| (**entry).clone())).await
    }

    async fn lanes(&self) -> Result<Vec<Lane>, StoreError> {
        self.read(|inner| inner.tables.lanes()).await
    }

    async fn claim_deliveries(&self, claim: DeliveryClaim) -> Result<Vec<ClaimedDelivery>, StoreError> {
        self.judge(true, |tables| Ok(tables.claim_deliveries(&claim))).await
    }

    async fn change_delivery(
        &self,
        id: DeliveryId,
        event: DeliveryEvent,
        now: Millis,
        policy: &Arc<Policy>,
    ) -> Result<Option<DeliveryChanged>, StoreError> {
        self.judge(false, |tables| Ok(tables.change_delivery(id, &event, now, policy))).await
    }

    async fn delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        self.read(|inner| inner.tables.deliveries.get(&id).cloned()).await
    }

    async fn delivery_body(&self, id: DeliveryId) -> Result<Option<Bytes>, StoreError> {
        self.read(|inner| inner.tables.bodies.get(&id).cloned()).await
    }

    async fn deliveries(
        &self,
        filter: DeliveryFilter,
        before: Option<DeliveryId>,
        limit: usize,
    ) -> Result<Page<Delivery>, StoreError> {
        self.read(|inner| inner.tables.list_deliveries(&filter, before, limit)).await
    }

    async fn delivery_counts(&self, job: JobId) -> Result<DeliveryCounts, StoreError> {
        self.read(|inner| inner.tables.delivery_counts(job)).await
    }

    async fn sinks(&self) -> Result<Vec<SinkRecord>, StoreError> {
        self.read(|inner| inner.tables.sink_records()).await
    }

    async fn recover_sink(
        &self,
        name: &str,
        since: Millis,
        now: Millis,
        policy: &Arc<Policy>,
    ) -> Result<u64, StoreError> {
        self.judge(false, |tables| Ok(tables.recover_sink(name, since, now, policy))).await
    }

    async fn events(&self, after: u64, limit: usize, filter: EventFilter) -> Result<EventPage, StoreError> {
        self.read(|inner| read::events(&inner.tables, after, inner.durable, limit, &filter)).await
    }

    async fn log(&self, event: EventRecord, deliveries: Vec<Delivery>) -> Result<(), StoreError> {
        self.judge(false, |tables| tables.log_alone(event, deliveries)).await
    }

    async fn log_once(
        &self,
        name: &str,
        event: EventRecord,
        owed: Vec<Delivery>,
    ) -> Result<bool, StoreError> {
        self.judge(false, |tables| tables.log_once(name, event, owed)).await
    }

    async fn bounds(&self) -> Result<LogBounds, StoreError> {
        self.read(|inner| LogBounds { oldest: inner.tables.oldest(), newest: inner.durable }).await
    }

    async fn barrier(&self) -> Result<(), StoreError> {
        self.judge(false, |_| Ok(())).await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.barrier().await
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        self.read(|inner| inner.tables.counts()).await
    }

    async fn booked(&self, now: Millis) -> Result<Booked, StoreError> {
        let day = now.day();
        self.read(|inner| inner.tables.booked(day)).await
    }

    async fn keep(&self, name: &str, fresh: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        self.judge(false, |tables| Ok(tables.keep(name, fresh))).await
    }

    async fn reclamp(&self, now: Millis, policy: &Arc<Policy>) -> Result<(), StoreError> {
        self.judge(false, |tables| {
            tables.reclamp(now, policy);
            Ok(())
        })
        .await
    }

    fn wake(&self) -> watch::Receiver<u64> {
        self.wake.subscribe()
    }

    fn disk(&self) -> Option<disk::Report> {
        None
    }

    async fn close(&self) {
        let mut inner = self.disk.lock();
        if inner.epoch == self.epoch {
            inner.sync();
            inner.epoch += 1;
        }
    }
}
