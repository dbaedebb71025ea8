//! Records, and what the indexes, the logs and the ledger hold of them.

use sled::IVec;

use super::{Checker, LOST, REBUILD, RECOVER, RESTART};
use crate::{
    lifecycle::{Job, JobId, Phase, Why},
    store::sled::{
        keys,
        record::{self, Card, Trail},
        source::Source,
        value::{self, Fault, Payload},
        write,
    },
};

impl Checker<'_> {
    pub(super) fn jobs(&mut self) {
        self.each(&[keys::JOB], "jobs", |checker, key, head| {
            let read = value::join(checker.tree, key, head).and_then(|record| {
                let parts = (Card::parse(&record)?, Trail::parse(&record)?.0, record::decode(&record)?);
                Ok((record, parts))
            });
            match read {
                Ok((record, (card, trail, job))) => checker.job(key, &record, &card, &trail, &job),
                Err(fault) => {
                    checker.damaged += 1;
                    checker.unusable(key, "the record", &fault);
                }
            }
        });
    }

    fn job(&mut self, key: &IVec, record: &Payload, card: &Card, trail: &Trail, job: &Job) {
        let id = job.id;
        if id.as_bytes() != &key[1..] {
            self.find(key, format!("the record is of {id}"), REBUILD);
            return;
        }
        if let Err(sentence) = job.check() {
            self.find(key, format!("it does not hold that {sentence}"), RECOVER);
        }
        if *card != Card::of(job) {
            self.find(key, "its card says something else than its record", REBUILD);
        }
        self.pieces_of(key, record);
        for due in job.dues() {
            if !self.recount && self.dues.binary_search(&keys::due(due, id)).is_err() {
                let what = format!("what it owes at {} ({:?}) is not in the due index", due.at.0, due.duty);
                self.find(key, what, REBUILD);
            }
        }
        self.task(key, job);
        self.request(key, job);
        let leased = matches!(Source::get(self.tree, &keys::lease(id)), Ok(Some(_)));
        if leased != job.lease.is_some() {
            let what = if leased { "it is listed as claimed and is not" } else { "its claim is not listed" };
            self.find(key, what, if leased { RESTART } else { REBUILD });
        }
        self.trail(key, trail, job);
        self.tally.moved(None, Some(card));
        // What a job had booked whose record was lost, nobody knows.
        self.unproven |= job.phase == Phase::Held { why: Why::Restored } && job.cost.reserved.is_none();
        if let Some(reserved) = job.cost.reserved {
            let sum = self.booked.entry(reserved.day).or_default();
            *sum = sum.saturating_add(reserved.credits);
        }
    }

    /// No piece is left of a longer record before it.
    fn pieces_of(&mut self, key: &IVec, record: &Payload) {
        if let Ok(Some(_)) = Source::get(self.tree, &keys::piece(key, record.pieces())) {
            self.find(key, "a piece of an earlier record is left behind it", REBUILD);
        }
    }

    fn task(&mut self, key: &IVec, job: &Job) {
        let Some(task) = &job.task else { return };
        let follows_up = job.retry_of.is_some() && job.attempts.submit == 0;
        let settled = matches!(job.phase, Phase::Settled { .. });
        match write::task_owner(self.tree, &task.id) {
            // The job that it follows had the task, and was forgotten before it.
            Ok(None) if follows_up && self.head.forgotten > 0 => {}
            Ok(None) => {
                self.find(key, format!("its task {} leads to no job", task.id), REBUILD);
            }
            Ok(Some(owner)) if owner != job.id && !follows_up && !settled => {
                let what = format!("its task {} leads to {owner}", task.id);
                self.find(key, what, "look at both jobs: one of them may have got the other's video");
            }
            Ok(_) => {}
            Err(error) => self.find(key, format!("the owner of its task: {error}"), RECOVER),
        }
    }

    fn request(&mut self, key: &IVec, job: &Job) {
        match value::read(self.tree, &keys::document(job.id)) {
            Ok(None) if job.retry_of.is_none() => {
                self.find(key, "its request is missing: it cannot be sent, shown or sent again", LOST);
            }
            Ok(_) => {}
            Err(fault) => self.unusable(&keys::document(job.id), "the request", &fault),
        }
    }

    fn trail(&mut self, key: &IVec, trail: &Trail, job: &Job) {
        let oldest = self.log.oldest().unwrap_or(u64::MAX);
        let kept = trail.events.iter().filter(|seq| **seq >= oldest);
        if let Some(seq) = kept.into_iter().find(|seq| !self.log.has(**seq, job.id)) {
            self.find(key, format!("event {seq} of its timeline is missing or another job's"), LOST);
        }
        // Without a gap in the log, and with nothing of it pruned since, its last event is there.
        let pruned = trail.events.first().is_none_or(|first| *first <= self.head.swept);
        let ended = u32::from(job.outcome().is_some());
        let terminals = self.log.terminals(job.id);
        if terminals != ended && !(pruned && terminals == 0) {
            let what = format!("it has {terminals} terminal events, {ended} is right");
            self.find(key, what, LOST);
        }
    }

    /// Whether the job is there, or its damaged record is.
    pub(super) fn exists(&self, id: JobId) -> Result<bool, Fault> {
        Ok(self.aside.contains(&id) || Source::get(self.tree, &keys::job(id))?.is_some())
    }
}
