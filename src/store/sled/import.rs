//! A new store of the lines of an export. It is built beside its place and put there once it is whole and durable, so an
//! import that fails or is cut short leaves nothing that could be taken for a store.

use std::{
    fs::{self, File},
    io::{self, BufRead},
    path::{Path, PathBuf},
};

use sled::Db;

use super::{
    callback, keys, log,
    offline::{self, Held},
    open, outbox,
    record::{self, Encoded, Trail},
    source::Source,
    state::{Head, State},
    stray,
    txn::{Txn, engine, json},
    write::{self, Write},
};
use crate::{
    config,
    lifecycle::{CallbackId, Delivery, Event, JobId, Millis, Phase, Policy},
    store::{
        Share, StoreError,
        transfer::{
            Content, Damaged, Entry, Header, Imported, JobEntry, LIFT, LogHead, Reader, Stray, TransferError,
        },
    },
};

/// Lines that are written together.
const BATCH: usize = 1024;

/// Makes a store of an export, at the configured place, which must be missing or an empty folder. Unless the export moved
/// its jobs, what it knows as queued or being sent is held for a person, and events are numbered from 2³² further on.
/// Durable when it returns.
///
/// # Errors
/// [`StoreError::NotEmpty`], or whatever is wrong with the export; the place is then as it was.
pub fn import(
    config: &config::Store,
    input: impl BufRead,
    now: Millis,
    policy: &Policy,
) -> Result<Imported, TransferError> {
    refuse_occupied(&config.path)?;
    let (header, reader) = Reader::begin(input)?;
    put_in_place(config, "importing", |stage| build(stage, header, reader, now, policy))
}

/// A place for a new store is missing or an empty folder.
pub(super) fn refuse_occupied(path: &Path) -> Result<(), StoreError> {
    offline::refuse_sealed(path)?;
    if fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some()) || path.is_file() {
        return Err(StoreError::NotEmpty { path: path.display().to_string() });
    }
    Ok(())
}

/// Has a store built in a folder beside its place, and puts it there once it is whole and durable.
pub(super) fn put_in_place<T, E: From<StoreError> + From<io::Error>>(
    config: &config::Store,
    what: &str,
    build: impl FnOnce(&config::Store) -> Result<T, E>,
) -> Result<T, E> {
    let path = &config.path;
    let stage = beside(path, what);
    clear::<E>(&stage)?;
    fs::create_dir_all(&stage)?;
    match build(&config::Store { path: stage.clone(), ..config.clone() }) {
        Ok(built) => {
            fs::rename(&stage, path)?;
            sync_parent(path)?;
            Ok(built)
        }
        Err(error) => {
            fs::remove_dir_all(&stage)?;
            Err(error)
        }
    }
}

/// A folder next to another one.
pub(super) fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{what}"));
    path.with_file_name(name)
}

