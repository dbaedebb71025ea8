//! What a webhook carries.

use std::time::Duration;

use reelhook::{
    clock::Clock,
    config::{Format, Target},
};
use reqwest::header::{HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use standardwebhooks::Webhook;

use crate::{
    default_secret, message,
    receiver::{Received, Receiver, Reply},
    send, settings, sink, sinks_at, webhook,
};

/// Has the reference library verify a request, time included.
fn verify(received: &Received, secret: &str) -> Result<(), standardwebhooks::WebhookError> {
    let mut headers = HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        headers.insert(name, received.headers[name].parse().unwrap());
    }
    Webhook::new(secret)?.verify(&received.body, &headers)
}

fn with_secrets(url: &str, secrets: &[&str]) -> reelhook::config::Sink {
    let secrets = secrets.iter().map(|secret| SecretString::from(*secret)).collect();
    settings(Target::Webhook { url: url.parse().unwrap(), secrets, headers: HeaderMap::new() })
}

#[tokio::test]
async fn a_webhook_is_the_body_as_it_is_under_the_event_s_id_and_verifies() {
    let receiver = Receiver::start(Reply::new("200 OK", "thanks")).await;
    let attempt = send(webhook(&receiver.url())).await;
    assert_eq!((attempt.answer, attempt.code), (reelhook::lifecycle::Answer::Delivered, Some(200)));
    assert_eq!(attempt.detail, "200 OK: thanks");
    let received = receiver.only();
    assert_eq!(received.line, "POST /hooks?k=v HTTP/1.1");
    assert_eq!(received.body, message().body);
    assert_eq!(received.headers["webhook-id"], message().event_id.to_string());
    assert_eq!(received.headers["content-type"], "application/json");
    assert_eq!(received.headers["traceparent"], crate::TRACE);
    assert_eq!(received.headers["user-agent"], concat!("reelhook/", env!("CARGO_PKG_VERSION")));
    verify(&received, default_secret().expose_secret())
        .expect("the default secret signs what has none of its own");
}

#[tokio::test]
async fn while_a_secret_is_changed_the_old_one_and_the_new_one_verify() {
    let (new, old) = ("whsec_bmV3IG5ldyBuZXcgbmV3IG5ldyBuZXcgbmV3", "b2xkIG9sZCBvbGQgb2xkIG9sZCBvbGQgb2xk");
    let receiver = Receiver::start(Reply::new("204 No Content", "")).await;
    send(with_secrets(&receiver.url(), &[new, old])).await;
    let received = receiver.only();
    assert_eq!(received.headers["webhook-signature"].split(' ').count(), 2);
    verify(&received, new).unwrap();
    verify(&received, old).unwrap();
    verify(&received, default_secret().expose_secret())
        .expect_err("its own secrets sign instead of the default one");
}

#[tokio::test]
async fn a_plain_secret_signs_byte_for_byte() {
    let receiver = Receiver::start(Reply::new("200 OK", "")).await;
    let plain = "correct horse battery staple";
    send(with_secrets(&receiver.url(), &[plain])).await;
    let received = receiver.only();
    let mut headers = HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        headers.insert(name, received.headers[name].parse().unwrap());
    }
    Webhook::from_bytes(plain.into()).unwrap().verify(&received.body, &headers).unwrap();
}

#[tokio::test]
async fn another_try_is_the_same_event_on_a_connection_of_its_own() {
    let receiver = Receiver::start(Reply::new("500 Internal Server Error", "")).await;
    let sink = sink(webhook(&receiver.url()));
    sink.send(&message()).await;
    sink.send(&message()).await;
    let received = receiver.received();
    let [first, second] = received.as_slice() else { panic!("{received:#?}") };
    assert_eq!(first.headers["webhook-id"], second.headers["webhook-id"]);
    assert_eq!(first.body, second.body);
    assert_ne!(first.peer, second.peer, "a connection that was used before may have died unseen");
}

#[tokio::test]
async fn each_try_is_signed_anew_for_its_own_time() {
    let receiver = Receiver::start(Reply::new("500 Internal Server Error", "")).await;
    let clock = Clock::manual(1_700_000_000_999);
    let sink = sinks_at(webhook(&receiver.url()), &[], clock.clone()).get("app").unwrap();
    let first = sink.send(&message()).await;
    clock.advance(Duration::from_hours(2));
    sink.send(&message()).await;
    let timestamps = receiver.received().into_iter().map(|one| one.headers["webhook-timestamp"].clone());
    assert_eq!(timestamps.collect::<Vec<_>>(), ["1700000000", "1700007200"]);
    assert_eq!((first.at.0, first.took), (1_700_000_000_999, 0));
}

#[tokio::test]
async fn the_format_and_more_headers_go_along() {
    let receiver = Receiver::start(Reply::new("200 OK", "")).await;
    let headers = HeaderMap::from_iter([("x-api-key".parse().unwrap(), HeaderValue::from_static("k"))]);
    let url = receiver.url().parse().unwrap();
    let mut settings = settings(Target::Webhook { url, secrets: Vec::new(), headers });
    settings.format = Format::CloudEvents;
    send(settings).await;
    let received = receiver.only();
    assert_eq!(received.headers["content-type"], "application/cloudevents+json");
    assert_eq!(received.headers["x-api-key"], "k");
}

#[tokio::test]
async fn a_receiver_that_quotes_our_headers_does_not_bring_them_into_the_record() {
    let receiver = Receiver::start(Reply::new("401 Unauthorized", "you sent Bearer canary-canary")).await;
    let header = HeaderValue::from_static("Bearer canary-canary");
    let headers = HeaderMap::from_iter([("authorization".parse().unwrap(), header)]);
    let url = receiver.url().parse().unwrap();
    let attempt = send(settings(Target::Webhook { url, secrets: Vec::new(), headers })).await;
    assert_eq!(attempt.detail, "401 Unauthorized: you sent Bearer [redacted]");
}
