//! Traces by OTLP, as a collector gets them: one a job, from the request that creates it to the last sink that is told.

#![cfg(feature = "otel")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod collector;
#[path = "../support/mod.rs"]
mod support;

use std::fs;

use collector::{Collector, Span};
use serde_json::Value;
use support::{Process, client, free_port, order, stage::Stage};

/// Of a caller, who has it recorded; of one who has not.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const QUIET: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "00f067aa0ba902b7";

/// A server that sends its traces to `endpoint` and tells `hook` of videos. A job ends by its callback only.
async fn stage(endpoint: &str, hook: &str) -> Stage {
    let more = format!(
        r#"
        poll = {{ first_after = "60s", overdue_after = "60s" }}
        sinks.app = {{ type = "webhook", url = "{hook}", events = ["job.succeeded"] }}
        otel = {{ endpoint = "{endpoint}", headers = ["X-Collector-Key: canary-header"] }}
        "#
    );
    Stage::set(&more).await
}

async fn serve(stage: &Stage) -> Process {
    let environment =
        [("OTEL_BSP_SCHEDULE_DELAY", "50"), ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")];
    stage.serve_with(|command| command.envs(environment)).await
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

fn log(stage: &Stage) -> String {
    fs::read_to_string(stage.path("log")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_one_trace_from_its_request_to_its_sink_also_over_a_kill() {
    let collector = Collector::start();
    let stage = stage(&collector.url(""), &collector.url("hook?key=canary-link")).await;
    let server = serve(&stage).await;
    // Six seconds: the callback comes to the next process.
    let prompt = "[[delay:20m]] canary-prompt";
    let id = submit(&server, prompt, Some(format!("00-{TRACE}-{CALLER}-01"))).await;
    submit(&server, "canary-prompt", Some(format!("00-{QUIET}-{CALLER}-00"))).await;
    let begun = collector.until(TRACE, &["POST /v1/jobs", "submit"]).await;
    server.until(&id, |job| job["phase"] == "awaiting").await;
    server.kill();

    let server = serve(&stage).await;
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
    assert!(!log(&stage).contains("canary"), "nor is it logged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_holds_up_nobody_and_is_said_once() {
    let away = format!("http://127.0.0.1:{}", free_port());
    let stage = stage(&away, &format!("{away}/hook")).await;
    let server = serve(&stage).await;
    for _ in 0..3 {
        let id = submit(&server, "a boat", None).await;
        succeeded(&server, &id).await;
    }
    server.terminate();
    assert!(server.ended().await.success());
    let log = log(&stage);
    assert_eq!(log.matches("the collector of traces took nothing").count(), 1, "{log}");
    assert!(log.contains("stopped"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_recorded_last_is_sent_before_the_process_ends() {
    let collector = Collector::start();
    let stage = stage(&collector.url("v1/traces"), &collector.url("hook")).await;
    let environment = [("OTEL_BSP_SCHEDULE_DELAY", "600000"), ("OTEL_SERVICE_NAME", "by-the-environment")];
    let server = stage.serve_with(|command| command.envs(environment)).await;
    let id = submit(&server, "a boat", None).await;
    succeeded(&server, &id).await;
    server.terminate();
    assert!(server.ended().await.success());
    let names: Vec<String> = collector.spans().into_iter().map(|span| span.name).collect();
    assert!(names.contains(&"POST /v1/jobs".to_owned()) && names.contains(&"fetch".to_owned()), "{names:?}");
    assert_eq!(collector.resource()["service.name"], "by-the-environment");
}
