//! The crash loop: the server is killed again and again, at random moments and at every point where it matters, under a
//! load of clients and a provider that misbehaves; then everything that it ever promised is checked from outside.
//!
//! `cargo test --features chaos --test chaos` does 64 kills and shows that the checker notices each safeguard that is
//! missing. `… --test chaos -- --kills 1000 --seed 7` is the long run. The seed, which is printed, fixes what is
//! ordered, how the provider misbehaves, and when and where the server is killed; what the operating system makes of
//! it, such as which request is under way at that moment, no seed can fix.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod checker;
mod load;
mod plan;
#[path = "../simulation/random.rs"]
mod random;
mod report;
mod stage;
#[path = "../support/mod.rs"]
mod support;

use std::{process::ExitCode, time::Duration};

use clap::{Parser, ValueEnum};
use reelhook::chaos::{Point, Safeguard};

use checker::{Ends, Kind, Violation};
use load::{Load, Promised};
use plan::Kill;
use report::Report;
use stage::Stage;

/// Kills the server until it has lost, repeated or forgotten something, or was killed often enough.
#[derive(Debug, Parser)]
struct Args {
    /// How often to kill it; and nothing else then. Left out: a short run, and one for each missing safeguard
    #[arg(long)]
    kills: Option<usize>,
    /// What the schedule follows from; by default the time
    #[arg(long)]
    seed: Option<u64>,
    /// Do without a safeguard; the run is then expected to find a violation
    #[arg(long)]
    without: Option<Safeguard>,
    /// As of any test: part of its name
    #[arg(hide = true)]
    filter: Option<String>,
}

/// Enough for every point to have its turn more than once.
const SHORT: usize = 64;
/// After so many kills a missing safeguard has been noticed many times over.
const BROKEN: usize = 12;

/// What the checker must say when a safeguard is missing: any of these.
const fn verdict(missing: Safeguard) -> &'static [Kind] {
    match missing {
        Safeguard::Sync => &[Kind::LostJob, Kind::LostCallback],
        Safeguard::Cas => &[Kind::Outcome, Kind::EventLog],
        Safeguard::Claim => &[Kind::PaidTwice],
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let args = Args::parse();
    if args.filter.is_some_and(|part| !"chaos".contains(&part)) {
        return ExitCode::SUCCESS;
    }
    let seed = args.seed.unwrap_or_else(|| jiff::Timestamp::now().as_millisecond().cast_unsigned());
    let ends = if args.kills.is_some() { Ends::All } else { Ends::OrDoubted };
    let mut good = true;
    if args.without.is_none() {
        let kills = plan::kills(args.kills.unwrap_or(SHORT), seed);
        good &= run(&kills, seed, None, ends).await.is_spotless();
    }
    let broken = match args.without {
        Some(missing) => vec![missing],
        None if args.kills.is_none() => Safeguard::value_variants().to_vec(),
        None => Vec::new(),
    };
    for missing in broken {
        let kills = plan::kills_without(missing, args.kills.unwrap_or(BROKEN), seed);
        let report = run(&kills, seed, Some(missing), Ends::Broken).await;
        let noticed = report.violations.iter().any(|violation| verdict(missing).contains(&violation.kind));
        println!(
            "the checker {} that {missing:?} is missing",
            if noticed { "notices" } else { "DOES NOT NOTICE" }
        );
        good &= noticed;
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One loop from an empty store to the verdict.
async fn run(kills: &[Kill], seed: u64, missing: Option<Safeguard>, ends: Ends) -> Report {
    println!(
        "{} kills, seed {seed}{}",
        kills.len(),
        missing.map_or_else(String::new, |it| format!(", without {it:?}"))
    );
    let mut report = Report::new();
    let stage = Stage::set(seed, missing).await;
    let load = Load::start(&stage, seed);
    for (number, kill) in kills.iter().enumerate() {
        load.order(plan::ORDERS_A_KILL);
        match stage.live_and_die(*kill).await {
            Ok(death) => report.died(*kill, death),
            Err(why) => {
                report.violations.push(Violation { kind: Kind::Crash, what: format!("kill {number}: {why}") })
            }
        }
    }
    let promised = end_of_faults(&stage, load, ends, &mut report).await;
    // Once more: what had settled is still so after a start, and what was half-done is tidied away.
    let server = stage.start().await;
    report.violations.extend(checker::check(&stage, &promised, ends, &mut report.found).await);
    drop(server);
    report.violations.extend(stage.complaints());
    if missing.is_none() && kills.len() >= SHORT {
        report.violations.extend(report.never_reached());
    }
    print!("{report}");
    if missing.is_none() && !report.is_spotless() {
        println!("the server's log and files: {}", stage.keep().display());
    }
    report
}

/// Lets the server live until all is settled or held, and kills it a last time.
async fn end_of_faults(stage: &Stage, load: Load, ends: Ends, report: &mut Report) -> Promised {
    let server = stage.start().await;
    let orders_served = load.finish_orders(Duration::from_secs(30)).await;
    report.violations.extend(checker::settled(stage, ends).await);
    let promised = load.end(stage).await;
    if !orders_served {
        report
            .violations
            .push(Violation { kind: Kind::Unsettled, what: "an order was never taken".to_owned() });
    }
    server.kill();
    promised
}

/// Every point, by the name that the environment uses.
fn name(point: Point) -> String {
    point.to_possible_value().unwrap().get_name().to_owned()
}
