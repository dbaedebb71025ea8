//! `retention`: what is past its time is shown, or removed to the end.

use serde_json::{Value, json};

use crate::fake::{Answer, Fake};

fn round(count: u64, oldest: &str, more: bool) -> Answer {
    let jobs = json!({
        "kind": "jobs", "before": "2026-08-24T00:00:00.000Z", "count": count, "bytes": 1000 * count, "oldest": oldest,
    });
    let videos = json!({ "kind": "videos", "before": null, "count": 0, "bytes": 0, "oldest": null });
    Answer::json(200, &json!({ "data": [videos, jobs], "next_cursor": null, "more": more }))
}

fn server() -> Fake {
    Fake::start(|call| match (call.route(), call.nth) {
        ("GET /v1/retention", _) => round(5, "2026-02-01T00:00:00.000Z", false),
        ("POST /v1/retention", 0) => round(3, "2026-02-01T00:00:00.000Z", true),
        ("POST /v1/retention", _) => round(2, "2026-03-01T00:00:00.000Z", false),
        _ => Answer::problem(404, "not-found", "there is no such thing"),
    })
}

#[test]
fn a_dry_run_shows_what_would_go_and_asks_for_nothing_else() {
    let fake = server();
    let run = fake.reelhook().args(["retention", "--dry-run"]).assert().success();
    run.stdout(
        "videos\t0\t0 B\t-\tfor ever\njobs\t5\t5.00 kB\t2026-02-01T00:00:00.000Z\t2026-08-24T00:00:00.000Z\n",
    );
    assert!(fake.calls().iter().all(|call| call.route() == "GET /v1/retention"));
}

#[test]
fn a_round_is_asked_for_until_nothing_is_left_and_told_as_one_document() {
    let fake = server();
    let run = fake.reelhook().args(["retention", "--json"]).assert().success();
    let document: Value = serde_json::from_slice(&run.get_output().stdout).unwrap();
    assert_eq!(fake.calls().len(), 2);
    let jobs = &document["data"][1];
    assert_eq!((&jobs["count"], &jobs["bytes"]), (&json!(5), &json!(5000)));
    assert_eq!((&jobs["oldest"], &document["more"]), (&json!("2026-02-01T00:00:00.000Z"), &json!(false)));
}
