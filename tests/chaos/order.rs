//! What follows from the seed: what is ordered, how the provider misbehaves, and what the operator decides.

use std::time::Duration;

use reelhook::sandbox::directive;

use crate::random::Random;

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
