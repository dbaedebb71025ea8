//! From the queue to the answer of the create call.

use reelhook::lifecycle::{Duty, Event, EventKind, FailCode, Phase, Refusal, Status, Why};

use crate::{player::*, support::task};

#[test]
fn a_new_job_is_due_at_once_and_a_claim_writes_sending_before_anything_leaves() {
    let player = Player::queued();
    assert_eq!((player.job.duty(), player.wait()), (Some(Duty::Submit), 0));
    let player = player.then(&Event::Claimed(Duty::Submit));
    assert_eq!((player.lease(), player.wait()), (player.job.revision, player.policy.submit_lease));
    assert_eq!((player.told(), player.job.attempts.submit), (vec![EventKind::Submitted], 1));
}

#[test]
fn a_claim_needs_the_right_duty_at_the_right_time() {
    let player = Player::queued();
    for duty in [Duty::Ask, Duty::Fetch, Duty::Deliver, Duty::Expire] {
        player.ignores(&Event::Claimed(duty));
    }
    player.later(-1).ignores(&Event::Claimed(Duty::Submit));
    Player::sending().due().ignores(&Event::Claimed(Duty::Submit));
    Player::asking().ignores(&Event::Claimed(Duty::Ask));
}

#[test]
fn a_job_past_its_deadline_is_not_sent_but_fails_and_gives_its_booking_back() {
    let mut player = Player::queued();
    player.job.deadline = Some(player.now.plus(10));
    player.ignores(&Event::Expired);
    let player = player.later(10);
    player.ignores(&Event::Claimed(Duty::Submit));
    let player = player.then(&Event::Expired);
    assert_eq!(player.failure(), FailCode::DeadlineExceeded);
    assert!(player.change().release.is_some());
}

#[test]
fn an_accepted_job_awaits_its_task_and_asks_first_when_a_callback_is_overdue() {
    let player = Player::awaiting();
    assert_eq!((player.task(), player.told()), (("ours", true), vec![EventKind::Accepted]));
    assert!((144 * SECOND..=216 * SECOND).contains(&player.wait()), "{}", player.wait());
    let player = Player::without_callbacks().then(&Event::Claimed(Duty::Submit));
    let lease = player.lease();
    let player = player.then(&Event::Accepted(task("ours"), lease));
    assert!((12 * SECOND..=18 * SECOND).contains(&player.wait()), "{}", player.wait());
}

#[test]
fn a_refusal_that_may_be_tried_again_goes_back_to_the_queue_and_waits_longer_each_time() {
    let mut player = Player::queued();
    for attempt in 1..=3 {
        player = player.due().then(&Event::Claimed(Duty::Submit));
        let lease = player.lease();
        player = player.then(&busy(lease));
        assert_eq!(player.job.phase, Phase::Queued { attempts: attempt });
        assert!(player.wait() >= SECOND << (attempt - 1), "{}", player.wait());
    }
    player = player.due().then(&Event::Claimed(Duty::Submit));
    let lease = player.lease();
    player = player.then(&Event::Refused(Refusal::Busy(Some(HOUR * 9)), lease));
    assert!((HOUR..=HOUR + SECOND).contains(&player.wait()), "{}", player.wait());
}

#[test]
fn a_call_that_did_not_leave_is_tried_again() {
    let player = Player::sending();
    let lease = player.lease();
    let player = player.then(&Event::Refused(Refusal::NotSent("no route".into()), lease));
    assert_eq!((player.job.status(), player.told()), (Status::Queued, vec![EventKind::Refused]));
    assert!(player.job.cost.reserved.is_some());
}

#[test]
fn a_refused_job_fails_and_gives_its_booking_back() {
    let player = Player::sending();
    let lease = player.lease();
    let player = player.then(&rejected(lease));
    assert_eq!(player.failure(), FailCode::UpstreamRejected);
    assert_eq!(player.change().release.map(|booking| booking.credits), Some(300));
}

#[test]
fn a_refusal_about_the_account_keeps_the_job_unless_others_pass_three_times() {
    for (others_pass, ends) in [(false, Status::Queued), (true, Status::Failed)] {
        let mut player = Player::queued();
        for _ in 0..3 {
            player = player.due().then(&Event::Claimed(Duty::Submit));
            let lease = player.lease();
            player = player.then(&account(others_pass, lease));
        }
        assert_eq!(player.job.status(), ends);
        assert_eq!(player.job.blocked.unwrap().times, if others_pass { 2 } else { 3 });
    }
}

#[test]
fn a_refusal_of_another_call_changes_nothing() {
    let player = Player::sending();
    let first = player.lease();
    let player = player.then(&busy(first)).due().then(&Event::Claimed(Duty::Submit));
    for event in [busy(first), rejected(first), account(true, first), Event::Unknown(Why::AnswerLost, first)]
    {
        player.ignores(&event);
    }
}

