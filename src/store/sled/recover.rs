//! What can be read of a damaged store, as an export: with jobs made anew where their records are lost, so that nothing that
//! was paid for is forgotten and nothing is paid for twice.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io::Write,
    path::Path,
};

use sled::{IVec, Tree};

use super::{
    carve,
    export::{Damage, Exporter, header},
    keys, log,
    offline::Held,
    record::{self, Trail},
    source::Source,
    state::Head,
    value,
};
use crate::{
    config,
    lifecycle::{EventRecord, Job, JobId, Millis, Phase, Reservation, TaskId},
    store::{
        LogEntry, StoreError,
        transfer::{Content, Entry, JobEntry, LogHead, Request, TransferError, Writer},
    },
};

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Lines by kind.
    pub counts: BTreeMap<String, u64>,
    /// Jobs whose records were read whole.
    pub read: u64,
    /// Jobs made anew from what is left of them.
    pub rebuilt: u64,
    /// Jobs made anew from the tasks that were named.
    pub asked: u64,
    /// Why the engine did not open the store, if it did not.
    pub unopened: Option<String>,
}

/// Writes what can be read of a store that no server has, and a job for each task that is named and not known. A copy is
/// read, as by [`check`](super::check()); without a store there are only the tasks. `model` is what a job is listed under whose
/// own model is lost.
///
/// # Errors
/// [`StoreError::Locked`], [`StoreError::Uncopied`], or those of `out`.
pub fn recover(
    config: &config::Store,
    scratch: Option<&Path>,
    tasks: &[(JobId, TaskId)],
    model: &str,
    now: Millis,
    out: impl Write + Send,
) -> Result<Recovered, TransferError> {
    let writer = Writer::begin(out, header(now, false))?;
    let mut salvage = Salvage::new(writer, model, now);
    let copy = match Held::take(&config.path) {
        Ok(held) => Some((held.copy(scratch, config.min_free)?, held)),
        Err(StoreError::Missing { .. }) if !tasks.is_empty() => None,
        Err(error) => return Err(error.into()),
    };
    if let Some((copy, held)) = copy {
        match copy.look(config.cache, |tree| salvage.read(tree)) {
            Ok(read) => read?,
            Err(StoreError::Unreadable { why, .. }) => {
                (salvage.done.unopened, salvage.passed_over) = (Some(why), true);
            }
            Err(error) => return Err(error.into()),
        }
        if salvage.passed_over {
            salvage.carve(&held.log())?;
        }
    }
    salvage.keyed()?;
    salvage.ask(tasks)?;
    salvage.finish()
}

/// What is left of a job whose record is damaged.
#[derive(Default)]
struct Remains {
    bytes: Vec<u8>,
    events: Vec<u64>,
    end: Option<EventRecord>,
}

struct Salvage<'a, W> {
    out: Writer<W>,
    model: &'a str,
    now: Millis,
    done: Recovered,
    /// Something could not be read that may have been a job.
    passed_over: bool,
    jobs: HashSet<JobId>,
    tasks: HashSet<TaskId>,
    /// Jobs that idempotency keys lead to.
    keyed: HashSet<JobId>,
    damaged: BTreeMap<JobId, Remains>,
    /// Runs of events that were written: first and last number.
    events: Vec<(u64, u64)>,
    /// Jobs whose terminal event was written.
    ended: HashSet<JobId>,
    /// Where the logs stand.
    head: Head,
    /// Credits that jobs hold by day, and days that the ledger has.
    booked: HashMap<i32, u64>,
    days: HashSet<i32>,
}

impl<'a, W: Write> Salvage<'a, W> {
    fn new(out: Writer<W>, model: &'a str, now: Millis) -> Self {
        Self {
            out,
            model,
            now,
            done: Recovered::default(),
            passed_over: false,
            jobs: HashSet::new(),
            tasks: HashSet::new(),
            keyed: HashSet::new(),
            damaged: BTreeMap::new(),
            events: Vec::new(),
            ended: HashSet::new(),
            head: Head::default(),
            booked: HashMap::new(),
            days: HashSet::new(),
        }
    }

