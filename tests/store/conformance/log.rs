//! The event log, the inbound log and the lists.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, future::join_all, stream};
use reelhook::{
    lifecycle::{CallbackId, Duty, Event, EventKind, Job, JobId, NewJob, Phase, Status, Why},
    store::{
        CallbackFilter, CallbackRecord, Changed, EventFilter, JobFilter, Judged, LogBounds, Store, Verdict,
    },
};
use serde_json::json;

use crate::support::*;

pub(crate) async fn a_callback_is_kept_with_its_body_and_known_again(place: &dyn Place) {
    let store = place.open().await;
    awaiting(&*store, 1).await;
    let body = &[b'x'; 9_000];
    let heard = store.callback(arrival(1, "dlv", body)).await.unwrap();
    let Changed { before, after } = heard.changed.unwrap();
    assert_eq!((heard.verdict, after.revision), (Verdict::Matched, before.revision + 1));
    assert_eq!(get(&*store, id(1)).await, *after);
    let store = place.reopen(store).await;
    let entry = record(1, "dlv", body);
    let (kept, text) = store.callback_body(entry.id).await.unwrap().unwrap();
    assert_eq!((kept, text), (entry, Bytes::from_static(body)));
    assert_eq!(get(&*store, id(1)).await.due_at, Some(NOW));
    assert_eq!(store.callback(arrival(1, "dlv", body)).await.unwrap().verdict, Verdict::Duplicate);
    assert_eq!(store.callback(arrival(1, "other", body)).await.unwrap().verdict, Verdict::Matched);
}

pub(crate) async fn callbacks_that_race_are_judged_one_after_the_other(place: &dyn Place) {
    let store = place.open().await;
    awaiting(&*store, 1).await;
    let calls = (0..40).map(|n| store.callback(arrival(1, if n % 2 == 0 { "even" } else { "odd" }, b"{}")));
    let heard = join_all(calls).await.into_iter().map(|heard| heard.unwrap().verdict);
    let matched = heard.filter(|verdict| *verdict == Verdict::Matched).count();
    assert_eq!(matched, 2, "a delivery is new once");
    assert_eq!(get(&*store, id(1)).await.callback.received, 40);
}

pub(crate) async fn a_callback_that_names_the_task_of_another_job_adopts_nothing(place: &dyn Place) {
    let store = place.open().await;
    awaiting(&*store, 1).await;
    put(&*store, job(2)).await;
    let naming = |n, delivery: &str| called(n, delivery, b"{}", |judged| judged.note.task = Some(task(1)));
    store.callback(naming(2, "a")).await.unwrap();
    let held = get(&*store, id(2)).await;
    assert!(matches!(held.phase, Phase::Held { why: Why::IdContradicted }), "{held:?}");
    assert_eq!(held.callback.received, 1, "it was heard all the same");
    // A job that has a task of its own is only told to look.
    let third = awaiting(&*store, 3).await;
    store.callback(naming(3, "b")).await.unwrap();
    let told = get(&*store, id(3)).await;
    assert_eq!((told.task, told.due_at), (third.task, Some(NOW)));
}

pub(crate) async fn a_callback_for_an_unknown_job_is_kept(place: &dyn Place) {
    let store = place.open().await;
    let heard = store.callback(arrival(5, "dlv", b"{}")).await.unwrap();
    assert_eq!((heard.verdict, heard.changed.is_none()), (Verdict::Unmatched, true));
    let entry = CallbackRecord { verdict: Verdict::Unmatched, ..record(5, "dlv", b"{}") };
    assert_eq!(store.callback_body(entry.id).await.unwrap().unwrap().0, entry);
    store.callback(called(5, "dlv", b"{}", |judged| assert!(judged.note.duplicate))).await.unwrap();
    store.callback(called(5, "uncounted", b"{}", |judged| judged.keep = false)).await.unwrap();
    assert_eq!(store.callbacks(CallbackFilter::default(), None, 9).await.unwrap().items, [entry]);
}

/// How many callbacks are kept, and how many bytes of them.
async fn kept(store: &dyn Store) -> (usize, u64) {
    let entries = store.callbacks(CallbackFilter::default(), None, 10_000).await.unwrap().items;
    (entries.len(), entries.iter().map(|entry| entry.bytes).sum())
}

