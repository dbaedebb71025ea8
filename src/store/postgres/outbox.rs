//! The outbox: deliveries are claimed and stepped as jobs are, in two round trips.

use std::sync::Arc;

use bytes::Bytes;
use sqlx::{Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{
    PostgresStore,
    link::{Session, Trouble, bytes, text},
    row::{self, column},
};
use crate::{
    lifecycle::{
        Delivery, DeliveryChange, DeliveryEvent, DeliveryId, DeliveryPolicy, DeliveryState, EventRecord, Job,
        Millis, Notify, Policy, SinkState, is_notify_lane,
    },
    store::{
        About, ClaimedDelivery, DeliveryChanged, DeliveryClaim, DeliveryCounts, Lane, Rendering, SinkRecord,
        StoreError,
    },
};

/// Deliveries that one request of a long sweep handles.
const SWEEP: usize = 256;

/// What a body is made of, as it was locked.
struct Due {
    delivery: Delivery,
    body: Option<Bytes>,
    job: Option<Job>,
    document: Bytes,
    counts: DeliveryCounts,
}

impl Due {
    fn of(row: &PgRow) -> Result<Self, StoreError> {
        let get = |name: &str| row.try_get::<Option<String>, _>(name).map_err(Trouble::from);
        let blob = |name: &str| row.try_get::<Option<Vec<u8>>, _>(name).map_err(Trouble::from);
        let job = get("job")?.and_then(|record| row::decode(&record, "the job of a delivery").ok());
        Ok(Self {
            delivery: row::decode(&get("record")?.unwrap_or_default(), "a delivery that is due")?,
            body: blob("body")?.map(Bytes::from),
            job,
            document: blob("document")?.unwrap_or_default().into(),
            counts: counts(row)?,
        })
    }

    /// What is sent and where to, and whether it is new; or why nothing can be.
    fn prepared(&self, ask: &DeliveryClaim) -> Result<(Bytes, Option<Notify>), String> {
        if let (Some(body), None) = (&self.body, self.delivery.notify) {
            return Ok((body.clone(), None));
        }
        if self.delivery.job_id.is_some() && self.job.is_none() {
            return Err("the record of its job is gone or damaged".to_owned());
        }
        let named = |at: u8| self.job.as_ref().and_then(|job| job.notify.get(usize::from(at)).cloned());
        let notify = self.delivery.notify.map(named);
        if notify == Some(None) {
            return Err("its job does not name the URL any more".to_owned());
        }
        let render = || {
            let Self { delivery, job, document, counts, .. } = self;
            let about = job.as_ref().map(|job| About { job, document, counts: *counts });
            (ask.render)(&Rendering { delivery, about })
        };
        Ok((self.body.clone().unwrap_or_else(render), notify.flatten()))
    }
}

fn counts(row: &PgRow) -> Result<DeliveryCounts, StoreError> {
    let count = |name: &str| {
        let count: i64 = row.try_get(name).map_err(Trouble::from)?;
        Ok::<_, StoreError>(u32::try_from(count).unwrap_or(u32::MAX))
    };
    let (total, succeeded) = (count("total")?, count("succeeded")?);
    Ok(DeliveryCounts { total, succeeded, pending: count("pending")?, exhausted: count("exhausted")? })
}

impl PostgresStore {
    pub(super) async fn waiting(&self) -> Result<Vec<Lane>, StoreError> {
        let (known, since) = self.board.waiting();
        if let Some(lanes) = known {
            return Ok(lanes);
        }
        let rows = self.link.ask("SELECT lane, due FROM delivery_lanes()").await?;
        let lane = |row: &PgRow| {
            Ok::<_, Trouble>(Lane { name: row.try_get("lane")?, due: Millis(row.try_get("due")?) })
        };
        let lanes = rows.iter().map(lane).collect::<Result<Vec<_>, _>>()?;
        self.board.saw_waiting(&lanes, since);
        Ok(lanes)
    }

    pub(super) async fn take_deliveries(
        &self,
        ask: DeliveryClaim,
    ) -> Result<Vec<ClaimedDelivery>, StoreError> {
        let closed = self.closed(&ask.lane).await?;
        let most = if closed.is_some() { SWEEP } else { ask.max };
        let lane = text(&column(&ask.lane));
        let sql = format!("SELECT * FROM claimable_deliveries({lane}, {most}, {})", ask.now.0);
        let (session, rows) = self.link.begin(&sql).await?;
        let (mut sql, mut claimed) = (String::new(), Vec::new());
        for row in &rows {
            let due = match Due::of(row) {
                Ok(due) => due,
                Err(error) => {
                    tracing::error!(%error, "a delivery is left out of all work");
                    continue;
                }
            };
            let ready = closed.clone().map_or_else(|| due.prepared(&ask), Err);
            let event = match &ready {
                Ok(_) => DeliveryEvent::Claimed,
                Err(why) => DeliveryEvent::Withdrawn(why.clone()),
            };
            let Some(change) = due.delivery.step(&event, ask.now, &ask.policy.delivery) else { continue };
            let body = ready.as_ref().ok().filter(|_| due.body.is_none()).map(|(body, _)| body);
            self.append(&mut sql, &change, body)?;
            let delivery = change.delivery;
            claimed.extend(ready.ok().map(|(body, notify)| ClaimedDelivery { delivery, body, notify }));
        }
        self.finish(session, &sql).await?;
        Ok(claimed)
    }

    /// Why nothing is tried for the sink of a lane, if so.
    async fn closed(&self, lane: &str) -> Result<Option<String>, StoreError> {
        if is_notify_lane(lane) {
            return Ok(None);
        }
        let rows =
            self.link.ask(&format!("SELECT state FROM sinks WHERE name = {}", text(&column(lane)))).await?;
        let state = rows.first().map(|row| row.try_get::<String, _>(0)).transpose().map_err(Trouble::from)?;
        Ok(state.and_then(|state| sink_state(&state).closed()))
    }

    pub(super) async fn step_delivery(
        &self,
        id: DeliveryId,
        event: &DeliveryEvent,
        now: Millis,
        policy: &DeliveryPolicy,
    ) -> Result<Option<DeliveryChanged>, StoreError> {
        let sql = format!("SELECT * FROM open_delivery('{}')", key(id));
        let (session, rows) = self.link.begin(&sql).await?;
        let get = |name: &str| {
            let value = rows.first().map(|row| row.try_get::<Option<String>, _>(name)).transpose();
            value.map(Option::flatten).map_err(Trouble::from)
        };
        let record = get("record")?;
        let known = record.map(|record| row::decode::<Delivery>(&record, id)).transpose()?;
        let Some(change) = known.and_then(|known| known.step(event, now, policy)) else {
            self.finish(session, "").await?;
            return Ok(None);
        };
        let (mut sql, mut disabled) = (String::new(), false);
        self.append(&mut sql, &change, None)?;
        let delivery = change.delivery;
        let sink = get("sink")?.map(|state| sink_state(&state)).unwrap_or_default();
        if let DeliveryEvent::Answered(attempt, _) = event
            && let Some((state, said)) = sink.heard(&delivery, attempt, now, policy)
        {
            disabled = state.disabled_at.is_some();
            sql.push_str(&put_sink(&delivery.lane, &state)?);
            self.append_event(&mut sql, said.as_ref())?;
        }
        self.finish(session, &sql).await?;
        Ok(Some(DeliveryChanged { delivery, disabled }))
    }

    pub(super) async fn recover(
        &self,
        name: &str,
        since: Millis,
        now: Millis,
        policy: &Arc<Policy>,
    ) -> Result<u64, StoreError> {
        self.link.ask(&put_sink(name, &SinkState::default())?).await?;
        let lane = text(&column(name));
        let (mut from, mut replayed) = (DeliveryId::new(since, &[0; 10]), 0);
        loop {
            let sql = format!(
                "SELECT record FROM deliveries WHERE lane = {lane} AND state = 'exhausted' AND id >= '{}' \
                 ORDER BY id LIMIT {SWEEP} FOR UPDATE",
                key(from)
            );
            let (session, rows) = self.link.begin(&sql).await?;
            replayed +=
                self.step_all(session, &rows, &DeliveryEvent::Replayed, now, &policy.delivery).await?;
            // What was replayed is not exhausted any more; what was not is beyond help, and is not looked at again.
            let Some(last) = rows.last().filter(|_| rows.len() == SWEEP) else { return Ok(replayed) };
            let record: String = last.try_get(0).map_err(Trouble::from)?;
            from = row::decode::<Delivery>(&record, "a delivery")?.id;
        }
    }

    /// Makes due what only a wrong clock can have put off so far, up to [`SWEEP`] of it; whether there may be more.
    pub(super) async fn hasten(&self, now: Millis, policy: &DeliveryPolicy) -> Result<bool, StoreError> {
        let sql = format!(
            "SELECT record FROM deliveries WHERE due_at > {} AND lease IS NULL LIMIT {SWEEP} FOR UPDATE SKIP LOCKED",
            now.plus(policy.longest_wait()).0
        );
        let (session, rows) = self.link.begin(&sql).await?;
        self.step_all(session, &rows, &DeliveryEvent::Hastened, now, policy).await?;
        Ok(rows.len() == SWEEP)
    }

    /// Gives back what this instance has claimed: it ends orderly. What a dead one had comes back by its lease.
    pub(super) async fn release_deliveries(&self, now: Millis) -> Result<(), StoreError> {
        let by = text(&self.process);
        let sql = format!(
            "SELECT record FROM deliveries WHERE claimed_by = {by} AND lease IS NOT NULL LIMIT {SWEEP} FOR UPDATE"
        );
        let (session, rows) = self.link.begin(&sql).await?;
        let policy = DeliveryPolicy::default(); // a claim that is given back asks nothing of it
        self.step_all(session, &rows, &DeliveryEvent::Orphaned, now, &policy).await.map(drop)
    }

    /// Lets the same happen to deliveries that are locked; to how many it did.
    async fn step_all(
        &self,
        session: Session<'_>,
        rows: &[PgRow],
        event: &DeliveryEvent,
        now: Millis,
        policy: &DeliveryPolicy,
    ) -> Result<u64, StoreError> {
        let (mut sql, mut stepped) = (String::new(), 0);
        for row in rows {
            let record: String = row.try_get(0).map_err(Trouble::from)?;
            let delivery: Delivery = row::decode(&record, "a delivery")?;
            if let Some(change) = delivery.step(event, now, policy) {
                self.append(&mut sql, &change, None)?;
                stepped += 1;
            }
        }
        self.finish(session, &sql).await?;
        Ok(stepped)
    }

    fn append(
        &self,
        sql: &mut String,
        change: &DeliveryChange,
        body: Option<&Bytes>,
    ) -> Result<(), StoreError> {
        let document = row::document(&row::DeliveryRow::of(&change.delivery)?)?;
        let body = body.map_or_else(|| "NULL".to_owned(), |body| bytes(body));
        let by = text(&self.process);
        sql.push_str(&format!("SELECT write_delivery({document}, {body}, {by}); "));
        self.append_event(sql, change.event.as_ref())
    }

    fn append_event(&self, sql: &mut String, event: Option<&EventRecord>) -> Result<(), StoreError> {
        if let Some(event) = event {
            sql.push_str(&format!(
                "SELECT log_events({}); ",
                self.writer.events(std::slice::from_ref(event))?
            ));
        }
        Ok(())
    }

    async fn finish(&self, mut session: Session<'_>, sql: &str) -> Result<(), StoreError> {
        session.ask(&format!("{sql}COMMIT")).await?;
        session.release();
        if !sql.is_empty() {
            self.board.forget_waiting();
            self.log.wrote();
            self.board.wake();
        }
        Ok(())
    }

    pub(super) async fn delivery_sums(
        &self,
        job: crate::lifecycle::JobId,
    ) -> Result<DeliveryCounts, StoreError> {
        let row = self.link.ask_one(&format!("SELECT * FROM count_deliveries('{}')", row::uuid(job))).await?;
        counts(&row)
    }

    pub(super) async fn sink_records(&self) -> Result<Vec<SinkRecord>, StoreError> {
        let rows = self.link.ask("SELECT name, state FROM sinks ORDER BY name").await?;
        let sink = |row: &PgRow| {
            let state: String = row.try_get("state")?;
            Ok::<_, Trouble>(SinkRecord { name: row.try_get("name")?, state: sink_state(&state) })
        };
        Ok(rows.iter().map(sink).collect::<Result<_, _>>()?)
    }
}

/// One that cannot be read starts anew: at worst a dead sink is tried for some days more.
fn sink_state(record: &str) -> SinkState {
    serde_json::from_str(record).unwrap_or_default()
}

fn put_sink(name: &str, state: &SinkState) -> Result<String, StoreError> {
    Ok(format!("SELECT write_sink({}, {}); ", text(&column(name)), text(&row::encode(state)?)))
}

pub(super) fn key(id: DeliveryId) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}

/// How a state is called in the database.
pub(super) const fn state_name(state: DeliveryState) -> &'static str {
    match state {
        DeliveryState::Pending => "pending",
        DeliveryState::Succeeded => "succeeded",
        DeliveryState::Exhausted => "exhausted",
    }
}
