//! The outbox: what is owed is tried, by one at a time, with the same bytes each time, and never forgotten.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use futures_util::future::join_all;
use reelhook::{
    lifecycle::{
        Answer, Attempt, Delivery, DeliveryEvent, DeliveryId, DeliveryState, Event, EventId, EventKind,
        Millis, Notify, NotifyFormat,
    },
    store::{About, ClaimedDelivery, DeliveryClaim, DeliveryFilter, EventFilter, Store},
};

use crate::support::*;

/// The lane of the one sink that the policy knows.
const APP: &str = "app";
const DAY: i64 = 86_400_000;

fn ask(lane: &str, max: usize, now: Millis) -> DeliveryClaim {
    let render = |what: &reelhook::store::Rendering<'_>| {
        Bytes::from(match what.about {
            Some(About { job, .. }) => format!("{} as of {}", job.id, job.revision),
            None => what.delivery.data.as_ref().unwrap().to_string(),
        })
    };
    DeliveryClaim { lane: lane.into(), max, now, policy: policy(), render: Arc::new(render) }
}

/// A job that is canceled, and so owed to the sink.
pub(crate) async fn owed(store: &dyn Store, n: u16) {
    put(store, job(n)).await;
    step(store, id(n), &Event::Cancel, NOW).await;
}

pub(crate) async fn take(store: &dyn Store, now: Millis) -> Vec<ClaimedDelivery> {
    store.claim_deliveries(ask(APP, 100, now)).await.unwrap()
}

pub(crate) async fn answer(
    store: &dyn Store,
    claimed: &Delivery,
    answer: Answer,
    now: Millis,
) -> Option<Delivery> {
    let attempt = Attempt { at: now, took: 3, answer, code: Some(500), detail: "as told".into() };
    let event = DeliveryEvent::Answered(attempt, claimed.lease.unwrap());
    let changed = store.change_delivery(claimed.id, event, now, &policy()).await.unwrap();
    changed.map(|changed| changed.delivery)
}

const FAILED: Answer = Answer::Failed { retry_after: None };

async fn kinds(store: &dyn Store, filter: EventFilter) -> Vec<EventKind> {
    let page = store.events(0, 200, filter).await.unwrap();
    page.events
        .into_iter()
        .map(|entry| entry.event.kind)
        .filter(|kind| kind.name().contains("deliv") || *kind == EventKind::SinkDisabled)
        .collect()
}

pub(crate) async fn what_is_owed_is_found_by_its_lane_and_survives_reopening(place: &dyn Place) {
    let store = place.open().await;
    assert!(store.lanes().await.unwrap().is_empty());
    for n in 1..=3 {
        owed(&*store, n).await;
    }
    let store = place.reopen(store).await;
    let lanes = store.lanes().await.unwrap();
    assert_eq!(lanes.iter().map(|lane| (lane.name.as_str(), lane.due)).collect::<Vec<_>>(), [(APP, NOW)]);
    assert_eq!(store.counts().await.unwrap().owed, 3);
    let counts = store.delivery_counts(id(2)).await.unwrap();
    assert_eq!((counts.total, counts.pending), (1, 1));
}

