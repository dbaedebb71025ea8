//! Questions to the task route and what their answers do.

use reelhook::lifecycle::{Duty, Event, EventKind, FailCode, Outcome, Phase, Report, Via, Why};

use crate::{player::*, support::task};

#[test]
fn running_is_asked_about_again_and_proves_the_task() {
    let player = Player::unproven().asks(&running());
    assert_eq!((player.task(), player.awaits().polls), (("ours", true), 1));
    assert_eq!((player.job.progress, player.told()), (Some(40), vec![EventKind::Polled]));
    let player = player.asks(&running());
    assert_eq!(player.told(), [], "the same word is told once");
}

#[test]
fn an_unknown_word_counts_as_running_and_is_noticed() {
    let player = Player::awaiting().asks(&Report::Running {
        word: Some("dithering".into()),
        known: false,
        progress: None,
    });
    assert!(player.job.notices[0].contains("dithering"));
    assert_eq!(player.awaits().polls, 1);
}

#[test]
fn an_answer_about_another_task_or_to_another_question_changes_nothing() {
    let player = Player::asking();
    let lease = player.lease();
    player.ignores(&Event::Reported(task("other"), succeeded(1), lease));
    player.ignores(&Event::Reported(task("ours"), running(), lease - 1));
    player.ignores(&Event::Reported(task("ours"), Report::NotFound, lease - 1));
    player.ignores(&Event::Reported(task("ours"), succeeded(0), lease - 1));
    player.ignores(&silence(lease - 1));
    Player::sending().ignores(&Event::Reported(task("ours"), succeeded(1), 2));
}

#[test]
fn a_decisive_answer_counts_whatever_question_it_answers() {
    let player = Player::asking().then(&Event::Reported(task("ours"), succeeded(1), 0));
    assert_eq!((player.job.duty(), player.wait(), player.job.lease), (Some(Duty::Fetch), 0, None));
    let player = Player::asking().then(&Event::Reported(task("ours"), failed(), 0));
    assert_eq!(player.failure(), FailCode::UpstreamFailed);
}

#[test]
fn success_owes_the_storage_a_copy_and_remembers_what_told_of_it() {
    let player = Player::linked(2);
    assert_eq!((player.job.completed_via, player.told()), (Some(Via::Poll), vec![EventKind::Confirmed]));
    assert_eq!(player.job.cost.reported_credits, Some(300));
    let player = Player::awaiting().then(&note(None)).asks(&succeeded(1));
    assert_eq!(player.job.completed_via, Some(Via::Callback));
}

#[test]
fn no_more_than_sixteen_videos_of_a_task_are_fetched() {
    let Phase::Fetching { outputs, .. } = Player::linked(40).job.phase else { panic!() };
    assert_eq!(outputs.len(), 16);
}

#[test]
fn failure_ends_the_job_and_keeps_its_booking() {
    let player = Player::awaiting().asks(&failed());
    assert_eq!((player.failure(), player.job.cost.reported_credits), (FailCode::UpstreamFailed, Some(0)));
    assert!(player.job.cost.reserved.is_some());
}

#[test]
fn success_without_a_video_is_asked_about_ten_times() {
    let mut player = Player::awaiting();
    for _ in 0..9 {
        player = player.asks(&succeeded(0));
    }
    assert_eq!(player.awaits().empty, 9);
    assert_eq!(player.asks(&succeeded(0)).failure(), FailCode::ArtifactMissing);
}

#[test]
fn an_unknown_task_is_asked_about_five_times_over_two_minutes_then_held_or_failed() {
    let mut player = Player::unproven();
    for _ in 0..5 {
        player = player.asks(&Report::NotFound);
    }
    assert_eq!(player.awaits().not_found, 5, "five answers in seconds are not enough");
    let player = player.later(2 * MINUTE).asks(&Report::NotFound);
    assert_eq!((player.why(), player.task()), (Why::IdContradicted, ("ours", false)));

    let mut player = Player::awaiting();
    for _ in 0..4 {
        player = player.asks(&Report::NotFound).later(MINUTE);
    }
    assert_eq!(player.asks(&Report::NotFound).failure(), FailCode::TaskNotFound);
}

