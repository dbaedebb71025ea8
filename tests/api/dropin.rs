//! The upstream's own routes: an existing client goes on as it was.

use std::process::Command;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::{World, order};

const KEY: &str = "a key that a client was given";
const SUBMIT: &str = "/api/v1/videos/generations";

/// What the client that was written for the upstream prints.
async fn client(base: &str) -> Vec<Value> {
    let mut command = Command::new("python3");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/upstream.py");
    command.args([script, base.trim_end_matches('/'), KEY]).env_clear();
    let ran = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Sends, expects an error of the upstream's shape, and returns it.
async fn refused(request: RequestBuilder, status: u16, reason: &str) -> Value {
    let answer = request.send().await.unwrap();
    let found = answer.status().as_u16();
    assert_eq!(answer.headers()["content-type"], "application/json");
    let id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
    let body: Value = answer.json().await.unwrap();
    let error = &body["error"];
    assert_eq!((found, error["reason"].as_str()), (status, Some(reason)), "{body:#}");
    assert_eq!((&error["code"], &error["request_id"]), (&status.into(), &id.as_str().into()));
    error.clone()
}

fn submit(world: &World, body: &Value) -> RequestBuilder {
    world.http.post(world.url(SUBMIT)).json(body)
}

fn kling(prompt: &str) -> Value {
    order(prompt)["input"].clone()
}

async fn task(world: &World, id: &str) -> Value {
    world.get(&format!("/api/v1/tasks/{id}")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_was_written_for_the_upstream_gets_the_same_from_both() {
    let world = World::with(|config| config.auth.bootstrap_admin_key = Some(KEY.to_owned().into())).await;
    let upstream = client(world.sandbox.url().as_str()).await;
    let asked = world.sandbox.ledger().asks.len();
    let ours = client(&world.url("")).await;
    assert_eq!(ours, upstream);
    assert_eq!(ours.len(), 11);
    let ledger = world.sandbox.ledger();
    assert!(!ledger.asks.keys().any(|id| id.starts_with("job_")), "polling reached the upstream");
    assert_eq!(ledger.asks.len(), asked + 5, "the lanes asked about each task, and nobody else did");
    assert!(
        !ledger.callbacks.iter().skip(asked).any(|call| call.url.ends_with(":9/hook")),
        "the client's own address reached the upstream"
    );
}

#[tokio::test]
async fn a_submit_is_answered_as_the_upstream_does_and_is_a_job_like_any_other() {
    let world = World::idle(|_| ()).await;
    let answer: Value = submit(&world, &kling("a bell")).send().await.unwrap().json().await.unwrap();
    let id = answer["data"]["task_id"].as_str().unwrap();
    let expected = json!({
        "code": 200, "message": "success", "data": { "task_id": id, "status": "IN_PROGRESS" },
    });
    assert_eq!(answer, expected);
    assert_eq!(task(&world, id).await, expected);
    let job = world.get(&format!("/v1/jobs/{id}")).await;
    assert_eq!((&job["status"], &job["input"]), (&json!("queued"), &kling("a bell")));
}

#[tokio::test]
async fn the_idempotency_key_is_honoured_and_covers_the_callback_url() {
    let world = World::idle(|_| ()).await;
    let body = |url: &str| {
        let mut body = kling("a bell");
        body["callback_url"] = url.into();
        body
    };
    let post = |body: &Value| submit(&world, body).header("idempotency-key", "k");
    let first = post(&body("http://127.0.0.1:9/a")).send().await.unwrap();
    assert!(!first.headers().contains_key("idempotent-replayed"));
    let first: Value = first.json().await.unwrap();
    let again = post(&body("http://127.0.0.1:9/a")).send().await.unwrap();
    assert_eq!(again.headers()["idempotent-replayed"], "true");
    assert_eq!(again.json::<Value>().await.unwrap(), first);
    let error = refused(post(&body("http://127.0.0.1:9/b")), 422, "idempotency-key-reused").await;
    assert!(error["message"].as_str().unwrap().contains("nothing was created or spent"), "{error}");
}

#[tokio::test]
async fn a_callback_url_that_must_not_be_reached_is_refused_before_anything_is_spent() {
    let world = World::idle(|config| config.egress.allow.clear()).await;
    for (url, part) in [
        (json!("http://hooks.example.com/x"), "not https"),
        (json!("https://10.0.0.7/x"), "literal address"),
        (json!("https://localhost/x"), "single label"),
        (json!("https://user:pw@hooks.example.com/x"), "password"),
        (json!("https://hooks.example.com:8443/x"), "8443"),
        (json!(""), "cannot be read"),
        (json!(7), "must be a string"),
    ] {
        let mut body = kling("a bell");
        body["callback_url"] = url.clone();
        let error = refused(submit(&world, &body), 422, "invalid-input").await;
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("callback_url") && message.contains(part), "{url}: {message}");
        assert!(message.contains("nothing was spent"), "{message}");
    }
    assert_eq!(world.get("/v1/jobs").await["data"], json!([]), "nothing was created");
    let mut body = kling("a bell");
    body["callback_url"] = Value::Null;
    assert_eq!(submit(&world, &body).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn every_mistake_is_told_in_the_upstreams_shape_with_its_own_status() {
    let world = World::idle(|config| config.budget.daily_credits = 200).await;
    let error = refused(submit(&world, &json!({ "duration": 99 })), 422, "invalid-input").await;
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("duration") && message.contains("prompt is required"), "{message}");
    assert_eq!(error["type"], "invalid_request_error");
    assert_eq!(submit(&world, &kling("a bell")).send().await.unwrap().status(), 200);
    let error = refused(submit(&world, &kling("a bell")), 402, "budget-exceeded").await;
    assert_eq!(error["type"], "insufficient_credits");
    let url = world.url(SUBMIT);
    let json =
        |body: &'static str| world.http.post(&url).header("content-type", "application/json").body(body);
    refused(json("[]"), 422, "invalid-input").await;
    refused(json("{"), 400, "invalid-input").await;
    refused(world.http.post(&url).body("{}"), 415, "unsupported-media-type").await;
    refused(json("{}").header("origin", "https://evil.example"), 403, "forbidden").await;
    refused(submit(&world, &json!({ "prompt": "x".repeat(1 << 20) })), 413, "body-too-large").await;
    for (method, path, allow) in [
        (Method::GET, SUBMIT, "POST"),
        (Method::OPTIONS, SUBMIT, "POST"),
        (Method::HEAD, "/api/v1/tasks/x", "GET"),
        (Method::POST, "/api/v1/tasks/x", "GET"),
    ] {
        let answer = world.http.request(method.clone(), world.url(path)).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.headers()["allow"]), (405, &allow.parse().unwrap()));
    }
    refused(world.http.get(world.url("/api/v1/images")), 404, "not-found").await;
}

#[tokio::test]
async fn a_task_that_nobody_here_knows_is_not_found_whatever_its_name() {
    let world = World::idle(|_| ()).await;
    for id in [
        "n50_nobody",
        "job_0123456789abcdef0123456789abcdef",
        "job_",
        "a%2Fb",
        "%00",
        "..%2F..",
        &"x".repeat(500),
    ] {
        let error =
            refused(world.http.get(world.url(&format!("/api/v1/tasks/{id}"))), 404, "job-not-found").await;
        assert_eq!(error["type"], "not_found");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_moves_here_in_mid_flight_may_ask_by_the_upstreams_name() {
    let world = World::start().await;
    let id = world.submit("a bell").await;
    let job = world.ended(&id).await;
    let name = job["task_id"].as_str().unwrap();
    let asks = world.sandbox.ledger().asks;
    let told = task(&world, name).await;
    assert_eq!((&told["data"]["task_id"], &told["data"]["status"]), (&json!(name), &json!("SUCCESS")));
    let link = told["data"]["output"]["video_url"].as_str().unwrap();
    assert!(link.starts_with(&world.url(&format!("/media/{id}/"))), "{link}");
    assert_eq!(world.sandbox.ledger().asks, asks, "it is answered from the record");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_job_is_in_progress_and_says_what_it_waits_for() {
    let world =
        World::with(|config| config.upstream.unknown_wait = std::time::Duration::from_millis(50)).await;
    let body = kling("[[submit-timeout]] [[no-callback]] a bell");
    let answer: Value = submit(&world, &body).send().await.unwrap().json().await.unwrap();
    let id = answer["data"]["task_id"].as_str().unwrap();
    world.until(id, |job| job["status"] == "held").await;
    let told = task(&world, id).await;
    assert_eq!(told["data"]["status"], "IN_PROGRESS");
    assert!(told["data"]["message"].as_str().unwrap().contains("A person must decide"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canceled_job_has_failed_and_says_whether_it_was_paid() {
    let world = World::idle(|_| ()).await;
    let id = world.submit("a bell").await;
    world.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await;
    let told = task(&world, &id).await;
    assert_eq!(
        (&told["data"]["status"], &told["data"]["error_code"]),
        (&json!("FAILED"), &json!("canceled"))
    );
    assert!(told["data"]["error_message"].as_str().unwrap().contains("nothing was spent"), "{told}");
}
