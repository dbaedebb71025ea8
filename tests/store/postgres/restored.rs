//! A database that was put back from a backup.

use std::time::Duration;

use reelhook::{
    lifecycle::{Duty, Event, Phase, Why},
    store::{EventFilter, Store, StoreError, postgres, transfer::Restored},
};

use secrecy::ExposeSecret as _;
use sqlx::{Connection as _, PgConnection, Row as _, raw_sql};

use super::Base;
use crate::support::*;

/// Once nobody has the database any more; a closed store takes a moment to hang up.
async fn restored(base: &Base) -> Result<Restored, StoreError> {
    for _ in 0..100 {
        match postgres::restored(&base.database, &policy()).await {
            Err(StoreError::Locked { .. }) => tokio::time::sleep(Duration::from_millis(50)).await,
            other => return other,
        }
    }
    panic!("it is still in use");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_restored_database_has_as_not_sent_is_held_and_no_number_is_given_twice() {
    let base = Base::new();
    let store = base.instance().await;
    for n in 1..=300 {
        put(&*store, job(n)).await;
    }
    let claimed = store.claim(claim(Duty::Submit, 1, NOW)).await.unwrap().remove(0);
    awaiting(&*store, 301).await;
    let newest = store.bounds().await.unwrap().newest;
    store.close().await;
    let done = restored(&base).await.unwrap();
    assert_eq!(done, Restored { held: 300, events_after: newest + (1 << 32) });
    let store = base.instance().await;
    for n in [1, 150, 300] {
        assert!(matches!(get(&*store, id(n)).await.phase, Phase::Held { why: Why::Restored }));
    }
    let late = claimed.step(&Event::Accepted(task(7), claimed.lease.unwrap()), NOW, &policy()).unwrap();
    assert!(matches!(store.replace(late).await.unwrap(), reelhook::store::Replaced::Stale));
    assert!(store.claim(claim(Duty::Submit, 9, NOW.plus(1_000))).await.unwrap().is_empty());
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.phase("held"), counts.phase("queued"), counts.phase("awaiting")), (300, 0, 1));
    let mut wake = store.wake();
    let next = loop {
        wake.mark_unchanged();
        let page = store.events(newest, 1, EventFilter::default()).await.unwrap();
        if let Some(entry) = page.events.first() {
            break entry.seq;
        }
        wake.changed().await.unwrap();
    };
    assert_eq!(next, done.events_after + 1);
    store.close().await;
    assert_eq!(restored(&base).await.unwrap().held, 0, "what is held stays so");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_an_instance_works_on_is_not_taken_for_restored() {
    let base = Base::new();
    assert!(matches!(restored(&base).await, Err(StoreError::Missing { .. })), "there is nothing to restore");
    let store = base.instance().await;
    put(&*store, job(1)).await;
    let listens =
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 7304 AND objid = 4";
    while base.server.sql(&base.database, listens) == "0" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let refused = postgres::restored(&base.database, &policy()).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Locked { owner, .. } if owner.starts_with("test.")), "{refused}");
    assert_eq!(get(&*store, id(1)).await.phase_name(), "queued");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_starts_while_the_numbers_are_lifted_goes_on_with_the_lifted_ones() {
    let base = Base::new();
    base.instance().await.close().await;
    let mut connections = Vec::new();
    for _ in 0..2 {
        connections.push(PgConnection::connect(base.database.url.expose_secret()).await.unwrap());
    }
    let [restoring, starting] = &mut connections[..] else { panic!() };
    let one = "INSERT INTO events (id, kind, record) VALUES (gen_random_uuid(), 'x', '{}')";
    raw_sql(one).execute(&mut *restoring).await.unwrap();
    let lift = "BEGIN; LOCK TABLE jobs, events, log_head IN EXCLUSIVE MODE; \
                INSERT INTO events (id, kind, record) VALUES (gen_random_uuid(), 'x', '{}')";
    raw_sql(lift).execute(&mut *restoring).await.unwrap();
    let numbering = raw_sql("SELECT numbered FROM number_events()").fetch_one(starting);
    let lifting = async {
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'relation' \
                     AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        while base.server.sql(&base.database, waits) == "0" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let lifted = "UPDATE log_head SET newest = newest + (1::bigint << 32); COMMIT";
        raw_sql(lifted).execute(&mut *restoring).await.unwrap();
    };
    let (numbered, ()) = tokio::join!(numbering, lifting);
    assert_eq!(numbered.unwrap().get::<i64, _>(0), 2);
    let newest = base.server.sql(&base.database, "SELECT newest FROM log_head");
    assert_eq!(newest, ((1_u64 << 32) + 2).to_string());
}
