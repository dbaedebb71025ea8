//! `listen`: the log reaches the app in order, each event once it is taken, whoever was away.

#![cfg(unix)]

use std::{
    io::{BufRead as _, BufReader, Read},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
};

use predicates::prelude::*;
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::{
    fake::{Answer, Call, Fake, ID, event, job, reelhook},
    support::{PATIENCE, World, free_port},
};

/// A running `listen`, line by line.
struct Listening {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

impl Listening {
    fn start(server: &str, app: &str, state: &Path, more: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_reelhook"))
            .args(["--server", server, "--json", "listen", "--forward-to", app])
            .args(more)
            .env_clear()
            .env("XDG_STATE_HOME", state)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdout, stderr) = (lines(child.stdout.take().unwrap()), lines(child.stderr.take().unwrap()));
        Self { child, stdout, stderr }
    }

    /// The next event that was forwarded.
    fn forwarded(&self) -> Value {
        serde_json::from_str(&self.stdout.recv_timeout(PATIENCE).unwrap()).unwrap()
    }

    /// Reads on stderr until this is said.
    fn says(&self, part: &str) {
        let mut said = Vec::new();
        while !said.last().is_some_and(|line: &String| line.contains(part)) {
            let line = self.stderr.recv_timeout(PATIENCE);
            said.push(line.unwrap_or_else(|_| panic!("never said {part:?}: {said:#?}")));
        }
    }

    /// Ctrl-C; the exit code.
    fn interrupted(mut self, last_words: &str) -> Option<i32> {
        assert!(
            Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap().success()
        );
        self.says(last_words);
        self.child.wait().unwrap().code()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _already_dead = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        BufReader::new(stream).lines().map_while(Result::ok).try_for_each(|line| tell.send(line))
    });
    told
}

fn taken() -> Answer {
    Answer::Whole { status: 204, headers: vec![], body: vec![] }
}

fn secret(server: &str, app: &str, state: &Path) -> String {
    let mut command = reelhook(server);
    command.env("XDG_STATE_HOME", state);
    let run = command.args(["listen", "--print-secret", "--forward-to", app]).assert().success();
    String::from_utf8(run.get_output().stdout.clone()).unwrap().trim().to_owned()
}

/// What the app got, as its Standard Webhooks library sees it.
fn verified(call: &Call, secret: &str) -> Value {
    let mut headers = reqwest::header::HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        headers.insert(name, call.header(name).unwrap().parse().unwrap());
    }
    Webhook::new(secret).unwrap().verify(&call.raw, &headers).unwrap();
    call.body.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_happens_while_the_app_or_listen_is_away_is_forwarded_in_order_once_both_are_there() {
    let world = World::start().await;
    let state = tempfile::tempdir().unwrap();
    let port = free_port();
    let (server, url) = (world.url(""), format!("http://127.0.0.1:{port}/hook"));
    let secret = secret(&server, &url, state.path());

    let listening = Listening::start(&server, &url, state.path(), &[]);
    listening.says(&secret);
    listening.says("0 events missed while away");
    let mut jobs = Vec::new();
    for prompt in ["a fox", "[[fail:no]] a boat", "a kite"] {
        jobs.push(world.submit(prompt).await);
        world.ended(jobs.last().unwrap()).await;
    }
    listening.says("connection refused");
    let app = Fake::at(TcpListener::bind(("127.0.0.1", port)).unwrap(), |_| taken());
    listening.says("3 events missed while away, forwarding them");
    listening.says("0 events missed");
    assert_eq!(listening.interrupted("3 events forwarded; 0 events missed"), Some(0));

    jobs.push(world.submit("a dog").await);
    world.ended(&jobs[3]).await;
    let listening = Listening::start(&server, &url, state.path(), &[]);
    listening.says("1 event missed while away, forwarding them");
    listening.says("all forwarded: 0 events missed");
    let line = listening.forwarded();
    assert_eq!(
        (&line["job_id"], &line["status"], &line["attempts"]),
        (&json!(jobs[3]), &json!(204), &json!(1))
    );

    let events: Vec<Value> = app.calls().iter().map(|call| verified(call, &secret)).collect();
    let told: Vec<_> = events.iter().map(|event| event["data"]["job"]["id"].as_str().unwrap()).collect();
    assert_eq!(told, jobs);
    let kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["job.succeeded", "job.failed", "job.succeeded", "job.succeeded"]);
    let (sent, job) = (&events[0]["data"]["job"], world.get(&format!("/v1/jobs/{}", jobs[0])).await);
    for part in ["revision", "status", "input", "cost"] {
        assert_eq!(sent[part], job[part], "{part}");
    }
    assert_eq!(sent["files"][0]["sha256"], job["files"][0]["sha256"]);
    let logged = world.get("/v1/events?types=job.succeeded&limit=1").await["data"][0].clone();
    assert_eq!(
        (&events[0]["timestamp"], app.calls()[0].header("webhook-id")),
        (&logged["time"], logged["id"].as_str())
    );
}