    /// Writes everything that the engine gives.
    fn read(&mut self, tree: &Tree) -> Result<(), TransferError> {
        let head = value::read(tree, keys::HEAD).ok().flatten();
        self.head = head.and_then(|head| serde_json::from_slice(&head).ok()).unwrap_or_default();
        for prefix in [keys::JOB, keys::QUARANTINE] {
            for (key, head) in tree.scan_prefix([prefix]).map_while(Result::ok) {
                self.look_at(tree, &key, &head);
            }
        }
        let Self { out, damaged, events, ended, head: ends, days, keyed, .. } = self;
        let mut reader = Exporter { tree, out, damaged: 0, read: Damage::IsPassedOver };
        reader.each(keys::EVENT, |this, key, head| {
            let page = log::parse(this.tree, key, head)?;
            for (seq, event) in &page {
                match events.last_mut() {
                    Some((_, last)) if *last + 1 == *seq => *last = *seq,
                    _ => events.push((*seq, *seq)),
                }
                ends.newest = ends.newest.max(*seq);
                let Some(job) = event.job_id else { continue };
                if event.kind.is_terminal() {
                    ended.insert(job);
                }
                if let Some(remains) = damaged.get_mut(&job) {
                    remains.events.push(*seq);
                    remains.end =
                        remains.end.take().or_else(|| event.kind.is_terminal().then(|| event.clone()));
                }
            }
            Ok(page.into_iter().map(|(seq, event)| Entry::Event(LogEntry { seq, event })).collect())
        })?;
        reader.common(|entry| match entry {
            Entry::Booked(booked) => drop(days.insert(booked.day)),
            Entry::IdempotencyKey(key) => drop(keyed.insert(key.job_id)),
            Entry::Callback(callback) => ends.heard = ends.heard.max(Some(callback.record.id)),
            _ => {}
        })?;
        self.passed_over |= reader.damaged > 0;
        let read = self.whole_jobs(tree);
        read.and_then(|()| self.damaged_jobs(tree))
    }

    /// Remembers what is left of a record that cannot be read.
    fn look_at(&mut self, tree: &Tree, key: &IVec, head: &IVec) {
        let of = if key.first() == Some(&keys::QUARANTINE) { &key[1..] } else { key };
        let id = keys::parse_id(of).filter(|_| of.first() == Some(&keys::JOB)).map(JobId::from_bytes);
        let read = value::join(tree, key, head).and_then(|stored| record::decode(&stored));
        let whole = of.len() == key.len() && read.is_ok_and(|job| job.check().is_ok());
        let Some(id) = id.filter(|_| !whole) else { return };
        let pieces = (0..value::pieces(head))
            .map_while(|number| Source::get(tree, &keys::piece(key, number)).ok().flatten());
        let bytes: Vec<u8> =
            std::iter::once(head.clone()).chain(pieces).flat_map(|part| part.to_vec()).collect();
        self.damaged.entry(id).or_default().bytes = bytes;
    }

    fn whole_jobs(&mut self, tree: &Tree) -> Result<(), TransferError> {
        for row in tree.scan_prefix([keys::JOB]) {
            let Ok((key, head)) = row else {
                self.passed_over = true;
                return Ok(());
            };
            let read = value::join(tree, &key, &head)
                .and_then(|stored| Ok((record::decode(&stored)?, Trail::parse(&stored)?.0)));
            if let Ok((job, trail)) = read
                && job.check().is_ok()
            {
                let document = value::read(tree, &keys::document(job.id)).ok().flatten();
                self.damaged.remove(&job.id);
                self.done.read += 1;
                self.write(job, trail, document.as_deref())?;
            }
        }
        Ok(())
    }

