//! The way from the embedded store to PostgreSQL: everything comes over, or nothing.

use std::{fs, time::Duration};

use predicates::prelude::*;
use reelhook::{
    clock::Clock,
    config::Database,
    lifecycle::{Duty, JobId},
    store::{
        CallbackFilter, DeliveryFilter, EventFilter, Insert, Inserted, JobFilter, Store, Verdict,
        postgres::PostgresStore,
    },
};
use secrecy::ExposeSecret as _;

use crate::{
    place::Place,
    seed::*,
    server::Server,
    support::{NOW, arrival, claim, id, insertion, job, key},
};

/// Has the place's configuration name a database.
fn points_to(place: &Place, database: &Database) {
    let config = format!("[store]\nurl = \"{}\"\n", database.url.expose_secret());
    fs::write(place.path("reelhook.toml"), config).unwrap();
}

/// All that can be read of a store.
async fn everything(store: &dyn Store) -> Vec<String> {
    let mut all = vec![format!("{:?}", store.counts().await.unwrap())];
    let jobs = store.list(JobFilter::default(), None, 200).await.unwrap().items;
    for job in jobs {
        all.push(format!("{:?} {:?}", job, store.document(job.id).await.unwrap()));
        all.push(format!("{:?}", store.delivery_counts(job.id).await.unwrap()));
    }
    for heard in store.callbacks(CallbackFilter::default(), None, 200).await.unwrap().items {
        all.push(format!("{:?}", store.callback_body(heard.id).await.unwrap()));
    }
    for owed in store.deliveries(DeliveryFilter::default(), None, 200).await.unwrap().items {
        all.push(format!("{owed:?} {:?}", store.delivery_body(owed.id).await.unwrap()));
    }
    all.push(format!("{:?}", store.events(0, 200, EventFilter::default()).await.unwrap()));
    all.push(format!("{:?} {:?}", store.sinks().await.unwrap(), store.bounds().await.unwrap()));
    all.push(format!("{:?}", store.keep("callback-secret", Vec::new()).await.unwrap()));
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_moves_to_a_database_is_all_there_and_goes_on_where_it_stopped() {
    let (place, server) = (Place::new(), Server::start());
    seed(&place).await;
    place.db(&["export", "out", "--move"]).assert().success();
    // Read where it was imported into a folder, for the source is sealed.
    let twin = Place::new();
    fs::copy(place.path("out"), twin.path("in")).unwrap();
    twin.db(&["import", "in"]).assert().success();
    let database = server.database();
    points_to(&place, &database);
    place.db(&["import", "out"]).assert().success().stdout(predicate::str::starts_with("imported 10 jobs"));
    let store = PostgresStore::open(&database, Clock::manual(NOW.0), Duration::ZERO).await.unwrap();
    let before = server.sql(&database, "SELECT phase, count(*) FROM jobs GROUP BY phase ORDER BY phase");
    assert!(before.contains("sending|1"), "a claim ends by its lease alone: {before}");
    let moved = everything(&store).await;
    let kept = twin.open();
    // The folder's claims were given back when it was opened; all else is the same.
    let of = |all: &[String], without: JobId| {
        let name = without.to_string();
        all.iter()
            .filter(|line| !line.contains(&name) && !line.starts_with("Counts"))
            .cloned()
            .collect::<Vec<_>>()
    };
    let there = everything(&kept).await;
    let (moved, there) = (of(&moved, id(SENDING)), of(&there, id(SENDING)));
    let missing: Vec<_> =
        there.iter().filter(|line| !moved.contains(line) && !line.starts_with("EventPage")).collect();
    assert!(missing.len() <= 3, "{missing:#?}"); // the log's end, and what the folder's start gave back
    let again = Insert { key: Some(key("web", "order-1", 1)), ..insertion(job(50)) };
    assert!(matches!(store.insert(again).await.unwrap(), Inserted::Replayed(job) if job.id == id(QUEUED)));
    let repeated = store.callback(arrival(AWAITING, "first", b"{}")).await.unwrap();
    assert_eq!(repeated.verdict, Verdict::Duplicate, "what was heard is known again");
    assert_eq!(store.claim(claim(Duty::Submit, 9, NOW)).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_that_is_not_whole_leaves_the_database_empty_and_one_that_is_not_empty_is_not_touched() {
    let (place, server) = (Place::new(), Server::start());
    seed(&place).await;
    place.db(&["export", "out"]).assert().success();
    let text = fs::read_to_string(place.path("out")).unwrap();
    fs::write(place.path("cut"), &text[..text.len() - 40]).unwrap();
    let database = server.database();
    points_to(&place, &database);
    place.db(&["import", "cut"]).assert().code(1);
    assert_eq!(server.sql(&database, "SELECT count(*) FROM jobs"), "0");
    let held = place.db(&["import", "out"]).assert().success();
    held.stderr(predicate::str::contains("2 jobs that were queued or being sent are held"));
    let store = PostgresStore::open(&database, Clock::manual(NOW.0), Duration::ZERO).await.unwrap();
    assert!(store.claim(claim(Duty::Submit, 9, NOW)).await.unwrap().is_empty(), "nothing is paid for twice");
    assert!(store.bounds().await.unwrap().newest > 1 << 32);
    place.db(&["import", "out"]).assert().code(6).stderr(predicate::str::contains("is not empty"));
    place.db(&["check"]).assert().code(2).stderr(predicate::str::contains("its own tools look after it"));
}
