//! The crash loop on the cluster: three servers on one PostgreSQL share the work, while they are killed, restarted, frozen and
//! cut off from the database, and the database itself dies; then everything that they ever promised is checked from
//! outside, by the checker of `tests/chaos`, under its load.
//!
//! `cargo test --test cluster` lets a few faults come, and shows that the checker notices a database without its safeguards,
//! and damage done by hand. `… --test cluster -- --jobs 5000 --kills 200 --seed 7` is the long run. The seed, which is printed, fixes
//! what is ordered, how the provider misbehaves, and which faults come; what the operating system makes of it, no seed can fix.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../chaos/app.rs"]
mod app;
#[path = "../chaos/checker/mod.rs"]
mod checker;
#[path = "../support/postgres.rs"]
mod database;
mod flaw;
#[path = "../chaos/load.rs"]
mod load;
#[path = "../chaos/order.rs"]
mod order;
mod plan;
#[path = "../simulation/random.rs"]
mod random;
mod relay;
#[path = "../chaos/report.rs"]
mod report;
#[path = "../chaos/site.rs"]
mod site;
mod stage;
#[path = "../support/mod.rs"]
mod support;
#[path = "../chaos/tamper.rs"]
mod tamper;

use std::{collections::BTreeMap, process::ExitCode, sync::atomic::Ordering, time::Duration};

use clap::Parser;

use checker::{Ends, Kind};
use flaw::Flaw;
use load::Load;
use plan::{Fault, Round};
use report::Report;
use stage::{NAMES, Stage};

/// Has three servers share jobs while they die, and checks their promises.
#[derive(Debug, Parser)]
struct Args {
    /// How many jobs they share
    #[arg(long)]
    jobs: Option<usize>,
    /// How many faults come, and nothing else then. Left out: a short run, and the tests of the checker
    #[arg(long)]
    kills: Option<usize>,
    /// What the schedule follows from; by default the time
    #[arg(long)]
    seed: Option<u64>,
    /// As of any test: part of its name
    #[arg(hide = true)]
    filter: Option<String>,
}

/// Of a short run.
const FAULTS: usize = 6;
/// Of a run that is meant to fail.
const BROKEN: usize = 4;
/// Jobs that clients order while one fault lasts.
const ORDERS_A_FAULT: usize = 10;
/// Orders that are placed and not yet taken, before the next round of faults, in rounds.
const AHEAD: usize = 2;
/// Each instance does at least this part of the work, in percent, or nothing is shown …
const SHARE: usize = 10;
/// … but in a short run: one that is away for long has little more there than the orders that come when all is over.
const SHARE_IF_SHORT: usize = 2;

#[tokio::main(flavor = "multi_thread", worker_threads = 3)]
async fn main() -> ExitCode {
    let Args { jobs, kills, seed, filter } = Args::parse();
    if filter.is_some_and(|part| !"cluster".contains(&part)) {
        return ExitCode::SUCCESS;
    }
    let seed = seed.unwrap_or_else(|| jiff::Timestamp::now().as_millisecond().cast_unsigned());
    let faults = kills.unwrap_or(FAULTS);
    let jobs = jobs.unwrap_or(faults * ORDERS_A_FAULT);
    let is_short = kills.is_none();
    let ends = if is_short { Ends::OrDoubted } else { Ends::All };
    let mut good = run(&plan::rounds(faults, seed), jobs, seed, None, ends).await.is_spotless();
    for flaw in Flaw::ALL.into_iter().filter(|_| is_short) {
        let orders = BROKEN * ORDERS_A_FAULT;
        let shows = async |seed| {
            flaw.is_noticed(&run(&flaw.rounds(BROKEN), orders, seed, Some(flaw), flaw.ends()).await)
        };
        good &= report::is_noticed(flaw, flaw.runs(), seed, shows).await;
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One loop from an empty database to the verdict.
async fn run(rounds: &[Round], jobs: usize, seed: u64, flaw: Option<Flaw>, ends: Ends) -> Report {
    let faults = rounds.iter().flatten().count();
    println!(
        "{jobs} jobs, {faults} faults, seed {seed}{}",
        flaw.map_or_else(String::new, |it| format!(", {it:?}"))
    );
    let mut report = Report::new();
    let stage = Stage::set(seed).await;
    stage.start().await;
    if let Some(flaw) = flaw {
        flaw.put_into(&stage);
    }
    let load = Load::start(&stage.site, seed);
    // Of the orders as many with each round, and as many when all is over.
    let parts = rounds.len() + 1;
    let part = |nth| jobs * (nth + 1) / parts - jobs * nth / parts;
    let suffering = async {
        for (nth, round) in rounds.iter().enumerate() {
            load.order(part(nth));
            stage.suffer(round).await;
            load.keep_up(AHEAD * jobs / parts).await;
        }
    };
    tokio::select! {
        () = suffering => {}
        () = stage.tend() => {}
    }
    stage.site.app.cure();
    stage.start().await;
    load.order(part(rounds.len()));
    if !load.finish_orders(Duration::from_secs(60)).await {
        report.add(Kind::Unsettled, "an order was never taken");
    }
    report.violations.extend(checker::settled(&stage.site, ends).await);
    let mut promised = load.end(&stage.site).await;
    stage.kill();
    if let Some(flaw) = flaw {
        flaw.take_out(&stage);
    }
    if flaw == Some(Flaw::Tampered) {
        tamper::tamper(&stage.site, &mut promised, seed);
    }
    // Once more: what had settled is still so after a start, and what was half-done is tidied away.
    stage.start().await;
    report.violations.extend(checker::check(&stage.site, &promised, ends, &mut report.found).await);
    let shares = shares(&stage).await;
    stage.kill();
    report.violations.extend(stage.complaints());
    let share = if ends == Ends::All { SHARE } else { SHARE_IF_SHORT };
    if flaw.is_none() && shares.values().any(|part| *part < share) {
        report.add(Kind::NotTested, "an instance did next to nothing");
    }
    let given_up = stage.given_up.load(Ordering::Relaxed);
    println!("  {}, {given_up} starts given up without a database", suffered(rounds));
    println!("  who did what, in percent: {shares:?}");
    print!("{report}");
    if flaw.is_none() && !report.is_spotless() {
        println!("the servers' logs and files: {}", stage.site.keep().display());
    }
    report
}

fn suffered(rounds: &[Round]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for strike in rounds.iter().flatten() {
        let kind = match strike.fault {
            Fault::Kill { .. } => "instances killed",
            Fault::Restart { .. } => "restarted",
            Fault::Freeze { .. } => "frozen",
            Fault::Isolate { .. } => "cut off from the database",
            Fault::Crash { .. } => "crashes of the database",
        };
        *counts.entry(kind).or_default() += 1;
    }
    counts.into_iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", ")
}

/// Who wrote how much of the event log, in percent.
async fn shares(stage: &Stage) -> BTreeMap<&'static str, usize> {
    let events = checker::log::read(&stage.site).await;
    let of = |name: &str| events.iter().filter(|event| event["data"]["instance"] == name).count();
    NAMES.into_iter().map(|name| (name, of(name) * 100 / events.len().max(1))).collect()
}
