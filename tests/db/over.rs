//! The way from the embedded store to PostgreSQL: everything comes over, or nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use predicates::prelude::*;
use reelhook::{
    clock::Clock,
    config::Database,
    lifecycle::{Duty, Millis},
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

/// Has the place's configuration name a database, and a sink that is told of everything.
fn points_to(place: &Place, database: &Database) {
    let config =
        format!("[store]\nurl = \"{}\"\n[sinks.app]\ntype = \"stdout\"\n", database.url.expose_secret());
    fs::write(place.path("reelhook.toml"), config).unwrap();
}

/// All that can be read of a store, by what kind of thing it is and which one.
type Everything = BTreeMap<(&'static str, String), String>;

async fn everything(store: &dyn Store) -> Everything {
    let mut all = Everything::new();
    let mut has = |kind, which: String, what: String| assert!(all.insert((kind, which), what).is_none());
    for job in store.list(JobFilter::default(), None, 200).await.unwrap().items {
        let (id, document) = (job.id.to_string(), store.document(job.id).await.unwrap());
        has("job", id.clone(), format!("{job:?}"));
        has("request", id.clone(), format!("{document:?}"));
        has("sums of deliveries", id.clone(), format!("{:?}", store.delivery_counts(job.id).await.unwrap()));
        if let Some(task) = &job.task {
            has("task", id, format!("{:?}", store.by_task(&task.id).await.unwrap()));
        }
    }
    for heard in store.callbacks(CallbackFilter::default(), None, 200).await.unwrap().items {
        let (record, body) = store.callback_body(heard.id).await.unwrap().unwrap();
        has("callback", heard.id.to_string(), format!("{record:?} {body:?}"));
    }
    for owed in store.deliveries(DeliveryFilter::default(), None, 200).await.unwrap().items {
        has("delivery", owed.id.to_string(), format!("{owed:?}"));
        has("body", owed.id.to_string(), format!("{:?}", store.delivery_body(owed.id).await.unwrap()));
    }
    for entry in store.events(0, 200, EventFilter::default()).await.unwrap().events {
        has("event", format!("{:03}", entry.seq), format!("{:?}", entry.event));
    }
    for sink in store.sinks().await.unwrap() {
        has("sink", sink.name.clone(), format!("{sink:?}"));
    }
    for day in [20_000, 20_001] {
        let booked = store.booked(Millis(day * 86_400_000)).await.unwrap();
        has("booking", day.to_string(), format!("{booked:?}"));
    }
    let kept = store.keep("callback-secret", Vec::new()).await.unwrap();
    has("kept", "callback-secret".to_owned(), format!("{kept:?}"));
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
    let there = everything(&twin.open()).await;
    assert_eq!(store.counts().await.unwrap().owed, twin.open().counts().await.unwrap().owed);
    let owed = store.deliveries(DeliveryFilter::default(), None, 200).await.unwrap().items;
    let claimed = owed.iter().find(|delivery| delivery.lease.is_some()).expect("one is being tried");
    // The folder gave these claims back when it was opened, and wrote so at the end of its log.
    let given_back = [("delivery", claimed.id.to_string()), ("job", id(SENDING).to_string())];
    let end = moved.keys().filter(|(kind, _)| *kind == "event").max().unwrap();
    let differ = there.iter().filter(|(which, what)| moved.get(*which) != Some(what));
    let differ: Vec<_> =
        differ.map(|(which, _)| which).filter(|which| which.0 != "event" || *which <= end).collect();
    assert_eq!(differ, given_back.iter().collect::<Vec<_>>());
    let invented: Vec<_> = moved.keys().filter(|which| !there.contains_key(*which)).collect();
    assert!(invented.is_empty(), "{invented:?}");
    let kinds: BTreeSet<_> = moved.keys().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds.len(), 11, "one of each kind is there: {kinds:?}");
    let again = Insert { key: Some(key("web", "order-1", 1)), ..insertion(job(50)) };
    assert!(matches!(store.insert(again).await.unwrap(), Inserted::Replayed(job) if job.id == id(QUEUED)));
    let repeated = store.callback(arrival(AWAITING, "first", b"{}")).await.unwrap();
    assert_eq!(repeated.verdict, Verdict::Duplicate, "what was heard is known again");
    assert_eq!(server.sql(&database, "SELECT count(*) FROM strays"), "1", "of a job that nobody knows, too");
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
    let owed = store.deliveries(DeliveryFilter::default(), None, 200).await.unwrap().items;
    for n in [QUEUED, SENDING] {
        assert!(owed.iter().any(|owed| owed.job_id == Some(id(n))), "that it is held is told");
    }
    place.db(&["import", "out"]).assert().code(6).stderr(predicate::str::contains("is not empty"));
    place.db(&["check"]).assert().code(2).stderr(predicate::str::contains("its own tools look after it"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_idempotency_key_is_refused_by_a_database_too() {
    let (place, server) = (Place::new(), Server::start());
    seed(&place).await;
    place.tamper(|tree| crate::place::flip(tree, &crate::place::first(tree, b'i')));
    place.db(&["export", "out"]).output().unwrap();
    let database = server.database();
    points_to(&place, &database);
    place.db(&["import", "out"]).assert().success();
    let store = PostgresStore::open(&database, Clock::manual(NOW.0), Duration::ZERO).await.unwrap();
    let again = Insert { key: Some(key("web", "order-1", 1)), ..insertion(job(50)) };
    assert!(
        matches!(store.insert(again).await, Ok(Inserted::KeyReused(_)) | Err(_)),
        "it would be paid for twice"
    );
}
