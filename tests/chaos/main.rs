//! The crash loop: the server is killed again and again, at random moments and at every point where it matters, under a
//! load of clients and a provider that misbehaves; then everything that it ever promised is checked from outside.
//!
//! `cargo test --features chaos --test chaos` does 72 kills and shows that the checker notices each safeguard that is
//! missing, and damage done by hand. `… --test chaos -- --kills 1000 --seed 7` is the long run. The seed, which is printed, fixes what is
//! ordered, how the provider misbehaves, and when and where the server is killed; what the operating system makes of
//! it, such as which request is under way at that moment, no seed can fix.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod app;
mod checker;
mod deaths;
mod load;
mod order;
mod plan;
#[path = "../simulation/random.rs"]
mod random;
mod report;
mod site;
mod stage;
#[path = "../support/mod.rs"]
mod support;
mod tamper;

use std::{process::ExitCode, time::Duration};

use clap::{Parser, ValueEnum};
use reelhook::chaos::{Point, Safeguard};

use checker::{Ends, Kind};
use deaths::Deaths;
use load::{Load, Promised};
use plan::Kill;
use report::Report;
use stage::Stage;

/// Kills the server again and again, and checks its promises.
#[derive(Debug, Parser)]
struct Args {
    /// How often to kill it; and nothing else then. Left out: a short run, and the tests of the checker
    #[arg(long)]
    kills: Option<usize>,
    /// What the schedule follows from; by default the time
    #[arg(long)]
    seed: Option<u64>,
    /// Switch a safeguard off, for twelve kills: the run fails, and says what is lost or paid twice
    #[arg(long)]
    without: Option<Safeguard>,
    /// As of any test: part of its name
    #[arg(hide = true)]
    filter: Option<String>,
}

/// Enough for every point to have its turn more than once.
const SHORT: usize = 72;
/// Turns of a point after those: whether the work that passes it was there is chance.
const MORE_TURNS: usize = 3;
/// After so many kills a missing safeguard has been noticed many times over.
const BROKEN: usize = 12;

/// What is wrong with a run, on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    Without(Safeguard),
    Tampered,
}

impl Flaw {
    /// What the checker must say: one of these for a safeguard, each of them for damage.
    fn is_noticed(self, report: &Report) -> bool {
        let said = |kind: &Kind| report.has(*kind);
        match self {
            Self::Without(Safeguard::Sync) => [Kind::LostJob, Kind::LostCallback].iter().any(said),
            Self::Without(Safeguard::Cas) => [Kind::Outcome, Kind::EventLog].iter().any(said),
            Self::Without(Safeguard::Claim) => said(&Kind::PaidTwice),
            Self::Tampered => tamper::VERDICT.iter().all(said),
        }
    }

    /// Whether the server dies when the safeguard matters is chance; damage is always there.
    const fn runs(self) -> u64 {
        match self {
            Self::Without(_) => 3,
            Self::Tampered => 1,
        }
    }

    /// Damage comes after an honest run.
    const fn ends(self) -> Ends {
        match self {
            Self::Without(_) => Ends::Broken,
            Self::Tampered => Ends::OrDoubted,
        }
    }

    fn kills(self, seed: u64) -> Vec<Kill> {
        match self {
            Self::Without(missing) => plan::kills_without(missing, BROKEN, seed),
            Self::Tampered => plan::kills(4, seed),
        }
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let Args { kills, seed, without, filter } = Args::parse();
    if filter.is_some_and(|part| !"chaos".contains(&part)) {
        return ExitCode::SUCCESS;
    }
    let seed = seed.unwrap_or_else(|| jiff::Timestamp::now().as_millisecond().cast_unsigned());
    let ends = if kills.is_some() { Ends::All } else { Ends::OrDoubted };
    if let Some(missing) = without {
        let flaw = Flaw::Without(missing);
        let report = run(&flaw.kills(seed), seed, Some(flaw), flaw.ends()).await;
        return exit_code(report.is_spotless());
    }
    let mut good = run(&plan::kills(kills.unwrap_or(SHORT), seed), seed, None, ends).await.is_spotless();
    let flaws = Safeguard::value_variants().iter().copied().map(Flaw::Without).chain([Flaw::Tampered]);
    for flaw in flaws.filter(|_| kills.is_none()) {
        let shows =
            async |seed| flaw.is_noticed(&run(&flaw.kills(seed), seed, Some(flaw), flaw.ends()).await);
        good &= report::is_noticed(flaw, flaw.runs(), seed, shows).await;
    }
    exit_code(good)
}

fn exit_code(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One loop from an empty store to the verdict.
async fn run(kills: &[Kill], seed: u64, flaw: Option<Flaw>, ends: Ends) -> Report {
    println!("{} kills, seed {seed}{}", kills.len(), flaw.map_or_else(String::new, |it| format!(", {it:?}")));
    let (mut report, mut deaths) = (Report::new(), Deaths::default());
    let missing = match flaw {
        Some(Flaw::Without(missing)) => Some(missing),
        Some(Flaw::Tampered) | None => None,
    };
    let stage = Stage::set(seed, missing).await;
    let load = Load::start(&stage.site, seed);
    suffer(kills, &stage, &load, &mut deaths, &mut report).await;
    let is_whole = flaw.is_none() && kills.len() >= SHORT;
    for _ in 0..MORE_TURNS * usize::from(is_whole) {
        let missed: Vec<_> = deaths.never_reached().into_iter().map(|point| Kill::At(point, 1)).collect();
        suffer(&missed, &stage, &load, &mut deaths, &mut report).await;
    }
    let mut promised = end_of_faults(&stage, load, ends, &mut report).await;
    if flaw == Some(Flaw::Tampered) {
        tamper::tamper(&stage.site, &mut promised, seed);
    }
    // Once more: what had settled is still so after a start, and what was half-done is tidied away.
    let server = stage.start().await;
    report.violations.extend(checker::check(&stage.site, &promised, ends, &mut report.found).await);
    drop(server);
    report.violations.extend(stage.site.complaints(stage::NAME));
    for point in deaths.never_reached().into_iter().filter(|_| is_whole) {
        report.add(Kind::NotTested, format!("no death at {}", name(point)));
    }
    print!("{deaths}{report}");
    if flaw.is_none() && !report.is_spotless() {
        println!("the server's log and files: {}", stage.site.keep().display());
    }
    report
}

/// Starts the server and kills it, as often as there are kills.
async fn suffer(kills: &[Kill], stage: &Stage, load: &Load, deaths: &mut Deaths, report: &mut Report) {
    for kill in kills {
        load.order(plan::ORDERS_A_KILL);
        match stage.live_and_die(*kill).await {
            Ok(death) => deaths.count(*kill, death),
            Err(why) => report.add(Kind::Crash, format!("{kill:?}: {why}")),
        }
    }
}

/// Lets the server live until all is settled or held, and kills it a last time.
async fn end_of_faults(stage: &Stage, load: Load, ends: Ends, report: &mut Report) -> Promised {
    stage.site.app.cure();
    let server = stage.start().await;
    if !load.finish_orders(Duration::from_secs(30)).await {
        report.add(Kind::Unsettled, "an order was never taken".to_owned());
    }
    report.violations.extend(checker::settled(&stage.site, ends).await);
    let promised = load.end(&stage.site).await;
    drop(server); // SIGKILL
    promised
}

/// Every point, by the name that the environment uses.
fn name(point: Point) -> String {
    point.to_possible_value().unwrap().get_name().to_owned()
}
