//! What the doctor says: of a server that is well, and of each thing that can be wrong with one, over real sockets.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod command;
mod public_url;
#[path = "../deliver/receiver.rs"]
#[allow(dead_code, reason = "each test binary uses its part")]
mod receiver;
#[path = "../support/mod.rs"]
mod support;
mod upstream;
mod within;

use std::net::TcpListener;

use reelhook::{
    clock::Clock,
    config::Config,
    sandbox::{self, Options, Sandbox},
    server::{Listeners, Server},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use url::Url;

/// A server with a provider, configured as a test has it.
struct House {
    server: Server,
    dir: TempDir,
    _sandbox: Sandbox,
}

impl House {
    async fn start() -> Self {
        Self::with(|_| ()).await
    }

    /// Its public URL is its own unless `adjust` gives it another.
    async fn with(adjust: impl FnOnce(&mut Config)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sandbox = sandbox::start(listener, Options { speed: 200.0, seed: 7 }).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut config = support::quick(dir.path(), &sandbox.url());
        let listeners = Listeners::bind(&config).unwrap();
        config.callback.public_url =
            Some(format!("http://{}", listeners.callback().unwrap()).parse().unwrap());
        adjust(&mut config);
        let server = Server::start(config, Clock::system(), listeners).await.unwrap();
        Self { server, dir, _sandbox: sandbox }
    }

    async fn examined(&self) -> Value {
        let url = format!("http://{}/v1/doctor", self.server.api());
        support::client().post(url).json(&json!({})).send().await.unwrap().json().await.unwrap()
    }

    /// The verdict on one thing, what was seen, and what to do.
    async fn check(&self, name: &str) -> (String, String, String) {
        check(&self.examined().await, name)
    }
}

#[track_caller]
fn check(document: &Value, name: &str) -> (String, String, String) {
    let checks = document["checks"].as_array().unwrap_or_else(|| panic!("{document}"));
    let found = checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("{document:#}"));
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    (text("verdict"), text("detail"), text("fix"))
}

/// Asserts a verdict other than `ok`, and that seen and remedy hold these words.
#[track_caller]
fn says(found: &(String, String, String), verdict: &str, detail: &[&str], fix: &str) {
    assert_eq!(found.0, verdict, "{found:?}");
    for part in detail {
        assert!(found.1.contains(part), "{part:?} is not said: {found:?}");
    }
    assert!(found.2.contains(fix), "{fix:?} is not advised: {found:?}");
}

fn url(text: &str) -> Url {
    text.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_well_is_said_to_be_so_in_every_point() {
    let house = House::start().await;
    let document = house.examined().await;
    let names: Vec<_> = document["checks"].as_array().unwrap().iter().map(|check| &check["name"]).collect();
    assert_eq!(names, ["store", "archive", "disk", "api_key", "clock", "public_url", "sinks"]);
    assert_eq!(document["ok"], true, "{document:#}");
    for check in document["checks"].as_array().unwrap() {
        assert_eq!((&check["verdict"], &check["fix"]), (&json!("ok"), &Value::Null), "{check:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_examination_spends_nothing_and_leaves_nothing() {
    let house = House::start().await;
    house.examined().await;
    let get = |path: &str| support::client().get(format!("http://{}{path}", house.server.api())).send();
    for list in ["/v1/jobs", "/v1/events", "/v1/callbacks", "/v1/deliveries"] {
        let page: Value = get(list).await.unwrap().json().await.unwrap();
        assert_eq!(page["data"], json!([]), "{list}");
    }
    let files = |folder: &str| {
        let entries = std::fs::read_dir(house.dir.path().join(folder)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(files("videos"), [".reelhook"]);
    assert!(files("videos/.reelhook").iter().all(|name| !name.contains("probe")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_probe_of_readiness_tells_what_the_latest_examination_came_to() {
    let house = House::with(|config| config.callback.public_url = None).await;
    let ready = || async {
        let url = format!("http://{}/readyz?verbose", house.server.api());
        let document: Value = support::client().get(url).send().await.unwrap().json().await.unwrap();
        document["checks"].clone()
    };
    let before = ready().await;
    assert_eq!((&before["doctor"], &before["upstream"]["clock_ahead_ms"]), (&Value::Null, &Value::Null));
    assert_eq!(before["sinks"], json!({ "configured": 0, "disabled": 0 }));
    house.examined().await;
    let after = ready().await;
    assert_eq!((&after["doctor"]["warnings"], &after["doctor"]["failed"]), (&json!(1), &json!(0)));
    assert!(after["upstream"]["clock_ahead_ms"].as_i64().unwrap().abs() < 60_000);
}
