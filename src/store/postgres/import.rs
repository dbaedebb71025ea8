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
    row::{self, DeliveryRow, JobRow, Writer, column},
};
use crate::{
    config,
    lifecycle::{Change, Event, Job, Millis, Policy},
    store::{
        CallbackRecord, Limits, LogEntry, StoreError,
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
        lines: BTreeMap::new(),
        head: LogHead::default(),
        last: 0,
        owned: HashSet::new(),
        unsent: Vec::new(),
    };
    import.refuse_what_is_not_empty().await?;
    while let Some(entry) = reader.read()? {
        *import.lines.entry(table(&entry)).or_default() += 1;
        if !import.take(entry).await? {
            return Err(reader.refuse("it is damaged, there twice, or out of its order"));
        }
    }
    import.finish(header, now, policy).await
}

/// Where a line becomes a row; `-` where it becomes none of its own.
const fn table(entry: &Entry) -> &'static str {
    match entry {
        Entry::Kept(_) => "kept",
        Entry::Booked(_) => "ledger",
        Entry::Event(_) => "events",
        Entry::Job(_) => "jobs",
        Entry::Request(_) => "requests",
        Entry::Callback(_) => "callbacks",
        Entry::Delivery(_) => "deliveries",
        Entry::Damaged(_) => "damaged",
        Entry::Sink(_) => "sinks",
        Entry::Stray(_) => "strays",
        Entry::Body(_) | Entry::IdempotencyKey(_) | Entry::Log(_) | Entry::Header(_) | Entry::Trailer(_) => {
            "-"
        }
    }
}

/// What takes a document of any number of rows: the SQL before it, and after. A statement a row costs several times as much.
type Taker = (&'static str, &'static str);

const KEPT: Taker = ("INSERT INTO kept SELECT * FROM jsonb_populate_recordset(NULL::kept, ", ")");
const BOOKED: Taker = ("INSERT INTO ledger SELECT * FROM jsonb_populate_recordset(NULL::ledger, ", ")");
const EVENT: Taker = (
    "INSERT INTO events (id, seq, job_id, kind, record) \
     SELECT id, seq, job_id, kind, record FROM jsonb_populate_recordset(NULL::events, ",
    ")",
);
const JOB: Taker = ("INSERT INTO jobs SELECT * FROM jsonb_populate_recordset(NULL::jobs, ", ")");
const HEARD: Taker =
    ("INSERT INTO heard SELECT * FROM jsonb_populate_recordset(NULL::heard, ", ") ON CONFLICT DO NOTHING");
const REQUEST: Taker = ("INSERT INTO requests SELECT * FROM jsonb_populate_recordset(NULL::requests, ", ")");
const CALLBACK: Taker =
    ("INSERT INTO callbacks SELECT * FROM jsonb_populate_recordset(NULL::callbacks, ", ")");
const STRAY: Taker = ("INSERT INTO strays SELECT * FROM jsonb_populate_recordset(NULL::strays, ", ")");
const DELIVERY: Taker = ("SELECT owe_deliveries(", ")");
const BODY: Taker = (
    "UPDATE deliveries d SET body = b.body FROM jsonb_populate_recordset(NULL::deliveries, ",
    ") AS b WHERE d.id = b.id",
);
const SINK: Taker = ("SELECT write_sink(name, state) FROM jsonb_populate_recordset(NULL::sinks, ", ")");
const KEY: Taker = ("INSERT INTO keys SELECT * FROM jsonb_populate_recordset(NULL::keys, ", ")");
const DAMAGED: Taker = ("INSERT INTO damaged SELECT * FROM jsonb_populate_recordset(NULL::damaged, ", ")");

/// Rows that are not sent yet, as JSON, by what takes them.
#[derive(Default)]
struct Batch {
    rows: Vec<(Taker, String)>,
    bytes: usize,
}

impl Batch {
    fn add(&mut self, taker: Taker, row: &impl Serialize) -> Result<(), StoreError> {
        let row = row::encode(row)?;
        self.bytes += row.len();
        match self.rows.iter_mut().find(|(of, _)| *of == taker) {
            Some((_, rows)) => rows.extend([",", &row]),
            None => self.rows.push((taker, row)),
        }
        Ok(())
    }

    /// Everything, in the order in which its kinds came.
    fn take(&mut self) -> String {
        let Self { rows, .. } = std::mem::take(self);
        let document = |rows| format!("{}::jsonb", text(&format!("[{rows}]")));
        rows.iter().map(|((before, after), rows)| format!("{before}{}{after}; ", document(rows))).collect()
    }
}

struct Import {
    connection: PgConnection,
    batch: Batch,
    /// Lines so far, by the table that they go to.
    lines: BTreeMap<&'static str, i64>,
    head: LogHead,
    /// Number of the last event.
    last: u64,
    /// Tasks that a job owns.
    owned: HashSet<String>,
    /// Jobs that owe, or were at, a create call.
    unsent: Vec<Job>,
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

