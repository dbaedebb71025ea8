//! Inserting and changing.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use reelhook::{
    lifecycle::{
        Awaiting, Change, Duty, Event, Job, JobId, NewJob, Note, Phase, Refusal, RetryMode, Successor, Task,
        TaskId, Why,
    },
    store::{Booked, Exceeded, IdempotencyKey, Insert, Inserted, Limits, Replaced, Store},
};

use crate::support::*;

pub(crate) async fn what_was_inserted_is_there_after_reopening(place: &dyn Place) {
    let store = place.open().await;
    let job = put(&*store, job(1)).await;
    let store = place.reopen(store).await;
    assert_eq!(get(&*store, id(1)).await, job);
    assert_eq!(store.document(id(1)).await.unwrap(), Some(insertion(job).document));
    assert_eq!(store.load(id(2)).await.unwrap(), None);
    assert_eq!(store.document(id(2)).await.unwrap(), None);
}

pub(crate) async fn a_long_request_comes_back_whole(place: &dyn Place) {
    let store = place.open().await;
    let document: Bytes = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
    store.insert(Insert { document: document.clone(), ..insertion(job(1)) }).await.unwrap();
    let store = place.reopen(store).await;
    assert_eq!(store.document(id(1)).await.unwrap(), Some(document));
}

async fn keyed(store: &dyn Store, n: u16, key: IdempotencyKey) -> Inserted {
    store.insert(Insert { key: Some(key), ..insertion(job(n)) }).await.unwrap()
}

pub(crate) async fn the_same_key_and_request_give_the_same_job(place: &dyn Place) {
    let store = place.open().await;
    keyed(&*store, 1, key("web", "a", 1)).await;
    let store = place.reopen(store).await;
    let again = keyed(&*store, 2, key("web", "a", 1)).await;
    assert!(matches!(again, Inserted::Replayed(job) if job.id == id(1)));
    assert_eq!(store.load(id(2)).await.unwrap(), None);
}

pub(crate) async fn the_same_key_with_another_request_is_refused(place: &dyn Place) {
    let store = place.open().await;
    keyed(&*store, 1, key("web", "a", 1)).await;
    let other = keyed(&*store, 2, key("web", "a", 2)).await;
    assert!(matches!(other, Inserted::KeyReused(holder) if holder == id(1)));
    assert_eq!(store.load(id(2)).await.unwrap(), None);
}

pub(crate) async fn keys_of_different_owners_do_not_meet(place: &dyn Place) {
    let store = place.open().await;
    assert!(matches!(keyed(&*store, 1, key("web", "a", 1)).await, Inserted::New(_)));
    assert!(matches!(keyed(&*store, 2, key("app", "a", 1)).await, Inserted::New(_)));
}

