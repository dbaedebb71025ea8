//! Claims and the due index.

use std::{collections::HashSet, sync::Arc};

use futures_util::future::join_all;
use reelhook::{
    lifecycle::{Duty, Event, Millis, NewJob, Outcome, Phase},
    store::Claim,
};

use crate::support::*;

pub(crate) async fn a_job_is_claimed_once_however_many_ask(place: &dyn Place) {
    let store = place.open().await;
    for n in 1..=40 {
        put(&*store, job(n)).await;
    }
    let askers = (0..16).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.claim(claim(Duty::Submit, 5, NOW)).await.unwrap() })
    });
    let taken: Vec<_> = join_all(askers).await.into_iter().flat_map(|jobs| ids(&jobs.unwrap())).collect();
    assert_eq!(taken.len(), 40);
    assert_eq!(taken.iter().collect::<HashSet<_>>().len(), 40);
    let claimed = get(&*store, id(1)).await;
    assert_eq!((&claimed.phase, claimed.lease), (&Phase::Sending, Some(2)));
    assert!(store.claim(claim(Duty::Submit, 5, NOW)).await.unwrap().is_empty());
}

pub(crate) async fn urgent_work_goes_first_then_the_longest_due(place: &dyn Place) {
    let store = place.open().await;
    for n in 1..=4 {
        awaiting(&*store, n).await;
    }
    for (n, later) in [(2, 300), (1, 200), (4, 100)] {
        let mut change = stepped(&*store, id(n), &Event::Cancel, NOW).await;
        change.job = get(&*store, id(n)).await;
        (change.job.revision, change.job.due_at) = (change.job.revision + 1, Some(NOW.plus(later)));
        (change.events, change.deliveries) = (Vec::new(), Vec::new());
        store.replace(change).await.unwrap();
    }
    let called = arrival(3, "first", b"{}");
    store.callback(called).await.unwrap();
    let mut order = Vec::new();
    loop {
        let next = store.claim(claim(Duty::Ask, 1, NOW.plus(1_000))).await.unwrap();
        let Some(next) = next.first() else { break };
        order.push(next.id);
    }
    assert_eq!(order, [id(3), id(4), id(1), id(2)]);
}

pub(crate) async fn nothing_is_claimed_before_it_is_due(place: &dyn Place) {
    let store = place.open().await;
    awaiting(&*store, 1).await;
    let due = get(&*store, id(1)).await.due_at.unwrap();
    assert!(store.claim(claim(Duty::Ask, 9, due.plus(-1))).await.unwrap().is_empty());
    assert!(store.claim(claim(Duty::Fetch, 9, due)).await.unwrap().is_empty());
    assert_eq!(ids(&store.claim(claim(Duty::Ask, 9, due)).await.unwrap()), [id(1)]);
}

pub(crate) async fn no_more_are_sent_than_may_be_in_flight(place: &dyn Place) {
    let store = place.open().await;
    awaiting(&*store, 1).await;
    for n in 2..=9 {
        put(&*store, job(n)).await;
    }
    let bounded = |max| Claim { in_flight: 4, ..claim(Duty::Submit, max, NOW) };
    let all = join_all((0..8).map(|_| store.claim(bounded(2)))).await;
    assert_eq!(all.into_iter().flat_map(Result::unwrap).count(), 3);
    step(&*store, id(1), &Event::Cancel, NOW).await;
    assert_eq!(store.claim(bounded(9)).await.unwrap().len(), 1);
}

fn with_deadline(n: u16, deadline: Millis) -> reelhook::lifecycle::Job {
    let mut job = job(n);
    job.deadline = Some(deadline);
    job
}

pub(crate) async fn a_job_past_its_deadline_does_not_stand_in_the_way(place: &dyn Place) {
    let store = place.open().await;
    for n in 1..=5 {
        put(&*store, with_deadline(n, NOW.plus(10))).await;
    }
    put(&*store, job(6)).await;
    let claimed = store.claim(claim(Duty::Submit, 1, NOW.plus(10))).await.unwrap();
    assert_eq!(ids(&claimed), [id(6)]);
}

