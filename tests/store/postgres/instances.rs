//! Several instances on one database.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures_util::future::join_all;
use reelhook::{
    clock::Clock,
    lifecycle::{Answer, Duty, Event, Phase, Refusal},
    store::{
        Booked, Claim, EventFilter, Insert, Inserted, Limits, Litter, Retain as _, Store, StoreError, Sweep,
        postgres::PostgresStore,
    },
};

use super::Base;
use crate::{conformance::outbox, support::*};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_that_start_at_the_same_time_make_the_tables_once() {
    let base = Base::new();
    let stores = join_all((0..6).map(|_| base.instance())).await;
    put(&*stores[0], job(1)).await;
    assert_eq!(get(&*stores[5], id(1)).await.id, id(1));
    assert_eq!(base.server.sql(&base.database, "SELECT count(*) FROM log_head"), "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_that_race_for_work_and_keys_share_it_without_repeats() {
    let base = Base::new();
    let stores = [base.instance().await, base.instance().await];
    let inserts = (0..40_u16).map(|n| {
        let store = Arc::clone(&stores[usize::from(n % 2)]);
        let one = Insert { key: Some(key("web", &format!("k{}", n / 4), 1)), ..insertion(job(n + 1)) };
        tokio::spawn(async move { store.insert(one).await.unwrap() })
    });
    let made = join_all(inserts).await.into_iter().filter(|made| matches!(made, Ok(Inserted::New(_))));
    assert_eq!(made.count(), 10, "four inserts under each key");
    let askers = (0..12).map(|n| {
        let store = Arc::clone(&stores[n % 2]);
        tokio::spawn(async move { store.claim(claim(Duty::Submit, 2, NOW)).await.unwrap() })
    });
    let taken: Vec<_> = join_all(askers).await.into_iter().flat_map(|jobs| ids(&jobs.unwrap())).collect();
    assert_eq!((taken.len(), taken.iter().collect::<HashSet<_>>().len()), (10, 10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_that_forget_at_the_same_time_do_it_once() {
    let base = Base::new();
    let stores = [base.instance().await, base.instance().await];
    let mut over = Vec::new();
    for n in 1..=20 {
        outbox::owed(&*stores[0], n).await;
    }
    for claimed in outbox::take(&*stores[0], NOW).await {
        outbox::answer(&*stores[0], &claimed.delivery, Answer::Delivered, NOW).await;
    }
    for n in 1..=20 {
        over.push((id(n), get(&*stores[0], id(n)).await.revision));
    }
    stores[0].bounds().await.unwrap(); // every event has its number
    let sweep = Sweep { litter: Litter::Events, before: NOW.plus(1), after: 0, dry_run: false };
    let rounds = stores.map(|store| {
        let over = over.clone();
        tokio::spawn(async move {
            let gone = store.forget(over).await.unwrap().len() as u64;
            (gone, store.sweep(sweep).await.unwrap().count)
        })
    });
    let done = join_all(rounds).await.into_iter().map(Result::unwrap);
    let (jobs, events) = done.fold((0, 0), |sum, done| (sum.0 + done.0, sum.1 + done.1));
    assert_eq!((jobs, events), (20, 59), "of three events a job all but the newest");
    let left = "SELECT (SELECT count(*) FROM jobs) + (SELECT count(*) FROM deliveries) + (SELECT count(*) FROM requests), \
                (SELECT sum(done) FROM tally), (SELECT sum(owed) FROM tally)";
    assert_eq!(base.server.sql(&base.database, left), "0|0|0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_hold_over_all_instances() {
    let base = Base::new();
    let stores = [base.instance().await, base.instance().await];
    let limits = Limits { daily_credits: 100, queued: 8, ..Limits::default() };
    let inserts = (1..=24_u16).map(|n| {
        let store = Arc::clone(&stores[usize::from(n % 2)]);
        // Every other one costs nothing, so that it is the queue that bounds those.
        let job = if n % 2 == 0 { booking(job(n), 20_468, 30) } else { job(n) };
        let one = Insert { limits, ..insertion(job) };
        tokio::spawn(async move { store.insert(one).await.unwrap() })
    });
    let made = join_all(inserts).await.into_iter().filter(|made| matches!(made, Ok(Inserted::New(_))));
    assert_eq!(made.count(), 8);
    let Booked { day, .. } = stores[0].booked(NOW).await.unwrap();
    assert!(day <= 100, "{day}");
    let bounded = Claim { in_flight: 3, ..claim(Duty::Submit, 2, NOW) };
    let claims = (0..8).map(|n| {
        let (store, bounded) = (Arc::clone(&stores[n % 2]), bounded.clone());
        tokio::spawn(async move { store.claim(bounded).await.unwrap().len() })
    });
    assert_eq!(join_all(claims).await.into_iter().map(Result::unwrap).sum::<usize>(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_have_no_gap_and_no_reader_misses_one_while_instances_write() {
    let base = Base::new();
    let stores = [base.instance().await, base.instance().await];
    let writers = (1..=60_u16).map(|n| {
        let store = Arc::clone(&stores[usize::from(n % 2)]);
        tokio::spawn(async move {
            put(&*store, job(n)).await;
            step(&*store, id(n), &Event::Claimed(Duty::Submit), NOW).await;
            step(&*store, id(n), &Event::Cancel, NOW).await;
        })
    });
    // Each number that a reader sees is the one after the last: nothing appears behind it.
    let reader = |store: Arc<PostgresStore>| async move {
        let (mut after, mut wake) = (0, store.wake());
        while after < 180 {
            let page = store.events(after, 50, EventFilter::default()).await.unwrap();
            for entry in &page.events {
                assert_eq!(entry.seq, after + 1);
                after = entry.seq;
            }
            if page.events.is_empty() {
                drop(tokio::time::timeout(Duration::from_secs(2), wake.changed()).await);
            }
        }
    };
    let readers = stores.clone().map(|store| tokio::spawn(reader(store)));
    join_all(writers).await.into_iter().for_each(Result::unwrap);
    join_all(readers).await.into_iter().for_each(Result::unwrap);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_instance_writes_wakes_the_others() {
    let base = Base::new();
    let [one, other] = [base.instance().await, base.instance().await];
    assert_eq!(other.next_due(Duty::Submit).await.unwrap(), None);
    let mut wake = other.wake();
    wake.mark_unchanged();
    put(&*one, job(1)).await;
    tokio::time::timeout(Duration::from_secs(5), wake.changed()).await.unwrap().unwrap();
    assert_eq!(other.next_due(Duty::Submit).await.unwrap(), Some(NOW));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_leaves_the_claims_of_others_and_their_end_frees_them() {
    let base = Base::new();
    let dead = base.instance().await;
    put(&*dead, job(1)).await;
    awaiting(&*dead, 2).await;
    assert_eq!(dead.claim(claim(Duty::Submit, 1, NOW)).await.unwrap().len(), 1);
    let due = get(&*dead, id(2)).await.due_at.unwrap();
    assert_eq!(dead.claim(claim(Duty::Ask, 1, due)).await.unwrap().len(), 1);
    dead.close().await;
    let next = base.instance().await;
    assert!(matches!(get(&*next, id(1)).await.phase, Phase::Sending));
    assert!(next.claim(claim(Duty::Expire, 9, NOW.plus(64_999))).await.unwrap().is_empty());
    assert!(next.claim(claim(Duty::Ask, 9, due.plus(14_999))).await.unwrap().is_empty());
    assert_eq!(ids(&next.claim(claim(Duty::Expire, 9, NOW.plus(65_000))).await.unwrap()), [id(1)]);
    assert_eq!(ids(&next.claim(claim(Duty::Ask, 9, due.plus(15_000))).await.unwrap()), [id(2)]);
    assert!(matches!(get(&*next, id(1)).await.phase, Phase::Unknown { .. }), "never sent again by itself");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_all_instances_keep_their_distance() {
    let base = Base::new();
    let every = Duration::from_secs(3_600);
    let stores = [base.open_paced(every).await, base.open_paced(every).await];
    for n in 1..=4 {
        put(&stores[0], job(n)).await;
    }
    awaiting(&stores[0], 5).await;
    let due = get(&stores[0], id(5)).await.due_at.unwrap();
    assert_eq!(
        stores[0].claim(claim(Duty::Submit, 4, NOW)).await.unwrap().len(),
        1,
        "one call, then the pause"
    );
    assert!(stores[1].claim(claim(Duty::Submit, 4, NOW)).await.unwrap().is_empty());
    assert!(stores[1].claim(claim(Duty::Ask, 4, due)).await.unwrap().is_empty());
    base.server.sql(&base.database, "UPDATE gate SET tat = 0");
    assert_eq!(stores[1].claim(claim(Duty::Ask, 4, due)).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_refused_account_pauses_all_instances_and_one_probe_ends_it() {
    let base = Base::new();
    let [one, other] = [base.instance().await, base.instance().await];
    for n in 1..=4 {
        put(&*one, job(n)).await;
    }
    let sent = one.claim(claim(Duty::Submit, 1, NOW)).await.unwrap().remove(0);
    one.gate().unwrap().refused("no credits", NOW, 30_000).await.unwrap();
    let account = Refusal::Account { message: "no credits".into(), others_pass: false };
    step(&*one, sent.id, &Event::Refused(account, sent.lease.unwrap()), NOW).await;
    assert!(other.claim(claim(Duty::Submit, 4, NOW.plus(29_999))).await.unwrap().is_empty());
    let probe = other.claim(claim(Duty::Submit, 4, NOW.plus(30_000))).await.unwrap();
    assert_eq!(probe.len(), 1, "one probes");
    assert!(
        one.claim(claim(Duty::Submit, 4, NOW.plus(89_999))).await.unwrap().is_empty(),
        "longer each time"
    );
    let mut wake = other.wake();
    while other.gate().unwrap().pause().is_none() {
        drop(tokio::time::timeout(Duration::from_millis(200), wake.changed()).await);
    }
    other.gate().unwrap().accepted(NOW.plus(31_000)).await.unwrap();
    assert_eq!(other.gate().unwrap().pause(), None);
    assert_eq!(one.claim(claim(Duty::Submit, 4, NOW.plus(31_000))).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_is_the_databases() {
    let base = Base::new();
    let clock = Clock::system();
    let store = PostgresStore::open(&base.database, clock.clone(), Duration::ZERO).await.unwrap();
    let told: i64 = base.server.sql(&base.database, "SELECT micros() / 1000").parse().unwrap();
    assert!((clock.now_ms() - told).abs() < 5_000);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_timeline_names_the_instance_and_the_database_knows_it() {
    let base = Base::new();
    let store = base.instance().await;
    put(&*store, job(1)).await;
    let page = store.events(0, 1, EventFilter::default()).await.unwrap();
    assert_eq!(page.events[0].event.data["instance"], store.instance());
    let named = format!(
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name LIKE '{}.%'",
        store.instance()
    );
    assert_eq!(base.server.sql(&base.database, &named), "t");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_text_of_the_database_can_hold_survives_all_the_same() {
    let base = Base::new();
    let store = base.instance().await;
    let mut odd = job(1);
    odd.model = "a\0b'; DROP TABLE jobs; --\\".into();
    odd.tags = vec!["\0".into(), "'\"$$".into()];
    put(&*store, odd.clone()).await;
    assert_eq!(get(&*store, id(1)).await, odd);
    let found = store.list(
        reelhook::store::JobFilter { model: Some(odd.model.clone()), ..Default::default() },
        None,
        5,
    );
    assert_eq!(ids(&found.await.unwrap().items), [id(1)]);
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_not_opened() {
    let base = Base::new();
    base.instance().await.close().await;
    let newer = "INSERT INTO _sqlx_migrations SELECT 9, 'later', now(), true, ''::bytea, 1";
    base.server.sql(&base.database, newer);
    let refused =
        PostgresStore::open(&base.database, Clock::manual(NOW.0), Duration::ZERO).await.unwrap_err();
    assert!(matches!(refused, StoreError::Newer { .. }), "{refused}");
}