pub(crate) async fn concurrent_inserts_under_one_key_make_one_job(place: &dyn Place) {
    let store = place.open().await;
    let made = join_all((1..=32).map(|n| keyed(&*store, n, key("web", "a", 1)))).await;
    let made: Vec<_> = made
        .into_iter()
        .map(|inserted| match inserted {
            Inserted::New(job) => (true, job.id),
            Inserted::Replayed(job) => (false, job.id),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(made.iter().filter(|(new, _)| *new).count(), 1);
    assert!(made.iter().all(|(_, id)| *id == made[0].1));
    assert_eq!(store.counts().await.unwrap().phase("queued"), 1);
}

pub(crate) async fn a_reusable_key_passes_on_once_its_job_is_settled(place: &dyn Place) {
    let store = place.open().await;
    let mut key = key("-", "recheck:x", 0);
    key.reusable = true;
    keyed(&*store, 1, key.clone()).await;
    assert!(matches!(keyed(&*store, 2, key.clone()).await, Inserted::Replayed(_)));
    step(&*store, id(1), &Event::Cancel, NOW).await;
    assert!(matches!(keyed(&*store, 2, key.clone()).await, Inserted::New(_)));
    assert!(matches!(keyed(&*store, 3, key).await, Inserted::Replayed(job) if job.id == id(2)));
}

/// 2026-01-15, the day of `NOW`.
const TODAY: i32 = 20_468;

pub(crate) async fn a_budget_holds_under_concurrent_inserts(place: &dyn Place) {
    let store = place.open().await;
    let limits = Limits { daily_credits: 100, ..Limits::default() };
    let insert = |n| store.insert(Insert { limits, ..insertion(booking(job(n), TODAY, 30)) });
    let all = join_all((1..=16).map(insert)).await;
    let taken = all.iter().filter(|inserted| matches!(inserted, Ok(Inserted::New(_)))).count();
    let over = |inserted: &&Result<_, _>| {
        matches!(inserted, Ok(Inserted::OverBudget { period: "daily", booked: 90, limit: 100 }))
    };
    assert_eq!((taken, all.iter().filter(over).count()), (3, 13));
    let store = place.reopen(store).await;
    assert_eq!(store.booked(NOW).await.unwrap(), Booked { day: 90, month: 90 });
}

pub(crate) async fn a_budget_of_a_month_sums_its_days_and_no_others(place: &dyn Place) {
    let store = place.open().await;
    for (n, day) in [(1, TODAY - 15), (2, TODAY - 14), (3, TODAY), (4, TODAY + 16), (5, TODAY + 17)] {
        put(&*store, booking(job(n), day, 10)).await;
    }
    assert_eq!(store.booked(NOW).await.unwrap(), Booked { day: 10, month: 30 });
    let limits = Limits { monthly_credits: 35, ..Limits::default() };
    let refused = store.insert(Insert { limits, ..insertion(booking(job(6), TODAY, 6)) }).await.unwrap();
    assert!(matches!(refused, Inserted::OverBudget { period: "monthly", booked: 30, limit: 35 }));
    let fits = store.insert(Insert { limits, ..insertion(booking(job(6), TODAY, 5)) }).await.unwrap();
    assert!(matches!(fits, Inserted::New(_)));
}

pub(crate) async fn a_released_booking_can_be_booked_again(place: &dyn Place) {
    let store = place.open().await;
    put(&*store, booking(job(1), TODAY, 40)).await;
    step(&*store, id(1), &Event::Cancel, NOW).await;
    assert_eq!(store.booked(NOW).await.unwrap(), Booked::default());
    // What was given back as unpaid was charged after all.
    let mut late = stepped(&*store, id(1), &Event::Accepted(task(1), 0), NOW).await;
    late.book = booking(job(1), TODAY, 40).cost.reserved;
    store.replace(late).await.unwrap();
    assert_eq!(store.booked(NOW).await.unwrap(), Booked { day: 40, month: 40 });
}

pub(crate) async fn the_queue_limit_holds_under_concurrent_inserts(place: &dyn Place) {
    let store = place.open().await;
    let limits = Limits { queued: 5, ..Limits::default() };
    let all = join_all((1..=12).map(|n| store.insert(Insert { limits, ..insertion(job(n)) }))).await;
    let taken = all.iter().filter(|inserted| matches!(inserted, Ok(Inserted::New(_)))).count();
    assert_eq!(taken, 5);
    store.claim(claim(Duty::Submit, 1, NOW)).await.unwrap();
    let next = store.insert(Insert { limits, ..insertion(job(13)) }).await.unwrap();
    assert!(matches!(next, Inserted::New(_)), "a job that is being sent is not queued");
    let mut free = job(14);
    free.task = Some(Task { id: TaskId("t".into()), proven: true });
    free.phase = Phase::Awaiting(Awaiting::default());
    let free = store.insert(Insert { limits, ..insertion(free) }).await.unwrap();
    assert!(matches!(free, Inserted::New(_)), "nor is one that only asks about a task");
}

pub(crate) async fn of_concurrent_changes_of_one_revision_one_wins(place: &dyn Place) {
    let store = place.open().await;
    put(&*store, job(1)).await;
    for round in 1..=20 {
        let change = stepped(&*store, id(1), &Event::Claimed(Duty::Submit), NOW).await;
        let tasks = (0..16).map(|_| {
            let (store, change) = (Arc::clone(&store), change.clone());
            tokio::spawn(async move { store.replace(change).await.unwrap() })
        });
        let all = join_all(tasks).await;
        let done = all.iter().filter(|done| matches!(done, Ok(Replaced::Done { .. }))).count();
        let stale = all.iter().filter(|done| matches!(done, Ok(Replaced::Stale))).count();
        assert_eq!((done, stale), (1, 15), "round {round}");
        let lease = get(&*store, id(1)).await.lease.unwrap();
        let refusal = Refusal::NotSent("refused".into());
        let mut back = stepped(&*store, id(1), &Event::Refused(refusal, lease), NOW).await;
        back.job.due_at = Some(NOW);
        store.replace(back).await.unwrap();
    }
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.phase("queued"), counts.in_flight()), (1, 0));
}

pub(crate) async fn a_change_of_an_unknown_job_is_stale(place: &dyn Place) {
    let store = place.open().await;
    let change = job(1).step(&Event::Cancel, NOW, &policy()).unwrap();
    assert!(matches!(store.replace(change).await.unwrap(), Replaced::Stale));
    assert_eq!(store.bounds().await.unwrap().newest, 0);
}

