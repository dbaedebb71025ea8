//! Disks that run full, fail, cannot be written or are gone: what is refused, what is kept, what goes on by itself.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test may panic")]

mod faults;
mod full;
mod gone;
mod read_only;
#[path = "../support/mod.rs"]
mod support;
mod sync;
mod volume;

use std::{fs, path::Path, time::Duration};

use reqwest::StatusCode;
use serde_json::Value;
use support::{PATIENCE, Process, World, client, order};

/// What `/readyz?verbose` says of a disk, once it refuses this: `"everything"`, `"new_work"` or nothing.
async fn until_refuses(world: &World, disk: &str, refuses: Option<&str>) -> Value {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let said = world.get("/readyz?verbose").await["checks"][disk].clone();
        if said["refuses"].as_str() == refuses {
            return said;
        }
        assert!(tokio::time::Instant::now() < deadline, "never refused {refuses:?}: {said}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A job whose file cannot be stored just now, once it says why.
async fn until_troubled(world: &World, id: &str, why: &str) {
    let job = world.until(id, |job| job.to_string().contains(why)).await;
    assert_eq!(job["phase"], "fetching", "{job:#}");
}

/// What the metrics say.
async fn metric(world: &World, line: &str) -> f64 {
    let text = world.http.get(world.url("/metrics")).send().await.unwrap().text().await.unwrap();
    let value = text.lines().find_map(|said| said.strip_prefix(line)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("{line} is not in {text}"))
}

/// Writes the configuration of a server whose store and archive are these, which calls nobody; where it listens.
fn configure(dir: &Path, store: &Path, archive: &Path, min_free: &str) -> u16 {
    let (api, callback) = (support::free_port(), support::free_port());
    let config = format!(
        r#"
        [server]
        listen = "127.0.0.1:{api}"
        [upstream]
        base_url = "http://127.0.0.1:{callback}"
        api_key = "aio_test"
        [callback]
        listen = "127.0.0.1:{callback}"
        public_url = "http://127.0.0.1:{callback}"
        [storage]
        url = "file:{}"
        min_free = "0"
        [store]
        url = "sled:{}"
        min_free = "{min_free}"
        [egress]
        allow = ["127.0.0.0/8"]
        "#,
        archive.display(),
        store.display()
    );
    fs::write(dir.join("reelhook.toml"), config).unwrap();
    api
}

/// Orders jobs until the server is gone, and does something once it has acknowledged a few; those that it acknowledged.
async fn acknowledged_until_it_ends(server: &Process, after_a_few: impl Fn()) -> Vec<String> {
    let (mut acknowledged, http, long) = (Vec::new(), client(), "a fox ".repeat(300));
    while let Ok(answer) = http.post(server.url("/v1/jobs")).json(&order(&long)).send().await {
        if answer.status() == StatusCode::ACCEPTED {
            // Its head said so; what follows may be cut off.
            let Ok(job) = answer.json::<Value>().await else { break };
            acknowledged.push(job["id"].as_str().unwrap().to_owned());
            if acknowledged.len() == 10 {
                after_a_few();
            }
        }
    }
    acknowledged
}

/// Each of these jobs is there.
async fn assert_all_are_there(server: &Process, ids: &[String]) {
    for id in ids {
        let found = client().get(server.url(&format!("/v1/jobs/{id}"))).send().await.unwrap();
        assert_eq!(found.status(), StatusCode::OK, "{id}");
    }
}
