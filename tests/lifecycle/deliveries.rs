//! The table of a delivery, arm by arm, and how a sink fares.

use proptest::prelude::*;
use reelhook::lifecycle::{
    Answer, Attempt, Delivery, DeliveryEvent, DeliveryPolicy, DeliveryState, Event, EventKind, EventRecord,
    MAX_TRIES, Millis, Notify, NotifyFormat, SinkRule, SinkState,
};

use crate::support::{START, job, policy};

fn owed() -> Delivery {
    let rule = SinkRule { name: "app".into(), events: vec![EventKind::Succeeded] };
    let job = job(2, true);
    let event = EventRecord { kind: EventKind::Succeeded, ..job.created_event() };
    Delivery::owed(&rule, &event, Some(&job), &DeliveryPolicy::default()).unwrap()
}

fn attempt(answer: Answer) -> Attempt {
    Attempt { at: START, took: 12, answer, code: Some(503), detail: "busy".into() }
}

const FAILED: Answer = Answer::Failed { retry_after: None };

/// The record and the kind of event after it.
fn next(delivery: &Delivery, event: DeliveryEvent, now: Millis) -> Option<(Delivery, Option<EventKind>)> {
    let change = delivery.step(&event, now, &DeliveryPolicy::default())?;
    assert_eq!(change.delivery.revision, delivery.revision + 1);
    change.delivery.check().unwrap();
    Some((change.delivery, change.event.map(|event| event.kind)))
}

fn claimed(delivery: &Delivery) -> Delivery {
    next(delivery, DeliveryEvent::Claimed, delivery.due_at.unwrap()).unwrap().0
}

fn answered(delivery: &Delivery, answer: Answer, now: Millis) -> (Delivery, Option<EventKind>) {
    next(delivery, DeliveryEvent::Answered(attempt(answer), delivery.lease.unwrap()), now).unwrap()
}

#[test]
fn a_claim_is_a_lease_that_only_time_makes_takable_again() {
    let owed = owed();
    assert_eq!(next(&owed, DeliveryEvent::Claimed, START.plus(-1)), None);
    let (claimed, said) = next(&owed, DeliveryEvent::Claimed, START).unwrap();
    assert_eq!((claimed.lease, claimed.due_at, claimed.attempts), (Some(2), Some(START.plus(20_000)), 1));
    assert_eq!(said, None);
    assert_eq!(next(&claimed, DeliveryEvent::Claimed, START.plus(19_999)), None);
    assert_eq!(next(&claimed, DeliveryEvent::Claimed, START.plus(20_000)).unwrap().0.attempts, 2);
}

#[test]
fn what_was_delivered_is_over_and_said_once() {
    let taken = claimed(&owed());
    let (done, said) = answered(&taken, Answer::Delivered, START);
    assert_eq!(
        (done.state, done.due_at, said),
        (DeliveryState::Succeeded, None, Some(EventKind::DeliverySucceeded))
    );
    for event in [
        DeliveryEvent::Claimed,
        DeliveryEvent::Answered(attempt(FAILED), 2),
        DeliveryEvent::Orphaned,
        DeliveryEvent::Hastened,
        DeliveryEvent::Released(2),
        DeliveryEvent::Withdrawn("no".into()),
    ] {
        assert_eq!(next(&done, event, START), None);
    }
}

#[test]
fn failures_wait_by_the_schedule_and_end_with_it() {
    let schedule = DeliveryPolicy::default().schedule;
    let mut delivery = owed();
    for wait in &schedule[1..] {
        let taken = claimed(&delivery);
        let (failed, said) = answered(&taken, FAILED, START);
        assert_eq!(said, Some(EventKind::DeliveryFailed));
        let waits = failed.due_at.unwrap().since(START);
        assert!((*wait..=*wait + wait / 10 + 1).contains(&waits), "{waits} for {wait}");
        delivery = failed;
    }
    let (last, said) = answered(&claimed(&delivery), FAILED, START);
    assert_eq!((last.state, said), (DeliveryState::Exhausted, Some(EventKind::DeliveryExhausted)));
    assert_eq!(last.attempts as usize, schedule.len());
    assert!(last.why.unwrap().contains("busy"));
}

#[test]
fn a_sink_may_ask_for_more_time_and_not_for_less() {
    let wait = |asked| {
        let (failed, _) = answered(&claimed(&owed()), Answer::Failed { retry_after: Some(asked) }, START);
        failed.due_at.unwrap().since(START)
    };
    assert_eq!(wait(90_000), 90_000);
    assert!((5_000..=5_500).contains(&wait(1)));
    assert_eq!(wait(i64::MAX), 24 * 3_600_000, "and not for ever");
}

#[test]
fn never_again_is_believed_and_can_be_replayed() {
    for answer in [Answer::Refused, Answer::Gone] {
        let (over, said) = answered(&claimed(&owed()), answer, START);
        assert_eq!((over.state, said), (DeliveryState::Exhausted, Some(EventKind::DeliveryExhausted)));
        let (again, said) = next(&over, DeliveryEvent::Replayed, START.plus(5)).unwrap();
        assert_eq!((again.state, again.due_at, said), (DeliveryState::Pending, Some(START.plus(5)), None));
        assert_eq!((again.failures, again.attempts, again.why), (0, 1, None));
    }
}

#[test]
fn a_foreign_answer_changes_nothing_and_a_claim_given_back_is_due() {
    let taken = claimed(&owed());
    assert_eq!(next(&taken, DeliveryEvent::Answered(attempt(Answer::Delivered), 1), START), None);
    assert_eq!(next(&taken, DeliveryEvent::Released(1), START), None);
    assert_eq!(next(&taken, DeliveryEvent::Replayed, START), None, "it has its own answer to come");
    for event in [DeliveryEvent::Released(2), DeliveryEvent::Orphaned] {
        let (free, said) = next(&taken, event, START).unwrap();
        assert_eq!((free.due_at, free.lease, free.failures, said), (Some(START), None, 0, None));
    }
    assert_eq!(next(&owed(), DeliveryEvent::Orphaned, START), None);
}

