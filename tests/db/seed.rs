//! A store with a job in every phase and an entry of every kind.

use std::sync::Arc;

use bytes::Bytes;
use reelhook::{
    lifecycle::{
        Answer, Attempt, Delivery, DeliveryEvent, Duty, Event, EventKind, Job, Report, RetryMode, StoredFile,
        Why,
    },
    store::{DeliveryClaim, Insert, Rendering, Store},
};
use serde_json::json;

use crate::{
    place::{Place, closed},
    support::{
        NOW, about_no_job, arrival, awaiting, booking, get, id, insertion, job, key, policy, put, step, task,
    },
};

/// The jobs of a seeded store, by the phase that they are in.
pub(crate) const QUEUED: u16 = 1;
pub(crate) const SENDING: u16 = 2;
pub(crate) const UNKNOWN: u16 = 3;
pub(crate) const HELD: u16 = 4;
pub(crate) const AWAITING: u16 = 5;
pub(crate) const FETCHING: u16 = 6;
pub(crate) const STORED: u16 = 7;
pub(crate) const CANCELED: u16 = 8;
/// Follows [`STORED`] up.
pub(crate) const FOLLOWING: u16 = 9;
/// Ended, and names no video.
pub(crate) const FAILED: u16 = 10;
/// None of them.
pub(crate) const STRANGER: u16 = 99;

/// Makes such a store, and closes it.
pub(crate) async fn seed(place: &Place) {
    let store = place.open();
    let queued = Job { deadline: Some(NOW.plus(3_600_000)), ..booking(job(QUEUED), 20_000, 300) };
    let document = Bytes::from(vec![b'x'; 5_000]);
    let keyed = Insert { key: Some(key("web", "order-1", 1)), document, ..insertion(queued) };
    store.insert(keyed).await.unwrap();
    put(&store, job(SENDING)).await;
    put(&store, job(UNKNOWN)).await;
    let lease = step(&store, id(UNKNOWN), &Event::Claimed(Duty::Submit), NOW).await.lease.unwrap();
    step(&store, id(UNKNOWN), &Event::Unknown(Why::AnswerLost, lease), NOW).await;
    put(&store, Job { callback: Default::default(), ..job(HELD) }).await;
    let lease = step(&store, id(HELD), &Event::Claimed(Duty::Submit), NOW).await.lease.unwrap();
    step(&store, id(HELD), &Event::Unknown(Why::AnswerLost, lease), NOW).await;
    awaiting(&store, AWAITING).await;
    for n in [FETCHING, STORED] {
        fetching(&store, n).await;
    }
    stored(&store, STORED).await;
    put(&store, booking(job(CANCELED), 20_001, 40)).await;
    step(&store, id(CANCELED), &Event::Cancel, NOW).await;
    awaiting(&store, FAILED).await;
    missing(&store, FAILED).await;
    let again = get(&store, id(STORED)).await.again(RetryMode::Recheck, id(FOLLOWING), NOW).unwrap();
    store.insert(Insert { document: Bytes::new(), ..insertion(again) }).await.unwrap();

    store.callback(arrival(AWAITING, "first", br#"{"status":"succeeded"}"#)).await.unwrap();
    store.callback(arrival(AWAITING, "second", b"\xff\xfe not text")).await.unwrap();
    store.callback(arrival(STRANGER, "stray", b"{}")).await.unwrap();
    store.keep("callback-secret", b"sesame".to_vec()).await.unwrap();
    silence(&store).await;
    told(&store).await;
    outbox(&store).await;
    // Last, so that its lease is not given back.
    step(&store, id(SENDING), &Event::Claimed(Duty::Submit), NOW).await;
    closed(store).await;
}

/// The next delivery of the only sink that is due.
fn next() -> DeliveryClaim {
    let render = Arc::new(|_: &Rendering<'_>| Bytes::from_static(b"{\"type\":\"job.canceled\"}"));
    DeliveryClaim { lane: "app".into(), max: 1, now: NOW, policy: policy(), render }
}

/// A delivery that succeeded.
async fn told(store: &dyn Store) {
    let claimed = store.claim_deliveries(next()).await.unwrap().remove(0).delivery;
    let attempt =
        Attempt { at: NOW, took: 5, answer: Answer::Delivered, code: Some(204), detail: String::new() };
    let event = DeliveryEvent::Answered(attempt, claimed.lease.unwrap());
    store.change_delivery(claimed.id, event, NOW, &policy()).await.unwrap().unwrap();
}

/// A delivery that failed once and is being tried again.
async fn outbox(store: &dyn Store) {
    let ask = next();
    let claimed = store.claim_deliveries(ask.clone()).await.unwrap().remove(0).delivery;
    let (answer, detail) = (Answer::Failed { retry_after: None }, "it is away".to_owned());
    let attempt = Attempt { at: NOW, took: 5, answer, code: Some(503), detail };
    let event = DeliveryEvent::Answered(attempt, claimed.lease.unwrap());
    let waits = store.change_delivery(claimed.id, event, NOW, &policy()).await.unwrap().unwrap().delivery;
    // Claimed again, and that is not answered any more.
    let later = DeliveryClaim { now: waits.due_at.unwrap(), ..ask };
    assert_eq!(store.claim_deliveries(later).await.unwrap().len(), 1);
}

/// Owed to a sink, and about no job.
async fn silence(store: &dyn Store) {
    let event = about_no_job(9, EventKind::CallbackSilent, json!({}));
    let debts = Delivery::all(&event, None, &policy()).collect();
    store.log(event, debts).await.unwrap();
}

async fn fetching(store: &dyn Store, n: u16) {
    awaiting(store, n).await;
    let asked = NOW.plus(86_400_000);
    let lease = step(store, id(n), &Event::Claimed(Duty::Ask), asked).await.lease.unwrap();
    let links = vec![format!("https://files.example.com/{n}.mp4")];
    let report = Report::Succeeded { links, credits: Some(300) };
    step(store, id(n), &Event::Reported(task(n), report, lease), asked).await;
}

/// The task route says "succeeded" and names no video until nobody asks again.
async fn missing(store: &dyn Store, n: u16) {
    let mut at = NOW.plus(86_400_000);
    while get(store, id(n)).await.phase_name() == "awaiting" {
        at = at.plus(86_400_000);
        let lease = step(store, id(n), &Event::Claimed(Duty::Ask), at).await.lease.unwrap();
        let report = Report::Succeeded { links: Vec::new(), credits: Some(300) };
        step(store, id(n), &Event::Reported(task(n), report, lease), at).await;
    }
}

async fn stored(store: &dyn Store, n: u16) {
    let at = NOW.plus(86_400_000);
    let lease = step(store, id(n), &Event::Claimed(Duty::Fetch), at).await.lease.unwrap();
    let file = StoredFile {
        name: "video.mp4".into(),
        location: format!("2026-01-15/{}/video.mp4", id(n)),
        bytes: 1234,
        sha256: "ab".repeat(32),
        content_type: "video/mp4".into(),
    };
    let fetched =
        get(store, id(n)).await.step(&Event::Fetched { index: 0, file, lease }, at, &policy()).unwrap();
    let lease = fetched.job.lease.unwrap_or(lease);
    store.replace(fetched).await.unwrap();
    step(store, id(n), &Event::Archived(lease), at).await;
}