/// Removes what one before left, unless it is still under way.
fn clear<E: From<StoreError> + From<io::Error>>(stage: &Path) -> Result<(), E> {
    if !stage.exists() {
        return Ok(());
    }
    let held = Held::take(stage);
    match held {
        Ok(_) | Err(StoreError::Missing { .. }) => Ok(fs::remove_dir_all(stage)?),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

fn build<R: BufRead>(
    config: &config::Store,
    header: Header,
    mut reader: Reader<R>,
    now: Millis,
    policy: &Policy,
) -> Result<Imported, TransferError> {
    let db = open::engine_of(config)?;
    let synced = File::open(config.path.join("db"))?;
    let mut import = Import::new(&db);
    while let Some(entry) = reader.read()? {
        if !import.take(entry)? {
            return Err(reader.refuse("it is damaged, there twice, or out of its order"));
        }
    }
    let held = import.finish(header.moved, now, policy)?;
    let jobs = import.jobs;
    db.flush().map_err(engine)?;
    open::sync_files(&config.path, &synced, 1)?;
    Ok(Imported { header, jobs, held })
}

struct Import<'a> {
    db: &'a Db,
    txn: Txn,
    /// Lines since the last batch.
    waiting: usize,
    events: Vec<(u64, Vec<u8>)>,
    callbacks: Vec<(CallbackId, Vec<u8>)>,
    /// Ends of the logs, as read so far and as the export says.
    last: (u64, Option<CallbackId>),
    head: LogHead,
    jobs: u64,
    strays: Share,
    /// Jobs that owe, or were at, a create call.
    unsent: Vec<JobId>,
}

impl<'a> Import<'a> {
    fn new(db: &'a Db) -> Self {
        Self {
            db,
            txn: Txn::new((**db).clone(), State::default()),
            waiting: 0,
            events: Vec::new(),
            callbacks: Vec::new(),
            last: (0, None),
            head: LogHead::default(),
            jobs: 0,
            strays: Share::default(),
            unsent: Vec::new(),
        }
    }

    /// Takes a line; whether it could be.
    fn take(&mut self, entry: Entry) -> Result<bool, TransferError> {
        let taken = match entry {
            Entry::Log(head) => {
                self.head = head;
                true
            }
            Entry::Kept(kept) => self.put(&keys::kept(&kept.name), kept.secret.bytes())?,
            Entry::Booked(booked) => {
                self.put(&keys::ledger(booked.day), Some(booked.credits.to_be_bytes().to_vec()))?
            }
            Entry::Event(entry) => {
                let rises = entry.seq > self.last.0;
                if self.events.last().is_some_and(|(seq, _)| seq + 1 != entry.seq) {
                    self.log_events(); // a page has no gap
                }
                self.last.0 = entry.seq;
                self.events.push((entry.seq, json(&entry.event)?));
                rises
            }
            Entry::Job(job) => self.job(*job)?,
            Entry::Request(request) => self.put(&keys::document(request.job_id), request.document.bytes())?,
            Entry::Callback(heard) => {
                let (id, body) = (heard.record.id, heard.body.bytes());
                let rises = self.last.1 < Some(id) && body.is_some();
                self.last.1 = Some(id);
                self.callbacks.push((id, callback::entry(heard.record, &body.unwrap_or_default())?));
                rises
            }
            Entry::Stray(Stray { job_id, delivery, bytes }) => {
                self.strays = self.strays.with(bytes);
                self.put(&keys::stray(job_id, delivery), Some(bytes.to_be_bytes().to_vec()))?
            }
            Entry::Delivery(owed) => self.delivery(&owed)?,
            Entry::Body(body) => self.put(&keys::body(body.delivery_id), body.body.bytes())?,
            Entry::Sink(sink) => self.put(&keys::sink(&sink.name), Some(json(&sink.state)?))?,
            Entry::IdempotencyKey(key) => {
                let value = [key.fingerprint.as_slice(), key.job_id.as_bytes()].concat();
                self.put(&keys::idempotency_of(key.hash), Some(value))?
            }
            Entry::Damaged(damaged) => self.set_aside(&damaged),
            Entry::Header(_) | Entry::Trailer(_) => false,
        };
        self.waiting += 1;
        if self.waiting >= BATCH {
            self.write()?;
        }
        Ok(taken)
    }

    fn put(&mut self, key: &[u8], payload: Option<Vec<u8>>) -> Result<bool, StoreError> {
        let Some(payload) = payload else { return Ok(false) };
        if Source::get(&self.txn, key).map_err(engine)?.is_some() {
            return Ok(false);
        }
        self.txn.put_new(key, &payload);
        Ok(true)
    }

    fn job(&mut self, entry: JobEntry) -> Result<bool, StoreError> {
        let JobEntry { job, events, seen, owns_task } = entry;
        if job.check().is_err() {
            return Ok(false);
        }
        let encoded = Encoded::of(&job).map_err(|error| StoreError::Unavailable(error.to_string()))?;
        if !self.put(&keys::job(job.id), Some(encoded.with(&Trail { events, seen })))? {
            return Ok(false);
        }
        job.dues().for_each(|due| self.txn.owe(keys::due(due, job.id)));
        if job.lease.is_some() {
            self.txn.mark(&keys::lease(job.id));
        }
        if let Some(task) = job.task.as_ref().filter(|_| owns_task) {
            // The first to name it has it.
            self.put(&keys::task(&task.id), Some(job.id.as_bytes().to_vec()))?;
        }
        if matches!(job.phase, Phase::Queued { .. } | Phase::Sending) {
            self.unsent.push(job.id);
        }
        self.txn.state.tally.moved(None, Some(&encoded.card));
        self.jobs += 1;
        Ok(true)
    }

    fn delivery(&mut self, owed: &Delivery) -> Result<bool, StoreError> {
        let known = Source::get(&self.txn, &keys::delivery(owed.id)).map_err(engine)?.is_some();
        if known || owed.check().is_err() {
            return Ok(false);
        }
        outbox::store(&mut self.txn, None, &outbox::Encoded::of(owed)?).map(|()| true)
    }

    /// Keeps a damaged value where nothing looks for it but the check for a job that must not be made twice. An
    /// idempotency key stays where it was: a request that comes with it is refused, for it may have made a job.
    fn set_aside(&mut self, damaged: &Damaged) -> bool {
        let Some(parts) = damaged.parts.iter().map(Content::bytes).collect::<Option<Vec<_>>>() else {
            return false;
        };
        let is_key = damaged.key.first() == Some(&keys::IDEMPOTENCY);
        let aside = if is_key { damaged.key.clone() } else { keys::quarantine(&damaged.key) };
        let Some((head, pieces)) = parts.split_first() else { return false };
        self.txn.put_raw(&aside, head);
        for (number, piece) in (0..).zip(pieces) {
            self.txn.put_raw(&keys::piece(&aside, number), piece);
        }
        self.txn.state.tally.quarantined += u64::from(damaged.key.first() == Some(&keys::JOB));
        true
    }

    fn log_events(&mut self) {
        for (first, page) in log::pages(std::mem::take(&mut self.events)) {
            self.txn.put_new(&keys::event(first), &page);
        }
    }

    fn write(&mut self) -> Result<(), StoreError> {
        self.log_events();
        for (first, page) in log::pages(std::mem::take(&mut self.callbacks)) {
            self.txn.put_new(&keys::callback(first), &page);
        }
        self.waiting = 0;
        let batch = self.txn.batch()?;
        batch.map_or(Ok(()), |batch| self.db.apply_batch(batch).map_err(engine))
    }

    /// Sets the ends of the logs, and holds what may have been sent since; says how many that are.
    fn finish(&mut self, moved: bool, now: Millis, policy: &Policy) -> Result<u64, StoreError> {
        self.write()?;
        stray::put_sum(&mut self.txn, self.strays)?;
        let LogHead { newest, clock, heard, swept, forgotten } = self.head;
        let lift = if moved { 0 } else { LIFT };
        let newest = newest.max(self.last.0).saturating_add(lift);
        self.txn.state.head = Head { newest, clock, heard: heard.max(self.last.1), swept, forgotten };
        self.write()?;
        if moved {
            return Ok(0);
        }
        let unsent = std::mem::take(&mut self.unsent);
        for ids in unsent.chunks(BATCH) {
            for id in ids {
                let job = record::read(&self.txn, *id).map_err(|fault| fault.of(|| id.to_string()))?;
                if let Some(change) = job.and_then(|job| job.step(&Event::Restored, now, policy)) {
                    write::replace(&mut self.txn, &Write::of(&change)?)?;
                }
            }
            self.write()?;
        }
        Ok(unsent.len() as u64)
    }
}
