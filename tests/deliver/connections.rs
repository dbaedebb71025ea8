//! Receivers that cannot be reached: each says in its own words why.

use reelhook::lifecycle::Attempt;

use crate::{
    FAILED,
    receiver::{Receiver, Reply},
    send, webhook,
};

fn failed_saying(attempt: &Attempt, parts: &[&str]) {
    assert_eq!((attempt.answer, attempt.code), (FAILED, None), "{attempt:?}");
    for part in parts {
        assert!(attempt.detail.contains(part), "{part:?} is not in {:?}", attempt.detail);
    }
}

#[tokio::test]
async fn nobody_listens() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let attempt = send(webhook(&format!("http://{free}/"))).await;
    failed_saying(&attempt, &["the connection was refused: nothing listens there"]);
}

#[tokio::test]
async fn the_name_does_not_exist() {
    let attempt = send(webhook("http://no-such-host.invalid/")).await;
    failed_saying(&attempt, &["no-such-host.invalid", "could not be resolved"]);
}

#[tokio::test]
async fn the_certificate_is_nobody_s() {
    let receiver = Receiver::self_signed(Reply::new("200 OK", "")).await;
    let attempt = send(webhook(&format!("https://localhost:{}/", receiver.address.port()))).await;
    failed_saying(&attempt, &["the server's certificate is not valid", "nothing was sent there"]);
    assert!(receiver.received().is_empty());
}

#[tokio::test]
async fn plain_http_where_https_is_wanted() {
    let receiver = Receiver::start(Reply::new("200 OK", "")).await;
    let attempt = send(webhook(&format!("https://127.0.0.1:{}/", receiver.address.port()))).await;
    failed_saying(&attempt, &[]);
    assert!(!attempt.detail.is_empty());
}

#[tokio::test]
async fn the_connection_breaks_before_an_answer() {
    let receiver = Receiver::start(Reply::Close).await;
    let attempt = send(webhook(&receiver.url())).await;
    failed_saying(&attempt, &["connection"]);
    assert!(!attempt.detail.contains("k=v"), "a URL's query may be a secret: {}", attempt.detail);
}
