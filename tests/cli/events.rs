//! `events`: pages of the log, and the log live.

use std::{
    process::{Command, Stdio},
    sync::mpsc,
};

use predicates::prelude::*;
use serde_json::{Value, json};

use crate::{
    fake::{Answer, Fake, ID, event},
    support::PATIENCE,
};

fn page(events: &[Value], next: Option<&str>) -> Answer {
    Answer::json(200, &json!({ "data": events, "next_cursor": next }))
}

#[test]
fn a_list_is_one_line_an_event_and_goes_on_over_short_pages() {
    let script = |call: &crate::fake::Call| match call.nth {
        0 => page(&[event(3, "job.created")], Some("90")),
        1 => page(&[], Some("180")),
        _ => page(&[event(190, "job.failed")], Some("190")),
    };
    let fake = Fake::start(script);
    let args = ["events", "list", "--after", "2", "--limit", "2", "--types", "job.created,job.failed"];
    let run = fake.reelhook().args(args).args(["--job", ID, "--tag", "a b"]).assert().success();
    let line = |seq, kind| format!("{seq}\t2026-11-22T18:00:00.000Z\t{kind}\t{ID}\n");
    run.stdout(line(3, "job.created") + &line(190, "job.failed"))
        .stderr(predicate::str::contains("--after 190"));
    let lines: Vec<_> = fake.calls().into_iter().map(|call| call.line).collect();
    let asked = |place| format!("GET /v1/events?types=job.created%2Cjob.failed&job={ID}&tag=a+b&{place}");
    let places = ["after=2&limit=2", "after=90&limit=1", "after=180&limit=1"];
    assert_eq!(lines, places.map(asked));

    let json =
        Fake::start(script).reelhook().args(["--json", "events", "list", "--limit", "2"]).assert().success();
    let document: Value = serde_json::from_slice(&json.get_output().stdout).unwrap();
    let whole = json!({ "data": [event(3, "job.created"), event(190, "job.failed")], "next_cursor": "190" });
    assert_eq!(document, whole);
}

#[test]
fn a_tail_goes_on_after_the_last_event_when_the_connection_breaks() {
    let fake = Fake::start(|call| match call.nth {
        0 => Answer::stream(&[
            ("job.created", Some(8), event(8, "job.created")),
            ("job.progress", None, json!({ "type": "job.progress" })),
            ("job.accepted", Some(9), event(9, "job.accepted")),
        ]),
        1 => Answer::problem(503, "shutting-down", "the server ends"),
        2 => Answer::stream(&[("job.stored", Some(10), event(10, "job.stored"))]),
        _ => Answer::problem(401, "unauthenticated", "no such key"),
    });
    let run = fake.reelhook().args(["--json", "events", "tail", "--after", "7"]).assert().code(4);
    let output = run.get_output();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let told: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(told, [event(8, "job.created"), event(9, "job.accepted"), event(10, "job.stored")]);
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(
        stderr.contains("connecting again after event 9") && stderr.contains("connected again"),
        "{stderr}"
    );
    let places: Vec<_> =
        fake.calls().iter().map(|call| call.header("last-event-id").unwrap().to_owned()).collect();
    assert_eq!(places, ["7", "9", "9", "10"]);
    assert!(fake.calls().iter().all(|call| call.header("accept") == Some("text/event-stream")));
}

#[test]
fn a_tail_without_a_place_begins_at_the_end_of_the_log() {
    let fake = Fake::start(|call| match call.nth {
        0 => Answer::stream(&[("reset", Some(0), json!({ "oldest": 1, "newest": 41 }))]),
        1 => Answer::stream(&[("job.stored", Some(42), event(42, "job.stored"))]),
        _ => Answer::problem(403, "forbidden", "no"),
    });
    let run = fake.reelhook().args(["events", "tail", "--types", "job.stored"]).assert().code(4);
    run.stdout(format!("42\t2026-11-22T18:00:00.000Z\tjob.stored\t{ID}\n"));
    assert_eq!(fake.calls()[1].header("last-event-id"), Some("41"));
    assert_eq!(fake.calls()[1].line, "GET /v1/events?types=job.stored");
}

#[test]
fn a_tail_says_when_what_was_asked_for_is_gone() {
    let fake = Fake::start(|call| match call.nth {
        0 => Answer::stream(&[
            ("reset", Some(4), json!({ "oldest": 5, "newest": 9 })),
            ("job.stored", Some(5), event(5, "job.stored")),
        ]),
        _ => Answer::problem(403, "forbidden", "no"),
    });
    let run = fake.reelhook().args(["events", "tail", "--after", "2"]).assert().code(4);
    run.stderr(predicate::str::contains("it goes on with event 5"));
}

#[test]
fn what_is_no_event_log_is_said_to_be_that() {
    let fake = Fake::start(|_| Answer::json(200, &json!({})));
    let run = fake.reelhook().args(["events", "tail"]).assert().code(9).stdout("");
    run.stderr(predicate::str::contains("stream of events"));
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_tail_well() {
    let (tell, told) = mpsc::channel();
    let fake = Fake::start(move |_| {
        tell.send(()).unwrap();
        Answer::Silence
    });
    let mut child = Command::new(env!("CARGO_BIN_EXE_reelhook"))
        .args(["--server", &fake.url, "events", "tail", "--after", "0"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    told.recv_timeout(PATIENCE).unwrap();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
