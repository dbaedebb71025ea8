//! What the task route says while a task runs and when it has ended.

use serde_json::{Value, json};

use crate::support::{Bench, eventually, link};

#[tokio::test]
async fn a_task_runs_for_its_time_and_then_shows_its_video() {
    let bench = Bench::start().await;
    let task_id = bench.task("a cat [[delay:100h]]").await;
    let (status, body) = bench.ask(&task_id).await;
    assert_eq!((status.as_u16(), &body["data"]["status"]), (200, &json!("IN_PROGRESS")));

    let task_id = bench.task("a cat").await;
    let body = bench.end_of(&task_id).await;
    assert_eq!(body["data"]["status"], "SUCCESS");
    assert_eq!(body["data"]["credits_consumed"], 300);
    assert!(link(&body).starts_with(&bench.url(&format!("/files/{task_id}/video.mp4?sig="))));
    assert_eq!(
        link(&body),
        link(&bench.end_of(&task_id).await),
        "a link that does not expire stays the same"
    );
    assert!(bench.ledger().asks[&task_id] >= 2);
}

#[tokio::test]
async fn links_lead_to_where_the_client_reached_the_sandbox() {
    let bench = Bench::start().await;
    let call = bench.create_call(&bench.body("a cat")).header("Host", "sandbox.internal:9000");
    call.send().await.unwrap();
    let task_id = bench.ledger().creates[0].task_id.clone().unwrap();
    assert!(link(&bench.end_of(&task_id).await).starts_with("http://sandbox.internal:9000/files/"));
}

#[tokio::test]
async fn fail_ends_the_task_with_its_text() {
    let bench = Bench::start().await;
    let task_id = bench.task("a cat [[fail:the cat: ran away]]").await;
    let data = json!({"task_id": task_id, "status": "FAILED", "error_message": "the cat: ran away"});
    assert_eq!(bench.end_of(&task_id).await["data"], data);
    assert_eq!(bench.receiver.next_body().await["data"], data);
}

#[tokio::test]
async fn an_unknown_task_is_not_found() {
    let bench = Bench::start().await;
    let (status, body) = bench.ask("n50nobody_kling3").await;
    assert_eq!((status.as_u16(), &body["error"]["code"]), (404, &json!(404)));
    assert_eq!(bench.ledger().asks["n50nobody_kling3"], 1);
}

#[tokio::test]
async fn the_first_questions_fail_as_asked() {
    let bench = Bench::start().await;
    let task_id = bench.task("a cat [[task-404:3]][[task-500:2]]").await;
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(bench.ask(&task_id).await.0.as_u16());
    }
    assert_eq!(statuses, [404, 404, 404, 500, 500, 200]);
}

#[tokio::test]
async fn an_unknown_status_word_is_shown_for_a_while() {
    let bench = Bench::start().await;
    let slow = bench.task("a cat [[status:reticulating]] [[delay:100h]]").await;
    assert_eq!(bench.ask(&slow).await.1["data"]["status"], "reticulating");
    let quick = bench.task("a cat [[status]]").await;
    eventually("the task succeeds", || async {
        (bench.ask(&quick).await.1["data"]["status"] == "SUCCESS").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_success_without_a_link_stays_without_one() {
    let bench = Bench::start().await;
    let task_id = bench.task("a cat [[no-url]]").await;
    for _ in 0..3 {
        let body = bench.end_of(&task_id).await;
        assert_eq!((&body["data"]["status"], &body["data"]["output"]), (&json!("SUCCESS"), &json!({})));
    }
    assert_eq!(bench.receiver.next_body().await["data"]["output"], json!({}));
}

/// How a shape tells a task's id when it is created, that it runs, its link, and why it failed.
struct Pointers {
    shape: &'static str,
    created_id: &'static str,
    running: (&'static str, Value),
    link: &'static str,
    error: &'static str,
}

#[tokio::test]
async fn every_shape_tells_the_same_story_in_its_own_words() {
    let shapes = [
        Pointers {
            shape: "old",
            created_id: "/id",
            running: ("/status", json!("processing")),
            link: "/output/video_url",
            error: "/error",
        },
        Pointers {
            shape: "kie",
            created_id: "/data/taskId",
            running: ("/data/successFlag", json!(0)),
            link: "/data/resultJson",
            error: "/data/failMsg",
        },
        Pointers {
            shape: "kling",
            created_id: "/data/task_id",
            running: ("/data/task_status", json!("processing")),
            link: "/data/task_result/videos/0/url",
            error: "/data/task_status_msg",
        },
        Pointers {
            shape: "array",
            created_id: "/data/0/id",
            running: ("/0/status", json!("IN_PROGRESS")),
            link: "/0/video_url",
            error: "/0/fail_message",
        },
    ];
    let bench = Bench::start().await;
    for expected in shapes {
        let shape = expected.shape;
        let created = bench.submit(&format!("[[shape:{shape}]][[delay:100h]]")).await;
        let created: Value = created.json().await.unwrap();
        let task_id = created.pointer(expected.created_id).and_then(Value::as_str).expect(shape);
        let (_, running) = bench.ask(task_id).await;
        assert_eq!(running.pointer(expected.running.0), Some(&expected.running.1), "{running}");

        let succeeded = finished(&bench, shape, "", expected.link).await;
        let url = succeeded.pointer(expected.link).and_then(Value::as_str).expect(shape);
        let url = match serde_json::from_str::<Value>(url) {
            Ok(parsed) => parsed["resultUrls"][0].as_str().unwrap().to_owned(),
            Err(_) => url.to_owned(),
        };
        assert_eq!(bench.get(&url).await.status(), 200, "{shape}");
        assert_eq!(bench.receiver.next_body().await, succeeded, "a callback has the shape of the task route");

        let failed = finished(&bench, shape, "[[fail:no]]", expected.error).await;
        assert_eq!(failed.pointer(expected.error), Some(&json!("no")), "{failed}");
        bench.receiver.next().await;
    }
}

async fn finished(bench: &Bench, shape: &str, more: &str, pointer: &str) -> Value {
    let task_id = bench.task(&format!("[[shape:{shape}]]{more}")).await;
    eventually("the task ends", || async {
        let (_, body) = bench.ask(&task_id).await;
        body.pointer(pointer).is_some().then_some(body)
    })
    .await
}
