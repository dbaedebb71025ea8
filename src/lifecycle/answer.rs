//! What the upstream's answers do: to the create call, and to questions about a task.

use serde_json::json;

use super::{
    draft::Draft,
    event::{AskFault, Change, EventKind, Refusal, Report},
    fetching,
    id::TaskId,
    job::{Blocked, Via},
    phase::{Awaiting, FailCode, Phase, Why},
    retry::{MAX_BLOCKED, MAX_EMPTY, MIN_ANSWERS, MIN_NOT_FOUND, NOT_FOUND_WINDOW, SILENCE_GRACE},
};

/// Counts from any lease: whoever was told of the task, it is this job's and it is paid for.
pub(super) fn accepted(mut draft: Draft<'_>, task: &TaskId, lease: u64) -> Option<Change> {
    let same = draft.was.task.as_ref().is_some_and(|known| known.id == *task);
    let proven = draft.was.task.as_ref().is_some_and(|known| known.proven);
    match &draft.was.phase {
        Phase::Sending => {
            let wait = draft.policy.first_ask(&draft.job, draft.now);
            draft.adopt(task, true, wait);
            if draft.was.callback.received > 0 {
                draft.nudge();
            }
        }
        // Late: the task has had its time, so it is asked about at once.
        Phase::Queued { .. } | Phase::Unknown { .. } | Phase::Held { .. } => draft.adopt(task, true, 0),
        Phase::Awaiting(_) if same && !proven => prove(&mut draft),
        // The create call's own answer outranks an id that only a callback named.
        Phase::Awaiting(_) if !proven => draft.adopt(task, true, 0),
        // Never the outcome; but the task, so that a person can follow it up.
        Phase::Settled { .. } if !proven => draft.remember(task, true),
        Phase::Awaiting(_) | Phase::Fetching { .. } | Phase::Settled { .. } if !same => {
            let text =
                format!("the create call's answer named task {task}, but the task route knows another one");
            if draft.was.notices.contains(&text) {
                return None;
            }
            draft.notice(text);
        }
        _ => return None,
    }
    draft.event(EventKind::Accepted, json!({ "task_id": task, "lease": lease }));
    draft.done()
}

fn prove(draft: &mut Draft<'_>) {
    if let Some(known) = &mut draft.job.task {
        known.proven = true;
    }
}

pub(super) fn refused(mut draft: Draft<'_>, refusal: &Refusal, lease: u64) -> Option<Change> {
    // Of another lease it says nothing about the call that is under way now.
    if !draft.holds(lease) || !matches!(draft.was.phase, Phase::Sending) {
        return None;
    }
    // A callback that named no task came during the call: to call again could be to pay again.
    if draft.was.callback.received > 0 {
        draft
            .notice("the create call was refused, but a callback says that the upstream took the job".into());
        draft.hold(Why::AcceptedWithoutId);
        return draft.done();
    }
    let id = draft.job.id;
    let attempts = draft.was.attempts.submit;
    match refusal {
        Refusal::NotSent(message) => {
            let wait = draft.policy.not_sent(id, attempts.saturating_sub(1));
            draft.trouble(&format!("the create call was not sent: {message}"));
            draft.event(EventKind::Refused, json!({ "why": "not_sent", "message": message }));
            draft.to(Phase::Queued { attempts }, wait);
        }
        Refusal::Busy(retry_after) => {
            let wait = draft.policy.busy(id, attempts.saturating_sub(1), *retry_after);
            draft.trouble("the upstream is too busy to take the job");
            draft.event(EventKind::Refused, json!({ "why": "busy" }));
            draft.to(Phase::Queued { attempts }, wait);
        }
        Refusal::Account { message, others_pass } => account(&mut draft, message, *others_pass),
        Refusal::Job(code, message) => reject(&mut draft, *code, message),
    }
    draft.done()
}

fn account(draft: &mut Draft<'_>, message: &str, others_pass: bool) {
    let earlier = draft.was.blocked;
    let blocked =
        Blocked { since: earlier.map_or(draft.now, |b| b.since), times: earlier.map_or(1, |b| b.times + 1) };
    if others_pass && blocked.times >= MAX_BLOCKED {
        reject(draft, FailCode::UpstreamRejected, message);
        return;
    }
    draft.event(EventKind::Refused, json!({ "why": "account", "message": message }));
    draft.trouble(&format!("the upstream refuses our key or credits: {message}"));
    let wait = draft.policy.blocked(draft.job.id, blocked.times);
    draft.job.blocked = Some(blocked);
    let attempts = draft.was.attempts.submit;
    draft.to(Phase::Queued { attempts }, wait);
}

