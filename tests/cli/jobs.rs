//! `jobs`: what is read and what is done.

use predicates::prelude::*;
use serde_json::{Value, json};

use crate::fake::{Answer, Fake, ID, estimate, job};

#[test]
fn a_list_is_one_tab_separated_line_a_job_or_the_servers_document() {
    let page = || {
        let mut job = job(3, "running", "awaiting");
        job["input"] = json!({ "prompt": "for people on a terminal" });
        json!({ "data": [job], "next_cursor": "abc" })
    };
    let fake = Fake::start(move |_| Answer::json(200, &page()));
    let run = fake.reelhook().args(["jobs", "list"]).assert().success();
    run.stdout(format!("2026-11-22T18:00:00.000Z\trunning\tawaiting\t300\tkling-3\t{ID}\n"))
        .stderr(predicate::str::contains("--cursor abc"));
    let run = fake.reelhook().args(["jobs", "list", "--json"]).assert().success().stderr("");
    let document: Value = serde_json::from_slice(&run.get_output().stdout).unwrap();
    assert_eq!(document, page());
}

#[test]
fn the_filters_of_a_list_are_the_apis() {
    let fake = Fake::start(|_| Answer::json(200, &json!({ "data": [], "next_cursor": null })));
    let args = ["jobs", "list", "--status", "held", "--tag", "a b", "--limit", "7", "-q", "fox"];
    fake.reelhook()
        .args(args)
        .args(["--created-after", "2026-11-01T00:00:00Z"])
        .assert()
        .success()
        .stdout("");
    let expected =
        "GET /v1/jobs?status=held&tag=a+b&created_after=2026-11-01T00%3A00%3A00.000Z&q=fox&limit=7";
    assert_eq!(fake.calls()[0].line, expected);
    fake.reelhook().args(["jobs", "list", "--limit", "0"]).assert().code(2);
    fake.reelhook().args(["jobs", "list", "--status", "lost"]).assert().code(2);
}

#[test]
fn what_the_provider_said_cannot_steer_the_terminal() {
    let fake = Fake::start(|_| {
        let mut job = job(3, "failed", "done");
        job["error"] = json!({ "code": "upstream_failed", "message": "gone\u{1b}[2J\nrm -rf" });
        job["model"] = json!("kling\u{1b}]0;x\u{7}");
        Answer::job(200, &job)
    });
    for args in [["jobs", "get", ID], ["jobs", "watch", ID]] {
        let run = fake.reelhook().args(args).assert();
        let output = run.get_output();
        let hostile = |bytes: &[u8]| bytes.iter().any(|byte| matches!(byte, 0x1b | 0x07));
        assert!(!hostile(&output.stdout) && !hostile(&output.stderr), "{args:?}");
    }
}

#[test]
fn get_shows_the_job_whatever_its_state_and_json_is_what_the_server_said() {
    let fake = Fake::start(|_| Answer::job(200, &job(3, "failed", "done")));
    let run = fake.reelhook().args(["jobs", "get", ID, "--json"]).assert().success().stderr("");
    let document: Value = serde_json::from_slice(&run.get_output().stdout).unwrap();
    assert_eq!(document, job(3, "failed", "done"));
    let text = fake.reelhook().args(["jobs", "get", ID]).assert().success().stderr("");
    text.stdout(predicate::str::contains("status\tfailed\n").and(predicate::str::contains("error").not()));
}

#[test]
fn watch_gives_one_record_a_change_and_the_exit_code_of_the_end() {
    let fake = Fake::start(|call| match call.nth {
        0 => Answer::job(200, &job(1, "running", "sending")),
        1 => Answer::job(200, &job(2, "running", "awaiting")),
        _ => Answer::job(200, &job(3, "canceled", "done")),
    });
    let run = fake.reelhook().args(["jobs", "watch", ID, "--json"]).assert().code(3);
    let text = String::from_utf8(run.get_output().stdout.clone()).unwrap();
    let revisions: Vec<Value> =
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["revision"].clone()).collect();
    assert_eq!(revisions, [1, 2, 3]);
}

