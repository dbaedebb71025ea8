//! The examples do what they say: receivers in three languages verify what sinks send, and pipelines run for videos.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use reelhook::{
    clock::Clock,
    config::{Config, Format, Sink, Target},
    lifecycle::{Answer, Attempt, DeliveryId, EventId, EventKind, Millis},
    outbound::{
        deliver::{Message, Sinks},
        egress::Guard,
    },
    provider::signing::SigningKey,
};
use reqwest::header::HeaderMap;
use secrecy::{ExposeSecret, SecretString};

#[cfg(feature = "nats")]
#[path = "../support/nats_server.rs"]
mod nats_server;
mod receive;
#[path = "../support/mod.rs"]
mod support;

const BODY: &str =
    r#"{"type":"job.succeeded","timestamp":"2026-11-22T18:00:00.000Z","data":{"job":{"id":"job_ü1"}}}"#;
/// What `reelhook doctor` sends: a receiver that cannot read it would be called broken.
const PING: &str = r#"{"type":"ping","timestamp":"2026-11-22T18:00:00.000Z","data":{"sink":"app"}}"#;

/// A program that ends with the test.
struct Example {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Example {
    fn start(command: &mut Command) -> Self {
        let command = command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("`tests/run` installs what the examples need");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("the example goes on").unwrap()
    }

    /// The next line that is about an event, or about waiting for one.
    fn line_with(&mut self, part: &str) -> String {
        loop {
            let line = self.line();
            if line.contains(part) {
                return line;
            }
        }
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/examples").join(name)
}

/// What `tests/run` has installed for the receivers.
fn installed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/receivers").join(name)
}

fn secret() -> SecretString {
    SigningKey::text(&[5; 32])
}

fn until_reachable(port: u16) {
    let deadline = Instant::now() + support::PATIENCE;
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "the example does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

async fn send(target: Target, body: &'static str) -> Attempt {
    let sink = Sink {
        target,
        events: vec![EventKind::Succeeded],
        format: Format::Standard,
        timeout: support::PATIENCE,
        concurrency: 1,
    };
    let mut config = Config::defaults();
    config.sinks = BTreeMap::from([("app".to_owned(), sink)]);
    let sinks = Sinks::new(&config, &secret(), Guard::new(Vec::new()), Clock::system()).unwrap();
    let message = Message {
        event_id: EventId::new(Millis(1), &[1; 10]),
        kind: EventKind::Succeeded,
        time: Millis(1),
        job_id: None,
        delivery_id: DeliveryId::new(Millis(1), &[1; 10]),
        attempt: 1,
        trace: None,
        body: Bytes::from_static(body.as_bytes()),
    };
    sinks.get("app").unwrap().send(&message).await
}

/// Sends a ping and the event as it should be, and as somebody would who does not know the secret.
async fn sent_and_forged(port: u16) {
    let url = format!("http://127.0.0.1:{port}/hooks/video");
    let target = |secrets: Vec<SecretString>| Target::Webhook {
        url: url.parse().unwrap(),
        secrets,
        headers: HeaderMap::new(),
    };
    let forged = send(target(vec![SigningKey::text(&[6; 32])]), BODY).await;
    assert_eq!((forged.answer, forged.code), (Answer::Failed { retry_after: None }, Some(401)), "{forged:?}");
    assert_eq!(forged.detail, "401 Unauthorized: the signature does not match");
    for body in [PING, BODY] {
        let sent = send(target(Vec::new()), body).await;
        assert_eq!((sent.answer, sent.code), (Answer::Delivered, Some(204)), "{sent:?}");
    }
}

#[tokio::test]
async fn the_receiver_in_python_takes_what_verifies_and_nothing_else() {
    let port = support::free_port();
    let mut flask = Command::new(installed("bin/flask"));
    flask.args(["--app", example("receive.py").to_str().unwrap(), "run", "--port", &port.to_string()]);
    let mut example = Example::start(flask.env("WEBHOOK_SECRET", secret().expose_secret()));
    until_reachable(port);
    sent_and_forged(port).await;
    assert_eq!(example.line_with("job"), "job.succeeded job_ü1");
}

#[tokio::test]
async fn the_receiver_in_node_takes_what_verifies_and_nothing_else() {
    let port = support::free_port();
    let mut node = Command::new("node");
    node.arg(example("receive.js")).env("NODE_PATH", installed("node_modules")).env("PORT", port.to_string());
    let mut example = Example::start(node.env("WEBHOOK_SECRET", secret().expose_secret()));
    until_reachable(port);
    sent_and_forged(port).await;
    assert_eq!(example.line_with("job"), "job.succeeded job_ü1");
}

static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

#[tokio::test]
async fn the_receiver_in_rust_takes_what_verifies_and_nothing_else() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let see = |line| SEEN.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(receive::serve(listener, secret().expose_secret(), see))
    });
    sent_and_forged(port).await;
    assert_eq!(*SEEN.lock().unwrap(), ["job.succeeded job_ü1"]);
}

#[tokio::test]
async fn the_pipeline_by_manifest_runs_once_for_each_video_and_again_where_it_failed() {
    let world = support::World::start().await;
    let id = world.submit("a fox").await;
    assert_eq!(world.ended(&id).await["status"], "succeeded");
    let videos = world.dir.path().join("videos");
    let run = |command: &[&str]| {
        let mut script = Command::new(example("on_manifest.sh"));
        let output = script.arg(&videos).args(command).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(run(&["false"]), "");
    let manifest = run(&["echo", "working on"]);
    let path = manifest.trim_end().strip_prefix("working on ").unwrap_or_else(|| panic!("{manifest:?}"));
    let manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(manifest["job_id"], id.as_str());
    assert_eq!(run(&["echo", "working on"]), "", "once is enough");
}

#[cfg(feature = "nats")]
#[tokio::test]
async fn the_pipeline_by_nats_works_on_what_is_published() {
    let server = nats_server::NatsServer::start();
    let mut python = Command::new(installed("bin/python"));
    let mut example = Example::start(python.arg(example("on_nats.py")).arg(server.url()));
    assert_eq!(example.line(), "waiting");
    let subject = "reelhook.{type}".to_owned();
    let sent =
        send(Target::Nats { server: server.url().parse().unwrap(), subject, credentials: None }, BODY).await;
    assert_eq!(sent.answer, Answer::Delivered, "{sent:?}");
    assert_eq!(example.line(), "job_ü1");
}
