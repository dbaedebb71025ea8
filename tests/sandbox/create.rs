//! The create call: what is accepted, what is refused, what is charged.

use std::{net::TcpListener, time::Duration};

use reelhook::sandbox::{Ledger, Options};
use serde_json::{Value, json};

use crate::support::Bench;

#[tokio::test]
async fn a_create_call_answers_in_the_documented_shape_and_charges_the_documented_price() {
    let bench = Bench::start().await;
    let answer: Value = bench.submit("a cat [[delay:100h]]").await.json().await.unwrap();
    let task_id = answer["data"]["task_id"].as_str().unwrap();
    assert!(task_id.starts_with("n50") && task_id.ends_with("_kling3"), "{task_id}");
    assert_eq!(
        answer,
        json!({"code": 200, "message": "success", "data": {"task_id": task_id, "status": "IN_PROGRESS"}})
    );

    let priced = json!({"model": "kling-3", "prompt": "a dog", "mode": "pro", "duration": 15});
    bench.create_call(&priced).header("Idempotency-Key", "k1").send().await.unwrap();
    bench.create_call(&json!({"model": "wan-2-6", "prompt": "a fox"})).send().await.unwrap();

    let ledger: Ledger = bench.get(&bench.url("/sandbox/ledger")).await.json().await.unwrap();
    assert_eq!(ledger, bench.ledger());
    let charged: Vec<_> = ledger.creates.iter().map(|create| create.credits).collect();
    assert_eq!((charged, ledger.charged_credits), (vec![300, 1200, 80], 1580));
    assert_eq!(ledger.creates[0].task_id.as_deref(), Some(task_id));
    assert_eq!(ledger.creates[1].idempotency_key.as_deref(), Some("k1"));
    assert!(ledger.creates.iter().all(|create| create.accepted && create.status == Some(200)));
}

#[tokio::test]
async fn a_repeated_create_call_is_charged_again_and_shows_in_the_ledger() {
    let bench = Bench::start().await;
    for _ in 0..2 {
        let call = bench.create_call(&bench.body("a cat")).header("Idempotency-Key", "same");
        assert_eq!(call.send().await.unwrap().status(), 200);
    }
    let ledger = bench.ledger();
    assert_eq!(ledger.creates.iter().map(|create| create.count).collect::<Vec<_>>(), [1, 2]);
    assert_ne!(ledger.creates[0].task_id, ledger.creates[1].task_id);
    assert_eq!(ledger.charged_credits, 600);
}

#[tokio::test]
async fn a_call_without_a_key_is_refused_with_the_documented_error() {
    let bench = Bench::start().await;
    let submit = bench.client.post(bench.url("/api/v1/videos/generations")).json(&bench.body("a cat"));
    let ask = bench.client.get(bench.url("/api/v1/tasks/n50"));
    let empty = bench.client.get(bench.url("/api/v1/tasks/n50")).header("Authorization", "Bearer ");
    for call in [submit, ask, empty] {
        let answer = call.send().await.unwrap();
        assert_eq!(answer.status(), 401);
        let expected =
            json!({"error": {"code": 401, "message": "Invalid API key", "type": "authentication_error"}});
        assert_eq!(answer.json::<Value>().await.unwrap(), expected);
    }
    let ledger = bench.ledger();
    assert_eq!((ledger.creates.len(), ledger.creates[0].accepted, ledger.charged_credits), (1, false, 0));
}

#[tokio::test]
async fn a_body_that_makes_no_sense_is_refused_and_not_charged() {
    let bench = Bench::start().await;
    for (body, status) in [
        (json!([]), 400),
        (json!({"model": "kling-3", "prompt": 5}), 400),
        (json!({"model": "kling-3"}), 422),
        (json!({"model": "kling-9", "prompt": "a cat"}), 422),
        (json!({"model": "kling-3", "prompt": "a".repeat(2501)}), 422),
        (json!({"model": "kling-3", "prompt": "a cat", "duration": 16}), 422),
        (json!({"model": "kling-3", "prompt": "a cat", "aspect_ratio": "4:3"}), 422),
        (json!({"model": "kling-3", "prompt": "a cat", "callback_url": "ftp://host/cb"}), 422),
        (json!({"model": "kling-3", "multi_shots": true}), 422),
        (json!({"model": "kling-3", "prompt": "a cat [[nonsense]]"}), 400),
    ] {
        let answer = bench.create_call(&body).send().await.unwrap();
        assert_eq!(answer.status(), status, "{body}");
        assert_eq!(answer.json::<Value>().await.unwrap()["error"]["code"], status, "{body}");
    }
    assert_eq!(bench.ledger().charged_credits, 0);
}

