//! The oldest open job of each phase. No index has it, since a change of phase would pay for it; what a look learned
//! makes the next one cheap instead: a job that has ended stays so.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use sled::Tree;

use super::{
    keys,
    record::{Card, PHASES},
    txn::engine,
    value::{self, Fault},
};
use crate::{
    lifecycle::{JobId, Millis},
    store::StoreError,
};

/// Ids are made before they are stored: so much before the newest id that was seen, in milliseconds, others may follow.
const LATE: i64 = 60_000;

/// What earlier looks learned.
#[derive(Clone, Debug, Default)]
pub(super) struct Oldest(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    /// Every job that was open at the last look, and is older than `from`.
    open: BTreeSet<JobId>,
    /// Where the next look begins.
    from: Option<JobId>,
}

impl Oldest {
    /// When the oldest job of each phase was created, by the time in its id. `phases`: how many phases have open jobs.
    pub(super) fn look(&self, tree: &Tree, phases: usize) -> Result<BTreeMap<String, Millis>, StoreError> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.catch_up(tree)?;
        let (mut oldest, mut ended) = (BTreeMap::new(), Vec::new());
        for id in &seen.open {
            if oldest.len() == phases {
                break;
            }
            match phase(value::read(tree, &keys::job(*id)))? {
                Some(phase) => {
                    oldest.entry(phase.to_owned()).or_insert_with(|| id.made_at());
                }
                None => ended.push(*id),
            }
        }
        for id in ended {
            seen.open.remove(&id);
        }
        Ok(oldest)
    }
}

impl Seen {
    fn catch_up(&mut self, tree: &Tree) -> Result<(), StoreError> {
        let from = self.from.map_or(vec![keys::JOB], keys::job);
        let mut newest = None;
        for row in tree.range(from..vec![keys::JOB + 1]) {
            let (key, head) = row.map_err(engine)?;
            let Some(id) = keys::parse_id(&key).map(JobId::from_bytes) else { continue };
            newest = Some(id);
            if phase(value::join(tree, &key, &head).map(Some))?.is_some() {
                self.open.insert(id);
            }
        }
        if let Some(newest) = newest {
            self.from = Some(JobId::new(newest.made_at().plus(-LATE), &[0; 10])).max(self.from);
        }
        Ok(())
    }
}

/// The phase of an open job; nothing of one that has ended, is gone, or cannot be read.
fn phase(record: Result<Option<value::Payload>, Fault>) -> Result<Option<&'static str>, StoreError> {
    let card = record.and_then(|record| record.map(|record| Card::parse(&record)).transpose());
    match card {
        Err(Fault::Damaged) | Ok(None) => Ok(None),
        Ok(Some(card)) => Ok(PHASES.get(usize::from(card.phase)).copied().filter(|_| card.outcome.is_none())),
        Err(fault) => Err(fault.of(|| "a job".into())),
    }
}
