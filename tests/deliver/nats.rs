//! NATS JetStream as a sink.

use std::time::Duration;

use async_nats::jetstream::{self, stream};
use futures_util::StreamExt as _;
use reelhook::{
    config::{Format, Sink, Target},
    lifecycle::{Answer, EventId, Millis},
};

use crate::{FAILED, PATIENT, message, nats_server::NatsServer, send, settings, sink};

fn bus(server: &str, credentials: Option<&str>) -> Sink {
    settings(Target::Nats {
        server: server.parse().unwrap(),
        subject: "reelhook.{type}".to_owned(),
        credentials: credentials.map(Into::into),
    })
}

/// A stream that holds `reelhook.>`.
async fn stream(client: async_nats::Client) -> stream::Stream {
    let config = stream::Config {
        name: "VIDEOS".to_owned(),
        subjects: vec!["reelhook.>".to_owned()],
        ..Default::default()
    };
    jetstream::new(client).create_stream(config).await.unwrap()
}

#[tokio::test]
async fn an_event_is_in_the_stream_once_however_often_it_is_sent() {
    let server = NatsServer::start();
    let client = async_nats::connect(server.url()).await.unwrap();
    let mut stream = stream(client).await;
    let mut settings = bus(&server.url(), None);
    settings.format = Format::CloudEvents;
    let sink = sink(settings);
    let first = sink.send(&message()).await;
    assert_eq!((first.answer, first.detail.as_str()), (Answer::Delivered, "message 1 of the stream VIDEOS"));
    let again = sink.send(&message()).await;
    assert_eq!(again.answer, Answer::Delivered);
    assert_eq!(again.detail, "message 1 of the stream VIDEOS, as before");
    assert_eq!(stream.info().await.unwrap().state.messages, 1);
    let consumer = stream.create_consumer(jetstream::consumer::pull::Config::default()).await.unwrap();
    let mut messages = consumer.fetch().max_messages(1).messages().await.unwrap();
    let stored = messages.next().await.unwrap().unwrap();
    assert_eq!(stored.subject.as_str(), "reelhook.job.succeeded");
    assert_eq!(stored.payload, message().body);
    let headers = stored.headers.as_ref().unwrap();
    assert_eq!(headers.get("Nats-Msg-Id").unwrap().as_str(), message().event_id.to_string());
    assert_eq!(headers.get("traceparent").unwrap().as_str(), crate::TRACE);
    assert_eq!(headers.get("Content-Type").unwrap().as_str(), "application/cloudevents+json");
}

#[tokio::test]
async fn a_subject_that_no_stream_holds_is_named_with_what_to_do() {
    let server = NatsServer::start();
    let attempt = send(bus(&server.url(), None)).await;
    assert_eq!(attempt.answer, FAILED);
    assert!(attempt.detail.starts_with("no stream holds the subject reelhook.job.succeeded"), "{attempt:?}");
}

#[tokio::test]
async fn a_server_that_comes_back_is_found_again_and_nothing_is_published_unseen_meanwhile() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let absent = send(bus(&format!("nats://{free}"), None)).await;
    assert_eq!(absent.answer, FAILED);
    assert!(absent.detail.contains("cannot be connected to"), "{absent:?}");

    let mut server = NatsServer::start();
    stream(async_nats::connect(server.url()).await.unwrap()).await;
    let mut settings = bus(&server.url(), None);
    settings.timeout = Duration::from_secs(1);
    let sink = sink(settings);
    assert_eq!(sink.send(&message()).await.answer, Answer::Delivered);
    server.stop();
    // The client notices in its own time; what is sent until then is not acknowledged.
    let lost = async { while !sink.send(&message()).await.detail.contains("is lost and being made anew") {} };
    tokio::time::timeout(PATIENT, lost).await.expect("the client notices");
    let mut unseen = message();
    unseen.event_id = EventId::new(Millis(2), &[2; 10]);
    assert_eq!(sink.send(&unseen).await.answer, FAILED);
    server.start_again();
    let back = async {
        while sink.send(&message()).await.answer != Answer::Delivered {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENT, back).await.expect("the sink finds the server again by itself");
    let mut stream = stream(async_nats::connect(server.url()).await.unwrap()).await;
    assert_eq!(stream.info().await.unwrap().state.messages, 1, "what was refused went out all the same");
}

#[tokio::test]
async fn a_token_or_a_user_lets_us_in_and_nothing_else_does() {
    let by_token = NatsServer::with(&["--auth", "a-token"]);
    let by_user = NatsServer::with(&["--user", "someone", "--pass", "pass:word"]);
    for (server, right) in [(by_token, "a-token"), (by_user, "someone:pass:word")] {
        let refused = send(bus(&server.url(), None)).await;
        assert_eq!(refused.answer, FAILED);
        assert!(refused.detail.contains("authorization violation"), "{refused:?}");
        let admitted = send(bus(&server.url(), Some(right))).await;
        assert!(admitted.detail.starts_with("no stream holds"), "{admitted:?}");
    }
    let nonsense = send(bus("nats://127.0.0.1:1", Some("-----BEGIN nonsense"))).await;
    assert!(
        nonsense.detail.contains("no .creds file") && !nonsense.detail.contains("nonsense"),
        "{nonsense:?}"
    );
}
