//! The server as a process, killed while it uploads.

use std::{fs, net::TcpListener};

use reelhook::sandbox::{self, Options};
use support::{PATIENCE, Process, SPEED, free_port, has_ended};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_while_it_uploads_leaves_one_whole_file_in_the_end() {
    let server = Seaweed::start().await;
    let provider =
        sandbox::start(TcpListener::bind("127.0.0.1:0").unwrap(), Options { speed: SPEED, seed: 5 });
    let provider = provider.await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("data/spool");
    let api = configure(dir.path(), &server, provider.url().as_str());
    let process = Process::start(dir.path(), api).await;
    let id = process.submit("a fox [[size:24MiB]]").await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    // The whole file is there, so its upload begins.
    while waiting(&spool).is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", spooled(&spool));
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    process.kill();
    assert_eq!(keys(&server.client()).await, Vec::<String>::new(), "nothing of it has a name so far");
    assert!(!spooled(&spool).is_empty());

    let process = Process::start(dir.path(), api).await;
    let job = process.until(&id, has_ended).await;
    assert_holds_only(&server.client(), &spool, &job).await;
}

/// Writes the configuration of a server; where it listens.
fn configure(dir: &Path, server: &Seaweed, provider: &str) -> u16 {
    let (api, endpoint) = (free_port(), server.endpoint());
    fs::write(dir.join("s3"), seaweed::KEY).unwrap();
    let more = format!(
        r#"
        poll.overdue_after = "2s"
        storage = {{ url = "s3://{}/team/one", spool = "data/spool", endpoint = "{endpoint}", credentials_file = "s3" }}
        "#,
        seaweed::BUCKET
    );
    support::configure(dir, "reelhook.toml", provider, api, free_port(), &more);
    api
}