#[test]
fn a_refusal_is_not_believed_when_a_callback_came_during_its_call() {
    for refusal in [busy, rejected] {
        let player = Player::sending().then(&note(None));
        let lease = player.lease();
        let player = player.then(&refusal(lease));
        assert_eq!(player.why(), Why::AcceptedWithoutId);
        assert!(player.job.cost.reserved.is_some());
    }
}

#[test]
fn silence_waits_for_a_callback_and_then_for_a_person() {
    let player = Player::unknown();
    assert_eq!((player.why(), player.wait()), (Why::AnswerLost, player.policy.unknown_wait));
    assert_eq!(player.job.status(), Status::Running);
    player.ignores(&Event::Expired);
    let player = player.due().then(&Event::Expired);
    assert_eq!((player.job.status(), player.told()), (Status::Held, vec![EventKind::Held]));
}

#[test]
fn silence_is_held_at_once_where_no_callback_can_come() {
    let player = Player::without_callbacks().then(&Event::Claimed(Duty::Submit)).due();
    let player = player.then(&Event::Expired);
    assert_eq!((player.why(), player.told()), (Why::AnswerLost, vec![EventKind::Unknown, EventKind::Held]));
}

#[test]
fn the_lease_of_a_create_call_is_never_renewed_and_never_leads_back_to_the_queue() {
    let player = Player::sending();
    let lease = player.lease();
    player.ignores(&Event::Renewed(lease));
    player.ignores(&Event::Released(lease));
    player.ignores(&Event::Expired);
    assert_eq!(player.due().then(&Event::Expired).why(), Why::AnswerLost);
    assert_eq!(Player::sending().then(&Event::Orphaned).why(), Why::AnswerLost);
}

#[test]
fn a_late_acceptance_counts_from_any_lease_and_is_asked_about_at_once() {
    let mut queued = Player::sending();
    let lease = queued.lease();
    queued = queued.then(&busy(lease));
    for player in [queued, Player::unknown(), Player::held()] {
        let player = player.later(HOUR).then(&Event::Accepted(task("ours"), 999));
        assert_eq!((player.task(), player.wait()), (("ours", true), 0));
        assert_eq!(player.told(), [EventKind::Recovered, EventKind::Accepted]);
        assert_eq!(player.job.times.accepted_at, Some(player.now));
    }
}

#[test]
fn a_repeated_acceptance_changes_nothing() {
    let player = Player::awaiting();
    player.ignores(&Event::Accepted(task("ours"), 2));
    Player::fetching(1).ignores(&Event::Accepted(task("ours"), 2));
}

#[test]
fn an_answer_that_names_another_task_than_the_proven_one_is_noticed_once() {
    for player in [Player::awaiting(), Player::fetching(1), Player::awaiting().then(&Event::Cancel)] {
        let player = player.then(&Event::Accepted(task("other"), 2));
        assert_eq!(player.task(), ("ours", true));
        assert!(player.job.notices[0].contains("task other"));
        player.ignores(&Event::Accepted(task("other"), 2));
    }
}

#[test]
fn an_acceptance_after_the_end_records_task_and_spend_but_not_the_outcome() {
    let player = Player::sending();
    let lease = player.lease();
    let player = player.then(&rejected(lease)).then(&Event::Accepted(task("ours"), lease));
    assert_eq!((player.failure(), player.task()), (FailCode::UpstreamRejected, ("ours", true)));
    assert_eq!((player.told(), player.job.cost.reserved), (vec![EventKind::Accepted], player.change().book));
    assert_eq!(player.job.cost.reserved.map(|booking| booking.credits), Some(300));

    let player = Player::sending().then(&Event::Cancel).then(&Event::Accepted(task("ours"), lease));
    assert_eq!((player.task(), player.change().book), (("ours", true), None), "it was never given back");
}

#[test]
fn a_refusal_that_is_tried_again_says_why_until_the_upstream_takes_the_job() {
    let not_sent = |lease| Event::Refused(Refusal::NotSent("no route".into()), lease);
    for (refuse, part) in [
        (not_sent as fn(u64) -> Event, "no route"),
        (busy, "too busy"),
        (|lease| account(false, lease), "no credits"),
    ] {
        let player = Player::sending();
        let lease = player.lease();
        let player = player.then(&refuse(lease));
        assert!(player.trouble().contains(part), "{}", player.trouble());
        let player = player.due().then(&Event::Claimed(Duty::Submit));
        assert!(player.trouble().contains(part), "it lasts while the next attempt is under way");
        let lease = player.lease();
        assert_eq!(player.then(&Event::Accepted(task("ours"), lease)).job.trouble, None);
    }
}

#[test]
fn trouble_is_short_however_much_the_upstream_has_to_say() {
    let player = Player::sending();
    let lease = player.lease();
    let player = player.then(&Event::Refused(Refusal::NotSent("é".repeat(10_000)), lease));
    assert_eq!(player.trouble().chars().count(), 300);
}