    /// Makes the jobs anew whose records are damaged.
    fn damaged_jobs(&mut self, tree: &Tree) -> Result<(), TransferError> {
        for (id, remains) in std::mem::take(&mut self.damaged) {
            let model = carve::model(&remains.bytes).unwrap_or_else(|| self.model.to_owned());
            let task = carve::task(&remains.bytes).filter(|task| !self.tasks.contains(task));
            let mut job = match task {
                Some(task) => Job::recovered(id, self.now, task, &model),
                None => Job::remnant(id, self.now, &model),
            };
            job.cost.reserved = carve::reserved(&remains.bytes);
            if let Some((end, outcome)) = remains.end.and_then(|end| Some((end.time, carve::outcome(&end)?)))
            {
                (job.phase, job.due_at) = (Phase::Settled { outcome }, None);
                job.times.finished_at = Some(end);
            }
            let document = value::read(tree, &keys::document(id)).ok().flatten();
            self.done.rebuilt += 1;
            self.write(job, Trail { events: remains.events, seen: Vec::new() }, document.as_deref())?;
        }
        Ok(())
    }

    /// Writes the jobs that are in the engine's log alone.
    fn carve(&mut self, log: &Path) -> Result<(), TransferError> {
        for (id, (job, trail)) in carve::records(log)? {
            if !self.jobs.contains(&id) {
                self.done.rebuilt += 1;
                self.write(job, trail, None)?;
            }
        }
        Ok(())
    }

    /// Makes a job for every idempotency key whose job is lost: sent again, the key would pay for a second one.
    fn keyed(&mut self) -> Result<(), TransferError> {
        for id in std::mem::take(&mut self.keyed) {
            if !self.jobs.contains(&id) {
                self.done.rebuilt += 1;
                self.write(Job::remnant(id, self.now, self.model), Trail::default(), None)?;
            }
        }
        Ok(())
    }

    fn ask(&mut self, tasks: &[(JobId, TaskId)]) -> Result<(), TransferError> {
        for (id, task) in tasks {
            if !self.jobs.contains(id) && !self.tasks.contains(task) {
                self.done.asked += 1;
                self.write(Job::recovered(*id, self.now, task.clone(), self.model), Trail::default(), None)?;
            }
        }
        Ok(())
    }

    /// Writes a job with the events that it has, its end among them, and a request.
    fn write(&mut self, job: Job, trail: Trail, document: Option<&[u8]>) -> Result<(), TransferError> {
        let swept = self.head.swept;
        let has = |seq: &u64| self.events.iter().any(|(first, last)| (*first..=*last).contains(seq));
        let mut events: Vec<u64> = trail.events.into_iter().filter(|seq| *seq <= swept || has(seq)).collect();
        // Of a timeline whose beginning was removed, the end may have been, too: it was told once, and once is enough.
        let whole = events.first().is_none_or(|first| *first > swept);
        if job.outcome().is_some() && self.ended.insert(job.id) && whole {
            self.head.newest += 1;
            let (seq, event) = (self.head.newest, carve::end(&job));
            self.out.put(Entry::Event(LogEntry { seq, event }))?;
            events.push(seq);
        }
        if let Some(Reservation { day, credits }) = job.cost.reserved {
            let sum = self.booked.entry(day).or_default();
            *sum = sum.saturating_add(credits);
        }
        let owns_task = job.task.as_ref().is_some_and(|task| self.tasks.insert(task.id.clone()));
        self.jobs.insert(job.id);
        let bare = || format!(r#"{{"input":{{"model":{}}}}}"#, serde_json::json!(job.model)).into_bytes();
        let document = document.map_or_else(bare, <[u8]>::to_vec);
        let request = Request { job_id: job.id, document: Content::from(document.as_slice()) };
        self.out.put(Entry::Job(Box::new(JobEntry { job, events, seen: trail.seen, owns_task })))?;
        self.out.put(Entry::Request(request))?;
        Ok(())
    }

    fn finish(mut self) -> Result<Recovered, TransferError> {
        for (day, credits) in std::mem::take(&mut self.booked) {
            if !self.days.contains(&day) {
                self.out.put(Entry::Booked(Reservation { day, credits }))?;
            }
        }
        let Head { newest, heard, swept, forgotten, .. } = self.head;
        let head = LogHead { newest, clock: Some(self.now), heard, swept, forgotten };
        self.out.put(Entry::Log(head))?;
        Ok(Recovered { counts: self.out.end()?, ..self.done })
    }
}