    fn append(&mut self, entry: Entry) -> Result<bool, StoreError> {
        let (taker, row) = match entry {
            Entry::Log(head) => {
                self.head = head;
                return Ok(true);
            }
            Entry::Kept(kept) => {
                let Some(secret) = kept.secret.bytes() else { return Ok(false) };
                (KEPT, json!({ "name": kept.name, "value": bytea(&secret) }))
            }
            Entry::Booked(booked) => {
                (BOOKED, json!({ "day": booked.day, "slot": 0, "credits": booked.credits }))
            }
            Entry::Event(entry) => {
                if entry.seq <= std::mem::replace(&mut self.last, entry.seq) {
                    return Ok(false);
                }
                (EVENT, event_row(&entry)?)
            }
            Entry::Job(entry) => return self.job(*entry),
            Entry::Request(request) => {
                let Some(document) = request.document.bytes() else { return Ok(false) };
                (REQUEST, json!({ "job_id": row::uuid(request.job_id), "document": bytea(&document) }))
            }
            Entry::Callback(heard) => {
                let Some(body) = heard.body.bytes() else { return Ok(false) };
                (CALLBACK, callback_row(&heard.record, &body)?)
            }
            Entry::Stray(stray) => {
                let (job, delivery) = (row::uuid(stray.job_id), stray.delivery.cast_signed());
                (STRAY, json!({ "job_id": job, "delivery": delivery, "bytes": stray.bytes }))
            }
            Entry::Delivery(owed) => {
                self.batch.add(DELIVERY, &DeliveryRow::of(&owed)?)?;
                return Ok(true);
            }
            Entry::Body(sent) => {
                let Some(body) = sent.body.bytes() else { return Ok(false) };
                (BODY, json!({ "id": outbox::key(sent.delivery_id), "body": bytea(&body) }))
            }
            Entry::Sink(sink) => {
                (SINK, json!({ "name": column(&sink.name), "state": row::encode(&sink.state)? }))
            }
            Entry::IdempotencyKey(key) => (KEY, key_row(&key.hash, &key.fingerprint, row::uuid(key.job_id))),
            Entry::Damaged(damaged) => return self.damaged(&damaged),
            Entry::Header(_) | Entry::Trailer(_) => return Ok(false),
        };
        self.batch.add(taker, &row)?;
        Ok(true)
    }

    fn job(&mut self, entry: JobEntry) -> Result<bool, StoreError> {
        let JobEntry { job, seen, owns_task, .. } = entry;
        if job.check().is_err() {
            return Ok(false);
        }
        // The first that names a task has it.
        let owned = job.task.as_ref().filter(|_| owns_task);
        let owns = owned.is_some_and(|task| self.owned.insert(column(&task.id.0)));
        self.batch.add(JOB, &JobRow::imported(&job, owns)?)?;
        for delivery in seen {
            let (job, delivery) = (row::uuid(job.id), delivery.cast_signed());
            self.batch.add(HEARD, &json!({ "job_id": job, "delivery": delivery }))?;
        }
        if matches!(job.phase_name(), "queued" | "sending") {
            self.unsent.push(job);
        }
        Ok(true)
    }

    /// Keeps a damaged value where nothing looks for it but the check for a job that must not be made twice. A key that is
    /// damaged stays a key: a request that comes with it is refused, for it may have made a job.
    fn damaged(&mut self, damaged: &Damaged) -> Result<bool, StoreError> {
        let Damaged { job_id, key, .. } = damaged;
        let job = job_id.map_or(Uuid::nil(), row::uuid);
        self.batch.add(DAMAGED, &json!({ "job_id": job, "value": row::encode(damaged)? }))?;
        if let Some((&IDEMPOTENCY, hash)) = key.split_first()
            && hash.len() == 16
        {
            self.batch.add(KEY, &key_row(hash, &[0; 32], Uuid::nil()))?;
        }
        Ok(true)
    }

    /// Holds what may have been sent since, sets the sums and the end of the log, counts what is there, and commits.
    async fn finish(
        mut self,
        header: Header,
        now: Millis,
        policy: &Policy,
    ) -> Result<Imported, TransferError> {
        let lift = if header.moved { 0 } else { LIFT };
        let newest = self.head.newest.max(self.last).saturating_add(lift);
        let mut sql = self.batch.take();
        sql.push_str(&format!("UPDATE log_head SET newest = {newest}; SELECT count_all(); "));
        let unsent = std::mem::take(&mut self.unsent);
        let restored: Vec<Change> = match header.moved {
            true => Vec::new(),
            false => unsent.iter().filter_map(|job| job.step(&Event::Restored, now, policy)).collect(),
        };
        let writer = Writer { instance: "import".to_owned() };
        for change in &restored {
            let document = writer.change(change, Limits::default(), Uuid::now_v7())?;
            sql.push_str(&format!("SELECT replace_job({document}); "));
        }
        self.send(sql).await?;
        let jobs = self.verify(restored.iter().map(|change| change.events.len()).sum()).await?;
        self.send("COMMIT".to_owned()).await?;
        self.connection.close().await.map_err(Trouble::from).map_err(StoreError::from)?;
        Ok(Imported { header, jobs, held: restored.len() as u64 })
    }

    /// Holds the rows against the lines; the number of jobs. `own` events were written by the import itself.
    async fn verify(&mut self, own: usize) -> Result<u64, TransferError> {
        let lines = std::mem::take(&mut self.lines);
        for (table, lines) in lines.iter().filter(|(table, _)| **table != "-") {
            let rows = self.send(format!("SELECT count(*) FROM {table}")).await?;
            let found = rows.first().map(|row| row.try_get::<i64, _>(0)).transpose();
            let found = found.map_err(Trouble::from).map_err(StoreError::from)?.unwrap_or(0);
            let own = if *table == "events" { i64::try_from(own).unwrap_or(0) } else { 0 };
            if found != lines + own {
                return Err(TransferError::NotWhole("not every line became a row of the database"));
            }
        }
        Ok(lines.get("jobs").copied().unwrap_or(0).unsigned_abs())
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
