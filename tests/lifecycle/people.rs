//! What people decide: to cancel, and what becomes of a held job; and how a new job follows an old one.

use reelhook::lifecycle::{
    Duty, Event, EventKind, FailCode, Job, JobId, Outcome, Phase, RetryMode, Status, Why,
};

use crate::{
    player::*,
    support::{self, START, task},
};

#[test]
fn canceling_ends_any_open_job_and_says_whether_it_may_still_cost() {
    let canceled = |player: Player| {
        let player = player.then(&Event::Cancel);
        assert_eq!(player.told(), [EventKind::Canceled]);
        player.ignores(&Event::Cancel);
        let released = player.change().release.is_some();
        let Some(Outcome::Canceled { may_still_charge, .. }) = player.job.outcome() else { panic!() };
        assert_ne!(*may_still_charge, released);
        *may_still_charge
    };
    assert!(!canceled(Player::queued()));
    for player in [
        Player::sending(),
        Player::unknown(),
        Player::held(),
        Player::awaiting(),
        Player::asking(),
        Player::fetching(1),
    ] {
        assert!(canceled(player));
    }
}

#[test]
fn what_was_stored_before_a_cancel_is_named_by_the_job() {
    let player = Player::fetching(2);
    let lease = player.lease();
    let player = player.then(&fetched(0, lease)).then(&Event::Cancel);
    assert_eq!(player.job.files().count(), 1);
    player.ignores(&fetched(1, lease));
}

#[test]
fn only_of_a_job_that_has_ended_are_files_removed_once_and_its_outcome_stays() {
    for player in [Player::queued(), Player::held(), Player::awaiting(), Player::fetching(1)] {
        player.ignores(&Event::FilesRemoved);
    }
    let ended = Player::fetching(1).then(&Event::Cancel);
    let (outcome, status) = (ended.job.outcome().cloned(), ended.job.status());
    let bare = ended.later(HOUR).then(&Event::FilesRemoved);
    assert_eq!(bare.job.files_removed_at, Some(bare.now));
    assert_eq!((bare.job.outcome().cloned(), bare.job.status(), bare.told()), (outcome, status, vec![]));
    bare.ignores(&Event::FilesRemoved);
}

#[test]
fn the_answer_to_a_canceled_call_changes_no_outcome() {
    let player = Player::sending();
    let lease = player.lease();
    let player = player.then(&Event::Cancel);
    player.ignores(&busy(lease));
    player.ignores(&rejected(lease));
    assert_eq!(player.then(&Event::Accepted(task("ours"), lease)).job.status(), Status::Canceled);
}

#[test]
fn an_attached_task_is_asked_about_at_once_with_its_whole_time_before_it() {
    let player = Player::held().later(72 * HOUR).then(&Event::Attach(task("ours")));
    assert_eq!((player.task(), player.wait()), (("ours", false), 0));
    assert_eq!(player.job.times.accepted_at, Some(player.now));
}

#[test]
fn a_held_job_can_be_given_up_or_replaced_by_a_paid_one() {
    let player = Player::held().then(&Event::Abandon);
    assert_eq!((player.failure(), player.told()), (FailCode::SubmitAbandoned, vec![EventKind::Failed]));
    assert!(player.job.cost.reserved.is_some());

    let next = Box::new(support::job(2, true));
    let player = Player::held().then(&Event::Replace(next.clone()));
    let successor = player.change().successor.clone().unwrap();
    assert_eq!((successor.mode, successor.job.id), (RetryMode::Resubmit, next.id));
    assert_eq!((successor.job.retry_of, successor.job.duty()), (Some(player.job.id), Some(Duty::Submit)));
    assert_eq!(successor.event.kind, EventKind::Created);
}

#[test]
fn only_a_held_job_can_be_resolved() {
    let settled = Player::settled(&Event::Cancel);
    let open = [Player::queued(), Player::sending(), Player::unknown(), Player::awaiting(), settled];
    for player in open {
        player.ignores(&Event::Attach(task("ours")));
        player.ignores(&Event::Abandon);
        player.ignores(&Event::Replace(Box::new(support::job(2, true))));
    }
}

#[test]
fn a_job_follows_another_about_the_same_task_for_nothing() {
    let old = Player::awaiting().then(&Event::Cancel).job;
    let id = JobId::new(START, &[5; 10]);
    let recheck = old.again(RetryMode::Recheck, id, START).unwrap();
    assert!(matches!(recheck.phase, Phase::Awaiting(_)));
    assert_eq!((recheck.duty(), recheck.due_at), (Some(Duty::Ask), Some(START)));
    let download = old.again(RetryMode::Download, id, START).unwrap();
    assert_eq!(download.duty(), Some(Duty::Ask), "for a fresh link");
    for job in [recheck, download] {
        job.check().unwrap();
        assert_eq!((job.cost.estimated_credits, job.cost.reserved, job.retry_of), (0, None, Some(old.id)));
    }
    assert_eq!(old.again(RetryMode::Resubmit, id, START), None);
    assert_eq!(Player::queued().job.again(RetryMode::Recheck, id, START), None);
}

#[test]
fn the_same_step_writes_the_same_ids() {
    let player = Player::held();
    let step = || player.job.step(&Event::Abandon, player.now, &player.policy).unwrap();
    assert_eq!(step(), step());
    assert_eq!(step().deliveries[0].event_id, step().events[0].id);
}

#[test]
fn a_record_reads_back_as_it_was_and_keeps_fields_of_a_newer_version() {
    for player in [Player::queued(), Player::asking(), Player::fetching(2), Player::held()] {
        let mut value = serde_json::to_value(&player.job).unwrap();
        value["hologram"] = serde_json::json!({ "depth": 3 });
        let job: Job = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(
            (&job.phase, job.lease, job.due_at),
            (&player.job.phase, player.job.lease, player.job.due_at)
        );
        assert_eq!(serde_json::to_value(job).unwrap(), value);
    }
}

#[test]
fn of_a_backup_what_may_have_been_sent_since_is_held_and_the_rest_goes_on() {
    for player in [Player::queued(), Player::sending()] {
        let booked = player.job.cost.reserved;
        let player = player.then(&Event::Restored);
        assert_eq!((player.why(), player.told()), (Why::Restored, vec![EventKind::Held]));
        assert_eq!((player.job.cost.reserved, player.job.due_at, player.job.lease), (booked, None, None));
        player.ignores(&Event::Restored);
    }
    for player in
        [Player::unknown(), Player::held(), Player::awaiting(), Player::asking(), Player::fetching(1)]
    {
        player.ignores(&Event::Restored);
    }
}

#[test]
fn a_job_of_which_only_the_task_is_known_is_asked_about_and_costs_nothing() {
    let id = JobId::new(START, &[7; 10]);
    let found = Job::recovered(id, START, task("t"), "kling-3");
    assert_eq!((found.check(), found.duty(), found.due_at), (Ok(()), Some(Duty::Ask), Some(START)));
    assert!(found.cost.reserved.is_none() && !found.task.unwrap().proven);
    let lost = Job::remnant(id, START, "kling-3");
    assert_eq!((lost.check(), lost.duty(), lost.phase), (Ok(()), None, Phase::Held { why: Why::Restored }));
}