pub(crate) async fn what_is_owed_for_an_event_about_no_job_tells_what_the_event_has_to_tell(
    place: &dyn Place,
) {
    let store = place.open().await;
    let event = about_no_job(3, EventKind::CallbackSilent, serde_json::json!({ "since": 7 }));
    let debts: Vec<Delivery> = Delivery::all(&event, None, &policy()).collect();
    store.log(event.clone(), debts.clone()).await.unwrap();
    assert_eq!(store.counts().await.unwrap().owed, 1);
    let store = place.reopen(store).await;
    assert_eq!(store.deliveries(DeliveryFilter::default(), None, 9).await.unwrap().items, debts);
    let first = take(&*store, NOW).await.remove(0);
    assert_eq!((&*first.body, first.delivery.job_id), (&br#"{"since":7}"#[..], None));
    let failed = answer(&*store, &first.delivery, FAILED, NOW).await.unwrap();
    let store = place.reopen(store).await;
    let again = take(&*store, failed.due_at.unwrap()).await.remove(0);
    assert_eq!((&again.body, again.delivery.event_id), (&first.body, event.id));
    answer(&*store, &again.delivery, Answer::Delivered, NOW).await.unwrap();
    let expected = [EventKind::DeliveryFailed, EventKind::DeliverySucceeded];
    assert_eq!(kinds(&*store, EventFilter::default()).await, expected);
    assert_eq!(store.counts().await.unwrap().owed, 0);
}

pub(crate) async fn of_events_of_one_name_one_is_logged_and_owed_however_many_come(place: &dyn Place) {
    let store = place.open().await;
    let event = |n| about_no_job(n, EventKind::CallbackSilent, serde_json::json!({}));
    let debts = |event: &_| Delivery::all(event, None, &policy()).collect::<Vec<_>>();
    let said = join_all((1..=8).map(|n| store.log_once("a", event(n), debts(&event(n))))).await;
    let said: Vec<bool> = said.into_iter().map(Result::unwrap).collect();
    let first = 1 + u8::try_from(said.iter().position(|said| *said).unwrap()).unwrap();
    assert_eq!(said.iter().filter(|said| **said).count(), 1);
    let store = place.reopen(store).await;
    assert!(!store.log_once("a", event(9), debts(&event(9))).await.unwrap());
    assert!(store.log_once("a", event(first), debts(&event(first))).await.unwrap(), "asked for again");
    assert!(store.log_once("b", event(10), debts(&event(10))).await.unwrap());
    let logged = store.events(0, 100, EventFilter::default()).await.unwrap().events;
    let logged: Vec<EventId> = logged.into_iter().map(|entry| entry.event.id).collect();
    assert_eq!(logged, [event(first).id, event(10).id]);
    assert_eq!(store.counts().await.unwrap().owed, 2);
}

pub(crate) async fn a_delivery_is_claimed_once_however_many_ask(place: &dyn Place) {
    let store = place.open().await;
    for n in 1..=40 {
        owed(&*store, n).await;
    }
    let askers = (0..16).map(|_| store.claim_deliveries(ask(APP, 5, NOW)));
    let taken: Vec<_> = join_all(askers).await.into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(taken.len(), 40);
    assert_eq!(taken.iter().map(|claimed| claimed.delivery.id).collect::<HashSet<_>>().len(), 40);
    assert!(take(&*store, NOW).await.is_empty());
    let lease_ends = taken[0].delivery.due_at.unwrap();
    assert_eq!(take(&*store, lease_ends).await.len(), 40, "a claim that is not answered comes back");
}

pub(crate) async fn every_try_sends_the_bytes_of_the_first(place: &dyn Place) {
    let store = place.open().await;
    owed(&*store, 1).await;
    let first = take(&*store, NOW).await.remove(0);
    assert_eq!(store.delivery_body(first.delivery.id).await.unwrap(), Some(first.body.clone()));
    let failed = answer(&*store, &first.delivery, FAILED, NOW).await.unwrap();
    step(&*store, id(1), &Event::Accepted(task(1), 0), NOW).await;
    let store = place.reopen(store).await;
    let again = take(&*store, failed.due_at.unwrap()).await.remove(0);
    assert_eq!((again.body, again.delivery.attempts), (first.body, 2));
}

pub(crate) async fn a_foreign_answer_changes_nothing(place: &dyn Place) {
    let store = place.open().await;
    owed(&*store, 1).await;
    let first = take(&*store, NOW).await.remove(0).delivery;
    let second = take(&*store, first.due_at.unwrap()).await.remove(0).delivery;
    assert_eq!(answer(&*store, &first, Answer::Delivered, NOW).await, None);
    assert_eq!(store.delivery(first.id).await.unwrap(), Some(second.clone()));
    let done = answer(&*store, &second, Answer::Delivered, NOW).await.unwrap();
    assert_eq!(done.state, DeliveryState::Succeeded);
    assert_eq!(answer(&*store, &second, FAILED, NOW).await, None, "and it is said once");
}

pub(crate) async fn after_a_jump_of_the_clock_no_delivery_waits_longer_than_the_schedule(place: &dyn Place) {
    let ahead = NOW.plus(30 * DAY);
    let store = place.open().await;
    for n in 1..=3 {
        owed(&*store, n).await;
    }
    let mut claimed = take(&*store, ahead).await;
    let (failed, waiting) = (claimed.remove(0).delivery, claimed.remove(0).delivery);
    let failed = answer(&*store, &failed, FAILED, ahead).await.unwrap();
    let soon = answer(&*store, &waiting, FAILED, NOW).await.unwrap();
    store.reclamp(NOW, &policy()).await.unwrap();
    let lane = store.lanes().await.unwrap().remove(0);
    assert_eq!((lane.name.as_str(), lane.due), (APP, NOW));
    let hastened = store.delivery(failed.id).await.unwrap().unwrap();
    assert_eq!((hastened.due_at, hastened.failures), (Some(NOW), 1));
    assert_eq!(store.delivery(soon.id).await.unwrap(), Some(soon), "what the schedule allows stays");
    let under_way = claimed.remove(0).delivery;
    assert_eq!(store.delivery(under_way.id).await.unwrap(), Some(under_way.clone()), "it has its own answer");
    assert!(answer(&*store, &under_way, Answer::Delivered, NOW).await.is_some());
    let again = take(&*store, NOW).await;
    assert_eq!(again.iter().map(|one| one.delivery.id).collect::<Vec<_>>(), [failed.id]);
}

/// Of a store that has no clock but this machine's.
pub(crate) async fn a_start_after_a_jump_of_the_clock_hastens_deliveries(place: &dyn Place) {
    let ahead = NOW.plus(30 * DAY);
    let store = place.open().await;
    owed(&*store, 1).await;
    let taken = take(&*store, ahead).await.remove(0).delivery;
    let failed = answer(&*store, &taken, FAILED, ahead).await.unwrap();
    let store = place.reopen(store).await;
    let hastened = store.delivery(failed.id).await.unwrap().unwrap();
    assert_eq!(hastened.due_at, Some(NOW), "the start compares with the last durable time");
}

pub(crate) async fn a_claim_of_a_process_that_is_gone_is_given_back(place: &dyn Place) {
    let store = place.open().await;
    owed(&*store, 1).await;
    let claimed = take(&*store, NOW).await.remove(0).delivery;
    let store = place.reopen(store).await;
    let again = take(&*store, NOW).await.remove(0).delivery;
    assert_eq!((again.id, again.state), (claimed.id, DeliveryState::Pending));
    assert_eq!(answer(&*store, &claimed, FAILED, NOW).await, None, "its lease is another's");
}

pub(crate) async fn tries_are_told_in_the_log_and_in_the_timeline_of_their_job(place: &dyn Place) {
    let store = place.open().await;
    owed(&*store, 1).await;
    owed(&*store, 2).await;
    let claimed = take(&*store, NOW).await.remove(0).delivery;
    let failed = answer(&*store, &claimed, FAILED, NOW).await.unwrap();
    let again = store.claim_deliveries(ask(APP, 9, failed.due_at.unwrap())).await.unwrap();
    let again = again.into_iter().find(|claimed| claimed.delivery.id == failed.id).unwrap().delivery;
    answer(&*store, &again, Answer::Delivered, NOW).await.unwrap();
    let store = place.reopen(store).await;
    let expected = [EventKind::DeliveryFailed, EventKind::DeliverySucceeded];
    assert_eq!(kinds(&*store, EventFilter::default()).await, expected);
    let job = claimed.job_id.unwrap();
    let of_job = EventFilter { job: Some(job), ..EventFilter::default() };
    assert_eq!(kinds(&*store, of_job).await, expected);
    assert_eq!(get(&*store, job).await.revision, 2, "the job itself is as it was");
}

pub(crate) async fn a_used_up_delivery_stays_and_can_be_replayed(place: &dyn Place) {
    let store = place.open().await;
    owed(&*store, 1).await;
    let (mut now, tries) = (NOW, policy().delivery.schedule.len());
    let mut last = None;
    for _ in 0..tries {
        let claimed = take(&*store, now).await.remove(0).delivery;
        let failed = answer(&*store, &claimed, FAILED, now).await.unwrap();
        now = failed.due_at.unwrap_or(now);
        last = Some(failed);
    }
    let last = last.unwrap();
    assert_eq!(
        (last.state, last.attempts as usize, last.tries.len()),
        (DeliveryState::Exhausted, tries, tries)
    );
    let store = place.reopen(store).await;
    assert!(store.lanes().await.unwrap().is_empty());
    assert_eq!(store.delivery_counts(id(1)).await.unwrap().exhausted, 1);
    store.change_delivery(last.id, DeliveryEvent::Replayed, now, &policy()).await.unwrap().unwrap();
    let again = take(&*store, now).await.remove(0).delivery;
    let done = answer(&*store, &again, Answer::Delivered, now).await.unwrap();
    assert_eq!((done.state, done.why), (DeliveryState::Succeeded, None));
}

pub(crate) async fn a_sink_that_says_gone_is_disabled_and_loses_nothing(place: &dyn Place) {
    let store = place.open().await;
    for n in 1..=3 {
        owed(&*store, n).await;
    }
    let first = store.claim_deliveries(ask(APP, 1, NOW)).await.unwrap().remove(0).delivery;
    answer(&*store, &first, Answer::Gone, NOW).await.unwrap();
    let store = place.reopen(store).await;
    assert!(store.sinks().await.unwrap()[0].state.disabled_at.is_some());
    assert!(take(&*store, NOW).await.is_empty(), "nothing is tried");
    let exhausted = DeliveryFilter { state: Some(DeliveryState::Exhausted), ..DeliveryFilter::default() };
    let listed = store.deliveries(exhausted.clone(), None, 50).await.unwrap().items;
    assert_eq!(listed.len(), 3);
    assert!(listed.iter().filter(|left| left.id != first.id).all(|left| {
        left.attempts == 0 && left.why.as_deref().is_some_and(|why| why.contains("disabled"))
    }));
    let told = kinds(&*store, EventFilter::default()).await;
    assert_eq!(told.iter().filter(|kind| **kind == EventKind::SinkDisabled).count(), 1);
    assert_eq!(store.recover_sink(APP, NOW.plus(1), NOW, &policy()).await.unwrap(), 0, "they are older");
    assert_eq!(store.recover_sink(APP, NOW, NOW, &policy()).await.unwrap(), 3);
    assert_eq!(take(&*store, NOW).await.len(), 3);
}

pub(crate) async fn a_sink_that_fails_for_too_long_is_disabled(place: &dyn Place) {
    let store = place.open().await;
    owed(&*store, 1).await;
    owed(&*store, 2).await;
    let both = take(&*store, NOW).await;
    answer(&*store, &both[0].delivery, FAILED, NOW).await.unwrap();
    let since = store.sinks().await.unwrap()[0].state.failing_since;
    assert_eq!(since, Some(NOW));
    let late = NOW.plus(policy().delivery.disable_after);
    answer(&*store, &both[1].delivery, FAILED, late).await.unwrap();
    assert_eq!(store.sinks().await.unwrap()[0].state.disabled_at, Some(late));
    store.recover_sink(APP, NOW, late, &policy()).await.unwrap();
    let again = take(&*store, late.plus(DAY)).await.remove(0).delivery;
    answer(&*store, &again, Answer::Delivered, late.plus(DAY)).await.unwrap();
    assert_eq!(store.sinks().await.unwrap()[0].state.failing_since, None);
}

pub(crate) async fn a_url_of_a_job_has_a_lane_of_its_own_and_is_never_disabled(place: &dyn Place) {
    let store = place.open().await;
    let mut own = job(1);
    own.notify =
        vec![Notify { url: "https://a.example.com/x".into(), secret: None, format: NotifyFormat::Standard }];
    put(&*store, own.clone()).await;
    step(&*store, id(1), &Event::Cancel, NOW).await;
    let mut lanes: Vec<String> = store.lanes().await.unwrap().into_iter().map(|lane| lane.name).collect();
    lanes.sort();
    assert_eq!(lanes, [APP, "notify:a.example.com"]);
    let claimed = store.claim_deliveries(ask("notify:a.example.com", 9, NOW)).await.unwrap().remove(0);
    assert_eq!(claimed.notify, Some(own.notify[0].clone()));
    let gone = answer(&*store, &claimed.delivery, Answer::Gone, NOW).await.unwrap();
    assert_eq!(gone.state, DeliveryState::Exhausted);
    assert!(store.sinks().await.unwrap().is_empty());
}

pub(crate) async fn deliveries_are_listed_newest_first_and_filtered(place: &dyn Place) {
    let store = place.open().await;
    for n in 1..=5 {
        put(&*store, job(n)).await;
        step(&*store, id(n), &Event::Cancel, NOW.plus(i64::from(n))).await;
    }
    let page = store.deliveries(DeliveryFilter::default(), None, 2).await.unwrap();
    assert_eq!(page.items.iter().map(|item| item.job_id).collect::<Vec<_>>(), [Some(id(5)), Some(id(4))]);
    let before = page.read_to.map(DeliveryId::from_bytes);
    let rest = store.deliveries(DeliveryFilter::default(), before, 9).await.unwrap();
    assert_eq!((page.more, rest.items.len(), rest.more), (true, 3, false));
    let of_job = DeliveryFilter { job: Some(id(2)), ..DeliveryFilter::default() };
    assert_eq!(store.deliveries(of_job, None, 9).await.unwrap().items[0].job_id, Some(id(2)));
    let other = DeliveryFilter { lane: Some("other".into()), ..DeliveryFilter::default() };
    assert!(store.deliveries(other, None, 9).await.unwrap().items.is_empty());
}

/// Claims, answers, lost answers and restarts in an order that a seed fixes: nothing is lost, nothing is invented.
pub(crate) async fn whatever_is_interrupted_every_delivery_is_told_and_ends_once(place: &dyn Place) {
    const JOBS: u16 = 12;
    let mut store = place.open().await;
    let (mut seed, mut now, mut made) = (0x5EED_u64, NOW, 0);
    let mut chance = |of: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % of
    };
    let mut sent: HashMap<DeliveryId, Bytes> = HashMap::new();
    let mut open: Vec<Delivery> = Vec::new();
    for _ in 0..150 {
        match chance(6) {
            0 if made < JOBS => {
                made += 1;
                owed(&*store, made).await;
            }
            1 => {
                store = place.reopen(store).await;
            }
            2 => now = now.plus(30_000),
            3 | 4 => {
                for ClaimedDelivery { delivery, body, .. } in
                    store.claim_deliveries(ask(APP, 2, now)).await.unwrap()
                {
                    let first = sent.entry(delivery.id).or_insert_with(|| body.clone());
                    assert_eq!(*first, body, "the bytes of the first try");
                    open.push(delivery);
                }
            }
            // Some answers are lost, and some come after a restart or another claim.
            _ => {
                if let Some(delivery) = open.pop() {
                    let answered = if chance(3) == 0 { FAILED } else { Answer::Delivered };
                    answer(&*store, &delivery, answered, now).await;
                }
            }
        }
    }
    while made < JOBS {
        made += 1;
        owed(&*store, made).await;
    }
    while let Some(lane) = store.lanes().await.unwrap().pop() {
        now = now.max(lane.due);
        for claimed in take(&*store, now).await {
            answer(&*store, &claimed.delivery, Answer::Delivered, now).await;
        }
    }
    let all = store.deliveries(DeliveryFilter::default(), None, 100).await.unwrap().items;
    assert_eq!(all.len(), usize::from(JOBS));
    assert!(all.iter().all(|delivery| delivery.state == DeliveryState::Succeeded), "{all:#?}");
    let ends = kinds(&*store, EventFilter::default()).await;
    let ends = ends.into_iter().filter(|kind| *kind == EventKind::DeliverySucceeded).count();
    assert_eq!((ends, store.counts().await.unwrap().owed), (usize::from(JOBS), 0));
}