/// A server whose log holds these events and nothing more to come.
fn log(events: &'static [u64]) -> Fake {
    Fake::start(move |call| {
        let after = |text: &str| text.parse::<u64>().unwrap();
        let rest =
            |after: u64| events.iter().filter(move |seq| **seq > after).map(|seq| event(*seq, "job.failed"));
        if call.route().starts_with("GET /v1/jobs/") {
            return Answer::job(200, &job(2, "failed", "done"));
        }
        match call.header("last-event-id").map(after) {
            Some(place) if place > events[events.len() - 1] => {
                let bounds = json!({ "oldest": events[0], "newest": events[events.len() - 1] });
                Answer::stream(&[("reset", Some(events[0] - 1), bounds)])
            }
            Some(place) if rest(place).next().is_none() => Answer::Silence,
            Some(place) => {
                let messages: Vec<_> =
                    rest(place).map(|event| ("job.failed", event["seq"].as_u64(), event)).collect();
                Answer::stream(&messages)
            }
            None => {
                let place = call.line.split("after=").nth(1).unwrap().split('&').next().unwrap();
                let events: Vec<_> = rest(after(place)).collect();
                Answer::json(200, &json!({ "data": events, "next_cursor": null }))
            }
        }
    })
}

#[test]
fn an_event_is_sent_until_it_is_taken_and_only_then_the_next() {
    let server = log(&[4, 5]);
    let app = Fake::start(|call| match call.nth {
        0 => Answer::Whole { status: 500, headers: vec![], body: vec![] },
        1 => Answer::Whole { status: 302, headers: vec![("location", "/other".into())], body: vec![] },
        _ => taken(),
    });
    let state = tempfile::tempdir().unwrap();
    let listening = Listening::start(&server.url, &app.url, state.path(), &["--from-start"]);
    listening.says("500 Internal Server Error; it is sent again until the app takes it");
    listening.says("302 Found, and redirects are not followed: use /other");
    let told = [listening.forwarded(), listening.forwarded()];
    assert_eq!([&told[0]["seq"], &told[0]["attempts"], &told[1]["seq"]], [&json!(4), &json!(3), &json!(5)]);
    let ids: Vec<_> = app.calls().iter().map(|call| call.header("webhook-id").unwrap().to_owned()).collect();
    assert_eq!(ids, [4, 4, 4, 5].map(|seq: u64| format!("evt_{seq:032x}")));
    assert!(app.routes().iter().all(|route| route == "POST /"), "no redirect is followed");
}

