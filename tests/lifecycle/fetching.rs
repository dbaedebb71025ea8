//! From "succeeded" to the stored file.

use reelhook::lifecycle::{Duty, Event, EventKind, FailCode, FetchFault, Outcome, Phase, Report, Status};

use crate::{player::*, support::task};

fn refused() -> FetchFault {
    FetchFault::LinkRefused(403)
}

fn trouble() -> FetchFault {
    FetchFault::Trouble("disk full".into(), None)
}

/// Fetches when that is due, and fails so.
fn fails(player: Player, fault: FetchFault) -> Player {
    let player = player.due().then(&Event::Claimed(Duty::Fetch));
    let lease = player.lease();
    player.then(&not_fetched(fault, lease))
}

#[test]
fn every_file_and_the_manifest_make_a_stored_job() {
    let player = Player::fetching(2);
    assert_eq!(player.told(), [EventKind::DownloadStarted]);
    let lease = player.lease();
    player.ignores(&Event::Archived(lease));
    let player = player.then(&fetched(0, lease));
    assert_eq!((player.lease(), player.wait()), (lease, player.policy.lease), "the worker goes on");
    player.ignores(&fetched(0, lease));
    player.ignores(&fetched(2, lease));
    player.ignores(&Event::Archived(lease));
    let player = player.then(&fetched(1, lease)).then(&Event::Archived(lease));
    assert_eq!(player.told(), [EventKind::Stored, EventKind::Succeeded]);
    let Some(Outcome::Stored { files }) = player.job.outcome() else { panic!("{:?}", player.job) };
    assert_eq!(files.len(), 2);
    player.ignores(&Event::Archived(lease));
}

#[test]
fn the_work_of_another_claim_changes_nothing() {
    let player = Player::fetching(1);
    let stale = player.lease() - 1;
    player.ignores(&fetched(0, stale));
    player.ignores(&not_fetched(trouble(), stale));
    player.ignores(&Event::Archived(stale));
}

#[test]
fn a_later_download_is_told_as_a_retry() {
    let player = fails(Player::linked(1), trouble()).due().then(&Event::Claimed(Duty::Fetch));
    assert_eq!(player.told(), [EventKind::DownloadRetried]);
    assert_eq!(player.change().events[0].data["why"], "disk full");
}

#[test]
fn a_failed_download_says_why_until_a_file_is_stored() {
    let player = fails(Player::linked(1), trouble());
    assert_eq!(player.trouble(), "disk full");
    let player = player.due().then(&Event::Claimed(Duty::Fetch));
    let lease = player.lease();
    assert_eq!(player.then(&fetched(0, lease)).job.trouble, None);
}

#[test]
fn a_fresh_link_does_not_hide_why_the_old_one_was_refused() {
    let player = fails(Player::linked(1), refused()).asks(&succeeded(1));
    let player = player.due().then(&Event::Claimed(Duty::Fetch));
    let why = player.change().events[0].data["why"].as_str().unwrap();
    assert!(why.contains("403"), "{why}");
}

#[test]
fn a_refused_link_is_replaced_by_a_fresh_one_and_five_fresh_ones_end_the_job() {
    let mut player = Player::linked(1);
    for attempt in 1..=4 {
        player = fails(player, refused());
        assert_eq!(player.job.duty(), Some(Duty::Ask), "refusal {attempt}");
        player = player.asks(&succeeded(1));
        assert_eq!((player.job.duty(), player.wait()), (Some(Duty::Fetch), 0));
    }
    assert_eq!(fails(player, refused()).failure(), FailCode::ArtifactUnfetchable);
}

#[test]
fn the_refusal_of_an_old_link_does_not_count_until_the_time_is_up() {
    let mut player = Player::linked(1);
    for _ in 0..10 {
        player = fails(player.later(MINUTE), refused());
        assert_eq!(player.wait(), 0);
        player = player.asks(&succeeded(1));
    }
    player = player.later(24 * HOUR);
    for _ in 0..2 {
        player = fails(player, refused()).asks(&succeeded(1)).later(MINUTE);
    }
    assert_eq!(fails(player, refused()).failure(), FailCode::ArtifactUnfetchable);
}

