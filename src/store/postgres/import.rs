//! A database filled from the lines of an export, all or nothing: the way from the embedded store.

use std::{
    collections::{BTreeMap, HashSet},
    io::BufRead,
};

use serde::Serialize;
use serde_json::{Value, json};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _,
    postgres::{PgConnection, PgRow},
    raw_sql,
};
use uuid::Uuid;

use super::{
    link::{Trouble, text},
    open, outbox,
    restored::hold_unsent,
    row::{self, DeliveryRow, JobRow, column},
};
use crate::{
    config,
    lifecycle::{Millis, Policy},
    store::{
        CallbackRecord, LogEntry, StoreError,
        transfer::{Damaged, Entry, Header, Imported, JobEntry, LIFT, LogHead, Reader, TransferError},
    },
};

/// Bytes of rows that are sent together.
const BATCH: usize = 1 << 20;
/// First byte of the key of a damaged idempotency key, as the embedded store has it; its hash follows.
const IDEMPOTENCY: u8 = b'i';

/// Fills an empty database with an export. Unless the export moved its jobs, what it knows as queued or being sent is held
/// for a person, and events are numbered from 2³² further on. One transaction: durable when it returns, and whatever goes
/// wrong before, the database is empty.
///
/// # Errors
/// [`StoreError::NotEmpty`], or whatever is wrong with the export or the database.
pub async fn import(
    config: &config::Database,
    input: impl BufRead,
    now: Millis,
    policy: &Policy,
) -> Result<Imported, TransferError> {
    let (header, mut reader) = Reader::begin(input)?;
    let direct = config.direct_url.as_ref().unwrap_or(&config.url);
    let options = open::options(direct, config, "import")?;
    open::prepare(&options).await?;
    let connection = options.connect().await.map_err(Trouble::from).map_err(StoreError::from)?;
    let mut import = Import {
        connection,
        batch: Batch::default(),
        rows: BTreeMap::new(),
        head: LogHead::default(),
        last: 0,
        owned: HashSet::new(),
    };
    import.refuse_what_is_not_empty().await?;
    while let Some(entry) = reader.read()? {
        if !import.take(entry).await? {
            return Err(reader.refuse("it is damaged, there twice, or out of its order"));
        }
    }
    import.finish(header, now, policy).await
}

/// What rows become.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rows {
    /// Rows of a table.
    Of(&'static str),
    /// Events, which are numbered already.
    Events,
    /// Callbacks that a job has heard of; one of them may be named twice.
    Heard,
    /// The bodies of deliveries that were inserted before.
    Bodies,
}

impl Rows {
    /// Takes a document of any number of rows at once: a statement a row costs several times as much.
    fn insert(self, document: &str) -> String {
        let (table, set) =
            (self.table(), format!("jsonb_populate_recordset(NULL::{}, {document})", self.table()));
        match self {
            Self::Of(_) => format!("INSERT INTO {table} SELECT * FROM {set}; "),
            Self::Events => format!(
                "INSERT INTO events (id, seq, job_id, kind, record) SELECT id, seq, job_id, kind, record FROM {set}; "
            ),
            Self::Heard => format!("INSERT INTO heard SELECT * FROM {set} ON CONFLICT DO NOTHING; "),
            Self::Bodies => {
                format!("UPDATE deliveries d SET body = b.body FROM {set} AS b WHERE d.id = b.id; ")
            }
        }
    }

    const fn table(self) -> &'static str {
        match self {
            Self::Of(table) => table,
            Self::Events => "events",
            Self::Heard => "heard",
            Self::Bodies => "deliveries",
        }
    }

    /// What there are as many of as rows were taken; none where two of them may be one.
    fn count(self) -> Option<String> {
        match self {
            Self::Heard => None,
            Self::Bodies => Some("SELECT count(body) FROM deliveries".to_owned()),
            Self::Of(_) | Self::Events => Some(format!("SELECT count(*) FROM {}", self.table())),
        }
    }
}

/// Rows that are not sent yet, as JSON, in the order in which their kinds came.
#[derive(Default)]
struct Batch {
    rows: Vec<(Rows, String)>,
    bytes: usize,
}

impl Batch {
    fn add(&mut self, kind: Rows, row: &impl Serialize) -> Result<(), StoreError> {
        let row = row::encode(row)?;
        self.bytes += row.len();
        match self.rows.iter_mut().find(|(of, _)| *of == kind) {
            Some((_, rows)) => rows.extend([",", &row]),
            None => self.rows.push((kind, row)),
        }
        Ok(())
    }

