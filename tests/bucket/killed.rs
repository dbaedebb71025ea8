//! The server as a process, killed while it uploads.

use support::{PATIENCE, has_ended, stage::Stage};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_while_it_uploads_leaves_one_whole_file_in_the_end() {
    let server = Seaweed::start().await;
    let more = format!(
        r#"
        poll.overdue_after = "2s"
        storage = {{ url = "s3://{}/team/one", spool = "data/spool", endpoint = "{}", credentials_file = "s3" }}
        "#,
        seaweed::BUCKET,
        server.endpoint()
    );
    let stage = Stage::set(&more).await;
    let spool = stage.path("data/spool");
    std::fs::write(stage.path("s3"), seaweed::KEY).unwrap();
    let process = stage.serve().await;
    let id = process.submit("a fox [[size:24MiB]]").await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    // The whole file is there, so its upload begins.
    while waiting(&spool).is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", spooled(&spool));
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    process.kill();
    let mut keys = keys(&server.client()).await;
    keys.retain(|key| !key.contains("/.reelhook/names/"));
    assert_eq!(keys, Vec::<String>::new(), "nothing of it has its name so far");
    assert!(!spooled(&spool).is_empty());

    let process = stage.serve().await;
    let job = process.until(&id, has_ended).await;
    assert_holds_only(&server.client(), &spool, &job).await;
}
