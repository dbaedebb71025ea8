//! `trigger`: a sample that an app can be built against, and nothing is spent.

use std::collections::BTreeSet;

use predicates::prelude::*;
use reelhook::provider::signing::SigningKey;
use serde_json::{Value, json};

use crate::{
    fake::{Answer, Fake, reelhook},
    support::World,
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8G";

fn app() -> Fake {
    Fake::start(|_| Answer::Whole { status: 204, headers: vec![], body: vec![] })
}

fn names(object: &Value) -> BTreeSet<String> {
    object.as_object().unwrap().keys().cloned().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_sample_has_the_shape_of_a_real_job_and_says_that_it_is_a_test() {
    let world = World::start().await;
    let id = world.submit("a fox").await;
    let real = world.ended(&id).await;
    let app = app();
    let mut command = reelhook(&world.url(""));
    command
        .args(["trigger", "job.succeeded", "--secret", SECRET, "--forward-to", &app.url])
        .assert()
        .success();
    let event = app.calls()[0].body.clone();
    assert_eq!((&event["type"], &event["data"]["test"]), (&json!("job.succeeded"), &json!(true)));
    let sample = &event["data"]["job"];
    assert_eq!(names(sample), names(&real));
    assert_eq!(names(&sample["files"][0]), names(&real["files"][0]));
    for part in ["cost", "progress", "callback", "attempts", "deliveries"] {
        assert_eq!(names(&sample[part]), names(&real[part]), "{part}");
    }
    assert_eq!((&sample["status"], &sample["phase"]), (&real["status"], &real["phase"]));
    assert!(app.calls()[0].header("webhook-signature").unwrap().starts_with("v1,"));
    let jobs = world.get("/v1/jobs").await;
    assert_eq!(jobs["data"].as_array().unwrap().len(), 1, "no job was made");
}

#[test]
fn every_end_of_a_job_can_be_sent_and_tells_its_state() {
    let app = app();
    for (kind, status) in [
        ("job.succeeded", "succeeded"),
        ("job.failed", "failed"),
        ("job.canceled", "canceled"),
        ("job.held", "held"),
    ] {
        let args = ["--json", "trigger", kind, "--secret", SECRET, "--forward-to", &app.url];
        let run = reelhook("http://127.0.0.1:1").args(args).assert().success();
        let told: Value = serde_json::from_slice(&run.get_output().stdout).unwrap();
        let body = app.calls().last().unwrap().body.clone();
        assert_eq!((&told["body"], &told["status"]), (&body, &json!(204)));
        assert_eq!((&body["type"], &body["data"]["job"]["status"]), (&json!(kind), &json!(status)));
    }
}

#[test]
fn an_app_that_does_not_take_it_exits_1_and_an_unknown_event_2() {
    let down = Fake::start(|_| Answer::Whole { status: 401, headers: vec![], body: vec![] });
    let send = |kind: &str, more: &[&str]| {
        let mut command = reelhook("http://127.0.0.1:1");
        command.args(["trigger", kind, "--secret", SECRET]).args(more);
        command.assert()
    };
    let refused = send("job.failed", &["--forward-to", &down.url]).code(1).stdout("");
    refused.stderr(
        predicate::str::contains("401 Unauthorized").and(predicate::str::contains("nothing was spent")),
    );
    send("job.flew", &["--forward-to", &down.url]).code(2);
    send("job.failed", &[]).code(2);
    send("job.failed", &["--forward-to", "mailto:me"]).code(2);
    send("job.failed", &["--forward-to", &down.url, "--sink", "app"]).code(2);
}

#[test]
fn a_secret_is_read_as_a_sink_of_the_server_reads_it() {
    let app = app();
    let send = |secret: &str| {
        let mut command = reelhook("http://127.0.0.1:1");
        command.args(["trigger", "job.failed", "--secret", secret, "--forward-to", &app.url]);
        command.assert()
    };
    let plain = "correct horse, battery: staple";
    send(plain).success();
    let call = app.calls().remove(0);
    let [id, at, signature] =
        ["webhook-id", "webhook-timestamp", "webhook-signature"].map(|name| call.header(name).unwrap());
    assert!(SigningKey::read(&plain.into()).unwrap().fits(signature, id, at, &call.raw));
    for (secret, why) in [("short, and no base64", "24 or more"), ("whsec_!", "not base64")] {
        send(secret).code(2).stderr(predicate::str::contains("--secret").and(predicate::str::contains(why)));
    }
    assert_eq!(app.calls().len(), 1, "nothing is sent");
}

#[test]
fn a_sink_is_sent_to_by_the_server() {
    let answer = || json!({ "type": "job.held", "attempt": { "outcome": "delivered" } });
    let fake = Fake::start(move |_| Answer::json(200, &answer()));
    fake.reelhook().args(["trigger", "job.held", "--sink", "app"]).assert().success().stderr("");
    assert_eq!(fake.routes(), ["POST /v1/sinks/app/test"]);
    assert_eq!(fake.calls()[0].body, json!({ "type": "job.held" }));
}