fn reject(draft: &mut Draft<'_>, code: FailCode, message: &str) {
    draft.release_booking();
    draft.fail(code, format!("the upstream refused the job and charged nothing: {message}"));
}

pub(super) fn unknown(mut draft: Draft<'_>, why: Why, lease: u64) -> Option<Change> {
    if !draft.holds(lease) || !matches!(draft.was.phase, Phase::Sending) {
        return None;
    }
    draft.unknown(why);
    draft.done()
}

pub(super) fn reported(mut draft: Draft<'_>, task: &TaskId, report: &Report, lease: u64) -> Option<Change> {
    if draft.was.task.as_ref().is_none_or(|known| known.id != *task) {
        return None;
    }
    let decisive = match report {
        Report::Succeeded { links, .. } => !links.is_empty(),
        Report::Failed { .. } => true,
        Report::Running { .. } | Report::NotFound => false,
    };
    if !decisive && !draft.holds(lease) {
        return None;
    }
    if !matches!(report, Report::NotFound) {
        prove(&mut draft);
    }
    if let Report::Succeeded { credits: Some(credits), .. } | Report::Failed { credits: Some(credits), .. } =
        report
    {
        draft.job.cost.reported_credits = Some(*credits);
    }
    match &draft.was.phase {
        Phase::Awaiting(wait) => awaited(&mut draft, wait.clone(), report, lease),
        // Held for an id that seemed to be wrong: an answer that was long under way shows that it is right.
        Phase::Held { .. } => {
            draft.event(EventKind::Recovered, json!({ "task_id": task }));
            awaited(&mut draft, Awaiting::default(), report, lease);
        }
        // "Succeeded" was the last word; only who asks for a fresh link may hear another one.
        Phase::Fetching { .. } if draft.holds(lease) => return fetching::answered(draft, report),
        _ => return None,
    }
    draft.done()
}

fn awaited(draft: &mut Draft<'_>, wait: Awaiting, report: &Report, lease: u64) {
    draft.job.trouble = None;
    match report {
        Report::Running { word, known, progress } => {
            draft.job.progress = progress.or(draft.job.progress);
            if !known && let Some(word) = word {
                draft.notice(format!("the upstream's status word `{word}` is unknown; it counts as running"));
            }
            running(draft, wait, word.as_ref(), lease);
        }
        Report::Succeeded { links, .. } if links.is_empty() => without_video(draft, wait, lease),
        Report::Succeeded { links, .. } => {
            draft.job.times.confirmed_at = Some(draft.now);
            let via = if draft.job.callback.received > 0 { Via::Callback } else { Via::Poll };
            draft.job.completed_via = Some(via);
            draft.job.progress = Some(100);
            draft.event(EventKind::Confirmed, json!({ "via": via, "links": links.len() }));
            let phase = fetching::from_links(links, draft.now);
            draft.to(phase, 0);
        }
        Report::Failed { code, message, .. } => failed(draft, *code, message),
        Report::NotFound => not_found(draft, wait, lease),
    }
}

/// The task ended without a video.
pub(super) fn failed(draft: &mut Draft<'_>, code: FailCode, message: &str) {
    draft.fail(code, format!("the upstream took the job and says that it ended without a video: {message}"));
}

fn running(draft: &mut Draft<'_>, mut wait: Awaiting, word: Option<&String>, lease: u64) {
    wait.polls += 1;
    (wait.missed, wait.not_found, wait.not_found_since, wait.empty) = (0, 0, None, 0);
    if wait.word.as_ref() != word {
        draft.event(EventKind::Polled, json!({ "status": word }));
        wait.word = word.cloned();
    }
    if wait.polls >= MIN_ANSWERS && past_deadline(draft, 0) && last_word(draft, &wait, lease, SILENCE_GRACE) {
        fail_late(draft);
        return;
    }
    let (now, policy) = (draft.now, draft.policy);
    let hurried = wait.nudged.is_some_and(|at| at < lease) || (1..3).contains(&wait.early);
    let pause = if hurried {
        wait.early += 1;
        policy.after_nudge(&draft.job, now, wait.early - 1, wait.polls)
    } else {
        policy.next_ask(&draft.job, now, wait.polls)
    };
    ask_again(draft, wait, lease, pause);
}

