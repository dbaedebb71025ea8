//! What happens when the database goes away, stands still, or is set up to lose data.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::future::join_all;
use reelhook::{
    clock::Clock,
    config::Database,
    lifecycle::{Duty, Event, EventKind, Job},
    store::{
        EventFilter, Insert, Inserted, Replaced, Store, StoreError, Verdict,
        postgres::{self, PostgresStore},
    },
};
use secrecy::ExposeSecret as _;
use sqlx::{Connection as _, PgConnection, Row as _, raw_sql};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::{ALONE, Base};
use crate::{server::Server, support::*};

async fn with_own_server() -> Base {
    let server = Arc::new(Server::start());
    let database = server.database();
    Base { server, database }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_before_a_crash_of_the_database_is_there_after_it_and_work_goes_on() {
    let _alone = ALONE.lock().await;
    let base = with_own_server().await;
    let store = base.instance().await;
    for n in 1..=5 {
        awaiting(&*store, n).await;
    }
    base.server.crash();
    let away = store.callback(arrival(1, "first", b"{}")).await.err().unwrap();
    assert!(matches!(away, StoreError::Unavailable(_)), "{away}");
    assert!(matches!(store.insert(insertion(job(9))).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(store.claim(claim(Duty::Ask, 1, NOW)).await, Err(StoreError::Unavailable(_))));
    base.server.up();
    // The connections that died with it are no more than that.
    let heard = store.callback(arrival(1, "first", b"{}")).await.unwrap();
    assert_eq!(heard.verdict, Verdict::Matched, "what was refused was not remembered");
    assert_eq!(store.counts().await.unwrap().phase("awaiting"), 5);
    assert_eq!(ids(&store.claim(claim(Duty::Ask, 1, NOW)).await.unwrap()), [id(1)]);
    let bounds = store.bounds().await.unwrap();
    let page = store.events(0, 100, EventFilter::default()).await.unwrap();
    assert_eq!(page.events.len() as u64, bounds.newest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_stands_still_is_not_waited_for() {
    let _alone = ALONE.lock().await;
    let base = with_own_server().await;
    let store = base.instance().await;
    // More than are written at the same time: the last have waited for the others.
    for n in 1..=250 {
        awaiting(&*store, n).await;
    }
    base.server.freeze(true);
    let answers = join_all((1..=250).map(|n| store.callback(arrival(n, &format!("first{n}"), b"{}")))).await;
    base.server.freeze(false);
    let refused = |answer| match answer {
        Err(StoreError::Unavailable(why)) => why,
        answer => panic!("{answer:?}"),
    };
    let late = answers.into_iter().map(refused).filter(|why| why.contains("does not keep up")).count();
    // Of two transactions one asks in vain, and the other for a connection: then a third begins.
    assert!(late >= 250 - 3 * 64, "{late} were told so without a try of their own");
    assert_eq!(store.callback(arrival(1, "second", b"{}")).await.unwrap().verdict, Verdict::Matched);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_were_cut_are_replaced_without_a_word() {
    let base = Base::new();
    let store = base.instance().await;
    put(&*store, job(1)).await;
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    for n in 2..=4 {
        base.server.sql(&base.database, cut);
        assert!(matches!(store.insert(insertion(job(n))).await.unwrap(), Inserted::New(_)));
        base.server.sql(&base.database, cut);
        let change = job(n).step(&Event::Cancel, NOW, &policy()).unwrap();
        assert!(matches!(store.replace(change).await.unwrap(), Replaced::Done { .. }));
        base.server.sql(&base.database, cut);
        assert_eq!(
            store.callback(arrival(n, ["a", "b", "c"][usize::from(n - 2)], b"{}")).await.unwrap().verdict,
            Verdict::Matched
        );
    }
    assert_eq!(store.counts().await.unwrap().phases.values().sum::<u64>(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_outlives_the_runtime_of_whoever_wanted_it_first() {
    let base = Base::new();
    let store = base.instance().await;
    let worker = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(put(&*store, job(1)));
    };
    std::thread::scope(|scope| scope.spawn(worker).join().unwrap());
    let before = store.round_trips();
    assert!(store.load(id(1)).await.unwrap().is_some());
    assert_eq!(store.round_trips() - before, 1, "it was asked twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_answer_was_lost_is_known_and_not_made_twice() {
    let base = Base::new();
    let way = Way::to(&base.database).await;
    let store = PostgresStore::open(&way.database, Clock::manual(NOW.0), Duration::ZERO).await.unwrap();
    way.swallow("insert_job(");
    assert!(matches!(store.insert(insertion(job(1))).await.unwrap(), Inserted::New(_)));
    way.swallow("insert_job(");
    let keyed = Insert { key: Some(key("web", "a", 1)), ..insertion(job(2)) };
    assert!(matches!(store.insert(keyed).await.unwrap(), Inserted::New(_)));
    let change = job(2).step(&Event::Cancel, NOW, &policy()).unwrap();
    way.swallow("replace_job(");
    assert!(matches!(store.replace(change).await.unwrap(), Replaced::Done { .. }));
    way.swallow("replace_job(");
    let claimed = store.claim(claim(Duty::Submit, 5, NOW)).await.unwrap();
    assert_eq!(ids(&claimed), [id(1)], "the claim was committed, so its work is done");
    let Job { task: None, lease: Some(lease), .. } = get(&store, id(1)).await else { panic!() };
    step(&store, id(1), &Event::Accepted(task(1), lease), NOW).await;
    way.swallow("replace_together(");
    let heard = store.callback(arrival(1, "a", b"{}")).await.unwrap();
    assert_eq!((heard.verdict, heard.changed.is_some()), (Verdict::Matched, true));
    assert_eq!(get(&store, id(1)).await.callback.received, 1);
    let event = |n| about_no_job(n, EventKind::BudgetThreshold, serde_json::json!({}));
    way.swallow("log_events(");
    assert!(store.log_once("a", event(1), Vec::new()).await.unwrap(), "it was logged, and is said to be");
    assert!(!store.log_once("a", event(2), Vec::new()).await.unwrap());
    let only = EventFilter { kinds: vec![EventKind::BudgetThreshold], ..EventFilter::default() };
    assert_eq!(store.events(0, 100, only).await.unwrap().events.len(), 1);
    assert_eq!(way.swallowed.load(Relaxed), 6, "each answer was lost");
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.phase("awaiting"), counts.phase("done")), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_may_lose_what_it_acknowledged_is_refused() {
    let _alone = ALONE.lock().await;
    for setting in ["fsync", "full_page_writes", "synchronous_commit"] {
        let server = Server::start_with(&[&format!("{setting} = off")]);
        let probed = postgres::probe(&server.database()).await;
        assert!(
            matches!(probed, Err(StoreError::Unsafe { setting: found }) if found == setting),
            "{setting}"
        );
        let opened = PostgresStore::open(&server.database(), Clock::manual(NOW.0), Duration::ZERO).await;
        assert!(
            matches!(opened, Err(StoreError::Unsafe { setting: found }) if found == setting),
            "{setting}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_is_probed_from_outside_without_making_or_changing_a_table() {
    let _alone = ALONE.lock().await;
    let base = with_own_server().await;
    postgres::probe(&base.database).await.unwrap();
    let mut connection = PgConnection::connect(base.database.url.expose_secret()).await.unwrap();
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    let count: i64 = raw_sql(tables).fetch_one(&mut connection).await.unwrap().get(0);
    assert_eq!(count, 0);
    base.server.crash();
    assert!(matches!(postgres::probe(&base.database).await, Err(StoreError::Unavailable(_))));
}

/// A way to the database on which answers get lost.
struct Way {
    database: Database,
    /// The request whose answer is lost next contains this.
    marked: Arc<Mutex<Option<&'static str>>>,
    swallowed: Arc<AtomicU32>,
}

impl Way {
    async fn to(there: &Database) -> Self {
        let target: url::Url = there.url.expose_secret().parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut here = target.clone();
        here.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
        let database =
            Database { url: here.to_string().into(), direct_url: Some(there.url.clone()), ..there.clone() };
        let way = Self { database, marked: Arc::default(), swallowed: Arc::default() };
        let (marked, swallowed) = (Arc::clone(&way.marked), Arc::clone(&way.swallowed));
        let port = target.port().unwrap();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                tokio::spawn(carry(near, far, Arc::clone(&marked), Arc::clone(&swallowed)));
            }
        });
        way
    }

    fn swallow(&self, request: &'static str) {
        *self.marked.lock().unwrap() = Some(request);
    }
}

/// Carries bytes both ways until either end closes, or the answer to the marked request comes.
async fn carry(
    mut near: TcpStream,
    mut far: TcpStream,
    marked: Arc<Mutex<Option<&'static str>>>,
    swallowed: Arc<AtomicU32>,
) {
    let (mut request, mut answer) = ([0; 65_536], [0; 65_536]);
    let mut swallows = false;
    loop {
        tokio::select! {
            read = near.read(&mut request) => {
                let Ok(length @ 1..) = read else { return };
                let bytes = &request[..length];
                swallows |= marked
                    .lock()
                    .unwrap()
                    .take_if(|mark| bytes.windows(mark.len()).any(|part| part == mark.as_bytes()))
                    .is_some();
                far.write_all(bytes).await.unwrap();
            }
            read = far.read(&mut answer) => {
                let Ok(length @ 1..) = read else { return };
                if swallows {
                    swallowed.fetch_add(1, Relaxed);
                    return;
                }
                if near.write_all(&answer[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}
