//! Lists, logs and sums.

use std::collections::BTreeMap;

use bytes::Bytes;
use sqlx::{Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{
    PostgresStore,
    link::{Trouble, text},
    outbox,
    row::{self, column},
};
use crate::{
    lifecycle::{CallbackId, Delivery, DeliveryId, EventRecord, Job, JobId, Millis, Status},
    store::{
        CallbackFilter, CallbackRecord, Counts, DeliveryFilter, EventFilter, EventPage, JobFilter, LogBounds,
        LogEntry, Page, StoreError,
    },
};

/// Numbers of the log that one call looks at; the reader goes on from there.
const LOOKED_AT: u64 = 20_000;

const PHASES: [&str; 7] = ["queued", "sending", "unknown", "held", "awaiting", "fetching", "done"];
const OUTCOMES: [&str; 3] = ["succeeded", "failed", "canceled"];

/// One page of `limit` of rows that were asked for with one more.
fn page<T>(
    rows: &[PgRow],
    limit: usize,
    read: impl Fn(&PgRow) -> Result<T, StoreError>,
) -> Result<Page<T>, StoreError> {
    let items = rows.iter().take(limit).map(read).collect::<Result<_, _>>()?;
    let last = rows.get(..limit.min(rows.len())).and_then(<[PgRow]>::last);
    let read_to = last.map(|row| row.try_get::<Uuid, _>("id")).transpose().map_err(Trouble::from)?;
    Ok(Page { items, more: rows.len() > limit, read_to: read_to.map(Uuid::into_bytes) })
}

fn record(row: &PgRow) -> Result<String, Trouble> {
    Ok(row.try_get("record")?)
}

impl PostgresStore {
    pub(super) async fn jobs(
        &self,
        filter: &JobFilter,
        before: Option<JobId>,
        limit: usize,
    ) -> Result<Page<Job>, StoreError> {
        let mut wanted = vec!["true".to_owned()];
        wanted.extend(before.map(|id| format!("j.id < '{}'", row::uuid(id))));
        wanted.extend(filter.status.map(|status| of_status(status).to_owned()));
        wanted.extend(filter.phase.as_ref().map(|phase| format!("j.phase = {}", text(&column(phase)))));
        wanted.extend(filter.model.as_ref().map(|model| format!("j.model = {}", text(&column(model)))));
        wanted.extend(filter.tag.as_ref().map(|tag| format!("{} = ANY (j.tags)", text(&column(tag)))));
        wanted.extend(filter.via.map(|via| format!("j.via = {}", text(&row::name(&via)))));
        wanted.extend(filter.created_after.map(|at| format!("j.created_at >= {}", at.0)));
        wanted.extend(filter.created_before.map(|at| format!("j.created_at < {}", at.0)));
        wanted.extend(filter.q.as_ref().map(|q| containing(q)));
        let sql = format!(
            "SELECT j.id, j.record FROM jobs j WHERE {} ORDER BY j.id DESC LIMIT {}",
            wanted.join(" AND "),
            limit + 1
        );
        let rows = self.link.ask(&sql).await?;
        page(&rows, limit, |row| row::decode(&record(row)?, "a job of the list"))
    }

    pub(super) async fn calls(
        &self,
        filter: &CallbackFilter,
        before: Option<CallbackId>,
        limit: usize,
    ) -> Result<Page<CallbackRecord>, StoreError> {
        let mut wanted = vec!["true".to_owned()];
        wanted.extend(before.map(|id| format!("id < '{}'", Uuid::from_bytes(*id.as_bytes()))));
        wanted.extend(filter.job.map(|job| format!("job_id = '{}'", row::uuid(job))));
        wanted.extend(filter.verdict.map(|verdict| format!("verdict = {}", text(&row::name(&verdict)))));
        let sql = format!(
            "SELECT id, record FROM callbacks WHERE {} ORDER BY id DESC LIMIT {}",
            wanted.join(" AND "),
            limit + 1
        );
        let rows = self.link.ask(&sql).await?;
        page(&rows, limit, |row| row::decode(&record(row)?, "a callback of the list"))
    }

    pub(super) async fn call(&self, id: CallbackId) -> Result<Option<(CallbackRecord, Bytes)>, StoreError> {
        let key = Uuid::from_bytes(*id.as_bytes());
        let rows = self.link.ask(&format!("SELECT record, body FROM callbacks WHERE id = '{key}'")).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let body: Vec<u8> = row.try_get("body").map_err(Trouble::from)?;
        Ok(Some((row::decode(&record(row)?, id)?, body.into())))
    }

    pub(super) async fn debts(
        &self,
        filter: &DeliveryFilter,
        before: Option<DeliveryId>,
        limit: usize,
    ) -> Result<Page<Delivery>, StoreError> {
        let mut wanted = vec!["true".to_owned()];
        wanted.extend(before.map(|id| format!("id < '{}'", outbox::key(id))));
        wanted.extend(filter.job.map(|job| format!("job_id = '{}'", row::uuid(job))));
        wanted.extend(filter.lane.as_ref().map(|lane| format!("lane = {}", text(&column(lane)))));
        wanted.extend(filter.state.map(|state| format!("state = '{}'", outbox::state_name(state))));
        let sql = format!(
            "SELECT id, record FROM deliveries WHERE {} ORDER BY id DESC LIMIT {}",
            wanted.join(" AND "),
            limit + 1
        );
        let rows = self.link.ask(&sql).await?;
        page(&rows, limit, |row| row::decode(&record(row)?, "a delivery of the list"))
    }

    /// Numbered events. What this instance wrote before has its numbers by then.
    pub(super) async fn logged(
        &self,
        after: u64,
        limit: usize,
        filter: &EventFilter,
    ) -> Result<EventPage, StoreError> {
        self.log.caught_up().await;
        let from = bigint(after);
        // From the first that there is: after a restore numbers are lifted by more than anybody steps through.
        let window = format!("(SELECT min(seq) + {LOOKED_AT} FROM events WHERE seq > {from})");
        let mut wanted = vec![format!("e.seq > {from} AND e.seq <= {window}")];
        if !filter.kinds.is_empty() {
            let kinds: Vec<_> = filter.kinds.iter().map(|kind| text(&kind.name())).collect();
            wanted.push(format!("e.kind IN ({})", kinds.join(", ")));
        }
        wanted.extend(filter.job.map(|job| format!("e.job_id = '{}'", row::uuid(job))));
        wanted.extend(filter.tag.as_ref().map(|tag| {
            let tag = text(&column(tag));
            format!("EXISTS (SELECT FROM jobs j WHERE j.id = e.job_id AND {tag} = ANY (j.tags))")
        }));
        // Numbers are given in order, so what is read second lacks nothing up to the head that is read first.
        let sql = format!(
            "SELECT newest AS seq, NULL::text AS record, {window} AS upto FROM log_head; \
             SELECT e.seq, e.record FROM events e WHERE {} ORDER BY e.seq LIMIT {}",
            wanted.join(" AND "),
            limit + 1
        );
        let rows = self.link.ask(&sql).await?;
        let Some((head, rows)) = rows.split_first() else { return Ok(EventPage::default()) };
        let newest = seq(head)?;
        if after >= newest {
            return Ok(EventPage { events: Vec::new(), read_to: after, more: false });
        }
        let window = head.try_get::<Option<i64>, _>("upto").map_err(Trouble::from)?;
        let window = window.map_or(newest, i64::cast_unsigned);
        let mut page = EventPage { events: Vec::new(), read_to: newest.min(window), more: newest > window };
        for row in rows {
            let seq = seq(row)?;
            if seq > newest {
                break;
            }
            if page.events.len() == limit {
                (page.read_to, page.more) = (seq - 1, true);
                break;
            }
            let event: EventRecord = row::decode(&record(row)?, format!("event {seq}"))?;
            page.events.push(LogEntry { seq, event });
        }
        Ok(page)
    }

    pub(super) async fn ends(&self) -> Result<LogBounds, StoreError> {
        self.log.caught_up().await;
        let sql = "SELECT newest AS seq, (SELECT min(seq) FROM events) AS oldest FROM log_head";
        let row = self.link.ask_one(sql).await?;
        let newest = seq(&row)?;
        let oldest = row.try_get::<Option<i64>, _>("oldest").map_err(Trouble::from)?.map(i64::cast_unsigned);
        Ok(LogBounds { oldest: oldest.filter(|oldest| *oldest <= newest).unwrap_or(newest + 1), newest })
    }

    /// One look into an index for each phase.
    pub(super) async fn oldest_open(&self) -> Result<BTreeMap<String, Millis>, StoreError> {
        let rows = self.link.ask("SELECT phase, created_at FROM oldest_open()").await?;
        let oldest = |row: &PgRow| Ok((row.try_get("phase")?, Millis(row.try_get("created_at")?)));
        let oldest: Result<_, sqlx::Error> = rows.iter().map(oldest).collect();
        Ok(oldest.map_err(Trouble::from)?)
    }

    pub(super) async fn sums(&self) -> Result<Counts, StoreError> {
        let sum = |name: &&str| format!("sum({name})::bigint AS {name}");
        let names: Vec<_> = PHASES.iter().chain(&OUTCOMES).chain(&["owed"]).map(sum).collect();
        let row = self.link.ask_one(&format!("SELECT {} FROM tally", names.join(", "))).await?;
        let named = |names: &[&str]| {
            let count = |name: &&str| {
                let count: i64 = row.try_get(*name).map_err(Trouble::from)?;
                Ok::<_, StoreError>(((*name).to_owned(), u64::try_from(count).unwrap_or(0)))
            };
            let counts = names.iter().map(count).collect::<Result<Vec<_>, _>>()?;
            Ok::<_, StoreError>(counts.into_iter().filter(|(_, count)| *count > 0).collect())
        };
        let owed: i64 = row.try_get("owed").map_err(Trouble::from)?;
        Ok(Counts {
            phases: named(&PHASES)?,
            outcomes: named(&OUTCOMES)?,
            owed: u64::try_from(owed).unwrap_or(0),
        })
    }
}

/// Jobs with this text in the id, the task, the model or the request, in whatever case.
fn containing(wanted: &str) -> String {
    let wanted = format!("lower({})", text(&column(wanted)));
    let has = |text: &str| format!("position({wanted} IN lower({text})) > 0");
    let id = format!("'{}' || replace(j.id::text, '-', '')", JobId::PREFIX);
    let request = "(SELECT convert_from(r.document, 'UTF8') FROM requests r WHERE r.job_id = j.id)";
    let places = [&*id, "coalesce(j.task, '')", "j.model", request].map(has);
    format!("({})", places.join(" OR "))
}

const fn of_status(status: Status) -> &'static str {
    match status {
        Status::Queued => "j.phase = 'queued'",
        Status::Running => "j.phase IN ('sending', 'unknown', 'awaiting', 'fetching')",
        Status::Held => "j.phase = 'held'",
        Status::Succeeded => "j.outcome = 'succeeded'",
        Status::Failed => "j.outcome = 'failed'",
        Status::Canceled => "j.outcome = 'canceled'",
    }
}

fn seq(row: &PgRow) -> Result<u64, StoreError> {
    Ok(row.try_get::<i64, _>("seq").map_err(Trouble::from)?.cast_unsigned())
}

fn bigint(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