#[test]
fn only_answers_in_a_row_make_a_task_unknown() {
    for other in [running(), succeeded(0)] {
        let mut player = Player::awaiting();
        for _ in 0..4 {
            player = player.asks(&Report::NotFound).later(MINUTE);
        }
        let player = player.asks(&other).asks(&Report::NotFound);
        assert_eq!(player.awaits().not_found, 1);
    }
}

#[test]
fn an_answer_that_was_long_under_way_recovers_a_job_held_for_its_task() {
    let held = || {
        let mut player = Player::unproven();
        for _ in 0..5 {
            player = player.asks(&Report::NotFound).later(MINUTE);
        }
        player
    };
    assert_eq!(held().why(), Why::IdContradicted);
    let player = held().then(&Event::Reported(task("ours"), succeeded(1), 4));
    assert_eq!((player.task(), player.job.duty()), (("ours", true), Some(Duty::Fetch)));
    assert_eq!(held().then(&Event::Reported(task("ours"), failed(), 4)).failure(), FailCode::UpstreamFailed);
    held().ignores(&Event::Reported(task("ours"), running(), 4));
}

#[test]
fn a_deadline_needs_time_and_five_answers() {
    let mut player = Player::awaiting().later(25 * HOUR);
    for _ in 0..4 {
        player = player.asks(&running());
    }
    assert_eq!(player.awaits().polls, 4);
    assert_eq!(player.asks(&running()).failure(), FailCode::DeadlineExceeded);
}

#[test]
fn silence_is_asked_again_later_and_later_and_ends_a_day_after_the_deadline() {
    let ask = |player: Player| {
        let player = player.due().then(&Event::Claimed(Duty::Ask));
        let lease = player.lease();
        player.then(&silence(lease))
    };
    let (first, mut player) = (ask(Player::awaiting()).wait(), Player::awaiting());
    for _ in 0..8 {
        player = ask(player);
    }
    assert!(player.wait() > first);
    assert_eq!(player.awaits().missed, 8);
    let player = ask(player.later(24 * HOUR));
    assert_eq!(player.awaits().missed, 9, "silence alone has longer");
    assert_eq!(ask(player.later(24 * HOUR)).failure(), FailCode::DeadlineExceeded);
}

#[test]
fn silence_about_a_task_that_nobody_vouched_for_leaves_the_matter_to_a_person() {
    let player = Player::unproven().later(49 * HOUR).due().then(&Event::Claimed(Duty::Ask));
    let lease = player.lease();
    let player = player.then(&silence(lease));
    assert_eq!(player.why(), Why::AnswerLost);
    let player = player.then(&Event::Reported(task("ours"), succeeded(1), lease));
    assert_eq!(
        (player.task(), player.job.duty()),
        (("ours", true), Some(Duty::Fetch)),
        "a late answer recovers it"
    );
}

#[test]
fn a_claim_that_lives_is_renewed_and_one_that_is_given_back_is_due_at_once() {
    let player = Player::asking().later(5 * SECOND);
    let lease = player.lease();
    player.ignores(&Event::Renewed(lease + 1));
    player.ignores(&Event::Released(lease + 1));
    let player = player.then(&Event::Renewed(lease));
    assert_eq!((player.lease(), player.wait()), (lease, player.policy.lease));
    let player = player.then(&Event::Released(lease));
    assert_eq!((player.job.lease, player.wait()), (None, 0));
    player.ignores(&Event::Renewed(lease));
}

#[test]
fn an_orphaned_question_is_due_at_once_and_what_nobody_claimed_stays() {
    let player = Player::asking().then(&Event::Orphaned);
    assert_eq!((player.job.lease, player.wait()), (None, 0));
    for player in [Player::queued(), Player::awaiting(), Player::unknown(), Player::held()] {
        player.ignores(&Event::Orphaned);
    }
}

#[test]
fn what_ended_stays_ended() {
    let player = Player::awaiting().then(&Event::Cancel);
    for report in [succeeded(1), failed(), running()] {
        player.ignores(&Event::Reported(task("ours"), report, 3));
    }
    assert!(matches!(player.job.outcome(), Some(Outcome::Canceled { may_still_charge: true, .. })));
}

#[test]
fn a_question_without_an_answer_says_why_until_the_next_answer() {
    let player = Player::asking();
    let lease = player.lease();
    let player = player.then(&silence(lease));
    assert!(player.trouble().contains("502"), "{}", player.trouble());
    assert_eq!(player.asks(&running()).job.trouble, None);
}