/// Asks again in `pause`, but for a callback that came after the question: it is looked into next.
fn ask_again(draft: &mut Draft<'_>, mut wait: Awaiting, lease: u64, pause: i64) {
    if wait.nudged_since(lease) {
        let soon = draft.nudge_wait();
        draft.to(Phase::Awaiting(wait), soon);
    } else {
        wait.nudged = None;
        draft.to(Phase::Awaiting(wait), pause);
    }
}

/// An answer may end the wait if no callback came after its question, or if that has gone on for `grace`
/// after the deadline.
fn last_word(draft: &Draft<'_>, wait: &Awaiting, lease: u64, grace: i64) -> bool {
    !wait.nudged_since(lease) || past_deadline(draft, grace)
}

fn past_deadline(draft: &Draft<'_>, grace: i64) -> bool {
    let accepted = draft.job.times.accepted_at.unwrap_or(draft.job.created_at);
    draft.now.since(accepted) >= draft.policy.poll.give_up_after.saturating_add(grace)
}

fn fail_late(draft: &mut Draft<'_>) {
    let message = "the upstream did not finish the task within [poll] give_up_after; it was charged, and may still \
                   finish: `retry` with mode `recheck` asks again and costs nothing";
    draft.fail(FailCode::DeadlineExceeded, message.to_owned());
}

fn without_video(draft: &mut Draft<'_>, mut wait: Awaiting, lease: u64) {
    wait.polls += 1;
    wait.empty += 1;
    (wait.missed, wait.not_found, wait.not_found_since) = (0, 0, None);
    if wait.empty >= MAX_EMPTY && last_word(draft, &wait, lease, SILENCE_GRACE) {
        let message = "the upstream says that the task succeeded, but names no video; it was charged: `retry` with mode \
                       `recheck` asks again and costs nothing";
        draft.fail(FailCode::ArtifactMissing, message.to_owned());
        return;
    }
    let pause = draft.policy.after_nudge(&draft.job, draft.now, wait.empty - 1, wait.polls);
    ask_again(draft, wait, lease, pause);
}

fn not_found(draft: &mut Draft<'_>, mut wait: Awaiting, lease: u64) {
    wait.polls += 1;
    wait.not_found += 1;
    wait.missed = 0;
    let since = *wait.not_found_since.get_or_insert(draft.now);
    let sure = wait.not_found >= MIN_NOT_FOUND && draft.now.since(since) >= NOT_FOUND_WINDOW;
    if sure && last_word(draft, &wait, lease, SILENCE_GRACE) {
        if draft.job.task.as_ref().is_some_and(|task| task.proven) {
            let message = "the task route does not know the task any more; it was probably charged: `retry` with mode \
                           `recheck` asks again and costs nothing";
            draft.fail(FailCode::TaskNotFound, message.to_owned());
        } else if let Some(rival) = wait.rival {
            // Whoever named the other task told the truth, or this one is asked about and not known either.
            draft.adopt(&rival, false, 0);
        } else {
            draft.hold(Why::IdContradicted);
        }
        return;
    }
    let pause = draft.policy.after_nudge(&draft.job, draft.now, wait.not_found - 1, wait.polls);
    ask_again(draft, wait, lease, pause);
}

pub(super) fn unanswered(mut draft: Draft<'_>, fault: &AskFault, lease: u64) -> Option<Change> {
    if !draft.holds(lease) {
        return None;
    }
    match draft.was.phase.clone() {
        Phase::Awaiting(mut wait) => {
            wait.missed += 1;
            if past_deadline(&draft, SILENCE_GRACE) && last_word(&draft, &wait, lease, 2 * SILENCE_GRACE) {
                if draft.was.task.as_ref().is_some_and(|task| task.proven) {
                    fail_late(&mut draft);
                } else {
                    // Nobody ever vouched for the task, so nobody knows whether the job was taken.
                    draft.hold(Why::AnswerLost);
                }
            } else {
                draft.trouble(&format!("the upstream did not tell of the task: {}", fault.message));
                // What no answer looked into stays asked for.
                let soon = wait.nudged_since(lease).then(|| draft.nudge_wait());
                let pause = draft.policy.unanswered(draft.job.id, wait.missed, fault.retry_after);
                draft.to(Phase::Awaiting(wait), soon.unwrap_or(pause));
            }
            draft.done()
        }
        Phase::Fetching { .. } => fetching::no_fresh_link(draft, &fault.message, fault.retry_after),
        _ => None,
    }
}