    fn take(&mut self) -> String {
        let Self { rows, .. } = std::mem::take(self);
        let document = |rows| format!("{}::jsonb", text(&format!("[{rows}]")));
        rows.iter().map(|(kind, rows)| kind.insert(&document(rows))).collect()
    }
}

struct Import {
    connection: PgConnection,
    batch: Batch,
    /// Rows so far.
    rows: BTreeMap<Rows, i64>,
    head: LogHead,
    /// Number of the last event.
    last: u64,
    /// Tasks that a job owns.
    owned: HashSet<String>,
}

impl Import {
    async fn refuse_what_is_not_empty(&mut self) -> Result<(), StoreError> {
        let sql = "BEGIN; LOCK TABLE jobs, events, log_head, keys IN EXCLUSIVE MODE; \
             SELECT EXISTS (SELECT FROM jobs) OR EXISTS (SELECT FROM events) OR EXISTS (SELECT FROM keys) \
             OR EXISTS (SELECT FROM kept) OR EXISTS (SELECT FROM callbacks)";
        let rows = self.send(sql.to_owned()).await?;
        let taken = rows.last().map(|row| row.try_get::<bool, _>(0)).transpose().map_err(Trouble::from)?;
        match taken {
            Some(false) => Ok(()),
            _ => Err(StoreError::NotEmpty { path: "the database".to_owned() }),
        }
    }

    async fn send(&mut self, sql: String) -> Result<Vec<PgRow>, StoreError> {
        let sent = raw_sql(AssertSqlSafe(sql)).fetch_all(&mut self.connection).await;
        Ok(sent.map_err(Trouble::from)?)
    }

    /// Takes a line; whether it could be.
    async fn take(&mut self, entry: Entry) -> Result<bool, StoreError> {
        let taken = self.append(entry)?;
        if self.batch.bytes > BATCH {
            let sql = self.batch.take();
            self.send(sql).await?;
        }
        Ok(taken)
    }

    fn add(&mut self, kind: Rows, row: &impl Serialize) -> Result<bool, StoreError> {
        *self.rows.entry(kind).or_default() += 1;
        self.batch.add(kind, row)?;
        Ok(true)
    }

    fn append(&mut self, entry: Entry) -> Result<bool, StoreError> {
        let (kind, row) = match entry {
            Entry::Log(head) => {
                self.head = head;
                return Ok(true);
            }
            Entry::Kept(kept) => {
                let Some(secret) = kept.secret.bytes() else { return Ok(false) };
                (Rows::Of("kept"), json!({ "name": kept.name, "value": bytea(&secret) }))
            }
            Entry::Booked(booked) => {
                (Rows::Of("ledger"), json!({ "day": booked.day, "slot": 0, "credits": booked.credits }))
            }
            Entry::Event(entry) => {
                if entry.seq <= std::mem::replace(&mut self.last, entry.seq) {
                    return Ok(false);
                }
                (Rows::Events, event_row(&entry)?)
            }
            Entry::Job(entry) => return self.job(*entry),
            Entry::Request(request) => {
                let Some(document) = request.document.bytes() else { return Ok(false) };
                (
                    Rows::Of("requests"),
                    json!({ "job_id": row::uuid(request.job_id), "document": bytea(&document) }),
                )
            }
            Entry::Callback(heard) => {
                let Some(body) = heard.body.bytes() else { return Ok(false) };
                (Rows::Of("callbacks"), callback_row(&heard.record, &body)?)
            }
            Entry::Stray(stray) => {
                let (job, delivery) = (row::uuid(stray.job_id), stray.delivery.cast_signed());
                (Rows::Of("strays"), json!({ "job_id": job, "delivery": delivery, "bytes": stray.bytes }))
            }
            Entry::Delivery(owed) => return self.add(Rows::Of("deliveries"), &DeliveryRow::of(&owed)?),
            Entry::Body(sent) => {
                let Some(body) = sent.body.bytes() else { return Ok(false) };
                (Rows::Bodies, json!({ "id": outbox::key(sent.delivery_id), "body": bytea(&body) }))
            }
            Entry::Sink(sink) => {
                (Rows::Of("sinks"), json!({ "name": column(&sink.name), "state": row::encode(&sink.state)? }))
            }
            Entry::IdempotencyKey(key) => {
                (Rows::Of("keys"), key_row(&key.hash, &key.fingerprint, row::uuid(key.job_id)))
            }
            Entry::Damaged(damaged) => return self.damaged(&damaged),
            Entry::Header(_) | Entry::Trailer(_) => return Ok(false),
        };
        self.add(kind, &row)
    }