#[tokio::test]
async fn an_unknown_directive_is_answered_with_the_list_of_known_ones() {
    let bench = Bench::start().await;
    let answer: Value = bench.submit("a cat [[dealy:90s]]").await.json().await.unwrap();
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("[[dealy:90s]]") && message.contains("[[delay:90s]]"), "{message}");
}

#[tokio::test]
async fn directives_are_read_from_the_shots_of_a_multi_prompt_too() {
    let bench = Bench::start().await;
    let shots = json!([{"prompt": "a cat", "duration": 3}, {"prompt": "[[reject:451]]", "duration": 4}]);
    let body = json!({"model": "kling-3", "multi_shots": true, "multi_prompt": shots});
    assert_eq!(bench.create_call(&body).send().await.unwrap().status(), 451);
}

#[tokio::test]
async fn reject_answers_its_status_every_time_and_charges_nothing() {
    let bench = Bench::start().await;
    for _ in 0..3 {
        let answer = bench.submit("a cat [[reject:422]]").await;
        assert_eq!(answer.status(), 422);
        assert_eq!(answer.json::<Value>().await.unwrap()["error"]["code"], 422);
    }
    assert_eq!(bench.ledger().charged_credits, 0);
}

#[tokio::test]
async fn the_first_calls_of_a_job_are_refused_as_asked_and_the_next_is_accepted() {
    let bench = Bench::start().await;
    for (directive, status, retry_after) in [
        ("[[auth:403:2]]", 403, None),
        ("[[credits]]", 402, None),
        ("[[rate:429:2]]", 429, Some("1")),
        ("[[busy:503:2]]", 503, Some("1")),
    ] {
        for expected in [status, status, 200] {
            let answer = bench.submit(directive).await;
            assert_eq!(answer.status(), expected, "{directive}");
            if expected != 200 {
                let header = answer.headers().get("Retry-After").map(|value| value.to_str().unwrap());
                assert_eq!(header, retry_after, "{directive}");
                assert_eq!(answer.json::<Value>().await.unwrap()["error"]["code"], status);
            }
        }
    }
    assert_eq!(bench.ledger().charged_credits, 4 * 300);
}

#[tokio::test]
async fn refusals_are_counted_by_idempotency_key_where_there_is_one() {
    let bench = Bench::start().await;
    let mut statuses = Vec::new();
    for key in ["a", "b", "a", "b"] {
        let call = bench.create_call(&bench.body("a cat [[rate:429:1]]")).header("Idempotency-Key", key);
        statuses.push(call.send().await.unwrap().status().as_u16());
    }
    assert_eq!(statuses, [429, 429, 200, 200]);
}

#[tokio::test]
async fn a_submit_that_times_out_is_charged_and_still_called_back() {
    let bench = Bench::start().await;
    let call = bench.create_call(&bench.body("a cat [[submit-timeout]]")).timeout(Duration::from_secs(3));
    assert!(call.send().await.unwrap_err().is_timeout());

    let ledger = bench.ledger();
    assert_eq!((ledger.creates[0].accepted, ledger.creates[0].status), (true, None));
    assert_eq!(ledger.charged_credits, 300);
    let callback = bench.receiver.next_body().await;
    assert_eq!(callback["data"]["task_id"].as_str(), ledger.creates[0].task_id.as_deref());
}

#[tokio::test]
async fn the_seed_decides_the_ids_and_the_files() {
    let mut runs = Vec::new();
    for seed in [7, 7, 8] {
        let bench = Bench::with_seed(seed).await;
        let mut run = Vec::new();
        for prompt in ["a cat", "a cat", "a dog"] {
            let task_id = bench.task(prompt).await;
            let url = crate::support::link(&bench.end_of(&task_id).await);
            run.push((task_id, bench.get(&url).await.bytes().await.unwrap()));
        }
        runs.push(run);
    }
    assert_eq!(runs[0], runs[1]);
    for (this, other) in runs[0].iter().zip(&runs[2]).chain([(&runs[0][0], &runs[0][1])]) {
        assert_ne!(this.0, other.0);
        assert_ne!(this.1, other.1);
    }
}

#[tokio::test]
async fn a_speed_out_of_range_is_an_error_and_a_stopped_sandbox_takes_no_more_calls() {
    for speed in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(reelhook::sandbox::start(listener, Options { speed, seed: 1 }).await.is_err(), "{speed}");
    }
    let bench = Bench::start().await;
    let held = bench.create_call(&bench.body("[[submit-timeout]][[delay:100h]]")).send();
    let held = tokio::spawn(held);
    crate::support::eventually("the call arrives", || async { bench.ledger().creates.first().cloned() })
        .await;
    let call = bench.create_call(&bench.body("a cat"));
    bench.sandbox.stop().await;
    assert!(held.await.unwrap().is_err(), "a call that is held must not outlive the sandbox");
    assert!(call.send().await.unwrap_err().is_connect());
}