pub(crate) async fn of_callbacks_for_an_unknown_job_no_more_is_kept_than_for_a_known_one(place: &dyn Place) {
    let store = place.open().await;
    for n in 0..70 {
        let heard = store.callback(arrival(5, &format!("{n:010}"), b"{}")).await.unwrap();
        assert_eq!(heard.verdict, Verdict::Unmatched, "it is heard all the same");
    }
    assert_eq!(kept(&*store).await, (64, 128));
    let body: &'static [u8] = &[b'x'; 600 << 10];
    for delivery in ["a", "b"] {
        store.callback(arrival(6, delivery, body)).await.unwrap();
    }
    assert_eq!(kept(&*store).await, (65, 128 + (600 << 10)), "a second one would be more than 1 MiB");
    let store = place.reopen(store).await;
    store.callback(arrival(5, "one more", b"{}")).await.unwrap();
    store.callback(arrival(6, "small", b"{}")).await.unwrap();
    assert_eq!(kept(&*store).await, (66, 130 + (600 << 10)));
}

pub(crate) async fn of_callbacks_for_unknown_jobs_together_no_more_is_kept_than_their_share(
    place: &dyn Place,
) {
    let store = place.open().await;
    awaiting(&*store, 999).await;
    let calls = (0..66 * 64).map(|n| store.callback(arrival(n / 64, &format!("{n:010}"), b"{}")));
    let mut calls = stream::iter(calls).buffer_unordered(8);
    while let Some(heard) = calls.next().await {
        assert_eq!(heard.unwrap().verdict, Verdict::Unmatched);
    }
    assert_eq!(kept(&*store).await.0, 4096);
    store.callback(arrival(999, "dlv", b"{}")).await.unwrap();
    assert_eq!(kept(&*store).await.0, 4097, "jobs that are known have a share of their own");
}

pub(crate) async fn callbacks_are_listed_newest_first_and_filtered(place: &dyn Place) {
    let store = place.open().await;
    for n in 1..=3 {
        awaiting(&*store, n).await;
        for delivery in [format!("{n}a"), format!("{n}b")] {
            let forged = move |judged: &mut Judged| {
                if n == 3 {
                    judged.record.verdict = Verdict::Forged;
                }
            };
            store.callback(called(n, &delivery, b"{}", forged)).await.unwrap();
        }
    }
    let page = async |filter: CallbackFilter, before: Option<CallbackId>, limit| {
        let page = store.callbacks(filter, before, limit).await.unwrap();
        let last = page.items.last().map(|item| item.id);
        (page.items.into_iter().map(|item| item.delivery_id).collect::<Vec<_>>().join(" "), page.more, last)
    };
    let (first, more, last) = page(CallbackFilter::default(), None, 4).await;
    assert_eq!((first.as_str(), more), ("3b 3a 2b 2a", true));
    let (rest, more, _) = page(CallbackFilter::default(), last, 4).await;
    assert_eq!((rest.as_str(), more), ("1b 1a", false));
    let forged = CallbackFilter { verdict: Some(Verdict::Forged), job: None };
    assert_eq!(page(forged, None, 9).await.0, "3b 3a");
    let one = CallbackFilter { verdict: None, job: Some(id(2)) };
    assert_eq!(page(one, None, 2).await, ("2b 2a".into(), false, last));
}

async fn numbers(store: &dyn Store, filter: EventFilter) -> Vec<u64> {
    store.events(0, 10_000, filter).await.unwrap().events.iter().map(|entry| entry.seq).collect()
}

pub(crate) async fn events_are_numbered_without_gap_in_the_order_of_changes(place: &dyn Place) {
    let store = place.open().await;
    let lives = (1..=32).map(|n| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            put(&*store, job(n)).await;
            step(&*store, id(n), &Event::Claimed(Duty::Submit), NOW).await;
            step(&*store, id(n), &Event::Cancel, NOW).await;
        })
    });
    join_all(lives).await;
    assert_eq!(store.bounds().await.unwrap(), LogBounds { oldest: 1, newest: 96 });
    assert_eq!(numbers(&*store, EventFilter::default()).await, (1..=96).collect::<Vec<_>>());
    let page = store.events(0, 10_000, EventFilter::default()).await.unwrap();
    for n in 1..=32 {
        let of_job = page.events.iter().filter(|entry| entry.event.job_id == Some(id(n)));
        let kinds: Vec<_> = of_job.map(|entry| (entry.event.kind, entry.event.revision.unwrap())).collect();
        let life = [(EventKind::Created, 1), (EventKind::Submitted, 2), (EventKind::Canceled, 3)];
        assert_eq!(kinds, life);
    }
}

