//! The shared store: PostgreSQL, any number of instances.
//!
//! One table a kind of thing ([migrations](../migrations)), and functions there that write one change each. A record is
//! text that only reelhook reads; [`row`] makes the document of which the database makes rows. Every request is one
//! round trip ([`link`]), but for claims and callbacks, which are judged here while the database holds the lock: two, and
//! callbacks that come at the same time share them ([`together`]).

mod beat;
mod board;
mod callback;
mod claim;
mod gate;
mod import;
mod link;
mod open;
mod outbox;
mod read;
mod requests;
mod restored;
mod retain;
mod row;
mod together;
mod write;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::Row as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::{import::import, restored::restored};

pub use open::probe;

use self::{
    beat::Log,
    board::Board,
    link::{Link, Trouble, bytes, text},
    requests::Requests,
    row::{Writer, column},
    together::Together,
};
use super::{
    Arrival, Booked, CallbackFilter, CallbackRecord, Claim, ClaimedDelivery, Counts, DeliveryChanged,
    DeliveryClaim, DeliveryCounts, DeliveryFilter, EventFilter, EventPage, Gate, Heard, Insert, Inserted,
    JobFilter, Lane, Limits, LogBounds, Page, Replaced, SinkRecord, Store, StoreError,
};
use crate::{
    clock::Clock,
    config, disk,
    lifecycle::{
        CallbackId, Change, Delivery, DeliveryEvent, DeliveryId, Duty, EventRecord, Job, JobId, Millis,
        Policy, TaskId,
    },
};

/// A store in a database, shared with other instances.
#[derive(Debug)]
pub struct PostgresStore {
    link: Arc<Link>,
    board: Arc<Board>,
    log: Arc<Log>,
    gate: Arc<gate::Gate>,
    clock: Clock,
    requests: Requests,
    writer: Writer,
    together: Together,
    /// This instance, while this process runs it.
    process: String,
    stop: CancellationToken,
}

impl PostgresStore {
    /// Opens the store and has `clock` follow the database's. Calls to the upstream keep a distance of `every`, over all
    /// instances. No claim of another instance is touched: each ends by its own lease.
    ///
    /// # Errors
    /// [`Unsafe`](StoreError::Unsafe), [`Newer`](StoreError::Newer), or [`Unavailable`](StoreError::Unavailable).
    pub async fn open(config: &config::Database, clock: Clock, every: Duration) -> Result<Self, StoreError> {
        let config = config.clone();
        let runtime = tokio::runtime::Handle::current();
        // On a thread of its own: the compiler cannot tell that the migrations may move from one to another.
        let opening = move || runtime.block_on(open::open(config, clock, every));
        let opened = tokio::task::spawn_blocking(opening).await;
        opened.map_err(|error| StoreError::Unavailable(error.to_string()))?
    }

    /// Round trips that requests made to the database so far; numbering the log and looking around are not among them.
    #[must_use]
    pub fn round_trips(&self) -> u64 {
        self.link.trips()
    }