pub(crate) async fn a_change_that_breaks_a_rule_writes_nothing(place: &dyn Place) {
    let store = place.open().await;
    let before = put(&*store, job(1)).await;
    let mut change = stepped(&*store, id(1), &Event::Cancel, NOW).await;
    change.job.due_at = Some(NOW);
    assert!(store.replace(change).await.is_err());
    assert_eq!(get(&*store, id(1)).await, before);
    assert_eq!(store.bounds().await.unwrap().newest, 1);
}

pub(crate) async fn a_task_belongs_to_one_job(place: &dyn Place) {
    let store = place.open().await;
    awaiting(&*store, 1).await;
    assert_eq!(store.by_task(&task(1)).await.unwrap(), Some(id(1)));
    assert_eq!(store.by_task(&task(2)).await.unwrap(), None);
    // A job that follows another one and is paid for has a task of its own, as any.
    let mut follower = job(2);
    follower.retry_of = Some(id(1));
    put(&*store, follower).await;
    let sending = step(&*store, id(2), &Event::Claimed(Duty::Submit), NOW).await;
    let same = stepped(&*store, id(2), &Event::Accepted(task(1), sending.lease.unwrap()), NOW).await;
    assert!(matches!(store.replace(same).await.unwrap(), Replaced::TaskTaken(owner) if owner == id(1)));
    assert_eq!(get(&*store, id(2)).await, sending);
}

pub(crate) async fn a_settled_or_following_job_may_name_the_task_of_another(place: &dyn Place) {
    let store = place.open().await;
    let first = awaiting(&*store, 1).await;
    let again = first.again(RetryMode::Recheck, id(2), NOW).unwrap();
    put(&*store, again).await;
    let late = Event::Accepted(task(1), 0);
    put(&*store, job(3)).await;
    step(&*store, id(3), &Event::Claimed(Duty::Submit), NOW).await;
    step(&*store, id(3), &Event::Cancel, NOW).await;
    if let Some(change) = get(&*store, id(3)).await.step(&late, NOW, &policy()) {
        assert!(matches!(store.replace(change).await.unwrap(), Replaced::Done { .. }));
    }
    assert_eq!(store.by_task(&task(1)).await.unwrap(), Some(id(1)));
}

pub(crate) async fn a_task_that_its_job_no_longer_names_is_free(place: &dyn Place) {
    let store = place.open().await;
    let mut renamed = awaiting(&*store, 1).await;
    renamed.revision += 1;
    renamed.task.as_mut().unwrap().id = task(7);
    let mut change = stepped(&*store, id(1), &Event::Cancel, NOW).await;
    (change.job, change.events, change.deliveries) = (renamed, Vec::new(), Vec::new());
    assert!(matches!(store.replace(change).await.unwrap(), Replaced::Done { .. }));
    assert_eq!(store.by_task(&task(1)).await.unwrap(), None);
    assert_eq!(store.by_task(&task(7)).await.unwrap(), Some(id(1)));
    put(&*store, job(2)).await;
    let sending = step(&*store, id(2), &Event::Claimed(Duty::Submit), NOW).await;
    step(&*store, id(2), &Event::Accepted(task(1), sending.lease.unwrap()), NOW).await;
    assert_eq!(store.by_task(&task(1)).await.unwrap(), Some(id(2)));
}

async fn held(store: &dyn Store, n: u16) {
    put(store, job(n)).await;
    let sending = step(store, id(n), &Event::Claimed(Duty::Submit), NOW).await;
    let unknown = Event::Unknown(Why::AcceptedWithoutId, sending.lease.unwrap());
    step(store, id(n), &unknown, NOW).await;
    if !matches!(get(store, id(n)).await.phase, Phase::Held { .. }) {
        step(store, id(n), &Event::Expired, NOW.plus(600_000)).await;
    }
}

pub(crate) async fn a_replacement_makes_one_successor_however_often_it_is_asked_for(place: &dyn Place) {
    let store = place.open().await;
    held(&*store, 1).await;
    let changes = join_all((2..=9).map(|n| {
        let next = booking(job(n), TODAY, 40);
        let store = Arc::clone(&store);
        async move { stepped(&*store, id(1), &Event::Replace(Box::new(next)), NOW).await }
    }))
    .await;
    let made = join_all(changes.into_iter().map(|change| store.replace(change))).await;
    let made: Vec<_> = made.into_iter().filter(|made| !matches!(made, Ok(Replaced::Stale))).collect();
    assert!(matches!(made[..], [Ok(Replaced::Done { successor: Some(_) })]));
    assert_eq!(store.counts().await.unwrap().phase("queued"), 1);
    assert_eq!(store.booked(NOW).await.unwrap().day, 40);
}

