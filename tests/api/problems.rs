//! Every refusal has a test, and every kind of problem has a page.

use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

use crate::support::{World, order};

/// Sends, expects a problem of this status and code, and returns it.
pub(super) async fn refused(request: reqwest::RequestBuilder, status: u16, code: &str) -> Value {
    let answer = request.send().await.unwrap();
    let found = answer.status();
    let id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
    let kind = answer.headers().get(header::CONTENT_TYPE).cloned();
    let problem: Value = answer.json().await.unwrap();
    assert_eq!((found.as_u16(), problem["code"].as_str()), (status, Some(code)), "{problem:#}");
    assert_eq!(kind.unwrap(), "application/problem+json");
    assert_eq!((&problem["status"], &problem["request_id"]), (&status.into(), &id.as_str().into()));
    assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{problem:#}");
    problem
}

async fn pointers(request: reqwest::RequestBuilder) -> Vec<String> {
    let problem = refused(request, 422, "invalid-input").await;
    let errors = problem["errors"].as_array().unwrap();
    errors.iter().map(|error| error["pointer"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn every_wrong_place_of_a_new_job_is_named_at_once() {
    let world = World::idle(|_| ()).await;
    let post = |body: Value| world.http.post(world.url("/v1/jobs")).json(&body);
    let body = json!({
        "input": { "duration": 99, "callback_url": "https://x.example" },
        "tag": [], "tags": "x", "notify": 1, "deadline": "soon", "max_credits": -1,
    });
    let mut found = pointers(post(body)).await;
    found.sort();
    let expected = [
        "/deadline",
        "/input/callback_url",
        "/input/duration",
        "/input/prompt",
        "/max_credits",
        "/notify",
        "/tag",
        "/tags",
    ];
    assert_eq!(found, expected);
    assert_eq!(pointers(post(json!([]))).await, [""]);
    let past = json!({ "input": order("x")["input"], "deadline": "2020-01-01T00:00:00Z" });
    assert_eq!(pointers(post(past)).await, ["/deadline"]);
    let large = json!({ "input": order("x")["input"], "metadata": { "x": "y".repeat(4096) } });
    assert_eq!(pointers(post(large)).await, ["/metadata"]);
    let bare = refused(post(order("x")["input"].clone()), 422, "invalid-input").await;
    assert!(bare["errors"][0]["detail"].as_str().unwrap().contains("`input`"), "{bare:#}");
    assert_eq!(world.get("/v1/jobs").await["data"], json!([]), "nothing was created");
}

#[tokio::test]
async fn what_is_not_plain_json_is_refused_before_it_is_read() {
    let world = World::idle(|_| ()).await;
    let post = |body: &str| world.http.post(world.url("/v1/jobs")).body(body.to_owned());
    let json = |request: reqwest::RequestBuilder| request.header("content-type", "application/json");
    refused(json(post("{")), 400, "invalid-input").await;
    refused(json(post("")), 400, "invalid-input").await;
    refused(json(post(&"[".repeat(1_000))), 400, "invalid-input").await;
    refused(post("{}"), 415, "unsupported-media-type").await;
    refused(post("{}").header("content-type", "text/plain"), 415, "unsupported-media-type").await;
    refused(json(post("{}")).header("content-encoding", "gzip"), 415, "unsupported-media-type").await;
    let limit = world.config.server.body_limit;
    refused(json(post(&" ".repeat(limit + 1))), 413, "body-too-large").await;
    let endless = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 65_536]));
    let chunked = world.http.post(world.url("/v1/jobs")).body(reqwest::Body::wrap_stream(endless));
    // The answer may come while the body is still being sent; then the connection ends under it.
    if let Ok(answer) = json(chunked).send().await {
        assert_eq!(answer.status(), 413);
    }
}

#[tokio::test]
async fn limits_on_money_and_on_the_queue_refuse_with_their_own_codes() {
    let world = World::idle(|config| {
        config.budget.daily_credits = 400;
        config.api.queue_limit = 3;
    })
    .await;
    let post = |body: &Value| world.http.post(world.url("/v1/jobs")).json(body);
    let capped = json!({ "input": order("x")["input"], "max_credits": 179 });
    refused(post(&capped), 422, "max-credits-exceeded").await;
    world.submit("one").await;
    world.submit("two").await;
    refused(post(&order("three")), 402, "budget-exceeded").await;
    let cheap = json!({ "input": { "model": "grok-video", "prompt": "x" } });
    assert_eq!(post(&cheap).send().await.unwrap().status(), StatusCode::ACCEPTED);
    let answer = post(&cheap).send().await.unwrap();
    assert_eq!(answer.headers()[header::RETRY_AFTER], "5");
    refused(post(&cheap), 429, "queue-full").await;
}

#[tokio::test]
async fn a_store_that_fails_refuses_new_jobs_and_callbacks_and_asks_for_another_try() {
    let world = World::idle(|_| ()).await;
    world.server().app().store().close().await;
    let create = || world.http.post(world.url("/v1/jobs")).json(&order("x"));
    assert_eq!(create().send().await.unwrap().headers()[header::RETRY_AFTER], "5");
    let problem = refused(create(), 503, "store-unavailable").await;
    assert_eq!(problem["retryable"], true);
    let callback =
        world.server().app().callback_url("job_01a2048d0aea7a8e8b0036d39013eadb".parse().unwrap()).unwrap();
    let answer = world.http.post(callback).json(&json!({})).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()[header::RETRY_AFTER]),
        (503, &"5".parse().unwrap())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_takes_no_new_job_and_still_answers_questions() {
    let mut world = World::start().await;
    let id = world.submit("[[size:3MiB]] [[slow-download:500kB]] a glacier").await;
    world.until(&id, |job| job["phase"] == "fetching").await;
    let (http, create, show) =
        (world.http.clone(), world.url("/v1/jobs"), world.url(&format!("/v1/jobs/{id}?wait=60s")));
    let meanwhile = async move {
        refused(http.post(create).json(&order("x")), 503, "shutting-down").await;
        let job: Value = http.get(show).send().await.unwrap().json().await.unwrap();
        assert_eq!(job["phase"], "fetching", "a wait ends where the server does");
    };
    // The stop is begun first, and lasts as long as the download.
    tokio::join!(world.stop_server(), meanwhile);
}

#[tokio::test]
async fn decisions_that_do_not_fit_the_job_are_conflicts() {
    let world = World::idle(|_| ()).await;
    let id = world.submit("x").await;
    let post =
        |path: &str, body: Value| world.http.post(world.url(&format!("/v1/jobs/{id}/{path}"))).json(&body);
    refused(post("resolve", json!({ "action": "fail" })), 409, "not-held").await;
    refused(post("retry", json!({ "mode": "recheck" })), 409, "nothing-to-retry").await;
    for (path, body, pointer) in [
        ("retry", json!({}), "/mode"),
        ("retry", json!({ "mode": "again" }), "/mode"),
        ("retry", json!({ "mode": "recheck", "force": true }), "/force"),
        ("resolve", json!({ "action": "drop" }), "/action"),
        ("resolve", json!({ "action": "attach" }), "/task_id"),
        ("resolve", json!({ "action": "attach", "task_id": "" }), "/task_id"),
        ("resolve", json!({ "action": "fail", "task_id": "t" }), "/task_id"),
    ] {
        assert_eq!(pointers(post(path, body)).await, [pointer]);
    }
    let get = |path: &str| world.http.get(world.url(&format!("/v1/jobs/{id}/{path}")));
    refused(get("files/video.mp4"), 409, "file-not-ready").await;
    refused(get("manifest"), 409, "file-not-ready").await;
    let canceled = world.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await;
    assert_eq!(
        (&canceled["status"], &canceled["upstream_may_still_charge"]),
        (&"canceled".into(), &false.into())
    );
    refused(post("cancel", json!({})), 409, "already-terminal").await;
    refused(get("files/video.mp4"), 404, "not-found").await;
}

#[tokio::test]
async fn what_is_not_there_is_not_found_whatever_its_name_looks_like() {
    let world = World::idle(|_| ()).await;
    let unknown = "job_00000000000000000000000000000000";
    for id in [unknown, "job_x", "JOB_1", "%00", "..%2f..%2fetc%2fpasswd", &"x".repeat(5_000)] {
        refused(world.http.get(world.url(&format!("/v1/jobs/{id}"))), 404, "job-not-found").await;
        refused(world.http.get(world.url(&format!("/v1/jobs/{id}/events"))), 404, "job-not-found").await;
        refused(world.http.get(world.url(&format!("/v1/callbacks/{id}"))), 404, "not-found").await;
    }
    let cancel = world.http.post(world.url(&format!("/v1/jobs/{unknown}/cancel"))).json(&json!({}));
    refused(cancel, 404, "job-not-found").await;
    for path in ["/v1", "/v2/jobs", "/v1/jobs/", "/favicon.ico", "/assets/../mod.rs", "/problems/none"] {
        refused(world.http.get(world.url(path)), 404, "not-found").await;
    }
}

#[tokio::test]
async fn a_query_that_is_not_understood_is_refused_and_not_passed_over() {
    let world = World::idle(|_| ()).await;
    for query in [
        "status=done",
        "via=pigeon",
        "limit=0",
        "limit=251",
        "limit=x",
        "created_after=yesterday",
        "state=held",
    ] {
        let found = pointers(world.http.get(world.url(&format!("/v1/jobs?{query}")))).await;
        assert_eq!(found, [format!("?{}", query.split('=').next().unwrap())]);
    }
    assert_eq!(pointers(world.http.get(world.url("/v1/events?types=job.nonsense"))).await, ["?types"]);
    assert_eq!(pointers(world.http.get(world.url("/v1/stats?window=-1h"))).await, ["?window"]);
    for path in ["/v1/jobs?cursor=x", "/v1/callbacks?cursor=job_1", "/v1/events?after=x"] {
        refused(world.http.get(world.url(path)), 400, "invalid-cursor").await;
    }
    let resumed = world.http.get(world.url("/v1/events")).header("last-event-id", "x");
    refused(resumed, 400, "invalid-cursor").await;
}

#[tokio::test]
async fn a_method_that_a_path_does_not_take_is_answered_with_those_it_does() {
    let world = World::idle(|_| ()).await;
    for (method, path, allow) in [
        (Method::DELETE, "/v1/jobs", "POST, GET"),
        (Method::GET, "/v1/jobs/estimate/", ""),
        (Method::PUT, "/v1/jobs/job_1/files/x", "GET, HEAD"),
        (Method::OPTIONS, "/v1/events", "GET"),
    ] {
        let request = || world.http.request(method.clone(), world.url(path));
        let answer = request().send().await.unwrap();
        if allow.is_empty() {
            assert_eq!(answer.status(), StatusCode::NOT_FOUND);
            continue;
        }
        assert_eq!(answer.headers()[header::ALLOW], allow);
        refused(request(), 405, "method-not-allowed").await;
    }
}

#[tokio::test]
async fn every_kind_of_problem_has_a_page_at_its_type() {
    let world = World::idle(|_| ()).await;
    let document = world.get("/openapi.json").await;
    let codes =
        document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"].as_array().unwrap();
    let plain = ["not-found", "method-not-allowed", "request-timeout", "range-not-satisfiable"];
    for code in codes.iter().map(|code| code.as_str().unwrap()) {
        let answer = world.http.get(world.url(&format!("/problems/{code}"))).send().await.unwrap();
        assert_eq!(answer.status() == 200, !plain.contains(&code), "{code}");
        assert_eq!(answer.text().await.unwrap().contains("<h1>"), !plain.contains(&code), "{code}");
    }
}

#[tokio::test]
async fn a_slow_body_is_given_up() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let world = World::idle(|_| ()).await;
    let mut socket = tokio::net::TcpStream::connect(world.server().api()).await.unwrap();
    let head = format!(
        "POST /v1/jobs HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{{",
        world.server().api()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("request-timeout"), "{answer}");
}
