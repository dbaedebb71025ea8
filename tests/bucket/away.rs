//! A bucket that is away, refuses us, or is not there: the job waits and says why, and nothing is lost.

use std::{net::TcpListener, sync::Arc, time::Duration};

use reelhook::{config, outbound::archive::Archive, runner::Retainer};

use super::*;

/// What `/readyz?verbose` says of the bucket, once it says this of whether it answers; it says so with 200.
async fn until_answers(world: &World, answers: bool) -> Value {
    let deadline = tokio::time::Instant::now() + support::PATIENCE;
    loop {
        let answer = world.http.get(world.url("/readyz?verbose")).send().await.unwrap();
        assert_eq!(answer.status(), 200, "the archive is no part of being ready");
        let said = answer.json::<Value>().await.unwrap()["checks"].clone();
        assert!(said["spool"]["free_bytes"].is_u64(), "{said}");
        if said["archive"]["answers"] == answers {
            return said["archive"].clone();
        }
        assert!(tokio::time::Instant::now() < deadline, "never so: {said}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A job that waits, once it says this of why.
async fn until_troubled(world: &World, id: &str, why: &str) -> String {
    let job = world.until(id, |job| job["notices"].to_string().contains(why)).await;
    assert_eq!(job["phase"], "fetching", "{job:#}");
    job["notices"][0].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_starts_without_its_bucket_and_stores_once_it_is_there_with_one_download() {
    let mut server = Seaweed::start().await;
    server.down();
    let world = world(server.settings(Serve::Proxy)).await;
    let id = world.submit(&format!("a fox {LARGE}")).await;
    let told = until_troubled(&world, &id, "out of reach").await;
    assert!(told.contains("Connection refused") && told.contains("nothing is lost"), "{told}");
    assert!(until_answers(&world, false).await["why"].as_str().unwrap().contains("out of reach"));
    assert!(world.sandbox.ledger().downloads.is_empty(), "what cannot be stored is not fetched");
    server.up().await;
    let job = world.ended(&id).await;
    assert_holds_only(&server.client(), &world.config.storage.root, &job).await;
    until_answers(&world, true).await;
    assert_eq!(world.sandbox.ledger().downloads.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_goes_away_during_the_upload_costs_no_second_download() {
    let mut server = Seaweed::start().await;
    let world = world(server.settings(Serve::Proxy)).await;
    let spool = world.config.storage.root.clone();
    until_answers(&world, true).await;
    let id = world.submit("a fox [[size:24MiB]]").await;
    while waiting(&spool).is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    server.down();
    until_troubled(&world, &id, "out of reach").await;
    assert_eq!(waiting(&spool).len(), 1, "the whole file waits");
    server.up().await;
    let job = world.ended(&id).await;
    assert_holds_only(&server.client(), &spool, &job).await;
    assert_eq!(world.sandbox.ledger().downloads.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_and_missing_rights_are_told_apart_in_words_without_a_secret() {
    let server = Seaweed::start().await;
    for (credentials, detail) in [
        ("testkey:another-secret", "SignatureDoesNotMatch"),
        ("nobody:another-secret", "InvalidAccessKeyId"),
        ("readkey:readsecret", "AccessDenied"),
    ] {
        let bucket = Bucket { credentials: Some(credentials.into()), ..server.settings(Serve::Proxy) };
        let world = world(bucket).await;
        let id = world.submit("a fox").await;
        let told = until_troubled(&world, &id, "refuses our credentials").await;
        assert!(told.contains(detail) && told.contains("[storage]"), "{told}");
        assert!(!told.contains("secret") && !told.contains("readsecret") && told.len() < 400, "{told}");
        assert_eq!(until_answers(&world, false).await["answers"], false);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_never_answers_holds_up_a_round_of_retention_for_its_time_alone() {
    let server = Seaweed::start().await;
    let world = World::idle(|_| ()).await;
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap()).parse().unwrap();
    let bucket = Bucket { endpoint: Some(endpoint), ..server.settings(Serve::Proxy) };
    let app = Arc::clone(world.server().app());
    let storage = config::Storage { bucket: Some(bucket), ..app.config().storage.clone() };
    let archive = Arc::new(Archive::open(&storage).await.unwrap());
    let retainer = Retainer::new(app, archive);
    let round = retainer.round(Some(Duration::from_millis(200)));
    // Its client alone would wait for a minute, and try again.
    let round = tokio::time::timeout(support::PATIENCE / 2, round).await.expect("it goes on").unwrap();
    assert!(round.more, "{round:?}");
}
