//! What is past its time goes, with all that is its; the rest stays.

use reelhook::{
    lifecycle::{
        Answer, CallbackId, DeliveryState, Event, EventKind, Job, JobId, Millis, Phase, Reservation, Why,
    },
    store::{
        CallbackFilter, DeliveryFilter, EventFilter, Inserted, Litter, LogBounds, Store, Sweep, Swept,
        Verdict,
    },
};

use super::outbox::{answer, owed, take};
use crate::support::*;

const DAY: i64 = 86_400_000;
const LATER: Millis = NOW.plus(10 * DAY);

/// Everything of before a time.
fn sweep(litter: Litter, before: Millis) -> Sweep {
    Sweep { litter, before, after: 0, dry_run: false }
}

/// Sweeps to the end; how many were found.
async fn swept(store: &dyn Store, mut sweep: Sweep) -> u64 {
    let mut count = 0;
    loop {
        let step = store.sweep(sweep).await.unwrap();
        count += step.count;
        sweep.after = sweep.after.max(step.read_to);
        if !step.more {
            return count;
        }
    }
}

async fn forget(store: &dyn Store, job: &Job) -> bool {
    let gone = store.forget(vec![(job.id, job.revision)]).await.unwrap();
    assert!(gone.is_empty() || gone == [job.id]);
    !gone.is_empty()
}

/// Lets the one sink take everything that is owed.
async fn deliver(store: &dyn Store, now: Millis) {
    for claimed in take(store, now).await {
        answer(store, &claimed.delivery, Answer::Delivered, now).await.unwrap();
    }
}

async fn ended(store: &dyn Store, before: Millis) -> Vec<JobId> {
    let (mut ids, mut after) = (Vec::new(), None);
    loop {
        let page = store.ended(before, after).await.unwrap();
        ids.extend(page.jobs.iter().map(|job| job.id));
        after = page.next;
        if after.is_none() {
            return ids;
        }
    }
}

pub(crate) async fn a_job_is_forgotten_with_all_that_is_its_and_nothing_else(place: &dyn Place) {
    let store = place.open().await;
    let store = &*store;
    let mut insert = insertion(booking(job(1), 20_468, 7));
    insert.key = Some(key("team", "first", 1));
    store.insert(insert).await.unwrap();
    awaiting(store, 2).await;
    let claimed = step(store, id(1), &Event::Claimed(reelhook::lifecycle::Duty::Submit), NOW).await;
    step(store, id(1), &Event::Accepted(task(1), claimed.lease.unwrap()), NOW).await;
    store.callback(arrival(1, "dlv", b"{}")).await.unwrap();
    step(store, id(1), &Event::Cancel, NOW).await;
    deliver(store, NOW).await;
    let (before, booked) = (store.counts().await.unwrap(), store.booked(NOW).await.unwrap());
    let over = get(store, id(1)).await;
    assert!(matches!(over.cost.reserved, Some(Reservation { credits: 7, .. })));

    assert!(forget(store, &over).await);
    assert!(!forget(store, &over).await, "it is gone already");
    assert_eq!(store.load(id(1)).await.unwrap(), None);
    assert_eq!(store.document(id(1)).await.unwrap(), None);
    assert_eq!(store.by_task(&task(1)).await.unwrap(), None);
    let of_it = DeliveryFilter { job: Some(id(1)), ..DeliveryFilter::default() };
    assert!(store.deliveries(of_it, None, 9).await.unwrap().items.is_empty());
    assert!(store.deliveries(DeliveryFilter::default(), None, 9).await.unwrap().items.is_empty());
    let after = store.counts().await.unwrap();
    assert_eq!((before.outcomes["canceled"], after.outcomes.get("canceled")), (1, None));
    assert_eq!((after.phase("awaiting"), after.owed), (1, 0));
    assert_eq!(store.booked(NOW).await.unwrap(), booked, "what it cost stays booked");
    let events = store.events(0, 100, EventFilter::default()).await.unwrap().events;
    assert!(events.iter().any(|entry| entry.event.job_id == Some(id(1))), "the log has a time of its own");
    assert_eq!(get(store, id(2)).await.task.unwrap().id, task(2));
}

