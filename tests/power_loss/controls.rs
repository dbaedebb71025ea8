//! Committers that do not keep the promise, to see that the judge finds them out.

use std::{collections::HashMap, fs::File, path::Path, thread};

use anyhow::{Context, Result, anyhow, ensure};
use sled::{Batch, Db, Mode};

use crate::{
    random::Random,
    recorder::{Recording, counted},
};

/// Records that are rewritten over and over.
const RECORDS: usize = 1_500;

/// How many groups are written.
const GROUPS: usize = 50;
/// Changes that are acknowledged together.
const GROUP: usize = 256;
/// Bytes of a record: a group is larger than the engine's segments, of 512 KiB.
const BYTES: usize = 3_500;

/// How a group of changes is made durable.
#[derive(Clone, Copy)]
pub(crate) struct Committer {
    /// How many changes share a batch of the engine.
    pub(crate) batch: usize,
    /// An fdatasync of our own after the engine's flush.
    pub(crate) synced: bool,
}

/// The revision of each record that was acknowledged at a moment.
pub(crate) struct Acknowledged {
    at: usize,
    revisions: HashMap<usize, u64>,
}

/// What it writes when nobody asks it to would be synced by nobody here.
fn engine(folder: &Path) -> sled::Result<Db> {
    sled::Config::new().path(folder).mode(Mode::LowSpace).cache_capacity(16 << 20).flush_every_ms(None).open()
}

fn record(number: usize) -> Vec<u8> {
    format!("j{number:06}").into_bytes()
}

/// The one entry of an index that the record's revision implies.
fn entry(number: usize, revision: u64) -> Vec<u8> {
    format!("d{revision:010}{number:06}").into_bytes()
}

impl Committer {
    /// Writes groups of changes.
    pub(crate) fn run(self, folder: &Path, recording: &Recording, random: &mut Random) -> Vec<Acknowledged> {
        std::fs::create_dir_all(folder).unwrap();
        let db = engine(folder).unwrap();
        let synced = File::open(folder.join("db")).unwrap();
        let settings = folder.join("conf");
        for path in [folder.join("db").as_path(), &settings].into_iter().chain(folder.ancestors().take(3)) {
            counted(|| File::open(path).unwrap().sync_all()).unwrap();
        }
        let mut written = HashMap::new();
        let mut acknowledged = Vec::new();
        for _ in 0..GROUPS {
            let mut left = if random.once_in(2) { GROUP } else { 1 };
            while left > 0 {
                let changes = left.min(self.batch);
                db.apply_batch(batch(changes, &mut written, random)).unwrap();
                left -= changes;
            }
            db.flush().unwrap();
            if self.synced {
                counted(|| synced.sync_data()).unwrap();
            }
            acknowledged.push(Acknowledged { at: recording.now(), revisions: written.clone() });
        }
        acknowledged
    }
}

/// Rewrites so many records, each with its entry.
fn batch(changes: usize, revisions: &mut HashMap<usize, u64>, random: &mut Random) -> Batch {
    let mut batch = Batch::default();
    for _ in 0..changes {
        let number = random.below(RECORDS);
        let revision = revisions.entry(number).or_default();
        batch.remove(entry(number, *revision));
        *revision += 1;
        batch.insert(entry(number, *revision), b"");
        batch.insert(record(number), [revision.to_be_bytes().as_slice(), &[7; BYTES]].concat());
    }
    batch
}

/// Opens what a power loss at `moment` left, on a thread of its own, where a panic of the engine is a finding.
pub(crate) fn judge(acknowledged: &[Acknowledged], moment: usize, folder: &Path) -> Result<()> {
    thread::scope(|scope| {
        let opening = scope.spawn(|| judge_here(acknowledged, moment, folder));
        opening.join().unwrap_or_else(|_| Err(anyhow!("the engine panicked")))
    })
}

fn judge_here(acknowledged: &[Acknowledged], moment: usize, folder: &Path) -> Result<()> {
    // The engine's settings are not at stake here: it makes them anew.
    std::fs::remove_file(folder.join("conf")).ok();
    let db = engine(folder)?;
    let empty = HashMap::new();
    let last = acknowledged.iter().rev().find(|group| group.at <= moment);
    let mut entries = 0;
    for number in 0..RECORDS {
        let found = db.get(record(number))?;
        let found =
            found.map(|value| value.first_chunk().copied().map(u64::from_be_bytes).context("no revision"));
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
