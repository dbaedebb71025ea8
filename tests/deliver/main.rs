//! What sinks do with an event, over real sockets, real TLS, real processes and a real NATS server.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use reelhook::{
    clock::Clock,
    config::{Config, Format, Sink as Settings, Target},
    lifecycle::{Answer, Attempt, DeliveryId, EventId, EventKind, JobId, Millis},
    outbound::{
        deliver::{Message, Sink, Sinks},
        egress::Guard,
    },
    provider::signing::SigningKey,
};
use secrecy::SecretString;

mod answers;
mod connections;
mod exec;
#[cfg(feature = "nats")]
mod nats;
#[path = "../support/nats_server.rs"]
#[cfg(feature = "nats")]
mod nats_server;
mod notify;
#[allow(dead_code, reason = "each test binary uses its part")]
mod receiver;
mod signed;

const FAILED: Answer = Answer::Failed { retry_after: None };
/// Only a failing test waits so long.
const PATIENT: Duration = Duration::from_secs(30);
/// For tests in which a time-out is what is wanted.
const HASTY: Duration = Duration::from_millis(300);

/// What signs for whoever has no secret of its own.
fn default_secret() -> SecretString {
    SigningKey::text(&[42; 32])
}

/// The context of a trace.
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn message() -> Message {
    Message {
        event_id: EventId::new(Millis(1_700_000_000_000), &[1; 10]),
        kind: EventKind::Succeeded,
        time: Millis(1_700_000_000_000),
        job_id: Some(JobId::new(Millis(1_700_000_000_000), &[2; 10])),
        delivery_id: DeliveryId::new(Millis(1_700_000_000_000), &[3; 10]),
        attempt: 2,
        trace: Some(TRACE.to_owned()),
        body: Bytes::from_static(br#"{"type":"job.succeeded","data":{"job":{"id":"job_1"}}}"#),
    }
}

fn settings(target: Target) -> Settings {
    Settings {
        target,
        events: vec![EventKind::Succeeded],
        format: Format::Standard,
        timeout: PATIENT,
        concurrency: 1,
    }
}

fn webhook(url: &str) -> Settings {
    let headers = reqwest::header::HeaderMap::new();
    settings(Target::Webhook { url: url.parse().unwrap(), secrets: Vec::new(), headers })
}

/// All sinks of a configuration with this one, under the name `app`, and with these networks open to jobs.
fn sinks_with(settings: Settings, allow: &[&str]) -> Sinks {
    sinks_at(settings, allow, Clock::system())
}

fn sinks_at(settings: Settings, allow: &[&str], clock: Clock) -> Sinks {
    let mut config = Config::defaults();
    config.sinks = BTreeMap::from([("app".to_owned(), settings)]);
    config.delivery.timeout = PATIENT;
    let guard = Guard::new(allow.iter().map(|network| network.parse().unwrap()).collect());
    Sinks::new(&config, &default_secret(), guard, clock).unwrap()
}

fn sink(settings: Settings) -> Arc<dyn Sink> {
    sinks_with(settings, &[]).get("app").unwrap()
}

async fn send(settings: Settings) -> Attempt {
    sink(settings).send(&message()).await
}

#[test]
fn a_name_that_is_not_configured_is_no_sink() {
    assert!(sinks_with(webhook("http://127.0.0.1:1"), &[]).get("other").is_none());
}
