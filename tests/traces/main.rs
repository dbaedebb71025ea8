//! Traces by OTLP, as a collector gets them: one a job, from the request that creates it to the last sink that is told.

#![cfg(feature = "otel")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod collector;
#[path = "../support/mod.rs"]
mod support;

use std::{fs, net::TcpListener, path::Path, process::Command};

use collector::{Collector, Span};
use reelhook::sandbox::{self, Options, Sandbox};
use serde_json::Value;
use support::{Process, SPEED, client, free_port, order};
use tempfile::TempDir;

/// Of a caller, who has it recorded; of one who has not.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const QUIET: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "00f067aa0ba902b7";

/// A provider, and where a server lives that sends its traces to `endpoint`.
struct Stage {
    sandbox: Sandbox,
    dir: TempDir,
    api: u16,
}

impl Stage {
    async fn set(endpoint: &str, hook: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sandbox = sandbox::start(listener, Options { speed: SPEED, seed: 5 }).await.unwrap();
        let stage = Self { sandbox, dir: tempfile::tempdir().unwrap(), api: free_port() };
        let (api, callback, provider) = (stage.api, free_port(), stage.sandbox.url());
        let config = format!(
            r#"
            server.listen = "127.0.0.1:{api}"
            server.shutdown_grace = "5s"
            upstream = {{ base_url = "{provider}", api_key = "aio_test", requests_per_minute = 6000 }}
            callback = {{ listen = "127.0.0.1:{callback}", public_url = "http://127.0.0.1:{callback}" }}
            poll.overdue_after = "60s"
            storage = {{ url = "file:videos", min_free = "0" }}
            store = {{ url = "sled:state", min_free = "0" }}
            egress.allow = ["127.0.0.0/8"]
            sinks.app = {{ type = "webhook", url = "{hook}", events = ["job.succeeded"] }}
            otel = {{ endpoint = "{endpoint}", headers = ["X-Collector-Key: canary-header"] }}
            "#
        );
        fs::write(stage.dir.path().join("reelhook.toml"), config).unwrap();
        stage
    }

    async fn serve(&self) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reelhook"));
        command
            .args(["serve", "--config", "reelhook.toml"])
            .env("OTEL_BSP_SCHEDULE_DELAY", "50")
            .env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test");
        Process::run(&mut command, self.dir.path(), self.api).await
    }
}

async fn submit(server: &Process, prompt: &str, traceparent: Option<String>) -> String {
    let mut request = client().post(server.url("/v1/jobs")).json(&order(prompt));
    if let Some(traceparent) = traceparent {
        request = request.header("traceparent", traceparent);
    }
    let job: Value = request.send().await.unwrap().json().await.unwrap();
    job["id"].as_str().unwrap_or_else(|| panic!("refused: {job}")).to_owned()
}

async fn succeeded(server: &Process, id: &str) {
    let url = server.url(&format!("/v1/jobs/{id}?wait=60s"));
    let job: Value = client().get(url).send().await.unwrap().json().await.unwrap();
    assert_eq!(job["status"], "succeeded", "{job:#}");
}

fn log(dir: &Path) -> String {
    fs::read_to_string(dir.join("log")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_one_trace_from_its_request_to_its_sink_also_over_a_kill() {
    let collector = Collector::start();
    let stage = Stage::set(&collector.url(""), &collector.url("hook?key=canary-link")).await;
    let server = stage.serve().await;
    // Six seconds: the callback comes to the next process.
    let prompt = "[[delay:20m]] canary-prompt";
    let id = submit(&server, prompt, Some(format!("00-{TRACE}-{CALLER}-01"))).await;
    submit(&server, "canary-prompt", Some(format!("00-{QUIET}-{CALLER}-00"))).await;
    let begun = collector.until(TRACE, &["POST /v1/jobs", "submit"]).await;
    let url = server.url(&format!("/v1/jobs/{id}?wait=60s"));
    let awaits: Value =
        client().get(server.url(&format!("/v1/jobs/{id}"))).send().await.unwrap().json().await.unwrap();
    assert_eq!(awaits["phase"], "awaiting", "{url}");
    server.kill();

    let server = stage.serve().await;
    succeeded(&server, &id).await;
    let spans = collector.until(TRACE, &["callback", "ask", "fetch", "deliver"]).await;
    let own = submit(&server, "canary-prompt", Some("00-nonsense".to_owned())).await;
    succeeded(&server, &own).await;
    let of_own = |span: &Span| span.attributes.get("reelhook.job.id") == Some(&own) && span.name == "deliver";
    let own_deliver = collector.until_any(of_own).await;

    let request = begun.iter().find(|span| span.name == "POST /v1/jobs").unwrap();
    assert_eq!(request.parent, CALLER);
    for name in ["submit", "callback", "ask", "fetch", "deliver"] {
        let span = spans.iter().find(|span| span.name == name).unwrap();
        assert_eq!((&span.parent, &span.attributes["reelhook.job.id"]), (&request.id, &id), "{name}");
    }
    let outcome = |name| &spans.iter().find(|span| span.name == name).unwrap().attributes["reelhook.outcome"];
    assert_eq!(["submit", "callback", "fetch"].map(outcome), ["accepted", "matched", "stored"]);
    let deliver = spans.iter().find(|span| span.name == "deliver").unwrap();
    assert!(collector.hooks().contains(&format!("00-{TRACE}-{}-01", deliver.id)), "{:?}", collector.hooks());
    assert!(own_deliver.trace != TRACE, "what is no context begins a trace");
    assert!(collector.spans().iter().all(|span| span.trace != QUIET), "its caller records nothing");

    let resource = collector.resource();
    assert_eq!(resource["service.name"], "reelhook");
    assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(resource["deployment.environment.name"], "test");
    assert!(!resource["service.instance.id"].is_empty());
    assert_eq!(collector.keys(), ["canary-header".to_owned()].into());
    let told = format!("{:?}", collector.spans());
    for secret in ["canary", "aio_test", "http://", "/cb/"] {
        assert!(!told.contains(secret), "{secret}: {told}");
    }
    assert!(!log(stage.dir.path()).contains("canary"), "nor is it logged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_holds_up_nobody_and_is_said_once() {
    let away = format!("http://127.0.0.1:{}", free_port());
    let stage = Stage::set(&away, &format!("{away}/hook")).await;
    let server = stage.serve().await;
    for _ in 0..3 {
        let id = submit(&server, "a boat", None).await;
        succeeded(&server, &id).await;
    }
    server.terminate();
    assert!(server.ended().await.success());
    let log = log(stage.dir.path());
    assert_eq!(log.matches("the collector of traces took nothing").count(), 1, "{log}");
    assert!(log.contains("stopped"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_recorded_last_is_sent_before_the_process_ends() {
    let collector = Collector::start();
    let stage = Stage::set(&collector.url("v1/traces"), &collector.url("hook")).await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_reelhook"));
    command
        .args(["serve", "--config", "reelhook.toml"])
        .env("OTEL_BSP_SCHEDULE_DELAY", "600000")
        .env("OTEL_SERVICE_NAME", "by-the-environment");
    let server = Process::run(&mut command, stage.dir.path(), stage.api).await;
    let id = submit(&server, "a boat", None).await;
    succeeded(&server, &id).await;
    server.terminate();
    assert!(server.ended().await.success());
    let names: Vec<String> = collector.spans().into_iter().map(|span| span.name).collect();
    assert!(names.contains(&"POST /v1/jobs".to_owned()) && names.contains(&"fetch".to_owned()), "{names:?}");
    assert_eq!(collector.resource()["service.name"], "by-the-environment");
}
