//! `submit`: money is named before it is spent, and spent once.

use std::{
    io::Read as _,
    process::{Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use predicates::prelude::*;
use serde_json::{Value, json};

use crate::{
    downloads::sha256,
    fake::{Answer, Call, Fake, ID, estimate, job},
};

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Prices, creates, and then answers as `later` says.
fn shop(later: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> Fake {
    Fake::start(move |call| match call.route() {
        "POST /v1/jobs/estimate" => estimate(),
        "POST /v1/jobs" => Answer::job(202, &job(1, "queued", "queued")),
        _ => later(call),
    })
}

fn nothing_later(call: &Call) -> Answer {
    panic!("not expected: {}", call.line)
}

#[test]
fn stdout_is_the_id_and_the_price_is_on_stderr() {
    let fake = shop(nothing_later);
    let run = fake.reelhook().args(["submit", "a fox", "--yes"]).assert().success();
    run.stdout(format!("{ID}\n")).stderr(predicate::str::contains("300 credits ($3.00): 60 credits/s × 5 s"));
    assert_eq!(fake.routes(), ["POST /v1/jobs/estimate", "POST /v1/jobs"]);
}

#[test]
fn off_a_terminal_nothing_is_submitted_until_a_flag_agrees() {
    let fake = shop(nothing_later);
    let run = fake.reelhook().args(["submit", "a fox"]).assert().code(2).stdout("");
    run.stderr(
        predicate::str::contains("300 credits ($3.00)").and(predicate::str::contains("--max-credits")),
    );
    assert_eq!(fake.routes(), ["POST /v1/jobs/estimate"], "the price was told and nothing was bought");

    fake.reelhook().args(["submit", "a fox", "--max-credits", "300"]).assert().success();
    assert_eq!(fake.calls().last().unwrap().body["max_credits"], 300, "the server holds the limit");
}

#[test]
fn a_dry_run_only_asks_for_the_price() {
    let fake = shop(nothing_later);
    let text = fake.reelhook().args(["submit", "a fox", "--dry-run"]).assert().success();
    text.stdout("300 credits ($3.00): 60 credits/s × 5 s\n");
    let json = fake.reelhook().args(["--json", "submit", "a fox", "--dry-run"]).assert().success();
    let document: Value = serde_json::from_slice(&json.get_output().stdout).unwrap();
    assert_eq!(document["cost"]["estimated_credits"], 300);
    assert!(!fake.routes().contains(&"POST /v1/jobs".to_owned()));
}

#[test]
fn every_flag_becomes_its_field_and_flags_go_over_the_file() {
    let fake = shop(nothing_later);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("input.json");
    std::fs::write(&file, r#"{"prompt": "from the file", "kling_elements": [1]}"#).unwrap();
    let args =
        ["submit", "a fox", "--model", "kling-3", "--mode", "pro", "--duration", "5s", "--aspect", "9:16"];
    let more = [
        "--no-sound",
        "--image",
        "https://e.test/a.png",
        "-p",
        "seed=7",
        "-p",
        "style=noir",
        "-p",
        "cfg=0.5",
    ];
    let rest =
        ["--tag", "ad", "--tag", "eu", "--meta", "order=0123", "--deadline", "2026-12-24T18:00:00Z", "--yes"];
    let mut command = fake.reelhook();
    command.args(args).args(more).args(rest).arg(format!("--input=@{}", file.display())).assert().success();
    let expected = json!({
        "input": {
            "prompt": "a fox", "model": "kling-3", "mode": "pro", "duration": 5, "aspect_ratio": "9:16",
            "sound": false, "image": "https://e.test/a.png", "seed": 7, "style": "noir", "cfg": 0.5,
            "kling_elements": [1],
        },
        "tags": ["ad", "eu"], "metadata": { "order": "0123" }, "deadline": "2026-12-24T18:00:00.000Z",
    });
    for call in fake.calls() {
        assert_eq!(call.body, expected, "{}", call.line);
    }
}

#[test]
fn a_connection_that_breaks_in_the_answer_is_tried_again_with_the_same_key() {
    let fake = Fake::start(|call| match (call.route(), call.nth) {
        ("POST /v1/jobs/estimate", _) => estimate(),
        (_, 0) => Answer::Broken { length: 500, body: b"{\"id\":".to_vec() },
        _ => Answer::job(202, &job(1, "queued", "queued")),
    });
    fake.reelhook().args(["submit", "a fox", "--yes"]).assert().success().stdout(format!("{ID}\n"));
    let calls = fake.calls();
    let keys: Vec<_> = calls[1..].iter().map(|call| call.header("idempotency-key").unwrap()).collect();
    assert_eq!(keys.len(), 2);
    assert_eq!(keys[0], keys[1], "another key would pay twice");

    let given = ["submit", "a fox", "--yes", "--idempotency-key", "order-7"];
    fake.reelhook().args(given).assert().success();
    assert_eq!(fake.calls().last().unwrap().header("idempotency-key"), Some("order-7"));
}

#[test]
fn a_refusal_is_not_tried_again() {
    for (status, code, exit) in
        [(402, "budget-exceeded", 8), (422, "max-credits-exceeded", 8), (422, "idempotency-key-reused", 6)]
    {
        let fake = Fake::start(move |call| match call.route() {
            "POST /v1/jobs/estimate" => estimate(),
            _ => Answer::problem(status, code, "no; nothing was spent"),
        });
        let run = fake.reelhook().args(["submit", "a fox", "--yes"]).assert().code(exit).stdout("");
        run.stderr(predicate::str::ends_with("error: no; nothing was spent\n"));
        assert_eq!(fake.routes().len(), 2, "{code}");
    }
}

#[test]
fn a_wait_asks_for_changes_and_tells_each_once_on_stderr() {
    let fake = shop(|call| match call.nth {
        0 => Answer::job(200, &job(2, "running", "awaiting")),
        1 => Answer::Whole { status: 304, headers: vec![], body: vec![] },
        _ => Answer::job(200, &job(3, "succeeded", "done")),
    });
    let run = fake.reelhook().args(["--json", "submit", "a fox", "--yes", "--wait=1m"]).assert().success();
    let output = run.get_output();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&document["revision"], &document["status"]), (&json!(3), &json!("succeeded")));
    let told = String::from_utf8(output.stderr.clone()).unwrap();
    let lines: Vec<_> = told.lines().skip(1).collect();
    assert_eq!(lines, ["queued", "awaiting", "done"].map(|phase| format!("{ID} {phase}")));
    let tags: Vec<_> =
        fake.calls()[2..].iter().map(|call| call.header("if-none-match").unwrap().to_owned()).collect();
    assert_eq!(tags, ["\"1\"", "\"2\"", "\"2\""]);
    assert!(fake.calls()[2].line.contains("?wait="));
}

#[test]
fn how_the_job_ends_is_the_exit_code() {
    for (status, phase, exit) in
        [("succeeded", "done", 0), ("failed", "done", 3), ("canceled", "done", 3), ("held", "held", 10)]
    {
        let fake = shop(move |_| {
            let mut job = job(2, status, phase);
            job["error"] = json!({ "code": "upstream_failed", "message": "the fox ran away" });
            Answer::job(200, &job)
        });
        let run = fake.reelhook().args(["submit", "a fox", "--yes", "--wait"]).assert().code(exit);
        let run = run.stdout(format!("{ID}\n"));
        if exit == 3 && status == "failed" {
            run.stderr(predicate::str::ends_with(format!(
                "error: {ID} failed: upstream_failed: the fox ran away\n"
            )));
        }
    }
}

#[test]
fn a_wait_that_runs_out_leaves_the_job_and_says_so() {
    let fake = shop(|_| Answer::Silence);
    let run = fake.reelhook().args(["--json", "submit", "a fox", "--yes", "--wait=50ms"]).assert().code(7);
    let output = run.get_output();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["id"], ID, "the caller needs the id to go on");
    let told = String::from_utf8(output.stderr.clone()).unwrap();
    let problem: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    assert_eq!(problem["code"], "still-running");
    assert!(!fake.routes().iter().any(|route| route.ends_with("/cancel")));
}

#[cfg(unix)]
#[test]
fn ctrl_c_leaves_the_job_running_and_says_so() {
    let (tell, told) = mpsc::channel();
    let fake = shop(move |_| {
        tell.send(()).unwrap();
        Answer::Silence
    });
    let mut child = Command::new(env!("CARGO_BIN_EXE_reelhook"))
        .args(["--server", &fake.url, "submit", "a fox", "--yes", "--wait"])
        .env_remove("REELHOOK_API_KEY")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    told.recv_timeout(PATIENCE).unwrap();
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let code = child.wait().unwrap().code();
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(code, Some(7), "{stderr}");
    assert!(stderr.contains(&format!("interrupted while {ID} is queued; it goes on")), "{stderr}");
    assert!(!fake.routes().iter().any(|route| route.ends_with("/cancel")));
}

#[test]
fn with_an_output_file_the_video_is_there_at_the_end() {
    let fake = shop(|call| {
        if call.route().contains("/files/") {
            return Answer::Whole { status: 200, headers: vec![], body: b"video".to_vec() };
        }
        let mut job = job(2, "succeeded", "done");
        job["files"] = json!([{ "name": "video.mp4", "bytes": 5, "sha256": sha256(b"video") }]);
        Answer::job(200, &job)
    });
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("fox.mp4");
    fake.reelhook().args(["submit", "a fox", "--yes", "-o"]).arg(&target).assert().success();
    assert_eq!(std::fs::read(target).unwrap(), b"video");
}

#[test]
fn what_the_estimate_notices_is_told_before_the_job_is_paid_for() {
    let fake = Fake::start(move |call| match call.route() {
        "POST /v1/jobs/estimate" => {
            let cost = json!({ "estimated_credits": 300, "estimated_usd": 3.0, "exact": true });
            Answer::json(200, &json!({ "cost": cost, "notices": ["field `seed` is not documented"] }))
        }
        _ => nothing_later(call),
    });
    let run = fake.reelhook().args(["submit", "a fox", "-p", "seed=7", "--dry-run"]).assert().success();
    run.stderr(predicate::str::contains("field `seed` is not documented"));
}