    fn job(&mut self, entry: JobEntry) -> Result<bool, StoreError> {
        let JobEntry { job, seen, owns_task, .. } = entry;
        if job.check().is_err() {
            return Ok(false);
        }
        // The first that names a task has it.
        let owned = job.task.as_ref().filter(|_| owns_task);
        let owns = owned.is_some_and(|task| self.owned.insert(column(&task.id.0)));
        for delivery in seen {
            let (job, delivery) = (row::uuid(job.id), delivery.cast_signed());
            self.add(Rows::Heard, &json!({ "job_id": job, "delivery": delivery }))?;
        }
        self.add(Rows::Of("jobs"), &JobRow::imported(&job, owns)?)
    }

    /// Keeps a damaged value where nothing looks for it but the check for a job that must not be made twice. A key that is
    /// damaged stays a key: a request that comes with it is refused, for it may have made a job.
    fn damaged(&mut self, damaged: &Damaged) -> Result<bool, StoreError> {
        let Damaged { job_id, key, .. } = damaged;
        let job = job_id.map_or(Uuid::nil(), row::uuid);
        if let Some((&IDEMPOTENCY, hash)) = key.split_first()
            && hash.len() == 16
        {
            self.add(Rows::Of("keys"), &key_row(hash, &[0; 32], Uuid::nil()))?;
        }
        self.add(Rows::Of("damaged"), &json!({ "job_id": job, "value": row::encode(damaged)? }))
    }

    /// Counts what is there, sets the sums and the end of the log, holds what may have been sent since, and commits.
    async fn finish(
        mut self,
        header: Header,
        now: Millis,
        policy: &Policy,
    ) -> Result<Imported, TransferError> {
        let rest = self.batch.take();
        self.send(rest).await?;
        let jobs = self.verify().await?;
        let lift = if header.moved { 0 } else { LIFT };
        let newest = self.head.newest.max(self.last).saturating_add(lift);
        let owed = "UPDATE tally SET owed = (SELECT count(*) FROM deliveries WHERE state = 'pending') WHERE slot = 0";
        self.send(format!("UPDATE log_head SET newest = {newest}; SELECT count_all(); {owed}")).await?;
        let held = match header.moved {
            true => 0,
            false => hold_unsent(&mut self.connection, "import", now, policy).await?,
        };
        self.send("COMMIT".to_owned()).await?;
        self.connection.close().await.map_err(Trouble::from).map_err(StoreError::from)?;
        Ok(Imported { header, jobs, held })
    }

    /// Holds what is there against what was read; the number of jobs.
    async fn verify(&mut self) -> Result<u64, TransferError> {
        let mut jobs = 0;
        for (kind, wanted) in std::mem::take(&mut self.rows) {
            let Some(count) = kind.count() else { continue };
            let rows = self.send(count).await?;
            let found = rows.first().map(|row| row.try_get::<i64, _>(0)).transpose();
            if found.map_err(Trouble::from).map_err(StoreError::from)? != Some(wanted) {
                return Err(TransferError::NotWhole("not every line became a row of the database"));
            }
            if kind == Rows::Of("jobs") {
                jobs = wanted.unsigned_abs();
            }
        }
        Ok(jobs)
    }
}

fn event_row(entry: &LogEntry) -> Result<Value, StoreError> {
    let LogEntry { seq, event } = entry;
    let (id, job) = (Uuid::from_bytes(*event.id.as_bytes()), event.job_id.map(row::uuid));
    let (kind, record) = (event.kind.name(), row::encode(event)?);
    Ok(json!({ "id": id, "seq": seq, "job_id": job, "kind": kind, "record": record }))
}

fn callback_row(heard: &CallbackRecord, body: &[u8]) -> Result<Value, StoreError> {
    let (id, job) = (Uuid::from_bytes(*heard.id.as_bytes()), row::uuid(heard.job_id));
    let record = row::encode(heard)?;
    Ok(json!({ "id": id, "job_id": job, "verdict": heard.verdict, "record": record, "body": bytea(body) }))
}

fn key_row(hash: &[u8], fingerprint: &[u8], job: Uuid) -> Value {
    json!({ "hash": bytea(hash), "fingerprint": bytea(fingerprint), "job_id": job })
}

/// Bytes, as the database reads them from a text.
fn bytea(bytes: &[u8]) -> String {
    format!("\\x{}", hex::encode(bytes))
}
