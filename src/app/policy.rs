//! The limits that jobs and deliveries go by under a configuration.

use std::time::Duration;

use crate::{
    config::Config,
    lifecycle::{DeliveryPolicy, Experience, FetchPolicy, Policy, PollPolicy, SinkRule},
};

/// Lease of a claim that is renewed while its work lives.
const LEASE: Duration = Duration::from_secs(15);
/// How often it is renewed.
pub const RENEW_EVERY: Duration = Duration::from_secs(5);
/// How much longer than its time-out a create call's lease is, or that of a try at a delivery.
const MARGIN: Duration = Duration::from_secs(5);

/// The limits that jobs go by under a configuration.
#[must_use]
pub fn policy(config: &Config) -> Policy {
    Policy {
        lease: millis(LEASE),
        submit_lease: millis(config.upstream.submit_timeout + MARGIN),
        unknown_wait: millis(config.upstream.unknown_wait),
        probe_after: millis(config.upstream.probe_after),
        experience: Experience::default(),
        poll: PollPolicy {
            first_after: millis(config.poll.first_after),
            overdue_after: millis(config.poll.overdue_after),
            interval: millis(config.poll.interval),
            max_interval: millis(config.poll.max_interval),
            jitter: config.poll.jitter,
            give_up_after: millis(config.poll.give_up_after),
        },
        fetch: FetchPolicy {
            attempts: config.download.attempts,
            backoff: millis(config.download.backoff),
            max_backoff: millis(config.download.max_backoff),
            give_up_after: millis(config.download.give_up_after),
        },
        sinks: sinks(config),
        delivery: delivery(config),
    }
}

fn sinks(config: &Config) -> Vec<SinkRule> {
    let rule = |(name, sink): (&String, &crate::config::Sink)| SinkRule {
        name: name.clone(),
        events: sink.events.clone(),
    };
    config.sinks.iter().map(rule).collect()
}

fn delivery(config: &Config) -> DeliveryPolicy {
    let timeouts = config.sinks.values().map(|sink| sink.timeout);
    let longest = timeouts.chain([config.delivery.timeout]).max().unwrap_or_default();
    DeliveryPolicy {
        schedule: config.delivery.schedule.iter().copied().map(millis).collect(),
        lease: millis(longest + MARGIN),
        disable_after: millis(config.delivery.disable_after),
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX / 4)
}