pub(crate) async fn a_forgotten_job_leaves_its_key_and_its_callbacks_to_others(place: &dyn Place) {
    let store = place.open().await;
    let keyed = |n, name: &str| {
        let mut insert = insertion(job(n));
        insert.key = Some(key("team", name, 1));
        insert
    };
    store.insert(keyed(1, "first")).await.unwrap();
    store.insert(keyed(2, "second")).await.unwrap();
    step(&*store, id(1), &Event::Cancel, NOW).await;
    deliver(&*store, NOW).await;
    assert!(forget(&*store, &get(&*store, id(1)).await).await);
    let store = place.reopen(store).await;
    assert!(matches!(store.insert(keyed(3, "first")).await.unwrap(), Inserted::New(job) if job.id == id(3)));
    assert!(
        matches!(store.insert(keyed(4, "second")).await.unwrap(), Inserted::Replayed(job) if job.id == id(2))
    );
    assert_eq!(store.callback(arrival(1, "late", b"{}")).await.unwrap().verdict, Verdict::Unmatched);
}

pub(crate) async fn a_job_that_is_open_held_owed_or_changed_is_not_forgotten(place: &dyn Place) {
    let store = place.open().await;
    let store = &*store;
    let open = awaiting(store, 1).await;
    put(store, job(2)).await;
    let held = step(store, id(2), &Event::Restored, NOW).await;
    assert!(matches!(held.phase, Phase::Held { why: Why::Restored }));
    owed(store, 3).await;
    let owing = get(store, id(3)).await;
    for job in [open, held, owing] {
        assert!(!forget(store, &job).await, "{job:?}");
        assert_eq!(get(store, job.id).await, job);
    }
    deliver(store, NOW).await;
    let over = get(store, id(3)).await;
    let stale = Job { revision: over.revision - 1, ..over.clone() };
    assert!(!forget(store, &stale).await, "it changed since");
    assert!(forget(store, &over).await);
}

pub(crate) async fn jobs_that_have_ended_are_found_oldest_first_in_parts(place: &dyn Place) {
    let store = place.open().await;
    for n in 1..=12 {
        put(&*store, job(n)).await;
        if n % 3 != 0 {
            step(&*store, id(n), &Event::Cancel, NOW).await;
        }
    }
    let found = ended(&*store, id(11).made_at()).await;
    assert_eq!(found, [1, 2, 4, 5, 7, 8, 10].map(id));
}

pub(crate) async fn the_event_log_is_swept_from_its_oldest_end_on(place: &dyn Place) {
    let store = place.open().await;
    for n in 1..=6 {
        put(&*store, job(n)).await; // an event of now each
    }
    step(&*store, id(1), &Event::Cancel, LATER).await;
    step(&*store, id(2), &Event::Cancel, LATER.plus(1)).await;
    let all = LogBounds { oldest: 1, newest: 8 };
    assert_eq!(store.bounds().await.unwrap(), all);
    let dry = Sweep { dry_run: true, ..sweep(Litter::Events, LATER) };
    assert_eq!(swept(&*store, dry).await, 6);
    assert_eq!(store.bounds().await.unwrap(), all, "that was only a look");
    assert_eq!(store.sweep(sweep(Litter::Events, NOW)).await.unwrap(), Swept::default());

    assert_eq!(swept(&*store, sweep(Litter::Events, LATER)).await, 6);
    let store = place.reopen(store).await;
    assert_eq!(store.bounds().await.unwrap(), LogBounds { oldest: 7, newest: 8 });
    let rest = store.events(0, 100, EventFilter::default()).await.unwrap();
    assert_eq!(rest.events.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [7, 8]);
    let of_job = EventFilter { job: Some(id(1)), ..EventFilter::default() };
    let of_job = store.events(0, 100, of_job).await.unwrap().events;
    assert_eq!(of_job.iter().map(|entry| entry.event.kind).collect::<Vec<_>>(), [EventKind::Canceled]);

    swept(&*store, sweep(Litter::Events, LATER.plus(DAY))).await;
    assert_eq!(store.bounds().await.unwrap(), LogBounds { oldest: 8, newest: 8 }, "the newest stays");
    put(&*store, job(7)).await;
    assert_eq!(store.bounds().await.unwrap().newest, 9, "numbers go on");
}

/// A callback for job `n` that came at a time.
async fn called_at(store: &dyn Store, n: u16, delivery: &str, at: Millis) {
    let unique = delivery.bytes().chain([0; 10]).take(10).collect::<Vec<_>>().try_into().unwrap();
    let arrival = called(n, delivery, b"a body", move |judged| {
        (judged.record.received_at, judged.record.id) = (at, CallbackId::new(at, &unique));
    });
    store.callback(arrival).await.unwrap();
}