pub(crate) async fn events_go_on_counting_after_reopening(place: &dyn Place) {
    let store = place.open().await;
    assert_eq!(store.bounds().await.unwrap(), LogBounds { oldest: 1, newest: 0 });
    put(&*store, job(1)).await;
    let store = place.reopen(store).await;
    put(&*store, job(2)).await;
    assert_eq!(numbers(&*store, EventFilter::default()).await, [1, 2]);
}

pub(crate) async fn events_are_filtered_by_kind_job_and_tag(place: &dyn Place) {
    let store = place.open().await;
    for n in 1..=3 {
        let mut job = job(n);
        job.tags = if n == 2 { vec!["night".into()] } else { Vec::new() };
        put(&*store, job).await;
    }
    step(&*store, id(2), &Event::Cancel, NOW).await;
    step(&*store, id(1), &Event::Cancel, NOW).await;
    let canceled = EventFilter { kinds: vec![EventKind::Canceled], ..EventFilter::default() };
    assert_eq!(numbers(&*store, canceled).await, [4, 5]);
    let of_job = EventFilter { job: Some(id(1)), ..EventFilter::default() };
    assert_eq!(numbers(&*store, of_job.clone()).await, [1, 5]);
    let tagged = EventFilter { tag: Some("night".into()), ..EventFilter::default() };
    assert_eq!(numbers(&*store, tagged.clone()).await, [2, 4]);
    let both = EventFilter { kinds: vec![EventKind::Created], ..tagged };
    assert_eq!(numbers(&*store, both).await, [2]);
    let page = store.events(1, 10, of_job).await.unwrap();
    assert_eq!((page.events[0].seq, page.read_to, page.more), (5, 5, false));
}

pub(crate) async fn a_reader_of_events_resumes_where_it_stopped(place: &dyn Place) {
    let store = place.open().await;
    for n in 1..=7 {
        put(&*store, job(n)).await;
    }
    let (mut after, mut read) = (0, Vec::new());
    loop {
        let page = store.events(after, 3, EventFilter::default()).await.unwrap();
        read.extend(page.events.iter().map(|entry| entry.seq));
        after = page.read_to;
        if !page.more {
            break;
        }
    }
    assert_eq!((read, after), ((1..=7).collect(), 7));
    let none = EventFilter { kinds: vec![EventKind::Held], ..EventFilter::default() };
    let page = store.events(0, 3, none).await.unwrap();
    assert_eq!((page.events.len(), page.read_to, page.more), (0, 7, false));
    let page = store.events(7, 3, EventFilter::default()).await.unwrap();
    assert_eq!((page.events.len(), page.read_to, page.more), (0, 7, false));
}

async fn listed(store: &dyn Store, filter: JobFilter) -> Vec<JobId> {
    ids(&store.list(filter, None, 100).await.unwrap().items)
}

pub(crate) async fn jobs_are_listed_newest_first_in_pages_without_repeats(place: &dyn Place) {
    let store = place.open().await;
    for n in 1..=7 {
        put(&*store, job(n)).await;
    }
    let (mut before, mut pages) = (None, Vec::new());
    loop {
        let page = store.list(JobFilter::default(), before, 3).await.unwrap();
        pages.push(ids(&page.items));
        before = page.items.last().map(|job| job.id);
        if !page.more {
            break;
        }
    }
    assert_eq!(pages, [vec![id(7), id(6), id(5)], vec![id(4), id(3), id(2)], vec![id(1)]]);
    let page = store.list(JobFilter::default(), Some(id(4)), 3).await.unwrap();
    assert_eq!((ids(&page.items), page.more), (vec![id(3), id(2), id(1)], false));
}