#[test]
fn what_cannot_be_tried_says_why() {
    let (over, said) = next(&owed(), DeliveryEvent::Withdrawn("the sink is disabled".into()), START).unwrap();
    assert_eq!(
        (over.attempts, over.why.as_deref(), said),
        (0, Some("the sink is disabled"), Some(EventKind::DeliveryExhausted))
    );
}

#[test]
fn events_about_deliveries_are_no_change_of_the_job_and_owed_to_nobody() {
    let taken = claimed(&owed());
    let change =
        taken.step(&DeliveryEvent::Answered(attempt(FAILED), 2), START, &DeliveryPolicy::default()).unwrap();
    let said = change.event.unwrap();
    assert_eq!((said.job_id, said.revision), (taken.job_id, None));
    assert_eq!(said.data["delivery_id"], taken.id.to_string());
}

#[test]
fn a_jobs_own_urls_are_told_of_its_end_and_sinks_of_what_they_asked_for() {
    let mut job = job(1, true);
    let url = |format| Notify { url: "https://a.example.com".into(), secret: None, format };
    job.notify = vec![url(NotifyFormat::Standard), url(NotifyFormat::Upstream)];
    let change = job.step(&Event::Cancel, START, &policy()).unwrap();
    let lanes: Vec<_> = change.deliveries.iter().map(|owed| (owed.lane.as_str(), owed.notify)).collect();
    assert_eq!(lanes, [("app", None), ("notify:a.example.com", Some(0)), ("notify:a.example.com", Some(1))]);
    let ids: std::collections::HashSet<_> = change.deliveries.iter().map(|owed| owed.id).collect();
    assert_eq!(ids.len(), 3);
    assert_eq!(
        job.step(&Event::Cancel, START, &policy()).unwrap().deliveries,
        change.deliveries,
        "the same each time"
    );
}

#[test]
fn a_sink_is_disabled_by_its_word_or_by_long_failing_and_by_nothing_else() {
    let policy = DeliveryPolicy::default();
    let heard = |state: &SinkState, answer, now| state.heard(&owed(), &attempt(answer), now, &policy);
    let fresh = SinkState::default();
    assert_eq!(heard(&fresh, Answer::Delivered, START), None);
    assert_eq!(heard(&fresh, Answer::Refused, START), None);
    let (failing, said) = heard(&fresh, FAILED, START).unwrap();
    assert_eq!((failing.failing_since, said), (Some(START), None));
    let late = START.plus(policy.disable_after);
    assert_eq!(heard(&failing, FAILED, late.plus(-1)), None);
    let (disabled, said) = heard(&failing, FAILED, late).unwrap();
    let said = said.unwrap();
    assert_eq!((said.kind, said.job_id, said.revision), (EventKind::SinkDisabled, None, None));
    assert!(disabled.closed().unwrap().contains("disabled"));
    assert_eq!(heard(&disabled, Answer::Delivered, late), None, "a person enables it");
    assert_eq!(heard(&failing, Answer::Delivered, late).unwrap().0, SinkState::default());
    let (gone, said) = heard(&fresh, Answer::Gone, START).unwrap();
    assert!(gone.disabled_at.is_some() && said.is_some());
    let never = DeliveryPolicy { disable_after: 0, ..policy.clone() };
    assert_eq!(failing.heard(&owed(), &attempt(FAILED), late, &never), None);
    let own = Delivery { lane: "notify:a.example.com".into(), ..owed() };
    assert_eq!(fresh.heard(&own, &attempt(Answer::Gone), START, &policy), None);
}

/// Anything that may happen to a delivery, in any order.
fn anything() -> impl Strategy<Value = (u8, i64, u64)> {
    (0..8_u8, 0..200_000_i64, 0..4_u64)
}

proptest! {
    #[test]
    fn whatever_happens_a_delivery_is_owed_until_it_is_answered_for_good(events in prop::collection::vec(anything(), 0..80)) {
        let policy = DeliveryPolicy::default();
        let (mut delivery, mut now) = (owed(), START);
        for (kind, wait, off) in events {
            now = now.plus(wait);
            let lease = delivery.lease.unwrap_or(0).saturating_sub(off);
            let event = match kind {
                0 | 1 => DeliveryEvent::Claimed,
                2 => DeliveryEvent::Answered(attempt(Answer::Delivered), lease),
                3 | 4 => DeliveryEvent::Answered(attempt(FAILED), lease),
                5 => DeliveryEvent::Orphaned,
                6 => DeliveryEvent::Released(lease),
                _ => DeliveryEvent::Replayed,
            };
            let Some(change) = delivery.step(&event, now, &policy) else { continue };
            let after = change.delivery;
            prop_assert!(after.check().is_ok() && after.revision == delivery.revision + 1);
            prop_assert!(after.tries.len() <= MAX_TRIES);
            let ours = delivery.lease == Some(lease);
            if after.state != delivery.state && after.state != DeliveryState::Pending {
                prop_assert!(matches!(event, DeliveryEvent::Answered(..)) && ours, "only an answer under the lease ends it");
            }
            if after.attempts > delivery.attempts {
                prop_assert!(matches!(event, DeliveryEvent::Claimed), "a try begins with a claim");
            }
            prop_assert_eq!((&after.id, &after.event_id), (&delivery.id, &delivery.event_id));
            delivery = after;
        }
    }
}
