//! `healthcheck`, `status`, `openapi`, `sandbox`.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
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

#[cfg(unix)]
#[test]
fn the_sandbox_says_where_it_listens_and_ends_well_at_ctrl_c() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_reelhook"))
        .args(["sandbox", "--listen", "127.0.0.1:0", "--seed", "7"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut address = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
    // What is no sandbox has no tasks, and what is one answers in the provider's shape.
    let run = crate::fake::reelhook(address.trim()).args(["jobs", "list"]).assert().failure();
    run.stderr(predicate::str::contains("no answer").not());
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
