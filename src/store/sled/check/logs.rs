//! The due index and both logs.

use std::collections::HashMap;

use super::{Checker, LOST, REBUILD, RESTART};
use crate::{
    lifecycle::JobId,
    store::sled::{
        callback, due,
        keys::{self, DueKey},
        log, state, value,
        value::Fault,
    },
};

/// Events of a page at most, roundly: a lift after damage starts from a page's first number.
const PAGE: u64 = 4096;

/// The event log, as far as trails are held against it.
#[derive(Default)]
pub(super) struct Log {
    /// Runs without a gap: the first number, and of each event what stands for its job.
    runs: Vec<(u64, Vec<u64>)>,
    /// Terminal events by job.
    terminals: HashMap<JobId, u32>,
}

/// Stands for no job: every id has bits of its version there.
const NOBODY: u64 = 0;

/// Stands for a job: the random half of its id.
fn mark(id: JobId) -> u64 {
    id.as_bytes().last_chunk().map_or(0, |half| u64::from_be_bytes(*half))
}

impl Log {
    /// The number after the newest.
    fn next(&self) -> Option<u64> {
        self.runs.last().map(|(first, run)| first + run.len() as u64)
    }

    /// The oldest number.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.runs.first().map(|(first, _)| *first)
    }

    /// Whether the event of this number is there and is the job's.
    pub(super) fn has(&self, seq: u64, job: JobId) -> bool {
        let run = self.runs.partition_point(|(first, _)| *first <= seq).checked_sub(1);
        let run = run.and_then(|at| self.runs.get(at));
        let found = run.and_then(|(first, run)| run.get(usize::try_from(seq - first).ok()?));
        found == Some(&mark(job))
    }

    /// Terminal events of the job.
    pub(super) fn terminals(&self, job: JobId) -> u32 {
        self.terminals.get(&job).copied().unwrap_or(0)
    }
}

impl Checker<'_> {
    pub(super) fn due_pages(&mut self) {
        self.each(&[keys::DUE], "due pages", |checker, key, head| {
            let page = value::join(checker.tree, key, head).and_then(|payload| due::parse(key, &payload));
            match page {
                Ok(entries) => {
                    if entries.first().map(DueKey::as_slice) != Some(&**key) {
                        checker.find(key, "the page is not stored under its first entry", REBUILD);
                    }
                    checker.dues.extend(entries);
                }
                // A claim that meets it has the index made anew; until then every job in it would be told.
                Err(Fault::Damaged) => {
                    checker.recount = true;
                    checker.find(key, "the page is damaged, and what it held is not found when due", RESTART);
                }
                Err(fault) => checker.unusable(key, "the page", &fault),
            }
        });
        self.dues.sort_unstable();
    }

    pub(super) fn events(&mut self) {
        self.each(&[keys::EVENT], "event pages", |checker, key, head| {
            match log::parse(checker.tree, key, head) {
                Ok(page) => checker.event_page(key, &page),
                Err(fault) => checker.unusable(key, "the page of events", &fault),
            }
        });
        let (newest, last) = (self.head.newest, self.log.next().map_or(0, |next| next - 1));
        if last > newest {
            let what =
                format!("the log goes on to {last}, the head says {newest}: numbers would be given twice");
            self.find(keys::HEAD, what, REBUILD);
        } else if last < newest && !lifted(last + 1, newest + 1) {
            self.find(keys::HEAD, format!("events {} to {newest} are missing", last + 1), LOST);
        }
    }

    fn event_page(&mut self, key: &[u8], page: &[(u64, crate::lifecycle::EventRecord)]) {
        let Some((first, _)) = page.first() else {
            self.find(key, "the page of events is empty", REBUILD);
            return;
        };
        match self.log.next() {
            Some(next) if *first == next => {}
            Some(next) if *first < next => {
                self.find(key, format!("events {first} to {} are there twice", next - 1), REBUILD);
                return;
            }
            Some(next) if !lifted(next, *first) => {
                self.find(key, format!("events {next} to {} are missing before it", first - 1), LOST);
                self.log.runs.push((*first, Vec::new()));
            }
            Some(next) => {
                let note = format!("after event {} numbering was lifted to {first}", next - 1);
                self.report.notes.push(note);
                self.log.runs.push((*first, Vec::new()));
            }
            None => self.log.runs.push((*first, Vec::new())),
        }
        for (_, event) in page {
            *self.report.counts.entry("events").or_default() += 1;
            if let Some((_, run)) = self.log.runs.last_mut() {
                run.push(event.job_id.map_or(NOBODY, mark));
            }
            if let Some(job) = event.job_id.filter(|_| event.kind.is_terminal()) {
                *self.log.terminals.entry(job).or_default() += 1;
            }
        }
    }

    pub(super) fn callbacks(&mut self) {
        self.each(&[keys::CALLBACK], "callback pages", |checker, key, head| {
            let page = value::join(checker.tree, key, head);
            let ids = page.and_then(|page| {
                let entries = callback::entries(&page)?;
                Ok(entries.into_iter().map(|(record, _)| record.id).collect::<Vec<_>>())
            });
            let ids = match ids {
                Ok(ids) => ids,
                Err(fault) => return checker.unusable(key, "the page of callbacks", &fault),
            };
            *checker.report.counts.entry("callbacks").or_default() += ids.len() as u64;
            if ids.first().is_none_or(|first| first.as_bytes() != &key[1..]) {
                checker.find(key, "the page is not stored under its first callback", REBUILD);
            }
            let rising = checker.heard.iter().chain(&ids).is_sorted_by(|earlier, later| earlier < later);
            if !rising {
                checker.find(key, "the ids of callbacks do not rise", REBUILD);
            }
            checker.heard = checker.heard.max(ids.last().copied());
        });
        if self.heard > self.head.heard {
            self.find(keys::HEAD, "the inbound log goes on beyond what the head says", REBUILD);
        }
    }
}

/// Whether the numbers from `next` to before `first` were left out on purpose.
fn lifted(next: u64, first: u64) -> bool {
    first - next >= state::LIFT - PAGE
}
