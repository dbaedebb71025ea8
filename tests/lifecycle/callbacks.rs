//! What a callback does: a hint that makes a question due, and a way back to a lost task.

use reelhook::lifecycle::{Duty, Event, EventKind, FailCode, Phase, Report, RetryMode, Why};

use crate::{player::*, support::task};

#[test]
fn a_callback_that_names_the_task_recovers_it_wherever_the_answer_is_missing() {
    for player in [Player::queued(), Player::sending(), Player::unknown(), Player::held()] {
        let player = player.then(&note(Some("ours")));
        assert_eq!((player.task(), player.wait(), player.job.lease), (("ours", false), 0, None));
        assert_eq!(player.told(), [EventKind::CallbackReceived, EventKind::Recovered]);
        assert!(player.job.dues().next().unwrap().urgent);
    }
}

#[test]
fn a_callback_without_a_task_keeps_a_queued_job_from_being_sent() {
    assert_eq!(Player::queued().then(&note(None)).why(), Why::AcceptedWithoutId);
}

#[test]
fn a_callback_without_a_task_tells_that_the_upstream_took_the_job() {
    let player = Player::unknown().later(1).then(&note(None));
    assert_eq!((player.why(), player.wait()), (Why::AcceptedWithoutId, player.policy.unknown_wait - 1));
    assert_eq!(Player::held().then(&note(None)).why(), Why::AcceptedWithoutId);
    let player = Player::sending().then(&note(None)).due().then(&Event::Expired);
    assert_eq!(player.why(), Why::AcceptedWithoutId);
}

#[test]
fn a_callback_during_the_create_call_makes_the_question_due_as_soon_as_the_task_is_known() {
    let player = Player::sending().then(&note(None));
    let lease = player.lease();
    let player = player.then(&Event::Accepted(task("ours"), lease));
    assert_eq!((player.wait(), player.awaits().nudged), (0, Some(player.job.revision)));
}

#[test]
fn the_create_calls_answer_proves_an_adopted_task_or_outranks_it() {
    let player = Player::unproven().then(&Event::Accepted(task("ours"), 2));
    assert_eq!((player.task(), player.awaits().nudged.is_some()), (("ours", true), true));
    let player = Player::unproven().then(&Event::Accepted(task("other"), 2));
    assert_eq!((player.task(), player.wait()), (("other", true), 0));
    assert!(player.job.notices[0].contains("task ours"));
}

#[test]
fn a_callback_makes_the_question_due_now() {
    let player = Player::awaiting().then(&note(Some("ours")));
    assert_eq!(player.wait(), 0);
    let player = player.later(1).asks(&running());
    assert_eq!((player.awaits().nudged, player.awaits().early), (None, 1));
}

#[test]
fn an_answered_callback_that_came_too_early_is_asked_again_after_2_5_and_15_seconds_at_most() {
    let mut player = Player::awaiting();
    for _ in 0..8 {
        player = player.asks(&running()); // so that the usual wait is longer
    }
    player = player.then(&note(None));
    let waits: Vec<i64> = (0..4)
        .map(|_| {
            let next = std::mem::replace(&mut player, Player::queued()).asks(&running());
            player = next;
            player.wait()
        })
        .collect();
    assert_eq!(waits[..3], [2 * SECOND, 5 * SECOND, 15 * SECOND]);
    assert!(waits[3] > 15 * SECOND);
}

#[test]
fn an_answer_settles_only_callbacks_that_came_before_its_question() {
    for report in [running(), succeeded(0), Report::NotFound] {
        let player = Player::asking();
        let lease = player.lease();
        let player = player.then(&note(None)).then(&Event::Reported(task("ours"), report, lease));
        assert!(player.awaits().nudged.is_some_and(|at| at > lease));
        assert_eq!(player.wait(), 0);
    }
    let player = Player::asking();
    let lease = player.lease();
    assert_eq!(player.then(&note(None)).then(&silence(lease)).wait(), 0);
}

#[test]
fn a_callback_after_the_question_keeps_its_answer_from_ending_the_wait() {
    let mut player = Player::awaiting();
    for _ in 0..5 {
        player = player.asks(&running());
    }
    let player = player.later(24 * HOUR).then(&Event::Claimed(Duty::Ask));
    let lease = player.lease();
    let player = player.then(&note(None)).then(&Event::Reported(task("ours"), running(), lease));
    assert_eq!(player.wait(), 0);
    assert_eq!(player.asks(&running()).failure(), FailCode::DeadlineExceeded);
}

#[test]
fn a_flood_of_callbacks_does_not_become_a_flood_of_questions() {
    let mut player = Player::awaiting();
    for _ in 0..5 {
        player = player.then(&note(None)).asks(&running());
    }
    let flooded = player.then(&note(None)).due().then(&Event::Claimed(Duty::Ask));
    let lease = flooded.lease();
    let player = flooded.then(&note(None)).then(&Event::Reported(task("ours"), running(), lease));
    assert_eq!(player.wait(), 10 * SECOND);
    let player = player.later(MINUTE).then(&note(None));
    assert_eq!((player.job.callback.nudges, player.wait()), (1, -50 * SECOND), "a minute later it is over");
}

