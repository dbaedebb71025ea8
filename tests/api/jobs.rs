//! Making, finding and waiting for jobs.

use std::time::Duration;

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use super::problems::refused;
use crate::support::{World, order};

const HOUR: Duration = Duration::from_secs(3600);

async fn post(world: &World, key: &str, body: &Value) -> (StatusCode, Option<String>, Value) {
    let request = world.http.post(world.url("/v1/jobs")).header("idempotency-key", key).json(body);
    let answer = request.send().await.unwrap();
    let replayed =
        answer.headers().get("idempotent-replayed").map(|value| value.to_str().unwrap().to_owned());
    (answer.status(), replayed, answer.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_key_with_the_same_body_is_the_same_job_and_with_another_a_mistake() {
    let world = World::start().await;
    let body = json!({ "input": order("x")["input"], "deadline": "30m", "metadata": { "a": 1, "b": 2 } });
    let (status, replayed, first) = post(&world, "k", &body).await;
    assert_eq!((status, replayed), (StatusCode::ACCEPTED, None));
    let reordered =
        json!({ "metadata": { "b": 2, "a": 1 }, "deadline": "30m", "input": order("x")["input"] });
    let (_, replayed, again) = post(&world, "k", &reordered).await;
    assert_eq!((replayed.as_deref(), &again["id"]), (Some("true"), &first["id"]));
    let other = world.http.post(world.url("/v1/jobs")).header("idempotency-key", "k").json(&order("y"));
    refused(other, 422, "idempotency-key-reused").await;
    let (_, _, unlike) = post(&world, "k2", &body).await;
    assert_ne!(unlike["id"], first["id"]);
    for key in ["", &"k".repeat(256)] {
        let request = world.http.post(world.url("/v1/jobs")).header("idempotency-key", key).json(&body);
        refused(request, 422, "invalid-input").await;
    }
    world.ended(first["id"].as_str().unwrap()).await;
    assert_eq!(world.charges(first["id"].as_str().unwrap()), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn of_a_hundred_equal_requests_at_once_one_makes_the_job() {
    let world = World::start().await;
    let body = order("x");
    let all = futures_util::future::join_all((0..100).map(|_| post(&world, "k", &body))).await;
    let fresh = all.iter().filter(|(_, replayed, _)| replayed.is_none()).count();
    assert_eq!(fresh, 1);
    assert!(all.iter().all(|(_, _, job)| job["id"] == all[0].2["id"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_job_says_where_it_is_and_what_it_will_cost() {
    let world = World::start().await;
    let body = json!({
        "input": { "prompt": "a kiln", "duration": 5 }, "tags": ["a", "b"], "metadata": { "order": 7 }, "deadline": "2h",
    });
    let estimate = world.post("/v1/jobs/estimate", &body).await;
    assert_eq!(estimate["cost"]["estimated_credits"], 300);
    let answer = world.http.post(world.url("/v1/jobs")).json(&body).send().await.unwrap();
    let location = answer.headers()["location"].to_str().unwrap().to_owned();
    let job: Value = answer.json().await.unwrap();
    assert_eq!(location, format!("/v1/jobs/{}", job["id"].as_str().unwrap()));
    assert_eq!((&job["model"], &job["input"]["prompt"]), (&"kling-3".into(), &"a kiln".into()));
    assert_eq!((&job["tags"], &job["metadata"]), (&json!(["a", "b"]), &json!({ "order": 7 })));
    assert_eq!((&job["cost"]["estimated_usd"], &job["cost"]["exact"]), (&json!(3.0), &json!(true)));
    let times: Vec<jiff::Timestamp> = ["created_at", "expires_at"]
        .iter()
        .map(|name| job[*name].as_str().unwrap().parse().unwrap())
        .collect();
    assert_eq!(times[1].duration_since(times[0]), jiff::SignedDuration::from_hours(2));
    let members: Vec<&str> = job.as_object().unwrap().keys().map(String::as_str).collect();
    let mut promised: Vec<&str> = "id revision status phase model input task_id completed_via progress files cost error \
        callback attempts deliveries tags metadata retry_of notices created_at submitted_at accepted_at confirmed_at \
        stored_at finished_at expires_at"
        .split_whitespace()
        .collect();
    promised.sort_unstable();
    let mut members = members;
    members.sort_unstable();
    assert_eq!(members, promised);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_call_that_waits_answers_200_with_the_ended_job() {
    let world = World::start().await;
    let request =
        world.http.post(world.url("/v1/jobs")).header("prefer", "respond-async, wait=60").json(&order("x"));
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.json::<Value>().await.unwrap()["status"], "succeeded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_who_has_the_newest_revision_waits_for_the_next() {
    let world = World::with(|config| {
        config.api.max_wait = Duration::from_millis(50);
        config.poll.overdue_after = Duration::from_secs(3_600);
    })
    .await;
    let id = world.submit("[[delay:100h]] a clock").await;
    let waiting = world.until(&id, |job| job["phase"] == "awaiting").await;
    let get = |etag: String, query: &str| {
        let request =
            world.http.get(world.url(&format!("/v1/jobs/{id}{query}"))).header("if-none-match", etag);
        async { request.send().await.unwrap() }
    };
    let etag = |answer: &Response| answer.headers()["etag"].to_str().unwrap().to_owned();
    let same = get(format!("\"{}\"", waiting["revision"]), "").await;
    assert_eq!(same.status(), StatusCode::NOT_MODIFIED);
    let patient = get(etag(&same), "?wait=1h").await;
    assert_eq!(patient.status(), StatusCode::NOT_MODIFIED, "cut at [api] max_wait");
    assert_eq!(get("\"0\"".to_owned(), "?wait=1h").await.status(), StatusCode::OK);
    let body: Value = world.get(&format!("/v1/jobs/{id}?wait=1s")).await;
    assert_eq!(body["status"], "running");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_hears_of_the_change_and_not_of_the_time() {
    let world = World::idle(|_| ()).await;
    let id = world.submit("x").await;
    let wait = world.http.get(world.url(&format!("/v1/jobs/{id}?wait=60s"))).send();
    // Polled in this order, so the wait has begun when the cancel is sent; it must hold either way.
    let (waited, _) =
        tokio::join!(wait, async { world.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await });
    assert_eq!(waited.unwrap().json::<Value>().await.unwrap()["status"], "canceled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_walked_to_its_end_newest_first_and_without_repeats() {
    let world = World::idle(|_| ()).await;
    let mut made = Vec::new();
    for scene in 0..7 {
        made.push(world.submit(&format!("scene {scene}")).await);
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = world.get(&format!("/v1/jobs?limit=3{cursor}")).await;
        seen.extend(
            page["data"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned()),
        );
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    made.sort();
    made.reverse();
    assert_eq!(seen, made);
    let found = world.get("/v1/jobs?q=scene%204&status=queued&model=kling-3").await;
    assert_eq!(found["data"].as_array().unwrap().len(), 1);
    assert_eq!(world.get("/v1/jobs?created_before=2020-01-01T00:00:00Z").await["data"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_tells_of_itself() {
    let world = World::start().await;
    let id = world.submit("x").await;
    world.ended(&id).await;
    let stats = world.get("/v1/stats?window=1h").await;
    assert_eq!((&stats["jobs"]["succeeded"], &stats["spend"]["estimated_credits"]), (&1.into(), &180.into()));
    assert_eq!(stats["callbacks"]["share"], 1.0);
    let models = world.get("/v1/models").await;
    assert_eq!(models["data"].as_array().unwrap().len(), 4);
    assert_eq!(world.get("/livez").await["status"], "alive");
    let ready = world.get("/readyz?verbose").await;
    assert_eq!((&ready["status"], &ready["checks"]["store"]["open"]), (&"ready".into(), &true.into()));
    let metrics = world.http.get(world.url("/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("reelhook_jobs{phase=\"done\"}"), "{metrics}");
    assert!(!metrics.contains(&id), "a metric names no job");
    let callbacks = world.get(&format!("/v1/callbacks?job={id}")).await;
    let one = world.get(&format!("/v1/callbacks/{}", callbacks["data"][0]["id"].as_str().unwrap())).await;
    assert_eq!((&one["verdict"], &one["job_id"]), (&"matched".into(), &id.as_str().into()));
    assert!(one["body"].as_str().unwrap().contains("task"), "{one}");
    assert_eq!(callbacks["data"][0]["body"], Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_that_is_not_documented_is_noticed_and_a_typing_error_refused() {
    let world = World::start().await;
    let input = json!({ "prompt": "x", "duration": 4.5, "seed": 7 });
    let estimate = world.post("/v1/jobs/estimate", &json!({ "input": input })).await;
    assert_eq!((&estimate["duration_s"], &estimate["cost"]["estimated_credits"]), (&json!(4.5), &json!(270)));
    assert!(estimate["cost"]["basis"].as_str().unwrap().contains("4.5 s"), "{estimate}");
    assert!(estimate["notices"][0].as_str().unwrap().contains("`seed`"), "{estimate}");
    let job = world.post("/v1/jobs", &json!({ "input": input })).await;
    assert_eq!(job["notices"], estimate["notices"]);
    let typed = json!({ "input": { "prompt": "x", "duraton": 15 } });
    let problem = refused(world.http.post(world.url("/v1/jobs")).json(&typed), 422, "invalid-input").await;
    assert_eq!(problem["errors"][0]["pointer"], "/input/duraton");
    assert!(problem["errors"][0]["detail"].as_str().unwrap().contains("did you mean `duration`?"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_waits_for_a_person_or_for_the_next_attempt_says_why() {
    let world = World::with(|config| {
        (config.download.backoff, config.download.max_backoff) = (HOUR, HOUR);
    })
    .await;
    let held = world.submit("[[submit-timeout]] [[no-callback]]").await;
    let cut = world.submit("[[url-404:2]]").await;
    let held = world.ended(&held).await;
    let told = held["notices"][0].as_str().unwrap();
    assert!(told.contains("answer was lost") && told.contains("`resubmit`"), "{told}");
    let job = world.until(&cut, |job| job["notices"] != json!([])).await;
    assert!(job["notices"][0].as_str().unwrap().contains("last attempt"), "{job:#}");
    assert_eq!((&job["phase"], &job["progress"]["percent"]), (&"fetching".into(), &Value::Null));
}