pub(crate) async fn jobs_are_found_by_every_filter(place: &dyn Place) {
    let store = place.open().await;
    awaiting(&*store, 1).await;
    let queued = |n, model: &str, tag: &str| {
        let (model, tags) = (model.to_owned(), vec![tag.to_owned()]);
        Job { model, tags, created_at: NOW.plus(i64::from(n)), ..job(n) }
    };
    put(&*store, queued(2, "wan-2", "night")).await;
    put(&*store, queued(3, "kling-3", "day")).await;
    step(&*store, id(3), &Event::Cancel, NOW).await;
    let all = JobFilter::default;
    let by = async |filter: JobFilter, found: &[u16]| {
        let found: Vec<_> = found.iter().copied().map(id).collect();
        assert_eq!(listed(&*store, filter.clone()).await, found, "{filter:?}");
    };
    by(JobFilter { status: Some(Status::Running), ..all() }, &[1]).await;
    by(JobFilter { status: Some(Status::Queued), ..all() }, &[2]).await;
    by(JobFilter { status: Some(Status::Canceled), ..all() }, &[3]).await;
    by(JobFilter { status: Some(Status::Held), ..all() }, &[]).await;
    by(JobFilter { phase: Some("awaiting".into()), ..all() }, &[1]).await;
    by(JobFilter { phase: Some("done".into()), ..all() }, &[3]).await;
    by(JobFilter { phase: Some("dreaming".into()), ..all() }, &[]).await;
    by(JobFilter { model: Some("wan-2".into()), ..all() }, &[2]).await;
    by(JobFilter { tag: Some("day".into()), ..all() }, &[3]).await;
    by(JobFilter { via: Some(reelhook::lifecycle::Via::Poll), ..all() }, &[]).await;
    by(JobFilter { created_after: Some(NOW.plus(2)), ..all() }, &[3, 2]).await;
    by(JobFilter { created_before: Some(NOW.plus(2)), ..all() }, &[1]).await;
    by(JobFilter { q: Some("TASK-1".into()), ..all() }, &[1]).await;
    by(JobFilter { q: Some("wan".into()), ..all() }, &[2]).await;
    by(JobFilter { q: Some(id(3).to_string()), ..all() }, &[3]).await;
    by(JobFilter { q: Some("a film".into()), ..all() }, &[]).await;
    by(JobFilter { q: Some("\"film ".into()), ..all() }, &[3, 2, 1]).await;
}

pub(crate) async fn the_oldest_open_job_of_each_phase_is_known_whatever_ends_before_it(place: &dyn Place) {
    let store = place.open().await;
    let aged = |seconds: i64| {
        let at = NOW.plus(-seconds * 1_000);
        let new = NewJob { model: "kling-3".into(), ..NewJob::default() };
        Job::new(JobId::new(at, &[7; 10]), at, new)
    };
    assert_eq!(store.oldest().await.unwrap(), [].into());
    let (old, middle) = (put(&*store, aged(900)).await, put(&*store, aged(500)).await);
    put(&*store, aged(100)).await;
    assert_eq!(store.oldest().await.unwrap(), [("queued".to_owned(), old.created_at)].into());
    step(&*store, old.id, &Event::Cancel, NOW).await;
    step(&*store, middle.id, &Event::Claimed(Duty::Submit), NOW).await;
    let phases = |queued, sending| [("queued".to_owned(), queued), ("sending".to_owned(), sending)].into();
    assert_eq!(store.oldest().await.unwrap(), phases(NOW.plus(-100_000), middle.created_at));
    // One that comes late into the store is older than what was seen before.
    let late = put(&*store, aged(130)).await;
    assert_eq!(store.oldest().await.unwrap(), phases(late.created_at, middle.created_at));
}

pub(crate) async fn an_event_about_no_job_is_numbered_among_the_others(place: &dyn Place) {
    let store = place.open().await;
    put(&*store, job(1)).await;
    let kind = EventKind::CallbackSilent;
    let event = about_no_job(3, kind, json!({}));
    store.log(event.clone(), Vec::new()).await.unwrap();
    put(&*store, job(2)).await;
    let store = place.reopen(store).await;
    let page = store.events(0, 10, EventFilter::default()).await.unwrap();
    let kinds: Vec<(u64, EventKind)> =
        page.events.iter().map(|entry| (entry.seq, entry.event.kind)).collect();
    assert_eq!(kinds, [(1, EventKind::Created), (2, kind), (3, EventKind::Created)]);
    let mut logged = page.events[1].event.clone();
    // A store of several instances adds which of them wrote it.
    logged.data.as_object_mut().unwrap().remove("instance");
    assert_eq!(logged, event);
    let only = EventFilter { kinds: vec![kind], ..EventFilter::default() };
    assert_eq!(store.events(0, 10, only).await.unwrap().events.len(), 1);
    let of_a_job = EventFilter { job: Some(job(1).id), ..EventFilter::default() };
    assert_eq!(store.events(0, 10, of_a_job).await.unwrap().events.len(), 1);
}