#[test]
fn a_clock_that_was_set_back_does_not_slow_callbacks_down() {
    let mut player = Player::awaiting();
    for _ in 0..6 {
        player = player.then(&note(None));
    }
    assert_eq!(player.later(-HOUR).then(&note(None)).job.callback.nudges, 1);
}

#[test]
fn a_repeated_callback_still_nudges() {
    let player = Player::awaiting().then(&repeated(note(Some("ours"))));
    assert_eq!((player.wait(), player.told(), player.job.callback.received), (0, vec![], 1));
}

#[test]
fn a_callback_that_names_another_task_is_a_nudge_and_is_noticed() {
    let player = Player::awaiting().then(&note(Some("other")));
    assert_eq!((player.task(), player.wait()), (("ours", true), 0));
    assert!(player.job.notices[0].contains("task other"));
}

#[test]
fn a_callback_while_fetching_changes_no_debt() {
    let player = Player::fetching(1);
    let (phase, due) = (player.job.phase.clone(), player.job.due_at);
    let player = player.then(&note(Some("ours")));
    assert_eq!((&player.job.phase, player.job.due_at), (&phase, due));
}

#[test]
fn a_late_callback_for_a_job_that_failed_by_our_making_makes_a_free_new_one() {
    let player = Player::settled(&Event::Abandon).then(&note(Some("ours")));
    assert_eq!((player.failure(), player.task()), (FailCode::SubmitAbandoned, ("ours", false)));
    let change = player.change();
    let successor = change.successor.clone().unwrap();
    assert_eq!((successor.mode, successor.job.retry_of), (RetryMode::Recheck, Some(player.job.id)));
    assert_eq!((successor.job.cost.estimated_credits, successor.job.duty()), (0, Some(Duty::Ask)));
    assert_eq!(successor.event.data["retry_of"], serde_json::json!(player.job.id));
    assert_eq!(change.book, None, "the booking was kept");
}

#[test]
fn a_late_callback_makes_no_new_job_when_repeated_nameless_or_after_another_end() {
    let none = |player: Player| assert_eq!(player.change().successor, None);
    none(Player::settled(&Event::Abandon).then(&note(None)));
    none(Player::settled(&Event::Abandon).then(&repeated(note(Some("ours")))));
    none(Player::settled(&Event::Cancel).then(&note(Some("ours"))));
}

#[test]
fn a_late_callback_corrects_a_wrong_task_and_books_what_was_thought_unpaid() {
    let player = Player::unproven().then(&Event::Contradicted(task("ours"))).then(&Event::Abandon);
    let player = player.then(&note(Some("true")));
    assert_eq!(player.task(), ("true", false));
    let player = Player::queued().then(&Event::Cancel).then(&note(Some("ours")));
    assert_eq!(player.change().book.map(|booking| booking.credits), Some(300));
}

#[test]
fn a_task_that_is_another_jobs_holds_the_job_unless_its_own_is_proven() {
    for player in [Player::queued(), Player::sending(), Player::unknown(), Player::held(), Player::unproven()]
    {
        let player = player.then(&Event::Contradicted(task("other")));
        assert_eq!(player.why(), Why::IdContradicted);
        player.ignores(&Event::Contradicted(task("other")));
        let player = player.then(&Event::Accepted(task("ours"), 1));
        assert!(matches!(player.job.phase, Phase::Awaiting(_)), "the create call's answer recovers it");
    }
    for player in [Player::awaiting(), Player::fetching(1), Player::settled(&Event::Cancel)] {
        player.ignores(&Event::Contradicted(task("other")));
    }
}

#[test]
fn a_task_that_another_callback_names_is_asked_about_once_the_first_turns_out_to_be_none() {
    let contradicted = |mut player: Player| {
        while player.job.phase_name() == "awaiting" && player.task().0 == "ours" {
            player = player.later(3_600_000).due().asks(&Report::NotFound);
        }
        player
    };
    let liar = || Player::unknown().then(&note(Some("ours")));
    assert_eq!(contradicted(liar()).why(), Why::IdContradicted);
    let player = contradicted(liar().then(&note(Some("theirs"))));
    assert_eq!((player.task(), player.wait()), (("theirs", false), 0));
    assert_eq!(player.awaits().rival, None, "it has its turn once");
    let player = contradicted(liar().then(&note(Some("theirs"))).then(&note(Some("ours"))));
    assert_eq!(player.task().0, "theirs", "who repeats himself is no rival of his own");
    // What the upstream vouches for has none.
    let player = Player::awaiting().then(&note(Some("theirs")));
    assert_eq!(player.awaits().rival, None);
}
