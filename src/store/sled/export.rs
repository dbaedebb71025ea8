//! Everything in a store as lines that any store can read.

use std::{io::Write, path::Path};

use sled::{IVec, Tree};

use super::{
    callback, keys, ledger, log,
    offline::{self, Held},
    outbox,
    record::{self, Trail},
    source::Source,
    state::Head,
    stray,
    value::{self, Fault},
    write,
};
use crate::{
    config,
    lifecycle::{JobId, Millis, Reservation},
    store::{
        LogEntry, SinkRecord, StoreError,
        transfer::{
            Body, Callback, Damaged, Entry, Header, Idempotency, JobEntry, Kept, LogHead, Request, Stray,
            TransferError, Writer,
        },
    },
};

/// An export that was written.
#[derive(Clone, Debug, Default)]
pub struct Exported {
    /// Lines by kind.
    pub counts: std::collections::BTreeMap<String, u64>,
    /// Values that could not be read, beside those that were set aside before. They are in the export as they are.
    pub damaged: u64,
}

/// Writes everything in a store that no server has. A copy of it is read, as by [`check`](super::check()). With `moved` no
/// server ever starts on the store again, and that is durable before the export is whole.
///
/// # Errors
/// The store's, or those of `out`. What was written until then is not taken for an export.
pub fn export(
    config: &config::Store,
    scratch: Option<&Path>,
    moved: bool,
    now: Millis,
    out: impl Write + Send,
) -> Result<Exported, TransferError> {
    let held = Held::take(&config.path)?;
    if moved {
        offline::refuse_restored(&config.path)?; // an import of what was moved holds nothing
    }
    let copy = held.copy(scratch, config.min_free)?;
    let held = moved.then_some(held);
    let mut writer = Writer::begin(out, header(now, moved))?;
    let (writer, damaged) = copy.look(config.cache, move |tree| {
        let mut source = Exporter { tree, out: &mut writer, damaged: 0, read: Damage::Fails };
        source.run()?;
        let damaged = source.damaged;
        Ok::<_, TransferError>((writer, damaged))
    })??;
    if let Some(held) = held {
        let at = jiff::Timestamp::from_millisecond(now.0).unwrap_or_default();
        held.seal(&format!("exported with --move at {at}"))?;
    }
    Ok(Exported { counts: writer.end()?, damaged })
}

pub(super) fn header(now: Millis, moved: bool) -> Header {
    Header { version: env!("CARGO_PKG_VERSION").to_owned(), at: now, moved }
}

/// What an entry is that the engine itself cannot read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Damage {
    /// The end of the export.
    Fails,
    /// The end of its kind; and what is damaged is left out, but for idempotency keys, which must not be used again.
    IsPassedOver,
}

/// Reads a tree and writes lines.
pub(super) struct Exporter<'a, W> {
    pub(super) tree: &'a Tree,
    pub(super) out: &'a mut Writer<W>,
    /// Values that could not be read.
    pub(super) damaged: u64,
    pub(super) read: Damage,
}

