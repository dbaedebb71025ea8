//! `deliveries` and `sinks`: what is owed to whom, and another try.

use predicates::prelude::*;
use serde_json::{Value, json};

use crate::fake::{Answer, Fake, ID};

const DELIVERY: &str = "dlv_0192f0c1a2b37c4d8e5f60718293a4b5";

fn delivery(state: &str) -> Value {
    json!({
        "id": DELIVERY, "state": state, "sink": "app", "event_id": "evt_1", "type": "job.succeeded", "job_id": ID,
        "attempts": 2, "created_at": "2026-11-22T18:00:00.000Z", "next_at": "2026-11-22T18:05:00.000Z", "why": null,
        "tries": [
            { "at": "2026-11-22T18:00:00.000Z", "took_ms": 9, "outcome": "failed", "code": 500, "detail": "a\u{1b}[2Jb" },
            { "at": "2026-11-22T18:00:05.000Z", "took_ms": 9, "outcome": "failed", "code": 503, "detail": "busy" },
        ],
    })
}

/// What the server says of a test.
fn tested(outcome: &str, detail: &str) -> Answer {
    let attempt = json!({ "took_ms": 3, "outcome": outcome, "detail": detail });
    Answer::json(200, &json!({ "event_id": "evt_1", "attempt": attempt }))
}

fn office() -> Fake {
    Fake::start(|call| match call.route() {
        "GET /v1/deliveries" => {
            Answer::json(200, &json!({ "data": [delivery("pending")], "next_cursor": "abc" }))
        }
        route if route == format!("GET /v1/deliveries/{DELIVERY}") => {
            Answer::json(200, &delivery("exhausted"))
        }
        route if route == format!("POST /v1/deliveries/{DELIVERY}/retry") => {
            Answer::json(202, &delivery("pending"))
        }
        "GET /v1/sinks" => {
            let sink = json!({
                "name": "app", "type": "webhook", "format": "standard", "events": ["job.succeeded", "job.failed"],
                "failing_since": "2026-11-20T18:00:00.000Z", "disabled_at": "2026-11-21T18:00:00.000Z", "why": "gone",
            });
            Answer::json(200, &json!({ "data": [sink], "next_cursor": null }))
        }
        "POST /v1/sinks/app/test" => tested("delivered", "204 No Content"),
        "POST /v1/sinks/shop/test" => tested("failed", "connection refused"),
        "POST /v1/sinks/app/recover" => Answer::json(202, &json!({ "sink": "app", "replayed": 7 })),
        _ => Answer::problem(404, "not-found", "there is no such thing"),
    })
}

#[test]
fn deliveries_are_listed_one_line_each_with_the_filters_of_the_api() {
    let fake = office();
    let args = ["deliveries", "list", "--state", "pending", "--sink", "app", "--job", ID, "--limit", "9"];
    let run = fake.reelhook().args(args).args(["--cursor", "x"]).assert().success();
    run.stdout(format!("2026-11-22T18:00:00.000Z\tpending\tapp\tjob.succeeded\t2\t2026-11-22T18:05:00.000Z\t{ID}\t{DELIVERY}\n"))
        .stderr(predicate::str::contains("--cursor abc"));
    let line = format!("GET /v1/deliveries?state=pending&sink=app&job={ID}&limit=9&cursor=x");
    assert_eq!(fake.calls()[0].line, line);
    let json = fake.reelhook().args(["--json", "deliveries", "list"]).assert().success().stderr("");
    let document: Value = serde_json::from_slice(&json.get_output().stdout).unwrap();
    assert_eq!(document["data"], json!([delivery("pending")]));
}

#[test]
fn a_delivery_shows_each_attempt_and_can_be_made_again() {
    let fake = office();
    let run = fake.reelhook().args(["deliveries", "get", DELIVERY]).assert().success();
    let output = run.get_output().stdout.clone();
    let attempts = output.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"tries\t")).count();
    assert_eq!((attempts, output.contains(&0x1b)), (2, false));
    fake.reelhook().args(["deliveries", "retry", DELIVERY]).assert().success();
    assert_eq!(fake.calls()[1].body, json!({}));
    fake.reelhook().args(["deliveries", "get", "dlv_0"]).assert().code(5).stdout("");
}

#[test]
fn sinks_are_listed_and_recovered_since_a_time() {
    let fake = office();
    let run = fake.reelhook().args(["sinks", "list"]).assert().success();
    run.stdout("app\twebhook\tdisabled\t2026-11-21T18:00:00.000Z\tjob.succeeded,job.failed\n");
    let args = ["sinks", "recover", "app", "--since", "2026-11-20T00:00:00Z"];
    fake.reelhook().args(args).assert().success().stdout("replayed\t7\nsink\tapp\n");
    assert_eq!(fake.calls()[1].body, json!({ "since": "2026-11-20T00:00:00.000Z" }));
    fake.reelhook().args(["sinks", "recover", "app"]).assert().code(2);
    fake.reelhook().args(["sinks", "test", "none"]).assert().code(5);
}

#[test]
fn a_test_of_a_sink_that_does_not_take_it_exits_1() {
    let fake = office();
    fake.reelhook().args(["sinks", "test", "app"]).assert().success();
    let run = fake.reelhook().args(["--json", "sinks", "test", "shop"]).assert().code(1);
    let output = run.get_output();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["attempt"]["outcome"], "failed");
    assert!(String::from_utf8_lossy(&output.stderr).contains("connection refused"));
}
