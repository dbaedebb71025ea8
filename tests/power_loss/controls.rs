//! Committers that do not keep the promise, to see that the judge finds them out.

use std::{
    collections::HashMap,
    fs::File,
    path::Path,
    thread,
};

use anyhow::{Context, Result, anyhow, ensure};
use sled::{Batch, Db, Mode};

use crate::{random::Random, recorder::Recording};

/// Records that are rewritten over and over.
const RECORDS: usize = 1_500;

/// How a group of changes is made durable.
#[derive(Clone, Copy)]
pub(crate) struct Committer {
    /// One batch for the whole group, or one for each change.
    pub(crate) one_batch: bool,
    /// An fdatasync of our own after the engine's flush.
    pub(crate) synced: bool,
}

/// The revision of each record that was acknowledged at a moment.
pub(crate) struct Acknowledged {
    at: usize,
    revisions: HashMap<usize, u64>,
}

fn engine(folder: &Path) -> sled::Result<Db> {
    sled::Config::new().path(folder).mode(Mode::LowSpace).cache_capacity(16 << 20).flush_every_ms(Some(500)).open()
}

fn record(number: usize) -> Vec<u8> {
    format!("j{number:06}").into_bytes()
}

/// The one entry of an index that the record's revision implies.
fn entry(number: usize, revision: u64) -> Vec<u8> {
    format!("d{revision:010}{number:06}").into_bytes()
}

impl Committer {
    /// Writes groups of up to 256 changes.
    pub(crate) fn run(
        self,
        folder: &Path,
        recording: &Recording,
        groups: usize,
        random: &mut Random,
    ) -> Vec<Acknowledged> {
        std::fs::create_dir_all(folder).unwrap();
        let db = engine(folder).unwrap();
        let synced = File::open(folder.join("db")).unwrap();
        synced.sync_all().unwrap();
        for above in folder.ancestors().take(3) {
            File::open(above).unwrap().sync_all().unwrap();
        }
        let mut written = HashMap::new();
        let mut acknowledged = Vec::new();
        for _ in 0..groups {
            let mut batches = vec![Batch::default()];
            for _ in 0..[1, 16, 256][random.below(3)] {
                let number = random.below(RECORDS);
                let revision: &mut u64 = written.entry(number).or_default();
                let batch = batches.last_mut().unwrap();
                batch.remove(entry(number, *revision));
                *revision += 1;
                batch.insert(entry(number, *revision), b"");
                batch.insert(record(number), [revision.to_be_bytes().as_slice(), &[7; 500]].concat());
                if !self.one_batch {
                    batches.push(Batch::default());
                }
            }
            batches.into_iter().for_each(|batch| db.apply_batch(batch).unwrap());
            db.flush().unwrap();
            if self.synced {
                synced.sync_data().unwrap();
            }
            acknowledged.push(Acknowledged { at: recording.now(), revisions: written.clone() });
        }
        acknowledged
    }
}

/// Opens what a power loss at `moment` left, on a thread of its own, where a panic of the engine is a finding.
pub(crate) fn judge(acknowledged: &[Acknowledged], moment: usize, folder: &Path) -> Result<()> {
    thread::scope(|scope| {
        let opening = scope.spawn(|| judge_here(acknowledged, moment, folder));
        opening.join().unwrap_or_else(|_| Err(anyhow!("the engine panicked")))
    })
}

fn judge_here(acknowledged: &[Acknowledged], moment: usize, folder: &Path) -> Result<()> {
    let db = engine(folder)?;
    let empty = HashMap::new();
    let last = acknowledged.iter().rev().find(|group| group.at <= moment);
    let mut entries = 0;
    for number in 0..RECORDS {
        let found = db.get(record(number))?;
        let found = found.map(|value| value.first_chunk().copied().map(u64::from_be_bytes).context("no revision"));
        let found = found.transpose()?.unwrap_or(0);
        let owed = last.map_or(&empty, |group| &group.revisions).get(&number).copied().unwrap_or(0);
        ensure!(found >= owed, "record {number} was at revision {owed} and is at {found}");
        entries += usize::from(found > 0);
        ensure!(found == 0 || db.contains_key(entry(number, found))?, "record {number} has no entry");
    }
    let counted = db.scan_prefix(b"d").keys().collect::<sled::Result<Vec<_>>>()?.len();
    ensure!(counted == entries, "{entries} records have {counted} entries");
    Ok(())
}