impl<W: Write> Exporter<'_, W> {
    fn run(&mut self) -> Result<(), TransferError> {
        let head = value::read(self.tree, keys::HEAD).and_then(|head| {
            let head = head.map(|head| serde_json::from_slice::<Head>(&head).map_err(|_| Fault::Damaged));
            Ok(head.transpose()?.unwrap_or_default())
        });
        let Head { newest, clock, heard, swept, forgotten } =
            head.map_err(|fault| fault.of(|| "the store's own head".into()))?;
        self.out.put(Entry::Log(LogHead { newest, clock, heard, swept, forgotten }))?;
        self.each(keys::EVENT, |this, key, head| {
            let page = log::parse(this.tree, key, head)?.into_iter();
            Ok(page.map(|(seq, event)| Entry::Event(LogEntry { seq, event })).collect())
        })?;
        self.common(|_| ())?;
        self.each(keys::JOB, Self::job)?;
        self.each(keys::QUARANTINE, |this, key, head| {
            if key.get(1) == Some(&keys::DUE) {
                Ok(Vec::new())
            } else {
                Ok(vec![this.aside(&key[1..], key, head)])
            }
        })
    }

    /// All but the head, the events, the jobs and what is set aside; shows the entries that others are judged by.
    pub(super) fn common(&mut self, mut show: impl FnMut(&Entry)) -> Result<(), TransferError> {
        self.each(keys::KEPT, |this, key, head| {
            let secret = (&*value::join(this.tree, key, head)?).into();
            Ok(vec![Entry::Kept(Kept { name: String::from_utf8_lossy(&key[1..]).into_owned(), secret })])
        })?;
        self.each(keys::LEDGER, |this, key, head| {
            let credits = ledger::parse(&value::join(this.tree, key, head)?);
            let day = keys::parse_day(key).ok_or(Fault::Damaged)?;
            let booked = Entry::Booked(Reservation { day, credits });
            show(&booked);
            Ok(vec![booked])
        })?;
        self.each(keys::CALLBACK, |this, key, head| {
            let page = value::join(this.tree, key, head)?;
            let entries = callback::entries(&page)?.into_iter();
            let entries = entries
                .map(|(record, body)| Entry::Callback(Box::new(Callback { record, body: body.into() })))
                .collect::<Vec<_>>();
            entries.iter().for_each(&mut show);
            Ok(entries)
        })?;
        self.each(keys::STRAY, |this, key, head| {
            let (job, delivery) = key[1..].split_first_chunk::<16>().ok_or(Fault::Damaged)?;
            let delivery = u64::from_be_bytes(delivery.try_into().map_err(|_| Fault::Damaged)?);
            let bytes = stray::bytes(this.tree, key, head)?;
            Ok(vec![Entry::Stray(Stray { job_id: JobId::from_bytes(*job), delivery, bytes })])
        })?;
        self.each(keys::DELIVERY, |this, key, head| {
            let delivery = outbox::decode(&value::join(this.tree, key, head)?)?;
            Ok(vec![Entry::Delivery(Box::new(delivery))])
        })?;
        self.each(keys::BODY, |this, key, head| {
            let body = (&*value::join(this.tree, key, head)?).into();
            let delivery_id = keys::parse_delivery(key).ok_or(Fault::Damaged)?;
            Ok(vec![Entry::Body(Body { delivery_id, body })])
        })?;
        self.each(keys::SINK, |this, key, head| {
            let state = value::join(this.tree, key, head)?;
            let state = serde_json::from_slice(&state).map_err(|_| Fault::Damaged)?;
            Ok(vec![Entry::Sink(SinkRecord { name: String::from_utf8_lossy(&key[1..]).into_owned(), state })])
        })?;
        self.each(keys::IDEMPOTENCY, |this, key, head| {
            let entry = value::join(this.tree, key, head)?;
            let (fingerprint, job) = entry.split_first_chunk::<32>().ok_or(Fault::Damaged)?;
            let job_id = JobId::from_bytes(job.try_into().map_err(|_| Fault::Damaged)?);
            let hash = keys::parse_id(key).ok_or(Fault::Damaged)?;
            let key = Entry::IdempotencyKey(Idempotency { hash, fingerprint: *fingerprint, job_id });
            show(&key);
            Ok(vec![key])
        })
    }

    /// Writes what each row under a prefix comes to; a damaged value as it is.
    pub(super) fn each(
        &mut self,
        prefix: u8,
        mut entries: impl FnMut(&mut Self, &IVec, &IVec) -> Result<Vec<Entry>, Fault>,
    ) -> Result<(), TransferError> {
        let tree = self.tree;
        for row in tree.scan_prefix([prefix]) {
            let (key, head) = match row {
                Ok(row) => row,
                Err(error) if self.read == Damage::Fails => {
                    return Err(StoreError::Unavailable(error.to_string()).into());
                }
                Err(_) => {
                    self.damaged += 1;
                    return Ok(());
                }
            };
            let entries = match entries(self, &key, &head) {
                Err(Fault::Damaged) => {
                    self.damaged += 1;
                    let kept = self.read == Damage::Fails || prefix == keys::IDEMPOTENCY;
                    if kept { vec![self.aside(&key, &key, &head)] } else { Vec::new() }
                }
                other => other.map_err(|fault| fault.of(|| keys::name(prefix).to_owned()))?,
            };
            for entry in entries {
                self.out.put(entry)?;
            }
        }
        Ok(())
    }

    fn job(&mut self, key: &IVec, head: &IVec) -> Result<Vec<Entry>, Fault> {
        let stored = value::join(self.tree, key, head)?;
        let (Trail { events, seen }, job) = (Trail::parse(&stored)?.0, record::decode(&stored)?);
        if job.check().is_err() || job.id.as_bytes() != &key[1..] {
            return Err(Fault::Damaged);
        }
        // Where nobody is named, or cannot be read, the oldest job with the task has it again.
        let owner = job.task.as_ref().map(|task| write::task_owner(self.tree, &task.id));
        let owns_task = owner.is_some_and(|owner| owner.ok().flatten().is_none_or(|owner| owner == job.id));
        let (job_id, key) = (job.id, keys::document(job.id));
        let mut entries = vec![Entry::Job(Box::new(JobEntry { job, events, seen, owns_task }))];
        match value::read(self.tree, &key) {
            Ok(None) => {}
            Ok(Some(document)) => {
                entries.push(Entry::Request(Request { job_id, document: (&*document).into() }));
            }
            Err(Fault::Damaged) => {
                self.damaged += 1;
                if let Ok(Some(head)) = Source::get(self.tree, &key) {
                    entries.push(self.aside(&key, &key, &head));
                }
            }
            Err(fault) => return Err(fault),
        }
        Ok(entries)
    }

    /// A damaged value that was, or is, under `of` and lies under `key`.
    fn aside(&self, of: &[u8], key: &[u8], head: &IVec) -> Entry {
        let is_job = of.first() == Some(&keys::JOB);
        let job_id = keys::parse_id(of).filter(|_| is_job).map(JobId::from_bytes);
        let pieces = (0..value::pieces(head))
            .map_while(|number| Source::get(self.tree, &keys::piece(key, number)).ok().flatten());
        let parts = std::iter::once(head.clone()).chain(pieces).map(|part| (&*part).into()).collect();
        Entry::Damaged(Damaged { job_id, key: of.to_vec(), parts })
    }
}
