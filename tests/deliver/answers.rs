//! What a webhook's answer comes to.

use std::time::{Duration, SystemTime};

use reelhook::lifecycle::{Answer, Attempt};

use crate::{
    FAILED, HASTY,
    receiver::{Receiver, Reply},
    send, webhook,
};

async fn answered(reply: Reply) -> Attempt {
    let receiver = Receiver::start(reply).await;
    let attempt = send(webhook(&receiver.url())).await;
    assert_eq!(receiver.received().len(), 1, "nothing is repeated");
    attempt
}

fn detail_has(attempt: &Attempt, parts: &[&str]) {
    for part in parts {
        assert!(attempt.detail.contains(part), "{part:?} is not in {:?}", attempt.detail);
    }
    assert!(attempt.detail.chars().count() <= 300);
}

#[tokio::test]
async fn every_2xx_is_taken_and_every_other_refusal_is_tried_again() {
    for status in [200, 201, 202, 204, 299] {
        let attempt = answered(Reply::new(&format!("{status} Fine"), "")).await;
        assert_eq!((attempt.answer, attempt.code), (Answer::Delivered, Some(status)));
    }
    for status in [400, 401, 404, 422, 429, 500, 502, 503, 599] {
        let attempt = answered(Reply::new(&format!("{status} No"), "why not")).await;
        assert_eq!((attempt.answer, attempt.code), (FAILED, Some(status)));
        detail_has(&attempt, &[&status.to_string(), "why not"]);
    }
}

#[tokio::test]
async fn a_410_wants_nothing_any_more() {
    let attempt = answered(Reply::new("410 Gone", "")).await;
    assert_eq!((attempt.answer, attempt.code), (Answer::Gone, Some(410)));
    detail_has(&attempt, &["410 Gone", "wants nothing any more"]);
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_named_with_the_reason() {
    let elsewhere = Receiver::start(Reply::new("200 OK", "")).await;
    for status in [300, 301, 302, 303, 304, 307, 308] {
        let reply = Reply::new(&format!("{status} Moved\nLocation: {}", elsewhere.url()), "");
        let attempt = answered(reply).await;
        assert_eq!((attempt.answer, attempt.code), (FAILED, Some(status)));
        detail_has(&attempt, &["not followed", "only the URL that was named", &elsewhere.url()]);
    }
    assert!(elsewhere.received().is_empty(), "a signed event went where nobody sent it");
    let relative = answered(Reply::new("308 Moved\nLocation: /new", "")).await;
    detail_has(&relative, &["/new instead", "http://127.0.0.1:"]);
    detail_has(&answered(Reply::new("302 Moved", "")).await, &["not followed"]);
}

#[tokio::test]
async fn a_429_and_a_503_say_how_long_to_wait_in_seconds_or_by_date() {
    let asked = async |head: &str| match answered(Reply::new(head, "")).await.answer {
        Answer::Failed { retry_after } => retry_after,
        other => panic!("{other:?}"),
    };
    assert_eq!(asked("429 Slow Down\nRetry-After: 90").await, Some(90_000));
    let hour = httpdate::fmt_http_date(SystemTime::now() + Duration::from_hours(1));
    let wait = asked(&format!("503 Busy\nRetry-After: {hour}")).await.unwrap();
    assert!((3_500_000..=3_600_000).contains(&wait), "{wait}");
    let day = 24 * 60 * 60 * 1_000;
    assert_eq!(asked("503 Busy\nRetry-After: 99999999").await, Some(day), "not for years");
    assert_eq!(asked("503 Busy\nRetry-After: soon").await, None);
    assert_eq!(asked("500 Broken\nRetry-After: 90").await, None, "only these two statuses ask");
}

#[tokio::test]
async fn a_long_answer_does_no_harm_and_the_record_says_that_it_was_not_read() {
    let ten_megabytes = "x".repeat(10 * 1024 * 1024);
    let attempt = answered(Reply::new("200 OK", &ten_megabytes)).await;
    assert_eq!(attempt.answer, Answer::Delivered);
    detail_has(&attempt, &["longer than 4 KiB"]);
    let attempt = answered(Reply::new("500 Broken", &ten_megabytes)).await;
    assert_eq!(attempt.answer, FAILED);
    detail_has(&attempt, &["longer than 4 KiB"]);
}

#[tokio::test]
async fn an_answer_that_never_ends_does_no_harm_and_its_status_counts() {
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let attempt = answered(Reply::Endless(head.clone(), b"4\r\nmore\r\n".to_vec())).await;
    assert_eq!(attempt.answer, Answer::Delivered);
    detail_has(&attempt, &["was not read on"]);
    let attempt = answered(Reply::Silence([head, b"5\r\nhello\r\n".to_vec()].concat())).await;
    assert_eq!(attempt.answer, Answer::Delivered);
    detail_has(&attempt, &["did not end within", "hello"]);
}

#[tokio::test]
async fn whoever_does_not_answer_in_time_is_tried_again_and_may_have_it() {
    for reply in [Reply::Silence(Vec::new()), Reply::Silence(b"HTTP/1.1 200 OK\r\nX: ".to_vec())] {
        let receiver = Receiver::start(reply).await;
        let mut settings = webhook(&receiver.url());
        settings.timeout = HASTY;
        let attempt = send(settings).await;
        assert_eq!((attempt.answer, attempt.code), (FAILED, None));
        detail_has(&attempt, &["no answer within 300ms", "whether it arrived is not known"]);
        assert!(attempt.took >= 300, "{attempt:?}");
    }
}