#[test]
fn a_kill_before_the_answer_repeats_the_event_and_passes_none_over() {
    let server = log(&[4, 5]);
    let (asked, first) = mpsc::channel();
    let silent = Fake::start(move |call| match call.nth {
        0 => taken(),
        _ => {
            asked.send(()).unwrap();
            Answer::Silence
        }
    });
    let state = tempfile::tempdir().unwrap();
    let listening = Listening::start(&server.url, &silent.url, state.path(), &["--from-start"]);
    first.recv_timeout(PATIENCE).unwrap();
    drop(listening);

    let address = silent.url.strip_prefix("http://").unwrap().to_owned();
    silent.stop();
    let app = Fake::at(TcpListener::bind(address).unwrap(), |_| taken());
    let listening = Listening::start(&server.url, &app.url, state.path(), &[]);
    listening.says("1 event missed while away");
    assert_eq!(listening.forwarded()["seq"], 5);
}

#[test]
fn another_log_than_the_last_run_had_is_forwarded_from_its_beginning() {
    let state = tempfile::tempdir().unwrap();
    let app = Fake::start(|_| taken());
    let address = {
        let server = log(&[4, 5]);
        let listening = Listening::start(&server.url, &app.url, state.path(), &["--after", "4"]);
        assert_eq!(listening.forwarded()["seq"], 5);
        listening.interrupted("1 event forwarded");
        let address = server.url.strip_prefix("http://").unwrap().to_owned();
        server.stop();
        address
    };
    let begun_anew = |call: &Call| {
        if call.route().starts_with("GET /v1/jobs/") {
            return Answer::job(200, &job(2, "failed", "done"));
        }
        let mut other = event(5, "job.failed");
        other["id"] = json!("evt_another");
        match (call.header("last-event-id"), call.line.contains("after=4")) {
            (Some("0"), _) => Answer::stream(&[("job.failed", Some(5), other)]),
            (None, true) => Answer::json(200, &json!({ "data": [other], "next_cursor": null })),
            (None, false) => Answer::json(200, &json!({ "data": [], "next_cursor": null })),
            (Some(_), _) => Answer::Silence,
        }
    };
    let server = Fake::at(TcpListener::bind(address).unwrap(), begun_anew);
    let listening = Listening::start(&server.url, &app.url, state.path(), &[]);
    listening.says("another log");
    assert_eq!(listening.forwarded()["id"], "evt_another");
}

#[test]
fn only_one_listen_forwards_to_an_app_and_its_secret_stays_the_same() {
    let server = log(&[4]);
    let app = Fake::start(|_| taken());
    let state = tempfile::tempdir().unwrap();
    let own = secret(&server.url, &app.url, state.path());
    assert!(own.starts_with("whsec_"));
    assert_eq!(secret(&server.url, &app.url, state.path()), own);
    assert_ne!(secret(&server.url, &format!("{}/other", app.url), state.path()), own);
    let listening = Listening::start(&server.url, &app.url, state.path(), &[]);
    listening.says("0 events missed");
    let mut second = reelhook(&server.url);
    second.env("XDG_STATE_HOME", state.path()).args(["listen", "--forward-to", &app.url]);
    second.assert().code(6).stderr(predicate::str::contains("another `listen`"));
    {
        use std::os::unix::fs::PermissionsExt as _;
        let files = state.path().join("reelhook/listen").read_dir().unwrap().map(Result::unwrap);
        for file in files.filter(|file| file.path().extension().is_some_and(|ending| ending == "json")) {
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}

#[test]
fn a_secret_of_ones_own_signs_and_a_bad_one_is_refused() {
    let server = log(&[4]);
    let app = Fake::start(|_| taken());
    let state = tempfile::tempdir().unwrap();
    let own = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8G";
    let listening = Listening::start(&server.url, &app.url, state.path(), &["--from-start", "--secret", own]);
    listening.forwarded();
    let event = verified(&app.calls()[0], own);
    assert_eq!((&event["type"], &event["data"]["job"]["id"]), (&json!("job.failed"), &json!(ID)));
    drop(listening);
    let mut bad = reelhook(&server.url);
    bad.env("XDG_STATE_HOME", state.path());
    bad.args(["listen", "--forward-to", &app.url, "--secret", "whsec_!"]).assert().code(2);
}
