//! What follows from the seed: which instance is killed, stopped, frozen or cut off when, and when the database dies.

use std::time::Duration;

use crate::{random::Random, relay::Way};

/// Servers that share the database.
pub(crate) const INSTANCES: usize = 3;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// SIGKILL; it is started again so long after.
    Kill { instance: usize, down: Duration },
    /// SIGTERM, and SIGKILL if it has not ended by then; it is started again at once.
    Restart { instance: usize, grace: Duration },
    /// SIGSTOP for so long: it wakes up in the belief that no time has passed.
    Freeze { instance: usize, length: Duration },
    /// It does not reach the database for so long.
    Isolate { instance: usize, way: Way, length: Duration },
    /// The database loses what is in its memory; it is started again so long after.
    Crash { down: Duration },
}

/// A fault, and how long after the others of its round it comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strike {
    pub(crate) after: Duration,
    pub(crate) fault: Fault,
}

/// Faults that come together, each to somebody else; the next round comes when all of them are over.
pub(crate) type Round = Vec<Strike>;

/// So many faults, in rounds of up to three.
pub(crate) fn rounds(count: usize, seed: u64) -> Vec<Round> {
    let mut random = Random::new(seed);
    let (mut rounds, mut left) = (Vec::new(), count);
    while left > 0 {
        let mut round: Round = Vec::new();
        let first = random.below(INSTANCES);
        for nth in 0..(1 + random.below(3)).min(left) {
            let after = millis(&mut random, 0, 600);
            let fault = match nth == 0 && random.once_in(3) {
                true => Fault::Crash { down: millis(&mut random, 0, 1_500) },
                false => of_instance((first + nth) % INSTANCES, &mut random),
            };
            round.push(Strike { after, fault });
        }
        left -= round.len();
        rounds.push(round);
    }
    rounds
}

fn of_instance(instance: usize, random: &mut Random) -> Fault {
    // One in four lasts longer than a create call's lease and every wait for the database.
    let length = if random.once_in(4) { millis(random, 6_000, 9_000) } else { millis(random, 100, 2_500) };
    match random.below(7) {
        0..3 => Fault::Kill { instance, down: millis(random, 0, 1_500) },
        3 => Fault::Restart { instance, grace: millis(random, 0, 1_000) },
        4 => Fault::Freeze { instance, length },
        _ => {
            let way = [Way::Cut, Way::Silent, Way::Mute][random.below(3)];
            Fault::Isolate { instance, way, length }
        }
    }
}

fn millis(random: &mut Random, from: usize, to: usize) -> Duration {
    Duration::from_millis((from + random.below(to - from)) as u64)
}
