//! What a job costs: round trips, and plans that do not grow with the number of jobs.

use std::time::Duration;

use reelhook::{
    clock::Clock,
    lifecycle::{Duty, Event, Job, JobId, Report, StoredFile},
    store::{Replaced, Store, postgres::PostgresStore},
};

use super::Base;
use crate::support::*;

/// Jobs of which the mean is taken.
const LIVES: u16 = 200;

/// What happens to a job in hand, without reading it again.
async fn happens(store: &PostgresStore, job: &Job, event: Event) -> Job {
    let change = job.step(&event, NOW.plus(5), &policy()).unwrap();
    let next = change.job.clone();
    assert!(matches!(store.replace(change).await.unwrap(), Replaced::Done { .. }));
    next
}

/// As a lane does: a look when something is due, then a claim of one.
async fn taken(store: &PostgresStore, duty: Duty, wanted: JobId) -> Job {
    let due = store.next_due(duty).await.unwrap().unwrap();
    assert!(due <= NOW.plus(5), "{duty:?} {due:?}");
    let job = store.claim(claim(duty, 1, NOW.plus(5))).await.unwrap().remove(0);
    assert_eq!(job.id, wanted);
    job
}

/// A job from its creation to its end, as the app and the lanes ask for it.
async fn live(store: &PostgresStore, n: u16) {
    put(store, job(n)).await;
    let sending = taken(store, Duty::Submit, id(n)).await;
    store.document(id(n)).await.unwrap().unwrap();
    happens(store, &sending, Event::Accepted(task(n), sending.lease.unwrap())).await;
    store.callback(arrival(n, &format!("done {n}"), b"{\"status\":\"succeeded\"}")).await.unwrap();
    let asking = taken(store, Duty::Ask, id(n)).await;
    let links = vec!["https://files.example.com/a.mp4".to_owned()];
    let report = Report::Succeeded { links, credits: Some(40) };
    happens(store, &asking, Event::Reported(task(n), report, asking.lease.unwrap())).await;
    let fetching = taken(store, Duty::Fetch, id(n)).await;
    let lease = fetching.lease.unwrap();
    let file = StoredFile {
        name: "a.mp4".into(),
        location: format!("2026-01-15/{}/a.mp4", id(n)),
        bytes: 5,
        sha256: "0".repeat(64),
        content_type: "video/mp4".into(),
    };
    let stored = happens(store, &fetching, Event::Fetched { index: 0, file, lease }).await;
    store.document(id(n)).await.unwrap().unwrap();
    happens(store, &stored, Event::Archived(lease)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_life_of_a_job_costs_twelve_round_trips_at_most() {
    let base = Base::new();
    let store = PostgresStore::open(&base.database, Clock::manual(NOW.0), Duration::ZERO).await.unwrap();
    live(&store, 1).await;
    let figure = |sql: &str| base.server.sql(&base.database, sql).parse::<u64>().unwrap();
    let log = "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint";
    let tables = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace";
    let (log, tables) = (|| figure(log), || figure(tables));
    let (trips_before, log_before, tables_before) = (store.round_trips(), log(), tables());
    for n in 2..=LIVES + 1 {
        live(&store, n).await;
    }
    let trips = store.round_trips() - trips_before;
    let of_one = |sum: u64| sum as f64 / f64::from(LIVES);
    println!(
        "a job: {} round trips, {:.0} bytes of write-ahead log, {:.0} bytes of tables and indexes before any vacuum",
        of_one(trips),
        of_one(log() - log_before),
        of_one(tables() - tables_before),
    );
    assert!(trips <= 12 * u64::from(LIVES), "{trips} for {LIVES} jobs");
    assert_eq!(store.counts().await.unwrap().outcomes["succeeded"], u64::from(LIVES) + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_for_work_reads_the_index_alone_and_nothing_that_is_not_due() {
    let base = Base::new();
    let store = base.instance().await;
    put(&*store, job(1)).await;
    store.close().await;
    base.server.sql(
        &base.database,
        "INSERT INTO jobs SELECT (json_populate_record(j, json_build_object('id', gen_random_uuid(), 'phase', 'awaiting',
             'duty', 2, 'task', n::text, 'owned_task', n::text, 'due_at', j.due_at + n))).*
         FROM jobs j, generate_series(1, 20000) AS n WHERE j.phase = 'queued'",
    );
    base.server.sql(&base.database, "VACUUM ANALYZE jobs");
    // As the store asks; five are due.
    let (looking, due) = ("SELECT next_due(2::smallint)", NOW.0 + 5);
    let claiming = format!("SELECT claimable(2::smallint, 1, {due}, 1000, 0, 0)");
    // A session makes plans of a function anew with each of the first calls, and may keep one after the fifth.
    for calls in [0, 1_000] {
        let plans = |query: &str| {
            let before = format!("{query} FROM generate_series(1, {calls})");
            base.server.plans(&base.database, &before, query)
        };
        let look = plans(looking);
        assert_eq!(look.contains("duty = $"), calls > 0, "its plan is kept: {look}");
        let [scans, index_only, unvisited] = ["Scan using", "Index Only Scan using", "Heap Fetches: 0\n"]
            .map(|scan| look.matches(scan).count());
        assert_eq!((index_only, unvisited), (scans, scans), "{look}");
        assert_eq!(look.matches("Index Only Scan using jobs_due").count(), 2, "urgent and calm: {look}");
        let claim = plans(&claiming);
        assert_eq!(claim.matches("Index Scan using jobs_due").count(), 2, "urgent and calm: {claim}");
        assert!(!claim.contains("Sort") && !claim.contains("Rows Removed"), "{claim}");
        for plan in [look, claim] {
            assert!(plan.contains("(actual rows=1 loops=1)"), "it found one: {plan}");
            assert!(!plan.contains("Seq Scan") && !plan.contains("Bitmap"), "{plan}");
        }
    }
}
