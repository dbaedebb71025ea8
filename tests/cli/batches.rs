//! `submit --from`: a file of jobs, checked and priced before anything is sent, and paid for once.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use assert_cmd::Command;
use predicates::prelude::*;
use serde_json::{Value, json};

use crate::{
    downloads::sha256,
    fake::{Answer, Call, Fake, estimate, event, job, reelhook},
    support::World,
};

const SHOTS: &str = "\
{\"prompt\":\"a fox\",\"duration\":5,\"key\":\"fox\"}

{\"input\":{\"prompt\":\"a kite\",\"duration\":5},\"tags\":[\"ad\"]}
{\"prompt\":\"a kite\",\"duration\":5}
";

fn write(folder: &Path, text: &str) -> String {
    let file = folder.join("shots.jsonl");
    fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

/// Submits this text as a file.
fn submit(server: &str, text: &str, args: &[&str]) -> (assert_cmd::assert::Assert, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), text);
    let mut command: Command = reelhook(server);
    let run = command.current_dir(folder.path()).args(["submit", "--from", &file]).args(args).assert();
    (run, folder)
}

/// The job of a line; its id is made of its key.
fn made(call: &Call, status: &str, phase: &str) -> Value {
    let mut job = job(1, status, phase);
    job["id"] = json!(format!("job_{}", call.header("idempotency-key").unwrap()));
    job
}

fn shop(create: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> Fake {
    Fake::start(move |call| match call.route() {
        "POST /v1/jobs/estimate" => estimate(),
        _ => create(call),
    })
}

fn created(call: &Call) -> Answer {
    Answer::job(202, &made(call, "queued", "queued"))
}

/// The queue is full, and has room at once.
fn full() -> Answer {
    let mut answer = Answer::problem(429, "queue-full", "1000 jobs wait");
    if let Answer::Whole { headers, .. } = &mut answer {
        headers.push(("retry-after", "0".to_owned()));
    }
    answer
}

fn sent(fake: &Fake) -> Vec<Call> {
    fake.calls().into_iter().filter(|call| call.route() == "POST /v1/jobs").collect()
}

fn records(run: &assert_cmd::assert::Assert) -> Vec<Value> {
    let text = String::from_utf8(run.get_output().stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_file_that_is_submitted_again_spends_nothing() {
    let world = World::start().await;
    let args = ["--json", "--yes", "--wait", "-o", "videos"];
    let (run, folder) = submit(&world.url(""), SHOTS, &args);
    let run = run.success();
    let first = records(&run);
    assert_eq!(
        first.iter().map(|record| record["line"].as_u64().unwrap()).collect::<BTreeSet<_>>(),
        [1, 3, 4].into()
    );
    for record in &first {
        assert_eq!((&record["replayed"], &record["job"]["status"]), (&json!(false), &json!("succeeded")));
        let id = record["job"]["id"].as_str().unwrap();
        let video = fs::read(folder.path().join("videos").join(format!("{id}.mp4"))).unwrap();
        assert_eq!(record["job"]["files"][0]["sha256"], sha256(&video));
    }
    let charged = world.sandbox.ledger().creates.len();
    assert_eq!(charged, 3);

    let (run, _folder) = submit(&world.url(""), SHOTS, &["--json", "--yes", "--wait"]);
    let again = records(&run.success());
    assert!(again.iter().all(|record| record["replayed"] == true));
    let ids = |records: &[Value]| {
        records.iter().map(|record| record["job"]["id"].to_string()).collect::<BTreeSet<_>>()
    };
    assert_eq!(ids(&again), ids(&first));
    assert_eq!(world.sandbox.ledger().creates.len(), charged, "paid twice");

    let (run, _folder) = submit(&world.url(""), SHOTS, &["--yes", "--batch", "two"]);
    run.success().stderr(predicate::str::contains("2 created for 600 credits, 1 were there already"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_exit_code_is_that_of_the_worst_line() {
    let world = World::start().await;
    let shots = "{\"prompt\":\"a fox\"}\n{\"prompt\":\"[[fail:no]] a boat\"}\n{\"prompt\":\"a kite\"}\n";
    let (run, _folder) = submit(&world.url(""), shots, &["--yes", "--wait"]);
    let run = run
        .code(3)
        .stderr(predicate::str::contains("line 2: ").and(predicate::str::contains("1 of 3 lines")));
    let text = String::from_utf8(run.get_output().stdout.clone()).unwrap();
    assert_eq!(text.lines().filter(|line| line.contains("\tsucceeded\t")).count(), 2, "{text}");
    assert!(text.contains("2\tfailed\tjob_"), "{text}");
}

#[test]
fn every_broken_line_is_named_before_anything_is_sent() {
    let fake = Fake::start(|call| match call.body["input"]["prompt"].as_str() {
        Some("bad") => Answer::problem(422, "invalid-input", "the request is not valid"),
        _ => estimate(),
    });
    let text = "{\"prompt\":\n{\"prompt\":\"ok\",\"key\":\"k\"}\n{\"prompt\":\"bad\"}\n{\"prompt\":\"ok\",\"key\":\"k\"}\n";
    let (run, _folder) = submit(&fake.url, text, &["--yes"]);
    let told = [
        "line 1: not a JSON object",
        "line 3: the request is not valid",
        "line 4: its key `k` is that of line 2",
    ];
    let mut run = run.code(2).stdout("");
    for part in told.into_iter().chain(["error: lines 1, 3, 4 cannot be submitted; nothing was sent"]) {
        run = run.stderr(predicate::str::contains(part));
    }
    assert_eq!(sent(&fake).len(), 0);
}

#[test]
fn what_all_would_cost_is_told_limited_and_agreed_to_before_anything_is_sent() {
    let fake = shop(created);
    let cases: [(&[&str], i32, &str); 4] = [
        (&[], 2, "900 credits ($9.00); agree with --yes"),
        (
            &["--max-total-credits", "899"],
            8,
            "the file would cost 900 credits ($9.00), more than --max-total-credits 899",
        ),
        (
            &["--max-credits", "299", "--yes"],
            8,
            "line 1 would cost 300 credits ($3.00), more than --max-credits 299",
        ),
        (&["--dry-run"], 0, "900 credits ($9.00) at most, for 3 jobs"),
    ];
    for (args, exit, told) in cases {
        let (run, _folder) = submit(&fake.url, SHOTS, args);
        run.code(exit).stderr(predicate::str::contains(told));
        assert_eq!(sent(&fake).len(), 0, "{args:?}");
    }
    for args in [["--max-total-credits", "900"], ["--max-credits", "300"]] {
        let fake = shop(created);
        let (run, _folder) = submit(&fake.url, SHOTS, &args);
        run.success().stderr(predicate::str::contains("this will spend 900 credits ($9.00)"));
        assert_eq!(sent(&fake).len(), 3);
    }
}

#[test]
fn lines_become_requests_with_the_tags_and_metadata_of_the_flags() {
    let fake = shop(created);
    let (run, _folder) = submit(&fake.url, SHOTS, &["--yes", "--tag", "eu", "--meta", "order=7"]);
    run.success();
    let mut calls = sent(&fake);
    calls.sort_by_key(|call| call.body.to_string());
    let input = |prompt: &str| json!({ "prompt": prompt, "duration": 5 });
    assert_eq!(
        calls[0].body,
        json!({ "input": input("a fox"), "tags": ["eu"], "metadata": { "order": "7" } })
    );
    assert_eq!(calls[0].header("idempotency-key"), Some("fox"));
    let kite =
        |call: &&Call| call.body["tags"] == json!(["ad", "eu"]) && call.body["input"] == input("a kite");
    assert_eq!(calls.iter().filter(kite).count(), 1);
    let keys: BTreeSet<_> = calls.iter().map(|call| call.header("idempotency-key").unwrap()).collect();
    assert_eq!(keys.len(), 3);
}

#[test]
fn a_full_queue_is_waited_for_and_not_failed() {
    let fake = shop(|call| match call.nth {
        0 => full(),
        _ => created(call),
    });
    let (run, _folder) = submit(&fake.url, SHOTS, &["--yes"]);
    run.success().stderr(predicate::str::contains("waiting, as the server asks: 1000 jobs wait"));
    let calls = sent(&fake);
    assert_eq!(calls.len(), 4);
    let keys: BTreeSet<_> = calls.iter().map(|call| call.header("idempotency-key").unwrap()).collect();
    assert_eq!(keys.len(), 3, "the same key for the same line");
}

#[test]
fn a_budget_that_is_used_up_ends_the_sending_and_a_refused_line_does_not() {
    let one = |prompt: usize| format!("{{\"prompt\":\"{prompt}\"}}\n");
    let text: String = (0..40).map(one).collect();
    let fake = shop(|_| Answer::problem(402, "budget-exceeded", "the day's budget is spent"));
    let (run, _folder) = submit(&fake.url, &text, &["--yes"]);
    run.code(8).stderr(predicate::str::contains("the server takes no more"));
    assert!(sent(&fake).len() <= 8, "only what was under way");

    let fake = shop(|call| match call.nth {
        0 => Answer::problem(422, "idempotency-key-reused", "the key belongs to another request"),
        _ => created(call),
    });
    let (run, _folder) = submit(&fake.url, &text, &["--yes", "--json"]);
    let run = run.code(6);
    assert_eq!(sent(&fake).len(), 40);
    let refused: Vec<_> = records(&run).into_iter().filter(|record| record["job"].is_null()).collect();
    assert_eq!((refused.len(), &refused[0]["problem"]["code"]), (1, &json!("idempotency-key-reused")));
}

#[test]
fn a_job_that_turns_out_dearer_than_its_estimate_ends_the_sending_at_the_limit() {
    let one = |prompt: usize| format!("{{\"prompt\":\"{prompt}\"}}\n");
    let text: String = (0..40).map(one).collect();
    let dear = |replayed: bool| {
        shop(move |call| {
            let mut job = made(call, "queued", "queued");
            job["cost"]["estimated_credits"] = json!(6000);
            let mut answer = Answer::job(202, &job);
            if let (Answer::Whole { headers, .. }, true) = (&mut answer, replayed) {
                headers.push(("idempotent-replayed", "true".to_owned()));
            }
            answer
        })
    };
    let fake = dear(false);
    let (run, _folder) = submit(&fake.url, &text, &["--max-total-credits", "12000"]);
    run.code(8).stderr(predicate::str::contains("would exceed --max-total-credits"));
    assert!(sent(&fake).len() < 40);
    let fake = dear(true);
    let (run, _folder) = submit(&fake.url, &text, &["--max-total-credits", "12000"]);
    run.success().stderr(predicate::str::contains("0 created for 0 credits, 40 were there already"));
}

#[test]
fn a_wait_that_runs_out_tells_what_is_still_running() {
    let fake = shop(|call| match (call.route(), call.header("last-event-id")) {
        ("POST /v1/jobs", _) => created(call),
        (_, Some("9")) => Answer::Silence,
        _ => Answer::stream(&[("reset", Some(0), json!({ "oldest": 1, "newest": 9 }))]),
    });
    let (run, _folder) = submit(&fake.url, SHOTS, &["--yes", "--json", "--wait=3s"]);
    let run = run.code(7).stderr(predicate::str::contains("the wait is over"));
    let told = records(&run);
    assert_eq!(told.iter().map(|record| record["line"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 3, 4]);
    assert!(told.iter().all(|record| record["problem"]["code"] == "still-running"));
}

#[test]
fn an_end_that_is_told_before_the_answer_to_its_creation_counts() {
    let told = AtomicBool::new(false);
    let fake = shop(move |call| match (call.route(), call.header("last-event-id")) {
        ("POST /v1/jobs", _) if told.load(Ordering::SeqCst) => created(call),
        ("POST /v1/jobs", _) => full(),
        ("GET /v1/events", Some("9")) => {
            let mut ended = event(10, "job.held");
            ended["job_id"] = json!("job_fox");
            Answer::stream(&[("job.held", Some(10), ended)])
        }
        ("GET /v1/events", Some("10")) => {
            told.store(true, Ordering::SeqCst);
            Answer::Silence
        }
        ("GET /v1/events", _) => Answer::stream(&[("reset", Some(0), json!({ "oldest": 1, "newest": 9 }))]),
        _ => {
            let mut job = job(5, "held", "held");
            job["id"] = json!("job_fox");
            Answer::job(200, &job)
        }
    });
    let (run, _folder) = submit(&fake.url, "{\"prompt\":\"a fox\",\"key\":\"fox\"}\n", &["--yes", "--wait"]);
    run.code(10).stdout("1\theld\tjob_fox\n");
}

#[test]
fn what_belongs_to_one_job_does_not_go_with_a_file() {
    for args in [
        &["a fox"][..],
        &["--model", "x"],
        &["--idempotency-key", "k"],
        &["--deadline", "1h"],
        &["-p", "a=1"],
    ] {
        let (run, _folder) = submit("http://127.0.0.1:1", SHOTS, args);
        run.code(2).stdout("");
    }
    let alone = reelhook("http://127.0.0.1:1").args(["submit", "a fox", "--max-total-credits", "1"]).assert();
    alone.code(2);
    let absent = reelhook("http://127.0.0.1:1").args(["submit", "--from", "no-such-file"]).assert().code(2);
    absent.stderr(predicate::str::contains("cannot read no-such-file"));
}