    /// What this instance is called in the timeline; the database's list of connections has it with an ending.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.writer.instance
    }

    /// Notes what a write that is committed means to whoever waits here.
    fn wrote(&self, was: Option<(u8, Millis)>, job: &Job) {
        self.board.wrote(was, job);
        self.log.wrote();
        self.board.wake();
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn insert(&self, insert: Insert) -> Result<Inserted, StoreError> {
        self.put(insert).await
    }

    async fn load(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        let rows = self.link.ask(&format!("SELECT record FROM jobs WHERE id = '{}'", row::uuid(id))).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let record: String = row.try_get(0).map_err(Trouble::from)?;
        row::decode(&record, id).map(Some)
    }

    async fn document(&self, id: JobId) -> Result<Option<Bytes>, StoreError> {
        self.request(id).await
    }

    async fn by_task(&self, task: &TaskId) -> Result<Option<JobId>, StoreError> {
        let sql = format!("SELECT id FROM jobs WHERE owned_task = {}", text(&column(&task.0)));
        let rows = self.link.ask(&sql).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let id: uuid::Uuid = row.try_get(0).map_err(Trouble::from)?;
        Ok(Some(JobId::from_bytes(id.into_bytes())))
    }

    async fn replace_within(&self, change: Change, limits: Limits) -> Result<Replaced, StoreError> {
        self.change(change, limits).await
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Job>, StoreError> {
        if claim.duty == Duty::Deliver || claim.max == 0 {
            return Ok(Vec::new());
        }
        self.take(claim).await
    }

    async fn next_due(&self, duty: Duty) -> Result<Option<Millis>, StoreError> {
        self.due(duty).await
    }

    async fn callback(&self, arrival: Arrival) -> Result<Heard, StoreError> {
        self.hear(arrival).await
    }

    async fn list(
        &self,
        filter: JobFilter,
        before: Option<JobId>,
        limit: usize,
    ) -> Result<Page<Job>, StoreError> {
        self.jobs(&filter, before, limit).await
    }

    async fn callbacks(
        &self,
        filter: CallbackFilter,
        before: Option<CallbackId>,
        limit: usize,
    ) -> Result<Page<CallbackRecord>, StoreError> {
        self.calls(&filter, before, limit).await
    }

    async fn callback_body(&self, id: CallbackId) -> Result<Option<(CallbackRecord, Bytes)>, StoreError> {
        self.call(id).await
    }

    async fn events(&self, after: u64, limit: usize, filter: EventFilter) -> Result<EventPage, StoreError> {
        self.logged(after, limit, &filter).await
    }

    async fn log(&self, event: EventRecord, deliveries: Vec<Delivery>) -> Result<(), StoreError> {
        self.note(&event, &deliveries).await
    }

    async fn log_once(
        &self,
        name: &str,
        event: EventRecord,
        deliveries: Vec<Delivery>,
    ) -> Result<bool, StoreError> {
        self.note_once(name, &event, &deliveries).await
    }

    async fn bounds(&self) -> Result<LogBounds, StoreError> {
        self.ends().await
    }

    /// The database shows nothing that is not durable.
    async fn barrier(&self) -> Result<(), StoreError> {
        if self.link.is_closed() { Err(StoreError::Unavailable("it is closed".to_owned())) } else { Ok(()) }
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.link.ask(open::PROBE).await?;
        Ok(())
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        self.sums().await
    }

    async fn oldest(&self) -> Result<BTreeMap<String, Millis>, StoreError> {
        self.oldest_open().await
    }

    async fn size(&self) -> Result<Option<u64>, StoreError> {
        let row = self.link.ask_one("SELECT pg_database_size(current_database())").await?;
        Ok(u64::try_from(row.try_get::<i64, _>(0).map_err(Trouble::from)?).ok())
    }

    async fn booked(&self, now: Millis) -> Result<Booked, StoreError> {
        let day = now.day();
        let row = self.link.ask_one(&format!("SELECT today, in_month FROM booked({day}::int)")).await?;
        let credits = |name: &str| {
            let credits: i64 = row.try_get(name).map_err(Trouble::from)?;
            Ok::<_, StoreError>(u64::try_from(credits).unwrap_or(0))
        };
        Ok(Booked { day: credits("today")?, month: credits("in_month")? })
    }

    async fn keep(&self, name: &str, fresh: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        let (name, fresh) = (text(name), bytes(&fresh));
        let sql = format!(
            "INSERT INTO kept VALUES ({name}, {fresh}) ON CONFLICT DO NOTHING; SELECT value FROM kept WHERE name = {name}"
        );
        let row = self.link.ask_one(&sql).await?;
        Ok(row.try_get(0).map_err(Trouble::from)?)
    }

    async fn reclamp(&self, now: Millis, policy: &Arc<Policy>) -> Result<(), StoreError> {
        while self.cut_waits(now.plus(policy.longest_wait()), now).await? {}
        while self.hasten(now, &policy.delivery).await? {}
        Ok(())
    }

    fn wake(&self) -> watch::Receiver<u64> {
        self.board.subscribe()
    }

    fn disk(&self) -> Option<disk::Report> {
        None
    }

    fn gate(&self) -> Option<&dyn Gate> {
        Some(&*self.gate)
    }

    async fn lanes(&self) -> Result<Vec<Lane>, StoreError> {
        self.waiting().await
    }

    async fn claim_deliveries(&self, claim: DeliveryClaim) -> Result<Vec<ClaimedDelivery>, StoreError> {
        self.take_deliveries(claim).await
    }

    async fn change_delivery(
        &self,
        id: DeliveryId,
        event: DeliveryEvent,
        now: Millis,
        policy: &Arc<Policy>,
    ) -> Result<Option<DeliveryChanged>, StoreError> {
        self.step_delivery(id, &event, now, &policy.delivery).await
    }

    async fn delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        let sql = format!("SELECT record FROM deliveries WHERE id = '{}'", outbox::key(id));
        let rows = self.link.ask(&sql).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let record: String = row.try_get(0).map_err(Trouble::from)?;
        row::decode(&record, id).map(Some)
    }

    async fn delivery_body(&self, id: DeliveryId) -> Result<Option<Bytes>, StoreError> {
        let sql = format!("SELECT body FROM deliveries WHERE id = '{}'", outbox::key(id));
        let rows = self.link.ask(&sql).await?;
        let body = rows.first().map(|row| row.try_get::<Option<Vec<u8>>, _>(0)).transpose();
        Ok(body.map_err(Trouble::from)?.flatten().map(Bytes::from))
    }

    async fn deliveries(
        &self,
        filter: DeliveryFilter,
        before: Option<DeliveryId>,
        limit: usize,
    ) -> Result<Page<Delivery>, StoreError> {
        self.debts(&filter, before, limit).await
    }

    async fn delivery_counts(&self, job: JobId) -> Result<DeliveryCounts, StoreError> {
        self.delivery_sums(job).await
    }

    async fn sinks(&self) -> Result<Vec<SinkRecord>, StoreError> {
        self.sink_records().await
    }

    async fn recover_sink(
        &self,
        name: &str,
        since: Millis,
        now: Millis,
        policy: &Arc<Policy>,
    ) -> Result<u64, StoreError> {
        self.recover(name, since, now, policy).await
    }

    async fn close(&self) {
        if !self.link.is_closed()
            && let Err(error) = self.release_deliveries(Millis(self.clock.now_ms())).await
        {
            tracing::warn!(%error, "deliveries that are under way come back by their leases");
        }
        self.stop.cancel();
        self.link.close();
        self.board.wake();
    }
}
