//! What arrives at the other end, byte for byte, and what the API says of every try that came to nothing.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "deliver/receiver.rs"]
#[allow(dead_code, reason = "each test binary uses its part")]
mod receiver;
mod support;

use std::{collections::BTreeSet, time::Duration};

use receiver::{Received, Receiver, Reply};
use reelhook::{
    config::{Config, Format, Sink, Target},
    lifecycle::EventKind,
};
use reqwest::header::HeaderMap;
use secrecy::SecretString;
use serde_json::{Value, json};
use support::{PATIENCE, World, free_port, order};

const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

fn sink(url: &str) -> Sink {
    Sink {
        target: Target::Webhook {
            url: url.parse().unwrap(),
            secrets: vec![SecretString::from(SECRET)],
            headers: HeaderMap::new(),
        },
        events: vec![EventKind::Succeeded, EventKind::Canceled],
        format: Format::Standard,
        timeout: Duration::from_secs(2),
        concurrency: 4,
    }
}

/// One try for each delivery, signed with the secret of these tests.
fn once(config: &mut Config) {
    config.delivery.schedule = vec![Duration::ZERO];
    config.delivery.secret = Some(SecretString::from(SECRET));
}

/// The id and the body of a webhook, of which the library of Standard Webhooks says that we signed it.
fn verified(received: &Received) -> (String, Value) {
    let mut headers = HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        headers.insert(name, received.headers[name].parse().unwrap());
    }
    standardwebhooks::Webhook::new(SECRET).unwrap().verify(&received.body, &headers).unwrap();
    (received.headers["webhook-id"].clone(), serde_json::from_slice(&received.body).unwrap())
}

/// The deliveries of `filter`, once this is so of each and there are as many.
async fn deliveries(world: &World, filter: &str, count: usize, so: impl Fn(&Value) -> bool) -> Vec<Value> {
    let mut wake = world.server().app().store().wake();
    loop {
        wake.mark_unchanged();
        let mut page = world.get(&format!("/v1/deliveries?{filter}")).await;
        let all = page["data"].as_array_mut().map(std::mem::take).unwrap_or_default();
        if all.len() == count && all.iter().all(&so) {
            return all;
        }
        let changed = tokio::time::timeout(PATIENCE, wake.changed()).await;
        changed.unwrap_or_else(|_| panic!("never so: {all:#?}")).unwrap();
    }
}

fn is_over(delivery: &Value) -> bool {
    delivery["state"] != "pending"
}