pub(crate) async fn expiry_settles_the_matter_at_once(place: &dyn Place) {
    let store = place.open().await;
    put(&*store, with_deadline(1, NOW.plus(10))).await;
    put(&*store, job(2)).await;
    step(&*store, id(2), &Event::Claimed(Duty::Submit), NOW).await;
    assert!(store.claim(claim(Duty::Expire, 9, NOW.plus(9))).await.unwrap().is_empty());
    let expired = store.claim(claim(Duty::Expire, 9, NOW.plus(65_000))).await.unwrap();
    assert_eq!(ids(&expired), [id(1), id(2)]);
    let store = place.reopen(store).await;
    let late = get(&*store, id(1)).await;
    assert!(matches!(late.outcome(), Some(Outcome::Failed { .. })));
    assert!(matches!(get(&*store, id(2)).await.phase, Phase::Unknown { .. }));
    assert!(store.claim(claim(Duty::Submit, 9, NOW.plus(65_000))).await.unwrap().is_empty());
}

pub(crate) async fn the_next_due_time_is_the_earliest(place: &dyn Place) {
    let store = place.open().await;
    assert_eq!(store.next_due(Duty::Ask).await.unwrap(), None);
    awaiting(&*store, 1).await;
    let due = get(&*store, id(1)).await.due_at;
    assert_eq!(store.next_due(Duty::Ask).await.unwrap(), due);
    awaiting(&*store, 2).await;
    let called = arrival(2, "first", b"{}");
    store.callback(called).await.unwrap();
    assert_eq!(store.next_due(Duty::Ask).await.unwrap(), Some(NOW));
    assert_eq!(store.next_due(Duty::Submit).await.unwrap(), None);
}

pub(crate) async fn the_counts_follow_every_change_and_survive_reopening(place: &dyn Place) {
    let store = place.open().await;
    for n in 1..=3 {
        put(&*store, job(n)).await;
    }
    awaiting(&*store, 4).await;
    step(&*store, id(3), &Event::Cancel, NOW).await;
    let counts = store.counts().await.unwrap();
    let phase = |name| counts.phase(name);
    assert_eq!((phase("queued"), phase("awaiting"), phase("done")), (2, 1, 1));
    assert_eq!((phase("sending"), counts.outcomes.get("canceled")), (0, Some(&1)));
    let store = place.reopen(store).await;
    assert_eq!(store.counts().await.unwrap(), counts);
}

pub(crate) async fn a_kept_value_never_changes(place: &dyn Place) {
    let store = place.open().await;
    let all = join_all((0..8).map(|n| store.keep("secret", vec![n; 5_000]))).await;
    let kept = all[0].as_ref().unwrap().clone();
    assert!(all.iter().all(|value| value.as_ref().unwrap() == &kept));
    let store = place.reopen(store).await;
    assert_eq!(store.keep("secret", vec![99]).await.unwrap(), kept);
    assert_eq!(store.keep("other", vec![99]).await.unwrap(), [99]);
}

pub(crate) async fn a_probe_is_taken_as_often_as_one_likes_and_leaves_nothing(place: &dyn Place) {
    let store = place.open().await;
    put(&*store, job(1)).await;
    let before = (store.counts().await.unwrap(), store.bounds().await.unwrap());
    for _ in 0..3 {
        store.probe().await.unwrap();
    }
    assert_eq!((store.counts().await.unwrap(), store.bounds().await.unwrap()), before);
    let store = place.reopen(store).await;
    assert_eq!((store.counts().await.unwrap(), store.bounds().await.unwrap()), before);
    store.close().await;
    assert!(store.probe().await.is_err());
    drop(place.reopen(store).await);
}

pub(crate) async fn a_change_wakes_who_registered_before(place: &dyn Place) {
    let store = place.open().await;
    let mut wake = store.wake();
    wake.mark_unchanged();
    put(&*store, job(1)).await;
    wake.changed().await.unwrap();
    assert_eq!(store.next_due(Duty::Submit).await.unwrap(), Some(NOW));
}

pub(crate) async fn nothing_is_taken_on_after_closing(place: &dyn Place) {
    let store = place.open().await;
    put(&*store, job(1)).await;
    store.close().await;
    store.close().await;
    assert!(store.insert(insertion(job(2))).await.is_err());
    assert!(store.load(id(1)).await.is_err());
    assert!(store.barrier().await.is_err());
    let store = place.reopen(store).await;
    assert_eq!(store.load(id(2)).await.unwrap(), None);
    let new = NewJob::default();
    assert_eq!(get(&*store, id(1)).await.tags, new.tags);
}
