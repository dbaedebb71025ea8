//! `healthcheck`, `status`, `openapi`, `sandbox`.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, Command, Stdio},
};

use predicates::prelude::*;
use serde_json::{Value, json};

use crate::fake::{Answer, Fake};

fn server(ready: bool) -> Fake {
    Fake::start(move |call| match call.route() {
        "GET /livez" => Answer::Whole { status: 200, headers: vec![], body: b"ok".to_vec() },
        "GET /readyz" => Answer::json(
            if ready { 200 } else { 503 },
            &json!({ "store": if ready { "open" } else { "shut" } }),
        ),
        "GET /v1/stats" => Answer::json(200, &json!({ "jobs": { "held": 2 } })),
        "GET /openapi.json" => Answer::json(200, &json!({ "openapi": "3.1.0" })),
        _ => Answer::problem(404, "not-found", "no such route"),
    })
}

#[test]
fn a_healthcheck_is_an_exit_code_and_silent_when_well() {
    server(true).reelhook().arg("healthcheck").assert().success().stdout("").stderr("");
    let unwell = server(false);
    unwell.reelhook().arg("healthcheck").assert().code(1).stdout("").stderr(predicate::str::contains("shut"));
    unwell.reelhook().args(["healthcheck", "--live"]).assert().success().stdout("").stderr("");
}

#[test]
fn status_joins_health_and_figures() {
    let well = server(true);
    let run = well.reelhook().args(["status", "--window", "7d"]).assert().success();
    run.stdout("ready\nhealth.store\topen\nstats.jobs.held\t2\n");
    let lines: Vec<_> = well.calls().into_iter().map(|call| call.line).collect();
    assert_eq!(lines, ["GET /readyz?verbose=", "GET /v1/stats?window=7d"]);
    let run = server(false).reelhook().args(["status", "--json"]).assert().code(1);
    let document: Value = serde_json::from_slice(&run.get_output().stdout).unwrap();
    assert_eq!((&document["ready"], &document["stats"]["jobs"]["held"]), (&json!(false), &json!(2)));
}

#[test]
fn openapi_prints_what_the_server_serves_also_below_a_path() {
    let fake = Fake::start(|call| match call.route() {
        "GET /videos/openapi.json" => Answer::json(200, &json!({ "openapi": "3.1.0" })),
        _ => Answer::problem(404, "not-found", "no such route"),
    });
    for base in ["/videos", "/videos/"] {
        let mut command = crate::fake::reelhook(&format!("{}{base}", fake.url));
        command.arg("openapi").assert().success().stdout("{\"openapi\":\"3.1.0\"}\n");
    }
}

/// A sandbox, and where it listens.
fn sandbox(args: &[&str]) -> (Child, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_reelhook"))
        .args(["sandbox", "--listen", "127.0.0.1:0"])
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut address = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
    (child, address.trim().to_owned())
}

/// The id of the first task of a sandbox.
fn first_task(args: &[&str]) -> String {
    let (mut child, address) = sandbox(args);
    let host = address.trim_start_matches("http://").trim_end_matches('/');
    let body = json!({ "model": "kling-3", "prompt": "a fox", "duration": 5 }).to_string();
    let mut stream = TcpStream::connect(host).unwrap();
    write!(
        stream,
        "POST /api/v1/videos/generations HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer any\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let answer: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    answer["data"]["task_id"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

#[test]
fn a_sandbox_that_is_started_again_has_other_tasks_unless_it_is_given_its_seed() {
    assert_ne!(first_task(&[]), first_task(&[]));
    assert_eq!(first_task(&["--seed", "7"]), first_task(&["--seed", "7"]));
}

#[cfg(unix)]
#[test]
fn the_sandbox_says_where_it_listens_and_ends_well_at_ctrl_c() {
    let (mut child, address) = sandbox(&["--seed", "7"]);
    // What is no sandbox has no tasks, and what is one answers in the provider's shape.
    let run = crate::fake::reelhook(&address).args(["jobs", "list"]).assert().failure();
    run.stderr(predicate::str::contains("no answer").not());
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