async fn canceled(world: &World, body: &Value) -> String {
    let job = world.post("/v1/jobs", body).await;
    let id = job["id"].as_str().unwrap_or_else(|| panic!("{job}")).to_owned();
    world.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await;
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_that_is_strange_has_its_clear_record_in_the_api() {
    let elsewhere = Receiver::start(Reply::new("200 OK", "")).await;
    let moved = format!("308 Moved\nLocation: {}", elsewhere.url());
    let endless = b"HTTP/1.1 500 Broken\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let untrusted = Receiver::self_signed(Reply::new("200 OK", "")).await;
    let receivers = [
        ("moved", Receiver::start(Reply::new(&moved, "")).await),
        ("long", Receiver::start(Reply::new("500 Broken", &"x".repeat(10 << 20))).await),
        ("endless", Receiver::start(Reply::Endless(endless, b"4\r\nmore\r\n".to_vec())).await),
        ("silent", Receiver::start(Reply::Silence(Vec::new())).await),
    ];
    let private = Receiver::start(Reply::new("200 OK", "")).await;
    let mut world = World::idle(|config| {
        once(config);
        config.sinks = receivers.iter().map(|(name, at)| ((*name).to_owned(), sink(&at.url()))).collect();
        let https = untrusted.url().replace("http://127.0.0.1", "https://localhost");
        config.sinks.insert("untrusted".to_owned(), sink(&https));
    })
    .await;
    let mut body = order("a kiln");
    body["notify"] = json!([{ "url": private.url(), "secret": SECRET }]);
    let job = world.post("/v1/jobs", &body).await["id"].as_str().unwrap().to_owned();
    // What was allowed when the job came is judged again before each call.
    world.stop_server().await;
    world.config.egress.allow.clear();
    world.start_server().await;
    world.post(&format!("/v1/jobs/{job}/cancel"), &json!({})).await;
    let expected = [
        ("moved", "failed", json!(308), "not followed"),
        ("long", "failed", json!(500), "longer than 4 KiB"),
        ("endless", "failed", json!(500), "was not read on"),
        ("silent", "failed", json!(null), "no answer within 2s"),
        ("untrusted", "failed", json!(null), "certificate"),
        ("notify:127.0.0.1", "refused", json!(null), "nothing was sent there"),
    ];
    for listed in deliveries(&world, &format!("job={job}"), expected.len(), is_over).await {
        let shown = world.get(&format!("/v1/deliveries/{}", listed["id"].as_str().unwrap())).await;
        let name = shown["sink"].as_str().unwrap();
        let (_, outcome, code, part) = expected
            .iter()
            .find(|expected| name.starts_with(expected.0))
            .unwrap_or_else(|| panic!("{shown}"));
        assert_eq!((&shown["state"], &shown["attempts"]), (&json!("exhausted"), &json!(1)), "{shown:#}");
        let tried = &shown["tries"][0];
        assert_eq!((&tried["outcome"], &tried["code"]), (&json!(outcome), code), "{shown:#}");
        assert!(tried["detail"].as_str().unwrap().contains(part), "{name}: {}", tried["detail"]);
    }
    for receiver in [&elsewhere, &private, &untrusted] {
        assert!(receiver.received().is_empty(), "a signed event went where it must not");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_was_down_all_the_time_hears_of_every_job_once() {
    let port = free_port();
    let mut world = World::with(|config| {
        once(config);
        config.delivery.schedule = [vec![Duration::ZERO], vec![Duration::from_millis(50); 99]].concat();
        config.sinks.insert("app".to_owned(), sink(&format!("http://127.0.0.1:{port}/hooks")));
    })
    .await;
    let mut jobs = BTreeSet::new();
    for prompt in ["a kiln", "a wheel", "a glaze"] {
        jobs.insert(world.submit(prompt).await);
    }
    for job in &jobs {
        world.ended(job).await;
    }
    let tried = |delivery: &Value| delivery["tries"][0]["outcome"] == "failed";
    for delivery in deliveries(&world, "sink=app", 3, tried).await {
        let said = delivery["tries"][0]["detail"].as_str().unwrap();
        assert!(said.to_lowercase().contains("connect"), "{said}");
    }
    world.stop_server().await;
    let app = Receiver::at(port, Reply::new("204 No Content", "")).await;
    world.start_server().await;
    deliveries(&world, "sink=app", 3, |delivery| delivery["state"] == "succeeded").await;
    let heard: Vec<_> = app.received().iter().map(verified).collect();
    let told: BTreeSet<_> =
        heard.iter().map(|(_, body)| body["data"]["job"]["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!((heard.len(), told), (3, jobs));
    let log = world.get("/v1/events?types=job.succeeded").await;
    let logged = log["data"].as_array().unwrap();
    assert!(heard.iter().all(|(id, _)| logged.iter().any(|event| event["id"] == json!(id))), "{log:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_the_upstream_is_called_back_in_its_shape_once_the_file_is_stored() {
    let client = Receiver::start(Reply::new("200 OK", "")).await;
    let world = World::with(once).await;
    for (prompt, status) in [("a bell", "SUCCESS"), ("[[fail:too dark]] a bell", "FAILED")] {
        let mut body = order(prompt)["input"].clone();
        body["callback_url"] = json!(client.url());
        let answer = world.post("/api/v1/videos/generations", &body).await;
        let id = answer["data"]["task_id"].as_str().unwrap().to_owned();
        let delivery =
            deliveries(&world, &format!("job={id}"), 1, |one| one["state"] == "succeeded").await.remove(0);
        let (event_id, told) = verified(client.received().last().unwrap());
        assert_eq!(json!(event_id), delivery["event_id"]);
        let mut polled = world.get(&format!("/api/v1/tasks/{id}")).await;
        assert_eq!((&told["data"]["task_id"], &told["data"]["status"]), (&json!(id), &json!(status)));
        if status == "SUCCESS" {
            let link = told["data"]["output"]["video_url"].as_str().unwrap();
            let video = world.http.get(link).send().await.unwrap();
            assert_eq!(video.headers()["content-type"], "video/mp4");
            // Links of a callback live longer, and so are others.
            polled["data"]["output"] = told["data"]["output"].clone();
        }
        assert_eq!(told, polled);
    }
    assert_eq!(client.received().len(), 2, "nothing is told before the end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_wants_cloudevents_gets_them() {
    let app = Receiver::start(Reply::new("200 OK", "")).await;
    let world = World::with(|config| {
        once(config);
        config.sinks.insert("app".to_owned(), Sink { format: Format::CloudEvents, ..sink(&app.url()) });
    })
    .await;
    let job = world.submit("a kiln").await;
    deliveries(&world, "sink=app", 1, |delivery| delivery["state"] == "succeeded").await;
    let received = app.only();
    assert_eq!(received.headers["content-type"], "application/cloudevents+json");
    let (id, event) = verified(&received);
    let logged = world.get("/v1/events?types=job.succeeded").await["data"][0].clone();
    let expected = json!({
        "specversion": "1.0", "id": id, "source": event["source"], "type": "job.succeeded", "subject": job,
        "time": logged["time"], "datacontenttype": "application/json", "data": event["data"],
    });
    assert_eq!((&event, &logged["id"]), (&expected, &json!(id)));
    assert!(event["source"].as_str().unwrap().starts_with(&world.url("")), "{event}");
    assert_eq!(event["data"]["job"]["id"], json!(job));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_stays_below_20_kb_and_says_what_was_left_out() {
    let app = Receiver::start(Reply::new("200 OK", "")).await;
    let world = World::idle(|config| {
        once(config);
        config.sinks.insert("app".to_owned(), sink(&app.url()));
    })
    .await;
    let mut short = order("a kiln");
    short["metadata"] = json!({ "shot": "x".repeat(4_000) });
    let mut long = short.clone();
    long["input"]["multi_shots"] = json!(true);
    long["input"]["multi_prompt"] = json!([{ "prompt": "x".repeat(25_000), "duration": 3 }]);
    for (body, is_cut) in [(short, false), (long, true)] {
        let id = canceled(&world, &body).await;
        deliveries(&world, &format!("job={id}"), 1, |delivery| delivery["state"] == "succeeded").await;
        let received = app.received().pop().unwrap();
        assert!(received.body.len() < 20_000, "{} bytes", received.body.len());
        let told = verified(&received).1["data"]["job"].take();
        assert_eq!((&told["id"], told["truncated"] == json!(true)), (&json!(id), is_cut));
        assert_eq!(told["input"] == json!({}), is_cut);
        assert_eq!(told["metadata"], body["metadata"], "no more is left out than must be");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_of_a_sink_may_be_a_sample_of_any_event_and_says_that_it_is_one() {
    let app = Receiver::start(Reply::new("200 OK", "")).await;
    let world = World::idle(|config| {
        config.sinks.insert("app".to_owned(), sink(&app.url()));
    })
    .await;
    let answer = world.post("/v1/sinks/app/test", &json!({ "type": "job.held" })).await;
    assert_eq!((&answer["type"], &answer["attempt"]["outcome"]), (&json!("job.held"), &json!("delivered")));
    let (id, told) = verified(&app.only());
    assert_eq!((&answer["event_id"], &told["type"]), (&json!(id), &json!("job.held")));
    assert_eq!((&told["data"]["test"], &told["data"]["job"]["status"]), (&json!(true), &json!("held")));
    let unknown = world.post("/v1/sinks/app/test", &json!({ "type": "job.flew" })).await;
    assert_eq!((&unknown["status"], &unknown["errors"][0]["pointer"]), (&json!(422), &json!("/type")));
    assert_eq!((app.received().len(), &world.get("/v1/jobs").await["data"]), (1, &json!([])));
}