pub(crate) async fn a_replacement_is_never_paid_for_again_even_when_it_is_settled(place: &dyn Place) {
    let store = place.open().await;
    held(&*store, 1).await;
    step(&*store, id(1), &Event::Replace(Box::new(job(2))), NOW).await;
    step(&*store, id(2), &Event::Cancel, NOW).await;
    let mut again = stepped(&*store, id(1), &Event::Callback(note(3)), NOW).await;
    let (next, event) = (job(3), job(3).created_event());
    again.successor = Some(Successor { job: next, event, deliveries: Vec::new(), mode: RetryMode::Resubmit });
    let done = store.replace(again).await.unwrap();
    assert!(matches!(done, Replaced::Done { successor: Some(found) } if found == id(2)));
    assert_eq!(store.load(id(3)).await.unwrap(), None);
}

pub(crate) async fn a_budget_holds_under_concurrent_replacements(place: &dyn Place) {
    let store = place.open().await;
    let limits = Limits { daily_credits: 100, ..Limits::default() };
    let mut changes = Vec::new();
    for n in 1..=4 {
        held(&*store, n).await;
        let next = booking(job(10 + n), TODAY, 40);
        changes.push(stepped(&*store, id(n), &Event::Replace(Box::new(next)), NOW).await);
    }
    let again = changes[0].clone();
    let all = join_all(changes.into_iter().map(|change| store.replace_within(change, limits))).await;
    let done = all.iter().filter(|done| matches!(done, Ok(Replaced::Done { .. }))).count();
    let exceeded = Exceeded { period: "daily", booked: 80, limit: 100 };
    let over =
        |replaced: &&Result<_, _>| matches!(replaced, Ok(Replaced::OverBudget(why)) if *why == exceeded);
    assert_eq!((done, all.iter().filter(over).count()), (2, 2));
    assert_eq!(store.booked(NOW).await.unwrap().day, 80);
    assert_eq!(store.counts().await.unwrap().phase("held"), 2, "what is refused stays as it is");
    assert!(matches!(store.replace_within(again, limits).await.unwrap(), Replaced::Stale));
}

fn rechecked(change: &mut Change, from: &Job, n: u16) {
    let job = from.again(RetryMode::Recheck, id(n), NOW).unwrap();
    let event = job.created_event();
    change.successor = Some(Successor { job, event, deliveries: Vec::new(), mode: RetryMode::Recheck });
}

/// Rewrites job 1 with a recheck as job `n`; the successor that there is then.
async fn recheck(store: &dyn Store, n: u16) -> JobId {
    let old = get(store, id(1)).await;
    let mut change = stepped(store, id(1), &Event::Callback(note(n)), NOW).await;
    rechecked(&mut change, &old, n);
    match store.replace(change).await.unwrap() {
        Replaced::Done { successor: Some(successor) } => successor,
        other => panic!("{other:?}"),
    }
}

fn note(n: u16) -> Note {
    Note { task: None, duplicate: true, kept_bytes: 0, successor: id(n) }
}

pub(crate) async fn a_recheck_has_a_successor_again_once_the_first_is_settled(place: &dyn Place) {
    let store = place.open().await;
    awaiting(&*store, 1).await;
    step(&*store, id(1), &Event::Cancel, NOW).await;
    assert_eq!(recheck(&*store, 2).await, id(2));
    assert_eq!(recheck(&*store, 3).await, id(2));
    assert_eq!(store.load(id(3)).await.unwrap(), None);
    step(&*store, id(2), &Event::Cancel, NOW).await;
    assert_eq!(recheck(&*store, 3).await, id(3));
    assert_eq!(get(&*store, id(3)).await.retry_of, Some(id(1)));
}

pub(crate) async fn a_successor_has_the_request_of_its_predecessor(place: &dyn Place) {
    let store = place.open().await;
    awaiting(&*store, 1).await;
    recheck(&*store, 2).await;
    let first = store.document(id(1)).await.unwrap();
    assert!(first.is_some());
    assert_eq!(store.document(id(2)).await.unwrap(), first);
}

pub(crate) async fn unknown_fields_survive_every_rewriting(place: &dyn Place) {
    let store = place.open().await;
    let mut newer = Job::new(id(1), NOW, NewJob { model: "kling-3".into(), ..NewJob::default() });
    newer.other.insert("from_tomorrow".into(), "kept".into());
    put(&*store, newer).await;
    step(&*store, id(1), &Event::Claimed(Duty::Submit), NOW).await;
    let store = place.reopen(store).await;
    assert_eq!(get(&*store, id(1)).await.other["from_tomorrow"], "kept");
}
