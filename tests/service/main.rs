//! A seeded simulation of the whole service core: app, duties of the runner, lifecycle, reading of the upstream's bytes.
//!
//! Everything is the service's own but the ends of it. In place of HTTP there is a wire ([`wire`]) on which bytes of a
//! scripted upstream arrive late, cut, or never; in place of sled a store in memory that passes the same conformance
//! list and loses at a crash what was not synced ([`disk`]); in place of time a clock that is moved by hand; in place of
//! the runtime an executor that lets chance pick who goes on ([`tasks`]). The lanes of the runner are played by the
//! world: it claims through the app, and has the runner's own [`Duties`](reelhook::runner::Duties) performed, which take
//! the call to the outside as an argument. What is not played: listeners, downloads, the pacer.
//!
//! A failing seed is printed; `SIM_SEED=<seed> cargo test --test service -- --nocapture` plays it again, step by step.
//! The long run is `SIM_LIVES=1000000 cargo test --release --test service lives -- --nocapture`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by a panic")]

mod away;
#[path = "../support/memory/mod.rs"]
mod disk;
mod judge;
mod people;
#[path = "../simulation/random.rs"]
mod random;
mod resubmit;
mod tasks;
mod upstream;
mod wire;
mod world;

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use disk::Fault;
use world::World;

/// So many jobs live in the short run.
const LIVES: u64 = 12_000;
/// Within so many schedules a fault has to show.
const SOON: u64 = 400;
/// So many ways from phase to phase are gone.
const MOVES: usize = 22;

/// A safeguard that is switched off, to see that the simulation would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Break {
    Nothing,
    /// One of the store's.
    Store(Fault),
    /// A create call leaves before it is claimed.
    SendsBeforeItClaims,
    /// The time in which a create call may leave is reckoned from when its work begins.
    ForgetsTheTimeOfItsClaim,
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

fn play(seed: u64, broken: Break, trace: bool) -> (World, Result<(), String>) {
    let mut world = World::new(seed, broken, trace);
    let verdict = world.play();
    (world, verdict)
}

#[test]
fn every_promise_is_kept_over_thousands_of_lives() {
    let (first, trace) = number("SIM_SEED").map_or((0, false), |seed| (seed, true));
    let wanted = if trace { 1 } else { number("SIM_LIVES").unwrap_or(LIVES) };
    let threads = if trace { 1 } else { std::thread::available_parallelism().map_or(1, usize::from) };
    let (next, lived, began) = (AtomicU64::new(first), AtomicU64::new(0), Instant::now());
    let moves = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while lived.load(Relaxed) < wanted {
                    let seed = next.fetch_add(1, Relaxed);
                    let (world, verdict) = play(seed, Break::Nothing, trace);
                    if let Err(broken) = verdict {
                        lived.store(u64::MAX / 2, Relaxed);
                        panic!("SIM_SEED={seed}: {broken}");
                    }
                    lived.fetch_add(world.judge.lives(), Relaxed);
                    let mut moves = moves.lock().unwrap();
                    for (way, times) in world.judge.moves() {
                        *moves.entry(way).or_insert(0) += times;
                    }
                }
            });
        }
    });
    let (lives, schedules) = (lived.into_inner(), next.into_inner() - first);
    let moves = moves.into_inner().unwrap();
    let changes: u64 = moves.values().sum();
    println!("{lives} lives, {schedules} schedules, {changes} changes in {:?}\n{moves:?}", began.elapsed());
    assert!(
        trace || moves.len() >= MOVES,
        "only {} ways from phase to phase are gone: {moves:?}",
        moves.len()
    );
}

#[test]
fn the_same_seed_plays_the_same_schedule() {
    let ends = |seed| {
        let (world, verdict) = play(seed, Break::Nothing, false);
        verdict.unwrap();
        world.disk.look(|tables| {
            let jobs: Vec<_> = tables.jobs.iter().map(|(_, row)| row.job.clone()).collect();
            let events: Vec<_> = tables.events.iter().map(|(_, event)| (**event).clone()).collect();
            (jobs, events)
        })
    };
    for seed in 0..8 {
        assert_eq!(ends(seed), ends(seed));
    }
}

/// Each of these safeguards is missed when it is gone:
///
/// * no acknowledgement before its write is durable
/// * no claim is given out before it is durable
/// * no create call leaves before it is claimed
/// * no create call leaves when the lease of its claim is over
/// * a lapsed lease never brings a create call back to the queue
/// * an answer counts for its own claim only
/// * a change is written only over the revision that it was made from
/// * budgets are judged in the change, of an insert and of a replacement
/// * the limit of jobs in flight is judged with the claim
/// * a callback's log entry and what it does to its job are one change
/// * the numbers of the event log have no gap
#[test]
fn the_simulation_misses_every_safeguard_that_is_switched_off() {
    // Each is looked for from a seed on that shows it soon.
    let breaks = [
        (Break::Store(Fault::AcknowledgesEarly), 2, "is lost"),
        (Break::Store(Fault::ClaimsEarly), 0, "a byte leaves before its claim is durable"),
        (Break::SendsBeforeItClaims, 0, "a byte leaves without a claim"),
        (Break::ForgetsTheTimeOfItsClaim, 22, "a byte leaves when the lease of its claim is over"),
        (Break::Store(Fault::RequeuesSending), 30, "is paid for 2 times"),
        (Break::Store(Fault::LendsLeases), 88, "is paid for 2 times"),
        (Break::Store(Fault::SwapsBlindly), 0, "revision rises by one"),
        (Break::Store(Fault::InsertsBeyondBudgets), 0, "no new job exceeds a budget"),
        (Break::Store(Fault::ReplacesBeyondBudgets), 0, "no new job exceeds a budget"),
        (Break::Store(Fault::ClaimsWithoutBound), 0, "no more are sent than may be in flight"),
        (Break::Store(Fault::DropsNotes), 0, "an acknowledged callback is lost"),
        (Break::Store(Fault::SkipsNumbers), 0, "the event log has a gap"),
    ];
    for (broken, first, promise) in breaks {
        let found = (first..first + SOON).find_map(|seed| Some((seed, play(seed, broken, false).1.err()?)));
        let (seed, found) = found.unwrap_or_else(|| panic!("{broken:?} goes unnoticed"));
        println!("{broken:?} shows with seed {seed}: {}", found.lines().next().unwrap_or_default());
        assert!(found.contains(promise), "{broken:?} shows as: {found}");
    }
}
