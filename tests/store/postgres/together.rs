//! Callbacks that come at the same time, and what each of them owes to none of the others.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, future::join_all, stream::FuturesUnordered};
use reelhook::{
    lifecycle::{EventKind, Policy, SinkRule},
    store::{Arrival, CallbackFilter, Store, StoreError, Verdict},
};
use secrecy::ExposeSecret as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, raw_sql};
use tokio::time::timeout;

use super::{Base, pooled::Pooled};
use crate::support::*;

/// More than one transaction takes.
const CALLS: u16 = 150;
const BODY: &[u8] = b"{\"status\":\"succeeded\"}";

/// A callback of a name that is the job's own, as is the id made of it.
fn call(n: u16, delivery: &str) -> Arrival {
    arrival(n, &format!("{delivery}{n}"), BODY)
}

async fn waiting(store: &dyn Store, jobs: u16) {
    for n in 1..=jobs {
        awaiting(store, n).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callbacks_that_come_together_share_round_trips_and_each_is_heard_for_itself() {
    share(&Base::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_do_those_that_go_through_a_pooler() {
    share(&Pooled::new().0).await;
}

async fn share(base: &Base) {
    let store = base.instance().await;
    waiting(&*store, CALLS).await;
    let before = store.round_trips();
    let heard = join_all((1..=CALLS).map(|n| store.callback(call(n, "first")))).await;
    let trips = store.round_trips() - before;
    assert!(trips < u64::from(CALLS), "{trips} round trips of {CALLS} callbacks: two of each alone");
    for (n, heard) in (1..).zip(heard) {
        let heard = heard.unwrap();
        let changed = heard.changed.unwrap();
        assert_eq!((heard.verdict, changed.before.id), (Verdict::Matched, id(n)));
        assert_eq!(get(&*store, id(n)).await, *changed.after);
    }
    // Repeats, and two of one job that nobody heard before: one of those is a repeat.
    let again = 1..=30;
    let calls = again.clone().flat_map(|n| [("first", n), ("second", n), ("second", n)]);
    let heard = join_all(calls.map(|(delivery, n)| store.callback(call(n, delivery)))).await;
    let of = |wanted| heard.iter().filter(|heard| heard.as_ref().unwrap().verdict == wanted).count();
    assert_eq!((of(Verdict::Matched), of(Verdict::Duplicate)), (30, 60));
    for n in again {
        assert_eq!(get(&*store, id(n)).await.callback.received, 4);
        let filter = CallbackFilter { job: Some(id(n)), ..CallbackFilter::default() };
        let kept = store.callbacks(filter, None, 9).await.unwrap().items;
        assert_eq!(kept.len(), 2, "each delivery once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_plain_is_heard_as_if_it_had_come_alone() {
    let base = Base::new();
    let store = base.instance().await;
    waiting(&*store, 20).await;
    for n in 21..=40 {
        put(&*store, job(n)).await; // not sent, as far as we know
    }
    let heard = join_all((1..=60).map(|n| store.callback(call(n, "first")))).await;
    for (n, heard) in (1..).zip(heard) {
        let heard = heard.unwrap();
        let phase = heard.changed.map(|changed| changed.after.phase_name());
        let expected = match n {
            1..=20 => (Verdict::Matched, Some("awaiting")),
            21..=40 => (Verdict::Matched, Some("held")),
            _ => (Verdict::Unmatched, None),
        };
        assert_eq!((heard.verdict, phase), expected, "{n}");
    }
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.phase("awaiting"), counts.phase("held"), counts.phase("queued")), (20, 20, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bug_that_one_callback_meets_takes_no_other_with_it() {
    let base = Base::new();
    let store = base.instance().await;
    waiting(&*store, 20).await;
    let bug = |n| {
        let (delivery, met) = (format!("bug{n}"), AtomicBool::new(false));
        called(n, &delivery, BODY, move |_| assert!(met.swap(true, Relaxed), "a bug, the first time"))
    };
    for _ in 0..3 {
        // More often than there are hearers: none of them ends of it.
        let calls = (1..=20).map(|n| store.callback(if n == 10 { bug(n) } else { call(n, "first") }));
        let heard = join_all(calls).await;
        assert!(heard.into_iter().all(|heard| heard.is_ok()));
    }
    let trips = store.round_trips();
    store.callback(call(1, "second")).await.unwrap();
    assert_eq!(store.round_trips() - trips, 2, "it was not heard alone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_callback_owes_to_a_sink_is_found_at_once() {
    let base = Base::new();
    let store = base.instance().await;
    awaiting(&*store, 1).await;
    assert!(store.lanes().await.unwrap().is_empty(), "and that is remembered");
    let told = vec![SinkRule { name: "app".into(), events: vec![EventKind::CallbackReceived] }];
    let policy = Arc::new(Policy { sinks: told, ..(*policy()).clone() });
    store.callback(Arrival { policy, ..call(1, "first") }).await.unwrap();
    assert_eq!(store.lanes().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_somebody_has_in_hand_holds_up_no_callback_but_its_own() {
    let base = Base::new();
    let store = base.instance().await;
    waiting(&*store, 20).await;
    let mut other = PgConnection::connect(base.database.url.expose_secret()).await.unwrap();
    let lock = "BEGIN; SELECT FROM jobs WHERE task = 'task-7' FOR UPDATE";
    raw_sql(lock).fetch_all(&mut other).await.unwrap();
    let mut calls: FuturesUnordered<_> = (1..=20).map(|n| store.callback(call(n, "first"))).collect();
    let others = timeout(Duration::from_secs(3), calls.by_ref().take(19).collect::<Vec<_>>());
    let heard = others.await.expect("they wait for a neighbour");
    assert!(heard.into_iter().all(|heard| heard.unwrap().changed.unwrap().after.id != id(7)));
    raw_sql("COMMIT").execute(&mut other).await.unwrap();
    let heard = calls.next().await.unwrap().unwrap();
    assert_eq!((heard.verdict, heard.changed.unwrap().after.id), (Verdict::Matched, id(7)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callback_that_the_database_refuses_takes_no_other_with_it() {
    let base = Base::new();
    let store = base.instance().await;
    waiting(&*store, CALLS).await;
    let refuse = "ALTER TABLE jobs ADD CHECK (task <> 'task-70' OR due_at IS NULL) NOT VALID";
    base.server.sql(&base.database, refuse);
    let heard = join_all((1..=CALLS).map(|n| store.callback(call(n, "first")))).await;
    for (n, heard) in (1..).zip(heard) {
        match heard {
            Err(StoreError::Unavailable(_)) if n == 70 => {}
            heard => assert_eq!((n, heard.unwrap().verdict), (n, Verdict::Matched)),
        }
    }
    let counted = "SELECT count(*) FILTER (WHERE job_id = (SELECT id FROM jobs WHERE task = 'task-70')), count(*) FROM callbacks";
    assert_eq!(base.server.sql(&base.database, counted), format!("0|{}", CALLS - 1));
}

/// The next revision of a job `j`, with what else is different about it.
fn changed(differs: &str) -> String {
    format!(
        "jsonb_build_object('jobs', jsonb_build_array(to_jsonb(j) || jsonb_build_object('revision', revision + 1) || {differs}), \
         'events', '[]'::jsonb, 'deliveries', '[]'::jsonb)"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_takes_no_change_together_that_it_would_write_in_part() {
    let base = Base::new();
    awaiting(&*base.instance().await, 1).await;
    let mut database = PgConnection::connect(base.database.url.expose_secret()).await.unwrap();
    let mut written = async |differs: &str| {
        let sql = format!("SELECT replace_together({}) FROM jobs j", changed(differs));
        raw_sql(AssertSqlSafe(sql)).execute(&mut database).await.is_ok()
    };
    for differs in [
        r#"{"phase": "fetching"}"#,
        r#"{"outcome": "failed"}"#,
        r#"{"deadline": 5}"#,
        r#"{"task": "other"}"#,
        r#"{"model": "ltx-2"}"#,
        r#"{"tags": ["a"]}"#,
        r#"{"via": "poll"}"#,
    ] {
        assert!(!written(&format!("'{differs}'")).await, "{differs}");
    }
    assert!(!written("jsonb_build_object('revision', revision)").await, "it is no successor");
    assert!(written("'{}'").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hearing_and_numbering_go_by_the_indexes_whatever_the_size_of_the_tables() {
    let base = Base::new();
    let store = base.instance().await;
    awaiting(&*store, 1).await;
    store.callback(call(1, "first")).await.unwrap();
    store.bounds().await.unwrap();
    store.close().await;
    let own = format!("'{}'", uuid::Uuid::from_bytes(*id(1).as_bytes()));
    let hear = format!(
        "SELECT hear_together(array_agg(CASE n WHEN 1 THEN {own}::uuid ELSE gen_random_uuid() END), array_agg(n)) \
         FROM generate_series(1, 64::bigint) AS n"
    );
    let change = format!("SELECT replace_together({}) FROM jobs j WHERE id = {own}", changed("'{}'"));
    let log =
        "INSERT INTO events (id, kind, record) VALUES (gen_random_uuid(), 'x', '{}'); SELECT number_events()";
    // Plans are made, and kept, while the tables are as good as empty; a sequence of calls, so that they are.
    for calls in [0, 20] {
        for (query, indexes) in [
            (&*hear, &["jobs_pkey", "heard_pkey"][..]),
            (&change, &["jobs_pkey"]),
            (log, &["events_without_number"]),
        ] {
            let before = format!("{query}; ").repeat(calls);
            let plan = base.server.plans(&base.database, &format!("{before}SELECT 1"), query);
            for index in indexes {
                assert!(plan.contains(&format!("using {index}")), "{index} in {plan}");
            }
            for costly in ["Seq Scan", "Bitmap", "Hash"] {
                assert!(!plan.contains(costly), "{costly} in {plan}");
            }
        }
    }
}