/// Delivery ids of what the inbound log has, oldest first, and how many bytes of bodies.
async fn heard(store: &dyn Store) -> (Vec<String>, usize) {
    let mut entries = store.callbacks(CallbackFilter::default(), None, 200).await.unwrap().items;
    entries.reverse();
    let mut bytes = 0;
    for entry in &entries {
        let (record, body) = store.callback_body(entry.id).await.unwrap().unwrap();
        assert_eq!((&record, record.bytes), (entry, 6), "what it was stays known");
        bytes += body.len();
    }
    (entries.into_iter().map(|entry| entry.delivery_id).collect(), bytes)
}

pub(crate) async fn bodies_of_callbacks_go_before_their_entries(place: &dyn Place) {
    let store = place.open().await;
    awaiting(&*store, 1).await;
    for (delivery, at) in [("a", NOW), ("b", NOW.plus(DAY)), ("c", LATER), ("d", LATER.plus(1))] {
        called_at(&*store, 1, delivery, at).await;
    }
    assert_eq!(swept(&*store, sweep(Litter::Bodies, NOW.plus(2 * DAY))).await, 2);
    assert_eq!(swept(&*store, sweep(Litter::Bodies, NOW.plus(2 * DAY))).await, 0, "they are gone");
    let store = place.reopen(store).await;
    assert_eq!(heard(&*store).await, (["a", "b", "c", "d"].map(String::from).into(), 12));
    assert_eq!(swept(&*store, sweep(Litter::Callbacks, NOW.plus(1))).await, 1);
    assert_eq!(heard(&*store).await, (["b", "c", "d"].map(String::from).into(), 12));
    let again = store.callback(arrival(1, "a", b"{}")).await.unwrap();
    assert_eq!(again.verdict, Verdict::Duplicate, "a repeat is known as long as the job is");
}

pub(crate) async fn callbacks_without_a_job_give_their_share_back(place: &dyn Place) {
    let store = place.open().await;
    for n in 0..70 {
        called_at(&*store, 5, &format!("{n:010}"), NOW.plus(n)).await;
    }
    called_at(&*store, 6, "other", LATER).await;
    assert_eq!(heard(&*store).await.0.len(), 65, "64 of a job");
    assert_eq!(swept(&*store, sweep(Litter::Callbacks, LATER)).await, 64);
    for n in 100..103 {
        called_at(&*store, 5, &format!("{n:010}"), LATER.plus(n)).await;
    }
    assert_eq!(heard(&*store).await.0.len(), 4);
}

pub(crate) async fn deliveries_go_once_they_are_over(place: &dyn Place) {
    let store = place.open().await;
    for n in 1..=6 {
        owed(&*store, n).await;
    }
    let claimed = store.deliveries(DeliveryFilter::default(), None, 9).await.unwrap().items;
    assert_eq!(claimed.len(), 6);
    let taken = take(&*store, NOW).await;
    for (n, claimed) in taken.iter().enumerate() {
        match n {
            0..=2 => drop(answer(&*store, &claimed.delivery, Answer::Delivered, NOW).await),
            3 => drop(answer(&*store, &claimed.delivery, Answer::Refused, NOW).await),
            4 => drop(answer(&*store, &claimed.delivery, Answer::Delivered, LATER).await),
            _ => {}
        }
    }
    let before = NOW.plus(DAY);
    let dry = Sweep { dry_run: true, ..sweep(Litter::Deliveries, before) };
    assert_eq!((swept(&*store, dry).await, swept(&*store, sweep(Litter::Deliveries, before)).await), (4, 4));
    let store = place.reopen(store).await;
    let left = store.deliveries(DeliveryFilter::default(), None, 9).await.unwrap().items;
    let mut states: Vec<_> = left.iter().map(|delivery| delivery.state).collect();
    states.sort_by_key(|state| *state as u8);
    assert_eq!(states, [DeliveryState::Pending, DeliveryState::Succeeded], "one is owed, one ended later");
    for gone in taken.iter().take(4) {
        assert_eq!(store.delivery_body(gone.delivery.id).await.unwrap(), None);
        assert_eq!(store.delivery_counts(gone.delivery.job_id.unwrap()).await.unwrap().total, 0);
    }
    assert_eq!(store.counts().await.unwrap().owed, 1);
}
