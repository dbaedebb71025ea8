//! A backup is put back: what it has as not sent was sent since, and is not sent again.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{fs, net::TcpListener, path::Path, process::Command};

use reelhook::sandbox::{self, Options, Sandbox};
use serde_json::Value;
use support::{Process, SPEED, charges, configure, free_port, has_ended};
use tempfile::TempDir;

struct Stage {
    sandbox: Sandbox,
    dir: TempDir,
    api: u16,
}

impl Stage {
    async fn set() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sandbox = sandbox::start(listener, Options { speed: SPEED, seed: 5 }).await.unwrap();
        Self { sandbox, dir: tempfile::tempdir().unwrap(), api: free_port() }
    }

    /// Whom the server calls: the provider, or nobody.
    fn upstream(&self, reachable: bool) {
        let nobody = format!("http://127.0.0.1:{}", free_port());
        let provider = if reachable { self.sandbox.url().to_string() } else { nobody };
        configure(self.dir.path(), "reelhook.toml", &provider, self.api, free_port(), "");
    }

    async fn serve(&self, more: &[&str]) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reelhook"));
        command.args(["serve", "--config", "reelhook.toml"]).args(more);
        Process::run(&mut command, self.dir.path(), self.api).await
    }

    fn copy(&self, from: &str, to: &str) {
        let (from, to) = (self.dir.path().join(from), self.dir.path().join(to));
        fs::remove_dir_all(&to).ok();
        copy(&from, &to);
    }

    fn charges(&self, id: &str) -> usize {
        charges(&self.sandbox.ledger(), id)
    }

    /// A store whose backup has a job as queued that was sent and done since, put back; the job's id, and the number of
    /// the last event that a reader has seen.
    async fn put_back(&self) -> (String, u64) {
        self.upstream(false);
        let server = self.serve(&[]).await;
        let id = server.submit("a fox").await;
        // After a call that provably was not sent: it is queued, and no time limit decides.
        server.until(&id, |job| job["phase"] == "queued" && job["attempts"]["submit"] == 1).await;
        server.kill();
        self.copy("state", "backup");
        self.upstream(true);
        let server = self.serve(&[]).await;
        assert_eq!(ended(&server, &id).await["status"], "succeeded");
        let seen = newest(&server).await;
        server.kill();
        assert_eq!(self.charges(&id), 1);
        self.copy("backup", "state");
        (id, seen)
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The job once it has ended or is held.
async fn ended(server: &Process, id: &str) -> Value {
    server.until(id, has_ended).await
}

async fn newest(server: &Process) -> u64 {
    let events = server.get("/v1/events?limit=250").await;
    events["data"].as_array().unwrap().iter().map(|event| event["seq"].as_u64().unwrap()).max().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_sent_after_the_backup_is_not_sent_again() {
    let stage = Stage::set().await;
    let (id, seen) = stage.put_back().await;
    // Once, and by mistake once more; then as always.
    for flags in [["--restored"].as_slice(), &["--restored"], &[]] {
        let server = stage.serve(flags).await;
        let job = ended(&server, &id).await;
        assert_eq!(job["status"], "held", "{job:#}");
        assert!(job["notices"][0].as_str().unwrap().contains("comes from a backup"), "{job:#}");
        assert!(
            newest(&server).await > seen + (1 << 31),
            "numbers that readers have seen are not given again"
        );
        // What is new goes on.
        if flags.is_empty() {
            let hen = server.submit("a hen").await;
            assert_eq!(ended(&server, &hen).await["status"], "succeeded");
        }
        server.kill();
        assert_eq!(stage.charges(&id), 1);
    }
    let log = fs::read_to_string(stage.dir.path().join("log")).unwrap();
    assert_eq!(log.matches("the store comes from a backup").count(), 2, "{log}");
    let check = Command::new(env!("CARGO_BIN_EXE_reelhook"))
        .args(["db", "check"])
        .current_dir(stage.dir.path())
        .output()
        .unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_flag_it_is_paid_for_twice() {
    let stage = Stage::set().await;
    let (id, _) = stage.put_back().await;
    let server = stage.serve(&[]).await;
    assert_eq!(ended(&server, &id).await["status"], "succeeded");
    assert_eq!(stage.charges(&id), 2, "or the test above shows nothing");
}

#[test]
fn where_there_is_no_store_none_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let serve = Command::new(env!("CARGO_BIN_EXE_reelhook"))
        .args(["serve", "--restored", "--listen", "127.0.0.1:0", "--callback-listen", "127.0.0.1:0"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&serve.stderr).contains("there is no store"), "{serve:?}");
    assert!(!dir.path().join("data/state").exists());
}