#[test]
fn a_cancel_says_when_it_may_have_come_too_late_to_save_money() {
    let fake = Fake::start(|_| {
        let mut job = job(4, "canceled", "done");
        job["upstream_may_still_charge"] = json!(true);
        Answer::job(200, &job)
    });
    let run =
        fake.reelhook().args(["jobs", "cancel", ID]).assert().success().stdout(format!("{ID}\tcanceled\n"));
    run.stderr(predicate::str::contains("may still charge"));
    assert_eq!(fake.routes(), [format!("POST /v1/jobs/{ID}/cancel")]);
}

/// Answers for a job, its price and whatever is done to it.
fn workshop() -> Fake {
    Fake::start(|call| match call.route() {
        "POST /v1/jobs/estimate" => estimate(),
        route if route.starts_with("GET ") => Answer::job(200, &job(4, "failed", "done")),
        _ => Answer::job(202, &job(1, "queued", "queued")),
    })
}

#[test]
fn free_retries_just_happen_and_paid_ones_need_to_be_agreed_to() {
    for mode in ["recheck", "download"] {
        let fake = workshop();
        fake.reelhook().args(["jobs", "retry", ID, "--mode", mode]).assert().success().stderr("");
        assert_eq!(fake.routes(), [format!("POST /v1/jobs/{ID}/retry")]);
        assert_eq!(fake.calls()[0].body, json!({ "mode": mode }));
    }
    let paid = [vec!["retry", ID, "--mode", "resubmit"], vec!["resolve", ID, "--action", "resubmit"]];
    for args in paid {
        let fake = workshop();
        let run = fake.reelhook().arg("jobs").args(&args).assert().code(2).stdout("");
        run.stderr(predicate::str::contains("300 credits ($3.00)"));
        let priced = [format!("GET /v1/jobs/{ID}"), "POST /v1/jobs/estimate".to_owned()];
        assert_eq!(fake.routes(), priced, "nothing was bought");
        assert_eq!(fake.calls()[1].body["input"], job(4, "failed", "done")["input"]);
        fake.reelhook().arg("jobs").args(&args).arg("--yes").assert().success();
        assert_eq!(fake.routes().last().unwrap(), &format!("POST /v1/jobs/{ID}/{}", args[0]));
    }
}

#[test]
fn a_held_job_is_attached_only_with_a_task_and_failed_without() {
    let fake = workshop();
    fake.reelhook().args(["jobs", "resolve", ID, "--action", "attach"]).assert().code(2);
    fake.reelhook().args(["jobs", "resolve", ID, "--action", "fail", "--task-id", "t"]).assert().code(2);
    assert!(fake.calls().is_empty());
    fake.reelhook()
        .args(["jobs", "resolve", ID, "--action", "attach", "--task-id", "n50_x"])
        .assert()
        .success();
    assert_eq!(fake.calls()[0].body, json!({ "action": "attach", "task_id": "n50_x" }));
    fake.reelhook().args(["jobs", "resolve", ID, "--action", "fail"]).assert().success();
    assert_eq!(fake.calls()[1].body, json!({ "action": "fail" }));
}

#[test]
fn an_id_cannot_reach_another_route() {
    let fake = Fake::start(|_| Answer::problem(404, "job-not-found", "there is no such job"));
    fake.reelhook().args(["jobs", "get", "../stats?x=1"]).assert().code(5);
    assert_eq!(fake.calls()[0].line, "GET /v1/jobs/..%2Fstats%3Fx=1");
}

#[test]
fn get_gives_each_notice_a_line() {
    let fake = Fake::start(|_| {
        let mut job = job(3, "held", "held");
        job["notices"] = json!(["a person must decide", "seed is not documented"]);
        Answer::job(200, &job)
    });
    let text = fake.reelhook().args(["jobs", "get", ID]).assert().success();
    text.stdout(predicate::str::contains("notices\ta person must decide\nnotices\tseed is not documented\n"));
}
