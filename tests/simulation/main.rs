//! A seeded simulation: store, lanes, upstream, network and clock around the lifecycle, played by chance.
//!
//! A failing seed is printed; `SIM_SEED=<seed> cargo test --test simulation -- --nocapture` plays it again, step by
//! step. `SIM_SCHEDULES=<n>` plays more or fewer.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by a panic")]

mod faults;
mod random;
#[path = "../support/lifecycle.rs"]
mod support;
mod upstream;
mod world;

use std::collections::BTreeMap;

use faults::Fault;
use reelhook::lifecycle::Policy;
use world::World;

/// So many different schedules are played.
const SCHEDULES: u64 = 100_000;
/// Within so many a fault has to show.
const SOON: u64 = 20_000;
/// So many pairs of a phase and an event that changes it are reached.
const ARMS: usize = 45;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

fn play<'a>(seed: u64, fault: Fault, policy: &'a Policy, trace: bool) -> Result<World<'a>, String> {
    let mut world = World::new(seed, fault, policy);
    world.trace = trace;
    for _ in 0..8 + world.random.below(32) {
        world.chance()?;
    }
    world.settle()?;
    Ok(world)
}

#[test]
fn a_hundred_thousand_schedules_keep_every_promise() {
    let policy = support::policy();
    let (seeds, trace) = match number("SIM_SEED") {
        Some(seed) => (seed..seed + 1, true),
        None => (0..number("SIM_SCHEDULES").unwrap_or(SCHEDULES), false),
    };
    let (mut effects, mut ends) = (BTreeMap::new(), BTreeMap::new());
    for seed in seeds {
        let world = play(seed, Fault::None, &policy, trace)
            .unwrap_or_else(|broken| panic!("SIM_SEED={seed}: {broken}"));
        for (arm, times) in world.effects {
            *effects.entry(arm).or_insert(0) += times;
        }
        for record in world.records {
            *ends.entry(format!("{:?}", record.job.status())).or_insert(0) += 1;
        }
    }
    println!("steps that changed something: {}", effects.values().sum::<u64>());
    println!("by phase and event: {effects:?}\nends: {ends:?}");
    assert!(trace || effects.len() >= ARMS, "the schedules reach only {} arms of the table", effects.len());
}

#[test]
fn the_same_seed_plays_the_same_schedule() {
    let policy = support::policy();
    let ends = |seed| {
        let world = play(seed, Fault::None, &policy, false).unwrap();
        world.records.into_iter().map(|record| record.job).collect::<Vec<_>>()
    };
    for seed in 0..50 {
        assert_eq!(ends(seed), ends(seed));
    }
}

/// Each of these wrong arms was put into the way of `step`, and each is caught:
///
/// * silence after a create call taken as a refusal, so that it is sent again
/// * a refusal that counts whatever create call it answers
/// * a question that taught nothing and leaves no due time
/// * a settled job that can be canceled
/// * the lapsed lease of a create call that brings the job back to the queue
/// * an answer that settles callbacks which came after its question
/// * an acceptance that counts only for the claim under way
/// * a refusal that is believed although a callback came during its call
#[test]
fn the_simulation_catches_eight_deliberate_faults() {
    let policy = support::policy();
    let faults = [
        (Fault::ResendsOnSilence, "only a refusal of the call under way"),
        (Fault::TakesForeignRefusals, "a foreign or unowed answer changes nothing"),
        (Fault::ForgetsTheDueTime, "due_at is none exactly when"),
        (Fault::SettlesTwice, "settling writes exactly one terminal event"),
        (Fault::ReleasesSending, "only a refusal of the call under way"),
        (Fault::DropsNewerNudges, "an answer settles only older nudges"),
        (Fault::IgnoresLateAcceptance, "was accepted and forgotten"),
        (Fault::BelievesRefusalsAfterACallback, "no create call follows a callback"),
    ];
    for (fault, promise) in faults {
        let found = (0..SOON).find_map(|seed| play(seed, fault, &policy, false).err());
        let found = found.unwrap_or_else(|| panic!("{fault:?} goes unnoticed"));
        assert!(found.contains(promise), "{fault:?} shows as: {found}");
    }
}
