//! A group seen from inside: what the outside can only meet by chance.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use proptest::prelude::*;
use sled::IVec;

use super::{
    SledStore, keys,
    source::Source,
    state::State,
    txn::Txn,
    write::{self, New, Write},
};
use crate::{
    config,
    lifecycle::{Duty, Event, Job, JobId, Millis, NewJob, Policy},
    store::{Claim, IdempotencyKey, Insert, Inserted, Limits, Replaced, Store, StoreError},
};

fn tree() -> sled::Db {
    sled::Config::new().temporary(true).open().unwrap()
}

fn job(n: u8) -> Job {
    Job::new(JobId::new(Millis(5), &[n; 10]), Millis(5), NewJob::default())
}

fn new(job: &Job) -> New {
    New::of(job, &job.created_event(), &[], Some(Bytes::from_static(b"{}"))).unwrap()
}

fn policy() -> Policy {
    use crate::lifecycle::{DeliveryPolicy, Experience, FetchPolicy, PollPolicy};
    Policy {
        lease: 1,
        submit_lease: 1,
        unknown_wait: 1,
        probe_after: 1,
        experience: Experience::default(),
        poll: PollPolicy {
            first_after: 1,
            overdue_after: 1,
            interval: 1,
            max_interval: 1,
            jitter: 0.0,
            give_up_after: 1,
        },
        fetch: FetchPolicy { attempts: 1, backoff: 1, max_backoff: 1, give_up_after: 1 },
        sinks: Vec::new(),
        delivery: DeliveryPolicy::default(),
    }
}

#[test]
fn a_request_is_judged_against_what_its_group_wrote_before() {
    let mut txn = Txn::new((*tree()).clone(), State::default());
    let key = IdempotencyKey { owner: "a".into(), key: "k".into(), fingerprint: [1; 32], reusable: false };
    let limits = Limits { queued: 1, ..Limits::default() };
    let first = write::insert(&mut txn, &new(&job(1)), Some(&key), &limits).unwrap();
    let again = write::insert(&mut txn, &new(&job(2)), Some(&key), &limits).unwrap();
    let full = write::insert(&mut txn, &new(&job(3)), None, &limits).unwrap();
    assert!(first.is_none() && matches!(full, Some(Inserted::QueueFull { limit: 1 })));
    assert!(matches!(again, Some(Inserted::Replayed(found)) if *found == job(1)));

    let change = Write::of(&job(1).step(&Event::Cancel, Millis(6), &policy()).unwrap()).unwrap();
    assert!(matches!(write::replace(&mut txn, &change).unwrap(), Replaced::Done { .. }));
    assert!(matches!(write::replace(&mut txn, &change).unwrap(), Replaced::Stale));
    assert_eq!(txn.state.head.newest, 2);
}

#[test]
fn a_request_that_fails_half_way_leaves_nothing_of_itself() {
    let mut txn = Txn::new((*tree()).clone(), State::default());
    txn.attempt(|txn| write::insert(txn, &new(&job(1)), None, &Limits::default())).unwrap();
    let before = (txn.scan(&[0], &[255], 99).unwrap(), txn.state);
    let failed: Result<(), _> = txn.attempt(|txn| {
        write::insert(txn, &new(&job(2)), None, &Limits::default())?;
        let cancel = job(1).step(&Event::Cancel, Millis(6), &policy()).unwrap();
        write::replace(txn, &Write::of(&cancel)?)?;
        Err(StoreError::Unavailable("a fault".into()))
    });
    assert!(failed.is_err());
    assert_eq!((txn.scan(&[0], &[255], 99).unwrap(), txn.state), before);
}

#[test]
fn a_group_that_wrote_nothing_has_nothing_to_sync() {
    let mut txn = Txn::new((*tree()).clone(), State::default());
    assert!(txn.batch().unwrap().is_none());
    let stray = Write::of(&job(1).step(&Event::Cancel, Millis(6), &policy()).unwrap()).unwrap();
    assert!(matches!(write::replace(&mut txn, &stray).unwrap(), Replaced::Stale));
    assert!(txn.batch().unwrap().is_none());
    write::insert(&mut txn, &new(&job(1)), None, &Limits::default()).unwrap();
    assert!(txn.batch().unwrap().is_some());
    assert!(txn.batch().unwrap().is_none());
}

#[tokio::test]
async fn a_damaged_page_of_the_due_index_costs_no_job_its_turn_after_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let config = config::Store { path: folder.path().join("state"), cache: 1 << 20, min_free: 0 };
    let open = || SledStore::open(&config, Millis(5), &Arc::new(policy())).unwrap();
    let claim =
        || Claim { duty: Duty::Submit, max: 9, in_flight: 9, now: Millis(9), policy: Arc::new(policy()) };
    let store = open();
    for n in 1..=3 {
        let (job, limits) = (job(n), Limits::default());
        let (event, document) = (job.created_event(), Bytes::from_static(b"{}"));
        store
            .insert(Insert { job, event, deliveries: Vec::new(), document, key: None, limits })
            .await
            .unwrap();
    }
    let damage = |txn: &mut Txn| {
        let (page, _) = txn.scan(&[keys::DUE], &[keys::DUE + 1], 1).unwrap().pop().unwrap();
        txn.mark(&page);
        Ok(())
    };
    store.committer.judge(damage).await.unwrap();
    assert_eq!(store.claim(claim()).await.unwrap().len(), 2);
    drop(store);
    let taken = open().claim(claim()).await.unwrap();
    assert_eq!(taken.iter().map(|job| job.id).collect::<Vec<_>>(), [job(1).id]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn the_view_of_a_group_is_the_tree_with_its_writes_on_top(
        stored in proptest::collection::btree_map(0_u8..40, 0_u8..9, 0..20),
        written in proptest::collection::vec((0_u8..40, any::<bool>()), 0..20),
        from in 0_u8..40, to in 0_u8..41, limit in 0_usize..45,
    ) {
        let db = tree();
        let mut model: BTreeMap<u8, IVec> = BTreeMap::new();
        for (key, value) in stored {
            db.insert([key], vec![value; 3]).unwrap();
            model.insert(key, IVec::from(vec![value; 3]));
        }
        let mut txn = Txn::new((*db).clone(), State::default());
        for (key, set) in written {
            if set {
                txn.mark(&[key]);
                model.insert(key, IVec::default());
            } else {
                txn.unmark(&[key]);
                model.remove(&key);
            }
        }
        let end = to.max(from);
        let wanted: Vec<_> =
            model.range(from..end).take(limit).map(|(key, value)| (IVec::from(&[*key]), value.clone())).collect();
        prop_assert_eq!(txn.scan(&[from], &[end], limit).unwrap(), wanted);
        for key in 0..40 {
            prop_assert_eq!(Source::get(&txn, &[key]).unwrap(), model.get(&key).cloned());
        }
    }
}
