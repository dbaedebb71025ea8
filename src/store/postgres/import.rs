//! A database filled from the lines of an export, all or nothing: the way from the embedded store.

use std::{collections::BTreeMap, io::BufRead};

use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _,
    postgres::{PgConnection, PgRow},
    raw_sql,
};
use uuid::Uuid;

use super::{
    link::{Trouble, bytes, text},
    open, outbox,
    row::{self, Writer},
};
use crate::{
    config,
    lifecycle::{Change, Event, Job, JobId, Millis, Policy},
    store::{
        Limits, StoreError,
        transfer::{Damaged, Entry, Header, Imported, JobEntry, LIFT, LogHead, Reader, TransferError},
    },
};

/// Bytes of SQL that are sent together.
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
        sql: "BEGIN; LOCK TABLE jobs, events, log_head, keys IN EXCLUSIVE MODE; ".to_owned(),
        lines: BTreeMap::new(),
        head: LogHead::default(),
        last: 0,
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

struct Import {
    connection: PgConnection,
    /// What is not sent yet.
    sql: String,
    /// Lines so far, by the table that they go to.
    lines: BTreeMap<&'static str, i64>,
    head: LogHead,
    /// Number of the last event.
    last: u64,
    /// Jobs that owe, or were at, a create call.
    unsent: Vec<Job>,
}

impl Import {
    async fn refuse_what_is_not_empty(&mut self) -> Result<(), StoreError> {
        self.sql.push_str(
            "SELECT EXISTS (SELECT FROM jobs) OR EXISTS (SELECT FROM events) OR EXISTS (SELECT FROM keys) \
             OR EXISTS (SELECT FROM kept) OR EXISTS (SELECT FROM callbacks)",
        );
        let rows = self.send().await?;
        let taken = rows.last().map(|row| row.try_get::<bool, _>(0)).transpose().map_err(Trouble::from)?;
        match taken {
            Some(false) => Ok(()),
            _ => Err(StoreError::NotEmpty { path: "the database".to_owned() }),
        }
    }

    async fn send(&mut self) -> Result<Vec<PgRow>, StoreError> {
        let sql = std::mem::take(&mut self.sql);
        let sent = raw_sql(AssertSqlSafe(sql)).fetch_all(&mut self.connection).await;
        Ok(sent.map_err(Trouble::from)?)
    }

    /// Takes a line; whether it could be.
    async fn take(&mut self, entry: Entry) -> Result<bool, StoreError> {
        let taken = self.append(entry)?;
        if self.sql.len() > BATCH {
            self.send().await?;
        }
        Ok(taken)
    }

    fn append(&mut self, entry: Entry) -> Result<bool, StoreError> {
        let sql = match entry {
            Entry::Log(head) => {
                self.head = head;
                return Ok(true);
            }
            Entry::Kept(kept) => {
                let Some(secret) = kept.secret.bytes() else { return Ok(false) };
                format!("INSERT INTO kept VALUES ({}, {})", text(&kept.name), bytes(&secret))
            }
            Entry::Booked(booked) => {
                format!("INSERT INTO ledger VALUES ({}, 0, {})", booked.day, booked.credits)
            }
            Entry::Event(entry) => {
                if entry.seq <= std::mem::replace(&mut self.last, entry.seq) {
                    return Ok(false);
                }
                let id = Uuid::from_bytes(*entry.event.id.as_bytes());
                let job = entry
                    .event
                    .job_id
                    .map_or_else(|| "NULL".to_owned(), |job| format!("'{}'", row::uuid(job)));
                let kind = text(&entry.event.kind.name());
                let record = text(&row::encode(&entry.event)?);
                let seq = entry.seq;
                format!(
                    "INSERT INTO events (id, seq, job_id, kind, record) VALUES ('{id}', {seq}, {job}, {kind}, {record})"
                )
            }
            Entry::Job(entry) => return self.job(*entry),
            Entry::Request(request) => {
                let Some(document) = request.document.bytes() else { return Ok(false) };
                format!("INSERT INTO requests VALUES ('{}', {})", row::uuid(request.job_id), bytes(&document))
            }
            Entry::Callback(heard) => {
                let Some(body) = heard.body.bytes() else { return Ok(false) };
                super::callback::log(&heard.record, &body)?
            }
            Entry::Stray(stray) => {
                let (job, delivery) = (row::uuid(stray.job_id), stray.delivery.cast_signed());
                format!("INSERT INTO strays VALUES ('{job}', {delivery}, {})", stray.bytes)
            }
            Entry::Delivery(owed) => {
                format!("SELECT owe_deliveries({})", row::deliveries(std::slice::from_ref(&*owed))?)
            }
            Entry::Body(sent) => {
                let Some(body) = sent.body.bytes() else { return Ok(false) };
                let (id, body) = (outbox::key(sent.delivery_id), bytes(&body));
                format!("UPDATE deliveries SET body = {body} WHERE id = '{id}'")
            }
            Entry::Sink(sink) => outbox::put_sink(&sink.name, &sink.state)?,
            Entry::IdempotencyKey(key) => key_row(&key.hash, &key.fingerprint, row::uuid(key.job_id)),
            Entry::Damaged(damaged) => self::damaged(&damaged)?,
            Entry::Header(_) | Entry::Trailer(_) => return Ok(false),
        };
        self.sql.push_str(&sql);
        self.sql.push_str("; ");
        Ok(true)
    }

