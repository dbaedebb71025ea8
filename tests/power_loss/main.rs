//! Power loss: what was acknowledged is there, and the store opens, whatever the disk kept of what was not synced.
//!
//! A load runs on a real store while every write and sync of its files is recorded. From the recording the test builds
//! what the disk may hold had the power failed at some moment, opens it as a start would, and judges it.
//! `POWER_LOSS_IMAGES` is how many such disks to build, `POWER_LOSS_SEED` chooses them and the load. Which changes
//! share a group is up to the threads, so a seed repeats the load and the kinds of losses, not each byte.

#![cfg(all(target_os = "linux", target_env = "gnu"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod controls;
mod disk;
mod judge;
mod load;
mod named;
#[path = "../simulation/random.rs"]
mod random;
mod recorder;
#[allow(dead_code, reason = "it serves the tests of the store too")]
#[path = "../store/support.rs"]
mod support;

use std::{fs::File, path::Path, sync::Mutex, thread};

use anyhow::Result;
use reelhook::store::Store;
use tempfile::TempDir;

use self::{
    controls::Committer,
    disk::{Disk, Kept},
    load::{Journal, Load},
    random::Random,
    recorder::{Op, Recording, Syncs},
};

/// Where the store is in a recorded folder: deep enough that the folders on the way have to be synced too.
const STORE: &str = "new/state";

/// Disks that are built from one load at most.
const PER_LOAD: usize = 400;
/// Disks of a stand-in that are tried at once.
const PER_ROUND: usize = 40;
/// Disks by which a stand-in that does not keep the promise is found out.
const ENOUGH: usize = 1_000;

/// What was done to a folder.
struct Recorded {
    before: Disk,
    ops: Vec<Op>,
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |number| number.parse().unwrap())
}

fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Runs something on the store in `root` and records what it does to the files.
fn recorded<T>(root: &Path, syncs: Syncs, run: impl FnOnce(&Path, &Recording) -> T) -> (Recorded, T) {
    let root = root.canonicalize().unwrap();
    let before = Disk::of(&root);
    let recording = Recording::start(&root, syncs);
    let result = run(&root.join(STORE), &recording);
    // The engine lets go of its files on threads of its own.
    File::open(root.join(STORE).join("db")).unwrap().lock().unwrap();
    let ops = recording.stop();

    let mut after = before.clone();
    ops.iter().for_each(|op| after.apply(op));
    let replayed = after.after_power_loss(Kept::Everything, &mut Random::new(0));
    assert!(replayed == disk::contents_of(&root), "something was written past the recorder");
    (Recorded { before, ops }, result)
}

/// A load on a new store.
fn loaded(waves: usize, seed: u64) -> (Recorded, Journal) {
    let root = folder();
    recorded(root.path(), Syncs::All, |folder, recording| {
        runtime().block_on(async {
            let store = judge::open(folder).unwrap();
            let journal = Load::new(&store, recording).run(waves, &mut Random::new(seed)).await;
            store.close().await;
            journal
        })
    })
}

/// A power loss.
#[derive(Clone, Copy, Debug)]
struct Crash {
    /// After so many operations.
    moment: usize,
    kept: Kept,
    seed: u64,
}

impl Recorded {
    fn disk_after(&self, crash: &Crash) -> disk::Contents {
        let mut disk = self.before.clone();
        self.ops[..crash.moment].iter().for_each(|op| disk.apply(op));
        disk.after_power_loss(crash.kept, &mut Random::new(crash.seed))
    }

    /// So many power losses: most while a sync is under way, where the most is at stake, the others at any time.
    fn crashes(&self, count: usize, random: &mut Random) -> Vec<Crash> {
        let is_sync = |at: &usize| matches!(self.ops[*at], Op::Synced { .. });
        let syncs: Vec<_> = (0..self.ops.len()).filter(is_sync).collect();
        let mut crashes: Vec<_> = (0..count)
            .map(|number| {
                let anywhere = random.below(self.ops.len() + 1);
                let moment = if random.once_in(4) { anywhere } else { syncs[number * syncs.len() / count] };
                let kept = Kept::ALL[random.below(Kept::ALL.len())];
                Crash { moment, kept, seed: random.below(usize::MAX) as u64 }
            })
            .collect();
        crashes.sort_by_key(|crash| crash.moment);
        crashes
    }

    /// Builds each disk and has it judged; the ones that fail.
    fn try_all(
        &self,
        crashes: &[Crash],
        judge: impl Fn(&Crash, &Path) -> Result<()> + Sync,
    ) -> Vec<(Crash, anyhow::Error)> {
        let failures = Mutex::new(Vec::new());
        let workers = thread::available_parallelism().map_or(1, usize::from);
        let work = |worker: usize| {
            let (mut disk, mut done) = (self.before.clone(), 0);
            for crash in crashes.iter().skip(worker).step_by(workers) {
                self.ops[done..crash.moment].iter().for_each(|op| disk.apply(op));
                done = crash.moment;
                let root = folder();
                let left = disk.after_power_loss(crash.kept, &mut Random::new(crash.seed));
                disk::put(&left, root.path());
                if let Err(error) = judge(crash, root.path()) {
                    if std::env::var_os("POWER_LOSS_KEEP").is_some() {
                        let kept = folder().keep();
                        disk::put(&left, &kept);
                        println!("{crash:?}: {}", kept.display());
                    }
                    failures.lock().unwrap().push((*crash, error));
                }
            }
        };
        thread::scope(|scope| {
            for worker in 0..workers {
                let work = &work;
                scope.spawn(move || work(worker));
            }
        });
        failures.into_inner().unwrap()
    }
}

