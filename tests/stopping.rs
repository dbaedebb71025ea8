//! The edges of a server's life, where an answer that was paid for could fall between two chairs.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{fs, sync::Arc, time::Duration};

use reelhook::{
    clock::Clock,
    server::{Listeners, Server, StartError},
};
use serde_json::{Value, json};
use support::{PATIENCE, World};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use url::Url;

/// A provider that takes every job, but answers a create call only when it may, and quotes what it was sent.
#[derive(Clone)]
struct Slow {
    url: Url,
    /// A permit for each create call that came.
    came: Arc<Semaphore>,
    /// Create calls that may be answered.
    may_answer: Arc<Semaphore>,
}

impl Slow {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let slow = Self { url, came: Arc::new(Semaphore::new(0)), may_answer: Arc::new(Semaphore::new(0)) };
        let serving = slow.clone();
        tokio::spawn(async move {
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let one = serving.clone();
                tokio::spawn(async move { one.answer(stream, number).await });
            }
        });
        slow
    }

    async fn answer(&self, mut stream: TcpStream, number: u32) {
        let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
        let sent: Value = loop {
            let read = stream.read(&mut buffer).await.unwrap();
            request.extend_from_slice(&buffer[..read]);
            let text = String::from_utf8_lossy(&request).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            if head.starts_with("GET") {
                break Value::Null;
            }
            if let Ok(sent) = serde_json::from_str(body) {
                break sent;
            }
        };
        let data = if sent.is_null() {
            json!({ "status": "IN_PROGRESS" })
        } else {
            self.came.add_permits(1);
            self.may_answer.acquire().await.unwrap().forget();
            json!({ "task_id": format!("task-{number}"), "status": "IN_PROGRESS", "param": sent })
        };
        let body = json!({ "code": 200, "message": "success", "data": data }).to_string();
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await.ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_to_a_create_call_is_kept_though_it_comes_after_the_grace_of_a_stop() {
    let slow = Slow::start().await;
    let provider = slow.url.clone();
    let mut world = World::with(|config| {
        config.upstream.base_url = provider;
        config.upstream.submit_timeout = Duration::from_secs(30);
        config.server.shutdown_grace = Duration::ZERO;
    })
    .await;
    let mut jobs = Vec::new();
    for scene in 0..4 {
        jobs.push(world.submit(&format!("scene {scene}")).await);
    }
    slow.came.acquire_many(4).await.unwrap().forget();
    let live = world.url("/readyz");
    let (http, may_answer) = (world.http.clone(), Arc::clone(&slow.may_answer));
    // Only once it stops; without any grace, that is when its work is given back.
    let answers = tokio::spawn(async move {
        while matches!(http.get(&live).send().await, Ok(answer) if answer.status() == 200) {}
        may_answer.add_permits(4);
    });
    world.stop_server().await;
    answers.await.unwrap();
    world.start_server().await;
    for id in jobs {
        let timeline = world.timeline(&id).await;
        assert!(timeline.contains(&"job.accepted".to_owned()), "{timeline:?}");
        assert!(!timeline.contains(&"job.unknown".to_owned()), "{timeline:?}");
    }
    assert_eq!(slow.came.available_permits(), 0, "nothing was sent again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_start_sends_nothing_and_lets_the_store_go() {
    let slow = Slow::start().await;
    let mut world = World::idle(|_| ()).await;
    let id = world.submit("a quay").await;
    world.stop_server().await;
    let keys = world.dir.path().join("keys");
    fs::write(&keys, "no keys but a typing error").unwrap();
    let mut broken = world.config.clone();
    (broken.auth.keys_file, broken.upstream.base_url) = (Some(keys), slow.url.clone());
    let listeners = Listeners::bind(&broken).unwrap();
    let failed = Server::start(broken, Clock::system(), listeners).await;
    assert!(matches!(failed, Err(StartError::Keys(_))));
    world.start_server().await;
    assert_eq!(world.get(&format!("/v1/jobs/{id}")).await["attempts"]["submit"], 0);
    assert_eq!(slow.came.available_permits(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_and_a_key_that_the_provider_quotes_are_not_kept_with_its_answer() {
    const KEY: &str = "aio_0123456789abcdef";
    let slow = Slow::start().await;
    slow.may_answer.add_permits(1);
    let provider = slow.url.clone();
    let world = World::with(|config| {
        config.upstream.base_url = provider;
        config.upstream.api_key = Some(KEY.into());
    })
    .await;
    let id = world.submit(&format!("a mirror {KEY}")).await;
    world.until(&id, |job| job["phase"] == "awaiting").await;
    let url = world.server().app().callback_url(id.parse().unwrap()).unwrap();
    let token = url.path().rsplit('/').next().unwrap();
    let events = world.get(&format!("/v1/jobs/{id}/events")).await.to_string();
    assert!(events.contains("a mirror [redacted]"), "{events}");
    assert!(events.contains(&format!("/cb/{id}/[redacted]")), "{events}");
    assert!(!events.contains(token), "{events}");
}

/// As for the sandbox, which takes any word; all its links have this one in them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_word_that_was_given_for_a_key_is_left_alone_in_a_link() {
    let world = World::with(|config| config.upstream.api_key = Some("127.0.0.1".into())).await;
    let id = world.submit("a short word").await;
    let job = world.ended(&id).await;
    assert_eq!(job["status"], "succeeded", "{job:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_job_is_not_sent_again_over_the_budget() {
    let slow = Slow::start().await;
    let provider = slow.url.clone();
    let world = World::with(|config| {
        config.upstream.base_url = provider;
        config.upstream.submit_timeout = Duration::from_millis(300);
        config.upstream.connect_timeout = Duration::from_millis(300);
        config.callback.public_url = None;
        config.budget.daily_credits = 200;
    })
    .await;
    let id = world.submit("three seconds for 180 credits").await;
    assert_eq!(world.ended(&id).await["status"], "held");
    let request = world.http.post(world.url(&format!("/v1/jobs/{id}/resolve")));
    let refused = request.json(&json!({ "action": "resubmit" })).timeout(PATIENCE).send().await.unwrap();
    assert_eq!(refused.status(), 402);
    assert_eq!(world.get(&format!("/v1/jobs/{id}")).await["status"], "held");
    assert_eq!(slow.came.available_permits(), 1);
}
