//! Every rule that the entries of a store keep among each other, held against all of them.

mod deliveries;
mod jobs;
mod logs;
mod rest;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde::Serialize;
use sled::{IVec, Tree};

use self::logs::Log;
use super::{
    keys::{self, DueKey},
    offline::Held,
    state::{Head, StoredTally, Tally},
    value::{self, Fault},
};
use crate::{
    config,
    lifecycle::{CallbackId, JobId},
    store::StoreError,
};

/// Findings that are told one by one; the rest is counted.
const TOLD: usize = 1000;

/// A rule that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The entry: what it is, and its name or its bytes in hexadecimal.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub to_do: &'static str,
}

/// What a look at a whole store found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Rules that do not hold, the first thousand.
    pub findings: Vec<Finding>,
    /// How many more there are.
    pub more: u64,
    /// What is unusual and right.
    pub notes: Vec<String>,
    /// Entries, by kind.
    pub counts: BTreeMap<&'static str, u64>,
}

/// Checks a store while no server has it. It is copied first, into `scratch` or beside it, which takes as much space as the
/// store and leaves every byte of it as it is; a server may start as soon as the copy is made.
///
/// # Errors
/// [`StoreError::Locked`], [`StoreError::Missing`], [`StoreError::Uncopied`], or [`StoreError::Unreadable`].
pub fn check(config: &config::Store, scratch: Option<&Path>) -> Result<Report, StoreError> {
    let copy = Held::take(&config.path)?.copy(scratch, config.min_free)?;
    copy.look(config.cache, |tree| Checker::new(tree).run())
}

/// Restart: the server sets it right itself.
const RESTART: &str = "start reelhook: it sets this right by itself";
/// Nothing sets it right in place.
const REBUILD: &str = "export the store, import it into an empty folder and use that";
/// Something is lost.
const RECOVER: &str =
    "`reelhook db recover` makes an export with what can be read of it; import that into an empty folder";
/// A limit is too tight or too wide until then.
const BUDGET: &str = "only budgets count by it: it matters until the month is over";
/// Whether it made a job, nobody knows.
const REFUSED: &str =
    "requests that come with it are refused; send a new one with another key if its job is not listed";
/// Nothing brings it back.
const LOST: &str = "it is lost, and readers pass over it; a backup made before may have it";
/// Nobody knows what it means.
const NEWER: &str = "use the version of reelhook that wrote it";

struct Checker<'a> {
    tree: &'a Tree,
    report: Report,
    head: Head,
    /// The due index, in order.
    dues: Vec<DueKey>,
    log: Log,
    /// Newest entry of the inbound log.
    heard: Option<CallbackId>,
    /// Jobs by phase, counted.
    tally: Tally,
    /// Credits that jobs hold, by day.
    booked: BTreeMap<i32, u64>,
    /// More may be booked than jobs hold.
    unproven: bool,
    /// Jobs whose damaged records are set aside.
    aside: BTreeSet<JobId>,
    /// Records that cannot be read where they are.
    damaged: u64,
    /// The index and the counts are made anew at the next start.
    recount: bool,
}

impl<'a> Checker<'a> {
    fn new(tree: &'a Tree) -> Self {
        Self {
            tree,
            report: Report::default(),
            head: Head::default(),
            dues: Vec::new(),
            log: Log::default(),
            heard: None,
            tally: Tally::default(),
            booked: BTreeMap::new(),
            unproven: false,
            aside: BTreeSet::new(),
            damaged: 0,
            recount: false,
        }
    }

    fn run(mut self) -> Report {
        self.quarantine();
        let stored = self.heads();
        self.due_pages();
        self.events();
        self.callbacks();
        self.jobs();
        self.deliveries();
        self.indexes();
        self.pieces();
        self.unknown();
        if let Some(stored) = stored.filter(|_| !self.recount && self.damaged == 0) {
            self.counted(stored);
        }
        self.ledger();
        self.report
    }

    fn find(&mut self, key: &[u8], what: impl Into<String>, to_do: &'static str) {
        if self.report.findings.len() < TOLD {
            self.report.findings.push(Finding { key: shown(key), what: what.into(), to_do });
        } else {
            self.report.more += 1;
        }
    }

    /// A value that cannot be used; says what it is called.
    fn unusable(&mut self, key: &[u8], what: &str, fault: &Fault) {
        match fault {
            Fault::Newer(schema) => {
                self.find(key, format!("{what} is of schema {schema}, which is newer"), NEWER);
            }
            Fault::Damaged => self.find(key, format!("{what} is damaged"), RECOVER),
            Fault::Engine(error) => self.find(key, format!("{what} cannot be read: {error}"), RECOVER),
        }
    }

    /// Every row under a prefix, counted as `name`.
    fn each(&mut self, prefix: &[u8], name: &'static str, mut row: impl FnMut(&mut Self, &IVec, &IVec)) {
        for found in self.tree.scan_prefix(prefix) {
            match found {
                Ok((key, head)) => {
                    *self.report.counts.entry(name).or_default() += 1;
                    row(self, &key, &head);
                }
                Err(error) => {
                    self.find(prefix, format!("the engine cannot read on: {error}"), RECOVER);
                    return;
                }
            }
        }
    }

    /// The store's own two values; the tally is given back.
    fn heads(&mut self) -> Option<Tally> {
        match self.json::<Head>(keys::HEAD) {
            Ok(Some(head)) => self.head = head,
            // A store that only keeps its secrets so far has logged nothing.
            Ok(None) if self.tree.scan_prefix([keys::EVENT]).next().is_some() => {
                self.find(keys::HEAD, "the head of the event log is missing", REBUILD);
            }
            Ok(None) => {}
            Err(fault) => self.unusable(keys::HEAD, "the head of the event log", &fault),
        }
        match self.json::<StoredTally>(keys::TALLY) {
            Ok(tally) => {
                let tally = tally.map(Tally::from).unwrap_or_default();
                self.recount = tally.recount;
                if tally.recount {
                    self.report
                        .notes
                        .push("jobs are counted and the due index is made anew at the next start".into());
                }
                Some(tally)
            }
            Err(Fault::Damaged) => {
                self.find(keys::TALLY, "the count of jobs is damaged", RESTART);
                None
            }
            Err(fault) => {
                self.unusable(keys::TALLY, "the count of jobs", &fault);
                None
            }
        }
    }

    fn json<T: serde::de::DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, Fault> {
        let payload = value::read(self.tree, key)?;
        payload.map(|json| serde_json::from_slice(&json).map_err(|_| Fault::Damaged)).transpose()
    }
}

/// A key as a person reads it.
fn shown(key: &[u8]) -> String {
    let id = keys::parse_id(key);
    let (name, rest) = match key.split_first() {
        None => return "the store".to_owned(),
        Some((&prefix, rest)) => (keys::name(prefix), rest),
    };
    match (key[0], id) {
        (keys::EVENT, _) if rest.len() == 8 => {
            format!("{name} {}", keys::parse_seq(key).unwrap_or_default())
        }
        (keys::CALLBACK, Some(id)) => format!("{name} {}", CallbackId::from_bytes(id)),
        (keys::JOB | keys::DOCUMENT | keys::LEASE, Some(id)) => format!("{name} {}", JobId::from_bytes(id)),
        _ if rest.is_empty() => name.to_owned(),
        _ => format!("{name} {}", hex::encode(rest)),
    }
}
