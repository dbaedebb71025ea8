//! What follows from the seed: when and where the server is killed.

use std::time::Duration;

use clap::ValueEnum;
use reelhook::chaos::{Point, Safeguard};

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