    fn job(&mut self, entry: JobEntry) -> Result<bool, StoreError> {
        let JobEntry { job, seen, owns_task, .. } = entry;
        if job.check().is_err() {
            return Ok(false);
        }
        let document = row::imported(&job, owns_task)?;
        self.sql.push_str(&format!("SELECT import_job({document}); "));
        for delivery in seen {
            self.sql.push_str(&format!("{}; ", heard(job.id, delivery)));
        }
        if matches!(job.phase_name(), "queued" | "sending") {
            self.unsent.push(job);
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
        self.sql.push_str(&format!("UPDATE log_head SET newest = {newest}; SELECT count_all(); "));
        let unsent = std::mem::take(&mut self.unsent);
        let restored: Vec<Change> = match header.moved {
            true => Vec::new(),
            false => unsent.iter().filter_map(|job| job.step(&Event::Restored, now, policy)).collect(),
        };
        let writer = Writer { instance: "import".to_owned() };
        for change in &restored {
            let document = writer.change(change, Limits::default(), Uuid::now_v7())?;
            self.sql.push_str(&format!("SELECT replace_job({document}); "));
        }
        self.send().await?;
        let jobs = self.verify(restored.iter().map(|change| change.events.len()).sum()).await?;
        "COMMIT".clone_into(&mut self.sql);
        self.send().await?;
        self.connection.close().await.map_err(Trouble::from).map_err(StoreError::from)?;
        Ok(Imported { header, jobs, held: restored.len() as u64 })
    }

    /// Holds the rows against the lines; the number of jobs. `own` events were written by the import itself.
    async fn verify(&mut self, own: usize) -> Result<u64, TransferError> {
        let lines = std::mem::take(&mut self.lines);
        for (table, lines) in lines.iter().filter(|(table, _)| **table != "-") {
            self.sql = format!("SELECT count(*) FROM {table}");
            let rows = self.send().await?;
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

fn heard(job: JobId, delivery: u64) -> String {
    let (job, delivery) = (row::uuid(job), delivery.cast_signed());
    format!("INSERT INTO heard VALUES ('{job}', {delivery}) ON CONFLICT DO NOTHING")
}

fn key_row(hash: &[u8], fingerprint: &[u8], job: Uuid) -> String {
    format!("INSERT INTO keys VALUES ({}, {}, '{job}')", bytes(hash), bytes(fingerprint))
}

/// Keeps a damaged value where nothing looks for it but the check for a job that must not be made twice. A key that is
/// damaged stays a key: a request that comes with it is refused, for it may have made a job.
fn damaged(damaged: &Damaged) -> Result<String, StoreError> {
    let value = text(&row::encode(damaged)?);
    let Damaged { job_id, key, .. } = damaged;
    let job = job_id.map_or(Uuid::nil(), row::uuid);
    let kept = format!("INSERT INTO damaged VALUES ('{job}', {value})");
    Ok(match key.split_first() {
        Some((&IDEMPOTENCY, hash)) if hash.len() == 16 => {
            format!("{kept}; {}", key_row(hash, &[0; 32], Uuid::nil()))
        }
        _ => kept,
    })
}
