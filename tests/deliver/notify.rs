//! The URLs that jobs bring along are strangers' choice, and so are guarded.

use reelhook::lifecycle::Answer;
use secrecy::ExposeSecret;
use standardwebhooks::Webhook;

use crate::{
    FAILED, default_secret, message,
    receiver::{Receiver, Reply},
    sinks_with, webhook,
};

const NOBODY: &str = "http://127.0.0.1:1/";

#[tokio::test]
async fn nothing_is_sent_to_a_private_address_whatever_it_is_called() {
    let receiver = Receiver::start(Reply::new("200 OK", "")).await;
    let port = receiver.address.port();
    let sinks = sinks_with(webhook(NOBODY), &[]);
    for url in [
        format!("http://127.0.0.1:{port}/"),
        format!("https://127.0.0.1:{port}/"),
        format!("http://localhost:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        "https://10.0.0.1/".to_owned(),
        "https://169.254.169.254/latest/meta-data".to_owned(),
        "http://example.com/".to_owned(),
        "https://user:pass@example.com/".to_owned(),
        "not a URL".to_owned(),
    ] {
        let attempt = sinks.notify(&url, None).unwrap().send(&message()).await;
        assert_eq!((attempt.answer, attempt.code), (Answer::Refused, None), "{url}: {}", attempt.detail);
        assert!(attempt.detail.contains("nothing was sent there"), "{url}: {}", attempt.detail);
    }
    assert!(receiver.received().is_empty());
}

#[tokio::test]
async fn what_the_operator_allows_is_reached_and_signed_by_the_job_s_secret_or_the_default_one() {
    let receiver = Receiver::start(Reply::new("200 OK", "")).await;
    let sinks = sinks_with(webhook(NOBODY), &["127.0.0.0/8"]);
    let own = "whsec_b3duIG93biBvd24gb3duIG93biBvd24gb3du";
    for (secret, verifies) in
        [(Some(own.into()), own.to_owned()), (None, default_secret().expose_secret().to_owned())]
    {
        let sink = sinks.notify(&receiver.url(), secret.as_ref()).unwrap();
        assert_eq!(sink.send(&message()).await.answer, Answer::Delivered);
        let received = receiver.received().pop().unwrap();
        let mut headers = reqwest::header::HeaderMap::new();
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            headers.insert(name, received.headers[name].parse().unwrap());
        }
        Webhook::new(&verifies).unwrap().verify(&received.body, &headers).unwrap();
    }
    assert_ne!(receiver.received()[0].peer, receiver.received()[1].peer);
}

#[tokio::test]
async fn a_redirect_from_an_allowed_address_is_not_followed_either() {
    let elsewhere = Receiver::start(Reply::new("200 OK", "")).await;
    let reply = Reply::new(&format!("307 Moved\nLocation: {}", elsewhere.url()), "");
    let receiver = Receiver::start(reply).await;
    let sinks = sinks_with(webhook(NOBODY), &["127.0.0.0/8"]);
    let attempt = sinks.notify(&receiver.url(), None).unwrap().send(&message()).await;
    assert_eq!((attempt.answer, attempt.code), (FAILED, Some(307)));
    assert!(elsewhere.received().is_empty());
}

#[tokio::test]
async fn a_name_that_cannot_be_looked_up_now_is_tried_again() {
    let sinks = sinks_with(webhook(NOBODY), &[]);
    let attempt = sinks.notify("https://no-such-host.com.invalid.reelhook-test.net/", None);
    let attempt = attempt.unwrap().send(&message()).await;
    assert_eq!(attempt.answer, FAILED, "{}", attempt.detail);
    assert!(attempt.detail.contains("could not be resolved"), "{}", attempt.detail);
}

#[test]
fn a_job_s_secret_that_cannot_sign_is_refused() {
    let sinks = sinks_with(webhook(NOBODY), &[]);
    assert!(sinks.notify("https://example.com/", Some(&"short".into())).is_err());
}
