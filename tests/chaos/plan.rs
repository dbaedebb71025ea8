//! What follows from the seed: when and where the server is killed, what is ordered, how the provider misbehaves.

use std::time::Duration;

use clap::ValueEnum;
use reelhook::{
    chaos::{Point, Safeguard},
    sandbox::directive,
};

use crate::random::Random;

/// Jobs that clients order while one process lives.
pub(crate) const ORDERS_A_KILL: usize = 6;

/// How one process ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kill {
    /// SIGKILL so long after it was started; it need not be ready by then.
    After(Duration),
    /// SIGTERM so long after it was started, and SIGKILL if it has not ended so long after that.
    Ending(Duration, Duration),
    /// At the nth time that it passes a point.
    At(Point, u32),
}

/// Every other one at a random moment, now and then while it shuts down; the others at each point in turn.
pub(crate) fn kills(count: usize, seed: u64) -> Vec<Kill> {
    let mut random = Random::new(seed);
    let points = Point::value_variants();
    let one = |number: usize| match number % 2 {
        0 => {
            let moment = Duration::from_millis(30 + random.below(970) as u64);
            let grace = Duration::from_millis(random.below(300) as u64);
            if random.once_in(5) { Kill::Ending(moment, grace) } else { Kill::After(moment) }
        }
        _ => at(points[number / 2 % points.len()], &mut random),
    };
    (0..count).map(one).collect()
}

fn at(point: Point, random: &mut Random) -> Kill {
    let passes = match point {
        // A start alone passes these a few times, a second's work a hundred times: half of the deaths in each.
        Point::StoreJudged
        | Point::StoreApplied
        | Point::StoreFlushed
        | Point::StoreSynced
        | Point::StoreAnswering
        | Point::StoreAnswered => {
            let most = [6, 60][random.below(2)];
            1 + random.below(most)
        }
        _ => 1 + random.below(4),
    };
    Kill::At(point, u32::try_from(passes).unwrap())
}

/// Where a missing safeguard does harm: between a promise and the write that it is about.
pub(crate) fn kills_without(missing: Safeguard, count: usize, seed: u64) -> Vec<Kill> {
    let mut random = Random::new(seed);
    let one = |_| match missing {
        Safeguard::Cas => Kill::After(Duration::from_millis(500 + random.below(300) as u64)),
        // A start passes it a few times; then come the orders that have waited for it.
        Safeguard::Sync => Kill::At(Point::StoreJudged, u32::try_from(3 + random.below(8)).unwrap()),
        // The provider has answered, and nothing says that it was called.
        Safeguard::Claim => Kill::At(Point::Submitted, u32::try_from(1 + random.below(3)).unwrap()),
    };
    (0..count).map(one).collect()
}

/// What one client wants.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) prompt: String,
    /// It changes its mind so long after the order was taken, and says so several times at once.
    pub(crate) cancel_after: Option<Duration>,
    /// Nothing but the kills stands in its way.
    pub(crate) is_plain: bool,
}

/// The nth order, whoever gets to place it.
pub(crate) fn order(number: usize, seed: u64) -> Order {
    let mut random = Random::new(seed ^ (number as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let count = [0, 1, 1, 1, 2, 2, 3][random.below(7)];
    // Each directive in turn, so that none is left to chance; then more of them by chance.
    let chosen = (0..count).map(|nth| {
        let all = directive::EXAMPLES;
        all[if nth == 0 { number % all.len() } else { random.below(all.len()) }]
    });
    let directives: Vec<String> = chosen.map(|example| format!("[[{}]]", tamed(example))).collect();
    Order {
        prompt: format!("order {number} {}", directives.join(" ")),
        cancel_after: random.once_in(8).then(|| Duration::from_millis(random.below(300) as u64)),
        is_plain: directives.is_empty(),
    }
}

/// What the operator makes of a held job.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Decision {
    Attach,
    Resubmit,
    Fail,
    Leave,
}

/// By the end of the id, which is random, and always the same.
pub(crate) fn decision(id: &str) -> Decision {
    match id.bytes().last().map_or(0, |digit| digit % 4) {
        0 => Decision::Attach,
        1 => Decision::Resubmit,
        2 => Decision::Fail,
        _ => Decision::Leave,
    }
}

/// An example whose value suits a loop of a few minutes, where its own does not.
fn tamed(example: &'static str) -> &'static str {
    match example.split(':').next().unwrap() {
        "auth" => "auth:401:1",
        "credits" => "credits:402:1",
        "rate" => "rate:429:1",
        "busy" => "busy:503:1",
        "url-expire" => "url-expire:20s",
        "slow-download" => "slow-download:200kB",
        "size" => "size:600kB",
        _ => example,
    }
}
