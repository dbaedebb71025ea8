//! Nothing secret reaches the log, however much is logged, nor an answer, a metric or what is shown for debugging. The log is
//! the process's: one test here, and one whose server is a process of its own.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[cfg(all(feature = "postgres", feature = "s3", feature = "nats", feature = "otel"))]
mod logs {
    mod services;
}
#[cfg(all(feature = "postgres", feature = "s3", feature = "nats", feature = "otel"))]
#[path = "support/postgres.rs"]
mod database;
#[cfg(all(feature = "postgres", feature = "s3", feature = "nats", feature = "otel"))]
#[path = "support/nats_server.rs"]
mod nats_server;
#[cfg(all(feature = "postgres", feature = "s3", feature = "nats", feature = "otel"))]
#[path = "support/seaweed.rs"]
mod seaweed;
mod support;

use std::{
    io,
    sync::{Arc, Mutex},
};

use jiff::Timestamp;
use reelhook::{
    config::{Config, Format, Sink, Target},
    keys::{KeyFile, Scope},
    lifecycle::EventKind,
    provider::signature::Scheme,
    sandbox::Signing,
};
use reqwest::header::{HeaderMap, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use support::{PATIENCE, World, order};
use tracing_subscriber::EnvFilter;

const ADMIN: &str = "canary-bootstrap-key-0123456789";
const TOKENS: &str = "canary-callback-tokens-0123456789";
const SIGNATURE: &str = "canary-callback-signature-0123456789";
const SINK: &str = "canary-sink-secret-0123456789";
const SINK_HEADER: &str = "canary-sink-header-0123456789";
const DELIVERY: &str = "canary-delivery-secret-0123456789";
const UPSTREAM: &str = "canary-upstream-key-0123456789";
const WRONG: &str = "canary-wrong-key";
const PROMPT: &str = "canary-prompt";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Everything, of everybody; but the sandbox in this process logs what a provider would know.
    fn keep() -> Self {
        let (log, filter) = (Self::default(), EnvFilter::new("trace,reelhook::sandbox=off"));
        let writer = log.clone();
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || writer.clone()).init();
        log
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn secretive(config: &mut Config) {
    let secret = |text: &str| SecretString::from(text);
    config.auth.bootstrap_admin_key = Some(secret(ADMIN));
    config.auth.keys_file = Some(config.storage.root.with_file_name("keys"));
    config.upstream.api_key = Some(secret(UPSTREAM));
    config.callback.secrets = vec![secret(TOKENS)];
    config.callback.signature = Scheme::TimestampedBody.into();
    config.callback.signature_secrets = vec![secret(SIGNATURE)];
    config.delivery.secret = Some(secret(DELIVERY));
    let mut header = HeaderValue::from_static(SINK_HEADER);
    header.set_sensitive(true);
    let target = Target::Webhook {
        // Nobody listens: each try fails, and is told of.
        url: "http://127.0.0.1:9/hooks".parse().unwrap(),
        secrets: vec![secret(SINK)],
        headers: HeaderMap::from_iter([(reqwest::header::AUTHORIZATION, header)]),
    };
    let events = vec![EventKind::Succeeded, EventKind::Failed];
    let (timeout, concurrency) = (config.delivery.timeout, config.delivery.concurrency);
    config
        .sinks
        .insert("app".into(), Sink { target, events, format: Format::Standard, timeout, concurrency });
}

/// Submits jobs of every fate, and calls back and asks for links wrongly meanwhile; what was secret about them.
async fn run(world: &World) -> Vec<String> {
    let mut secrets = Vec::new();
    for directive in ["", "[[fail:no]]", "[[forged-callback]]", "[[reset:40%]]"] {
        let order = order(&format!("{directive} {PROMPT}"));
        let post = world.http.post(world.url("/v1/jobs")).bearer_auth(ADMIN).json(&order);
        let job: Value = post.send().await.unwrap().json().await.unwrap();
        let id = job["id"].as_str().unwrap().to_owned();
        let url = world.url(&format!("/v1/jobs/{id}?wait={}s", PATIENCE.as_secs()));
        let job: Value = world.http.get(url).bearer_auth(ADMIN).send().await.unwrap().json().await.unwrap();
        let callback = world.server().app().callback_url(id.parse().unwrap()).unwrap();
        let token = callback.path().rsplit('/').next().unwrap().to_owned();
        for path in [format!("/cb/{id}/{}", &token[1..]), format!("/cb/{id}/{token}")] {
            world.http.post(world.callback_url(&path)).json(&json!({})).send().await.unwrap();
        }
        secrets.push(token[1..].to_owned());
        if let Some(link) = job["files"][0]["url"].as_str() {
            world.http.get(link).send().await.unwrap();
            world.http.get(format!("{link}0")).send().await.unwrap();
            secrets.push(link.rsplit('=').next().unwrap().to_owned());
        }
    }
    secrets
}

/// What anybody and what a key that may only read is answered: routes, problems, pages, numbers.
async fn answers(world: &World, reader: &str) -> Vec<(String, String)> {
    let mut answers = Vec::new();
    for path in [
        "/metrics",
        "/openapi.json",
        "/readyz?verbose",
        "/v1/sinks",
        "/v1/sinks/secret",
        "/v1/deliveries",
        "/v1/callbacks",
        "/v1/stats",
        "/v1/models",
        "/problems/unauthenticated",
        "/v1/jobs/none",
        "/nowhere",
        "/v1/jobs?cursor=canary",
        "/media/job_x/video.mp4?exp=1&sig=0",
    ] {
        for key in [reader, WRONG] {
            let get = world.http.get(world.url(path)).bearer_auth(key);
            answers.push((path.to_owned(), get.send().await.unwrap().text().await.unwrap()));
        }
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_tokens_links_and_prompts_are_never_logged_shown_or_answered() {
    let log = Log::keep();
    let world = World::with(secretive).await;
    let file = world.config.auth.keys_file.clone().unwrap();
    let reader = KeyFile::create(&file, "reader", [Scope::Read].into(), Timestamp::now(), None).unwrap();
    let signing = Signing { format: Scheme::TimestampedBody.into(), secret: SIGNATURE.into() };
    world.sandbox.sign_by(signing);
    let mut secrets = run(&world).await;
    secrets.extend([ADMIN, TOKENS, SIGNATURE, SINK, SINK_HEADER, DELIVERY, UPSTREAM].map(str::to_owned));
    secrets.push(reader.expose_secret().to_owned());
    let search = world.url(&format!("/v1/jobs?q={PROMPT}"));
    world.http.get(search).bearer_auth(WRONG).send().await.unwrap();
    let answers = answers(&world, reader.expose_secret()).await;
    assert!(
        answers.iter().any(|(_, text)| text.contains("reelhook_callbacks_total")),
        "something was answered"
    );
    let shown = [
        ("the configuration", format!("{:?}", world.config)),
        ("a key file", format!("{:?}", KeyFile::load(&file))),
    ];
    let shown = shown.map(|(what, text)| (what.to_owned(), text));
    for (what, text) in answers.into_iter().chain(shown) {
        let found = secrets.iter().find(|secret| text.contains(*secret));
        assert_eq!(found, None, "{what}");
    }
    let text = log.text();
    assert!(text.contains("job succeeded") && text.contains("request answered"), "something was logged");
    secrets.extend([PROMPT, WRONG].map(str::to_owned));
    for secret in secrets {
        let line = text.lines().find(|line| line.contains(&secret));
        assert_eq!(line, None, "{secret}");
    }
}
