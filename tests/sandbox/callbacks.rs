//! Callbacks: when they come, how often, and whether they are true.

use reelhook::sandbox::CallbackKind;
use serde_json::json;

use crate::support::{Bench, eventually, link};

/// Waits until the ledger holds this many answered callbacks and gives their kinds.
async fn kinds(bench: &Bench, count: usize) -> Vec<CallbackKind> {
    eventually("the callbacks are answered", || async {
        let callbacks = bench.ledger().callbacks;
        (callbacks.len() >= count).then(|| callbacks.iter().map(|callback| callback.kind).collect())
    })
    .await
}

#[tokio::test]
async fn a_completion_is_called_back_once_with_what_the_task_route_says() {
    let bench = Bench::start().await;
    let task_id = bench.task("a cat").await;
    let (path, body) = bench.receiver.next().await;
    assert_eq!(path, "/cb/job_1/token");
    assert_eq!(body, bench.ask(&task_id).await.1);

    assert_eq!(kinds(&bench, 1).await, [CallbackKind::Completed]);
    let callback = &bench.ledger().callbacks[0];
    assert_eq!((&callback.task_id, &callback.url), (&task_id, &bench.receiver.url));
    assert_eq!((callback.status, callback.error.as_deref()), (Some(200), None));
}

#[tokio::test]
async fn a_callback_that_nobody_takes_is_in_the_ledger() {
    let bench = Bench::start().await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{closed}/cb");
    let body = json!({"model": "kling-3", "prompt": "a cat", "callback_url": url});
    bench.create_call(&body).send().await.unwrap();
    kinds(&bench, 1).await;
    let callback = &bench.ledger().callbacks[0];
    assert_eq!(callback.status, None);
    assert!(callback.error.is_some());
}

#[tokio::test]
async fn no_callback_is_sent_where_none_is_asked_for() {
    let bench = Bench::start().await;
    let silent = bench.task("a cat [[no-callback]]").await;
    bench.create_call(&json!({"model": "kling-3", "prompt": "no url"})).send().await.unwrap();
    let mut ltx = bench.body("a cat");
    ltx["model"] = "ltx-2".into();
    bench.create_call(&ltx).send().await.unwrap();
    bench.end_of(&silent).await;

    let later = bench.task("a dog").await;
    assert_eq!(bench.receiver.next_body().await["data"]["task_id"], json!(later));
    assert_eq!(kinds(&bench, 1).await, [CallbackKind::Completed]);
}

#[tokio::test]
async fn a_late_callback_comes_after_the_task_route_shows_the_end() {
    let bench = Bench::start().await;
    let task_id = bench.task("a cat [[late-callback:2000s]]").await;
    let body = bench.end_of(&task_id).await;
    assert_eq!(bench.ledger().callbacks, []);
    assert_eq!(bench.receiver.next_body().await, body);
}

#[tokio::test]
async fn a_duplicated_callback_comes_as_often_as_asked_with_the_same_body() {
    let bench = Bench::start().await;
    bench.task("a cat [[dup-callback:3]]").await;
    let first = bench.receiver.next().await;
    assert_eq!(bench.receiver.next().await, first);
    assert_eq!(bench.receiver.next().await, first);
    assert_eq!(kinds(&bench, 3).await, [CallbackKind::Completed; 3]);
}

#[tokio::test]
async fn an_early_callback_is_answered_before_the_create_call_is() {
    let bench = Bench::start().await;
    for (prompt, status) in
        [("a cat [[early-callback]]", "SUCCESS"), ("a cat [[early-callback]][[delay:100h]]", "IN_PROGRESS")]
    {
        bench.receiver.hold().await;
        let create = tokio::spawn(bench.create_call(&bench.body(prompt)).send());
        let callback = bench.receiver.next_body().await;
        assert_eq!(callback["data"]["status"], status);
        let task_id = callback["data"]["task_id"].as_str().unwrap();
        assert_eq!(bench.ask(task_id).await.1["data"]["status"], status);
        assert!(!create.is_finished(), "the create call was answered before its callback");

        bench.receiver.release();
        let answer = create.await.unwrap().unwrap().json::<serde_json::Value>().await.unwrap();
        assert_eq!(answer["data"]["task_id"], task_id);
    }
}

#[tokio::test]
async fn progress_callbacks_come_before_the_completion() {
    let bench = Bench::start().await;
    bench.task("a cat [[progress-callbacks]]").await;
    for percent in [25, 50, 75] {
        let body = bench.receiver.next_body().await;
        assert_eq!(
            (&body["data"]["status"], &body["data"]["progress"]),
            (&json!("IN_PROGRESS"), &json!(percent))
        );
    }
    assert_eq!(bench.receiver.next_body().await["data"]["status"], "SUCCESS");
}

#[tokio::test]
async fn a_lying_callback_is_denied_by_the_task_route_until_the_task_is_finished() {
    let bench = Bench::start().await;
    let task_id = bench.task("a cat [[lying-callback]] [[delay:3000s]]").await;
    let lie = bench.receiver.next_body().await;
    assert_eq!(lie["data"]["status"], "SUCCESS");
    assert_eq!(bench.ask(&task_id).await.1["data"]["status"], "IN_PROGRESS");
    assert_eq!(bench.get(&link(&lie)).await.status(), 404);

    assert_eq!(bench.receiver.next_body().await["data"]["status"], "SUCCESS");
    assert_eq!(kinds(&bench, 2).await, [CallbackKind::Lying, CallbackKind::Completed]);
    assert_eq!(bench.get(&link(&bench.end_of(&task_id).await)).await.status(), 200);
}

#[tokio::test]
async fn forged_callbacks_have_a_wrong_token_or_name_another_task() {
    let bench = Bench::start().await;
    let task_id = bench.task("a cat [[forged-callback]]").await;
    let (path, body) = bench.receiver.next().await;
    assert_eq!((path.as_str(), &body["data"]["task_id"]), ("/cb/job_1/Aoken", &json!(task_id)));
    let (path, body) = bench.receiver.next().await;
    assert_eq!(path, "/cb/job_1/token");
    assert_ne!(body["data"]["task_id"], json!(task_id));

    let evil = link(&body);
    assert_eq!(bench.get(&evil).await.status(), 404);
    assert!(bench.ledger().downloads[0].task_id.starts_with("forged_"), "the ledger shows who fell for it");
    assert_eq!(bench.receiver.next_body().await["data"]["task_id"], json!(task_id));
    let expected = [CallbackKind::ForgedUrl, CallbackKind::ForgedBody, CallbackKind::Completed];
    assert_eq!(kinds(&bench, 3).await, expected);
}