/// The most changes that were acknowledged after one sync.
fn largest_group(recorded: &Recorded, journal: &Journal) -> usize {
    let mut groups = std::collections::HashMap::<_, usize>::new();
    let syncs: Vec<_> =
        (0..recorded.ops.len()).filter(|at| matches!(recorded.ops[*at], Op::Synced { .. })).collect();
    for fact in &journal.acknowledged {
        *groups.entry(syncs.partition_point(|sync| *sync < fact.at)).or_default() += 1;
    }
    groups.into_values().max().unwrap_or(0)
}

fn judged(journal: &Journal, moment: usize, root: &Path) -> Result<()> {
    runtime().block_on(judge::judge(journal, moment, &root.join(STORE)))
}

fn report(what: &str, images: usize, seed: u64, failures: &[(Crash, anyhow::Error)]) {
    println!("{what}: {} of {images} disks failed, seed {seed}", failures.len());
    for (crash, error) in failures.iter().take(10) {
        println!("  {crash:?}: {error:#}");
    }
}

#[test]
fn what_was_acknowledged_survives_every_power_loss() {
    let (images, seed) = (number("POWER_LOSS_IMAGES", 120) as usize, number("POWER_LOSS_SEED", 1));
    let (mut left, mut failures) = (images, Vec::new());
    for round in 0.. {
        let (recorded, journal) = loaded(40, seed + round);
        assert!(largest_group(&recorded, &journal) >= 256, "the groups are too small to tell");
        let crashes = recorded.crashes(left.min(PER_LOAD), &mut Random::new(seed + round));
        failures.extend(recorded.try_all(&crashes, |crash, root| judged(&journal, crash.moment, root)));
        left -= crashes.len();
        if left == 0 {
            break;
        }
    }
    report("the store", images, seed, &failures);
    assert!(failures.is_empty());
}

#[test]
fn a_power_loss_during_the_start_after_another_loses_nothing_either() {
    let (images, seed) = (number("POWER_LOSS_IMAGES", 120) as usize / 4, number("POWER_LOSS_SEED", 1));
    let (starts, mut random) = (images.div_ceil(10), Random::new(seed));
    let (first, journal) = loaded(30, seed);
    let mut failures = Vec::new();
    for crash in first.crashes(starts, &mut random) {
        let root = folder();
        disk::put(&first.disk_after(&crash), root.path());
        let (start, ()) = recorded(root.path(), Syncs::All, |folder, _| {
            runtime().block_on(async { judge::open(folder).unwrap().close().await });
        });
        let again = start.crashes(images.div_ceil(starts), &mut random);
        failures.extend(start.try_all(&again, |_, root| judged(&journal, crash.moment, root)));
    }
    report("the store, in its start", images, seed, &failures);
    assert!(failures.is_empty());
}

#[test]
fn an_event_of_a_name_and_the_note_of_it_are_both_there_or_neither_is() {
    let (images, seed) = (number("POWER_LOSS_IMAGES", 120) as usize / 2, number("POWER_LOSS_SEED", 1));
    let root = folder();
    let (recorded, at) = recorded(root.path(), Syncs::All, |folder, recording| {
        runtime().block_on(named::log(folder, recording))
    });
    let judge =
        |crash: &Crash, root: &Path| runtime().block_on(named::judge(&at, crash.moment, &root.join(STORE)));
    let failures = recorded.try_all(&recorded.crashes(images, &mut Random::new(seed)), judge);
    report("events of a name", images, seed, &failures);
    assert!(failures.is_empty());
}

/// Tries disks of a stand-in for the store's committer, up to so many, until some fail; how many did.
fn failures_under(what: &str, committer: Committer, syncs: Syncs, images: usize) -> usize {
    let seed = number("POWER_LOSS_SEED", 1);
    let root = folder();
    let (recorded, groups) = recorded(root.path(), syncs, |folder, recording| {
        committer.run(folder, recording, &mut Random::new(seed))
    });
    let judge = |crash: &Crash, root: &Path| controls::judge(&groups, crash.moment, &root.join(STORE));
    let (mut random, mut tried, mut failures) = (Random::new(seed), 0, Vec::new());
    while tried < images && failures.is_empty() {
        failures = recorded.try_all(&recorded.crashes(PER_ROUND, &mut random), judge);
        tried += PER_ROUND;
    }
    report(what, tried, seed, &failures);
    failures.len()
}

#[test]
fn the_flush_of_the_engine_alone_loses_what_was_acknowledged() {
    let committer = Committer { batch: usize::MAX, synced: false };
    assert!(failures_under("flush only", committer, Syncs::Counted, ENOUGH) > 0);
}

#[test]
fn a_batch_for_each_change_under_one_sync_is_torn_apart() {
    let committer = Committer { batch: 1, synced: true };
    assert!(failures_under("a batch for each change", committer, Syncs::Counted, ENOUGH) > 0);
}

#[test]
fn a_second_batch_before_the_first_is_synced_tears_it_apart() {
    let committer = Committer { batch: 128, synced: true };
    assert!(failures_under("two batches", committer, Syncs::Counted, ENOUGH) > 0);
}

/// As reelhook does it. Where the engine's own syncs are none, a disk in some thousands fails even so.
#[test]
fn one_batch_a_group_and_an_engine_that_syncs_lose_nothing() {
    let committer = Committer { batch: usize::MAX, synced: true };
    assert_eq!(failures_under("one batch", committer, Syncs::All, number("POWER_LOSS_ONE", 80) as usize), 0);
}
