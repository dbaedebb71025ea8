//! Disks that run full: what is refused, what is kept, and what goes on by itself.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{fs, path::PathBuf, process::Command, time::Duration};

use reqwest::StatusCode;
use serde_json::Value;
use support::{PATIENCE, Process, World, client, free_port, order};
use tempfile::TempDir;

/// A volume of its own, in memory.
struct Volume(TempDir);

impl Volume {
    /// None where mounting is not permitted, which is said.
    fn mount(mebibytes: u32) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={mebibytes}m");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(dir.path())
            .output()
            .unwrap();
        if mount.status.success() {
            return Some(Self(dir));
        }
        let why = String::from_utf8_lossy(&mount.stderr).into_owned();
        let forbidden = ["superuser", "permitted", "denied"].iter().any(|word| why.contains(word));
        assert!(forbidden, "{why}");
        println!("skipped, for nobody here may mount a volume: {why}");
        None
    }

    fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    fn filler(&self) -> PathBuf {
        self.0.path().join("filler")
    }

    /// Leaves so many bytes free, no more.
    fn fill_up_to(&self, left: u64) {
        let volume = rustix::fs::statvfs(self.0.path()).unwrap();
        let free = volume.f_bavail * volume.f_frsize;
        fs::write(self.filler(), vec![1; usize::try_from(free - left).unwrap()]).unwrap();
    }

    fn empty(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.0.path()).status().unwrap();
    }
}

async fn until_roomy(world: &World, check: &str, roomy: bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while world.get("/readyz?verbose").await["checks"][check]["roomy"] != roomy {
        assert!(tokio::time::Instant::now() < deadline, "{check} never said roomy: {roomy}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn below_min_free_the_store_takes_nothing_on_until_space_returns() {
    let Some(volume) = Volume::mount(32) else { return };
    let world = World::with(|config| {
        config.store.path = volume.path().join("state");
        config.store.min_free = 8 << 20;
    })
    .await;
    let id = world.submit("[[delay:900s]] [[no-callback]] a fox").await;
    let called = world.server().app().callback_url(id.parse().unwrap()).unwrap();
    while world.get(&format!("/v1/jobs/{id}")).await["phase"] != "awaiting" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let create = async || world.http.post(world.url("/v1/jobs")).json(&order("a hen")).send().await.unwrap();
    let call = async || world.http.post(called.as_str()).body("{}").send().await.unwrap().status();

    volume.fill_up_to(4 << 20);
    until_roomy(&world, "store", false).await;
    let refused = create().await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    let said = refused.json::<Value>().await.unwrap();
    assert!(said["detail"].as_str().unwrap().contains("min_free"), "{said}");
    assert_eq!(call().await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(world.get(&format!("/v1/jobs/{id}")).await["id"], id.as_str(), "reading goes on");

    volume.empty();
    until_roomy(&world, "store", true).await;
    assert_eq!(create().await.status(), StatusCode::ACCEPTED);
    assert_eq!(call().await, StatusCode::OK);
    assert_eq!(world.ended(&id).await["status"], "succeeded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn below_min_free_the_archive_takes_no_file_until_space_returns() {
    let Some(volume) = Volume::mount(32) else { return };
    let world = World::with(|config| {
        config.storage.root = volume.path().join("videos");
        config.storage.min_free = 8 << 20;
    })
    .await;
    volume.fill_up_to(4 << 20);
    until_roomy(&world, "archive", false).await;
    let id = world.submit("a fox").await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !world.get(&format!("/v1/jobs/{id}")).await.to_string().contains("too little room") {
        assert!(tokio::time::Instant::now() < deadline, "{}", world.get(&format!("/v1/jobs/{id}")).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    volume.empty();
    assert_eq!(world.ended(&id).await["status"], "succeeded");
    assert_eq!(world.charges(&id), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_ends_the_process_and_loses_nothing_that_was_acknowledged() {
    let Some(volume) = Volume::mount(24) else { return };
    let (dir, api) = (tempfile::tempdir().unwrap(), free_port());
    let (state, callback) = (volume.path().join("state"), free_port());
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
        url = "file:videos"
        min_free = "0"
        [store]
        url = "sled:{}"
        min_free = "0"
        [egress]
        allow = ["127.0.0.0/8"]
        "#,
        state.display()
    );
    fs::write(dir.path().join("reelhook.toml"), config).unwrap();
    let server = Process::start(dir.path(), api).await;
    volume.fill_up_to(1 << 20);
    let mut acknowledged = Vec::new();
    let (http, long) = (client(), "a fox ".repeat(300));
    while let Ok(answer) = http.post(server.url("/v1/jobs")).json(&order(&long)).send().await {
        if answer.status() == StatusCode::ACCEPTED {
            let job: Value = answer.json().await.unwrap();
            acknowledged.push(job["id"].as_str().unwrap().to_owned());
        }
    }
    assert!(!acknowledged.is_empty());
    assert!(!server.ended().await.success());
    let log = fs::read_to_string(dir.path().join("log")).unwrap();
    assert!(log.contains("a write to the store failed"), "{log}");
    volume.empty();
    let server = Process::start(dir.path(), api).await;
    for id in acknowledged {
        let found = http.get(server.url(&format!("/v1/jobs/{id}"))).send().await.unwrap();
        assert_eq!(found.status(), StatusCode::OK, "{id}");
    }
}
