//! How commands fail: one line, the right code, nothing on stdout, no secret anywhere.

use std::process::Command;

use predicates::prelude::*;
use serde_json::Value;

use crate::{
    fake::{Answer, Fake, ID, job, reelhook},
    support::free_port,
};

const KEY: &str = "rhk_0123456789012345678901234567890123456789012";

#[test]
fn a_problem_is_one_line_of_text_or_the_servers_document_on_stderr() {
    for (status, code, exit) in [
        (400, "invalid-cursor", 2),
        (401, "unauthenticated", 4),
        (403, "forbidden", 4),
        (404, "job-not-found", 5),
        (409, "already-terminal", 6),
        (429, "rate-limited", 1),
        (500, "internal", 1),
        (503, "store-unavailable", 9),
    ] {
        let fake = Fake::start(move |_| Answer::problem(status, code, "it is so\nbecause"));
        let text = fake.reelhook().args(["jobs", "get", ID]).assert().code(exit).stdout("");
        text.stderr(predicate::str::starts_with("error: it is so because"));
        let json = fake.reelhook().args(["jobs", "get", ID, "--json"]).assert().code(exit).stdout("");
        let stderr = String::from_utf8(json.get_output().stderr.clone()).unwrap();
        let problem: Value = serde_json::from_str(&stderr).unwrap();
        assert_eq!((problem["code"].as_str(), stderr.lines().count()), (Some(code), 1));
    }
}

#[test]
fn a_server_that_is_not_there_exits_9() {
    let server = format!("http://127.0.0.1:{}", free_port());
    let commands: [&[&str]; 4] =
        [&["jobs", "list"], &["submit", "a fox", "--yes"], &["download", ID], &["healthcheck"]];
    for args in commands {
        let run = reelhook(&server).args(args).assert().code(9).stdout("");
        let one_line = predicate::function(|text: &str| text.lines().count() == 1);
        run.stderr(predicate::str::contains(&server).and(predicate::str::contains("refused")).and(one_line));
    }
}

#[test]
fn a_wrong_command_line_exits_2_and_json_stays_json() {
    let text = reelhook("http://127.0.0.1:1").args(["jobs", "fly"]).assert().code(2).stdout("");
    text.stderr(predicate::str::contains("unrecognized subcommand"));
    let json = reelhook("http://127.0.0.1:1").args(["jobs", "fly", "--json"]).assert().code(2).stdout("");
    let problem: Value = serde_json::from_slice(&json.get_output().stderr).unwrap();
    assert_eq!(problem["code"], "usage");
    for server in ["ftp://e.test", "http://user:secret@127.0.0.1:1", "nonsense"] {
        reelhook(server).args(["jobs", "list"]).assert().code(2);
    }
    reelhook("http://127.0.0.1:1")
        .arg("--version")
        .assert()
        .success()
        .stdout(predicate::str::starts_with("reelhook "));
}

#[test]
fn the_key_comes_from_a_file_or_the_environment_and_is_never_shown() {
    let fake = Fake::start(|_| Answer::problem(401, "unauthenticated", "no such key"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, format!("{KEY}\n")).unwrap();
    let from_env = fake.reelhook().env("REELHOOK_API_KEY", KEY).args(["jobs", "list"]).assert().code(4);
    let told = predicate::str::contains("--key-file").and(predicate::str::contains("$REELHOOK_API_KEY"));
    from_env.stderr(told.and(predicate::str::contains("rhk_").not()));
    let mut with_both = fake.reelhook();
    with_both
        .env("REELHOOK_API_KEY", "another")
        .args(["jobs", "list", "--key-file"])
        .arg(&file)
        .assert()
        .code(4);
    fake.reelhook().args(["jobs", "list"]).assert().code(4);
    let sent: Vec<_> =
        fake.calls().iter().map(|call| call.header("authorization").map(str::to_owned)).collect();
    assert_eq!(sent, [Some(format!("Bearer {KEY}")), Some(format!("Bearer {KEY}")), None]);

    let two_lines = format!("{KEY}\n{KEY}");
    std::fs::write(&file, two_lines).unwrap();
    let wrong = fake.reelhook().args(["jobs", "list", "--key-file"]).arg(&file).assert().code(2);
    wrong.stderr(predicate::str::contains("rhk_").not());
    fake.reelhook().args(["jobs", "list", "--key-file", "/no/such/file"]).assert().code(2);
}

#[test]
fn a_redirect_is_told_and_not_followed_with_the_key() {
    let elsewhere = Fake::start(|_| Answer::job(200, &job(1, "queued", "queued")));
    let target = elsewhere.url.clone();
    let fake = Fake::start(move |_| Answer::Whole {
        status: 308,
        headers: vec![("location", target.clone())],
        body: vec![],
    });
    let run = fake.reelhook().env("REELHOOK_API_KEY", KEY).args(["jobs", "get", ID]).assert().code(9);
    run.stderr(predicate::str::contains(&elsewhere.url));
    assert!(elsewhere.calls().is_empty());
}

#[test]
fn an_answer_of_something_else_is_said_to_be_that() {
    let page = || Answer::Whole { status: 200, headers: vec![], body: b"<html>router login</html>".to_vec() };
    let fake = Fake::start(move |_| page());
    fake.reelhook().args(["jobs", "list"]).assert().code(9).stderr(predicate::str::contains("JSON"));
    let fake = Fake::start(|_| Answer::json(200, &serde_json::json!({ "hello": "world" })));
    fake.reelhook().args(["jobs", "get", ID]).assert().code(1).stderr(predicate::str::contains("not a job"));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let fake = Fake::start(|_| Answer::job(200, &job(1, "queued", "queued")));
    let (reader, pipe) = std::io::pipe().unwrap();
    drop(reader);
    let mut watch = Command::new(env!("CARGO_BIN_EXE_reelhook"));
    let watch =
        watch.args(["--server", &fake.url, "jobs", "watch", ID, "--json"]).stdout(pipe).output().unwrap();
    let stderr = String::from_utf8(watch.stderr).unwrap();
    assert_eq!(watch.status.code(), Some(0), "{stderr}");
    assert!(!stderr.contains("error") && !stderr.contains("panic"), "{stderr}");
}