#[test]
fn after_a_day_in_which_nobody_tried_a_fresh_link_is_asked_for() {
    let player = fails(Player::linked(1).later(25 * HOUR), refused());
    assert_eq!((player.job.duty(), player.wait()), (Some(Duty::Ask), 0));
    let player = player.asks(&succeeded(1)).due().then(&Event::Claimed(Duty::Fetch));
    let lease = player.lease();
    let player = player.then(&fetched(0, lease)).then(&Event::Archived(lease));
    assert!(matches!(player.job.outcome(), Some(Outcome::Stored { .. })), "{:?}", player.job);
}

#[test]
fn a_fresh_link_keeps_the_files_unless_their_number_changed() {
    let part = || {
        let player = Player::fetching(2);
        let lease = player.lease();
        player.then(&fetched(1, lease)).then(&not_fetched(refused(), lease))
    };
    assert_eq!(part().asks(&succeeded(2)).job.files().count(), 1);
    assert_eq!(part().asks(&succeeded(3)).job.files().count(), 0);
}

#[test]
fn trouble_is_tried_again_for_a_day_and_the_files_so_far_are_kept() {
    let player = Player::fetching(2);
    let lease = player.lease();
    let player = player.then(&fetched(0, lease)).then(&not_fetched(trouble(), lease));
    assert!(player.wait() >= 2 * SECOND);
    let player = fails(player.later(24 * HOUR), trouble());
    assert!(player.wait() >= 2 * MINUTE, "the last attempts are not made at once");
    let player = fails(player, trouble());
    assert_eq!(player.job.status(), Status::Running, "there may have been nobody to try for a day");
    let player = fails(player, trouble());
    assert_eq!(player.failure(), FailCode::ArtifactUnfetchable);
    assert_eq!(player.job.files().count(), 1);
}

#[test]
fn trouble_waits_as_long_as_it_is_asked_to() {
    let fault = FetchFault::Trouble("503".into(), Some(10 * MINUTE));
    assert_eq!(fails(Player::linked(1), fault).wait(), 10 * MINUTE);
}

#[test]
fn what_is_no_video_ends_the_job_the_third_time() {
    let no_video = || FetchFault::NotVideo("text/html".into());
    let mut player = Player::linked(1);
    for _ in 0..2 {
        player = fails(player, no_video()).asks(&succeeded(1));
    }
    assert_eq!(fails(player, no_video()).failure(), FailCode::ArtifactNotVideo);
}

#[test]
fn a_link_that_leads_astray_or_to_too_much_ends_the_job() {
    let player = fails(Player::linked(1), FetchFault::Denied("10.0.0.1 is private".into()));
    assert_eq!(player.failure(), FailCode::ArtifactUnfetchable);
    let player = fails(Player::linked(1), FetchFault::TooLarge("2 GB".into()));
    assert_eq!(player.failure(), FailCode::ArtifactTooLarge);
}

#[test]
fn a_question_for_a_fresh_link_is_repeated_while_it_brings_none() {
    for report in [running(), succeeded(0), Report::NotFound] {
        let player = fails(Player::linked(1), refused()).asks(&report);
        let Phase::Fetching { trouble, .. } = player.job.phase else { panic!("{:?}", player.job) };
        assert_eq!((trouble, player.job.duty()), (1, Some(Duty::Ask)));
    }
    let player = fails(Player::linked(1), refused()).due().then(&Event::Claimed(Duty::Ask));
    let lease = player.lease();
    assert_eq!(player.then(&silence(lease)).job.duty(), Some(Duty::Ask));
}

#[test]
fn succeeded_is_not_taken_back_but_by_the_answer_for_a_fresh_link() {
    let player = Player::fetching(1);
    player.ignores(&Event::Reported(task("ours"), failed(), 3));
    player.ignores(&Event::Reported(task("ours"), succeeded(1), 3));
    let player = fails(Player::linked(1), refused()).asks(&failed());
    assert_eq!(player.failure(), FailCode::UpstreamFailed);
}

#[test]
fn an_orphaned_download_is_due_at_once_with_its_files() {
    let player = Player::fetching(2);
    let lease = player.lease();
    let player = player.then(&fetched(0, lease)).then(&Event::Orphaned);
    assert_eq!((player.wait(), player.job.lease, player.job.files().count()), (0, None, 1));
}
