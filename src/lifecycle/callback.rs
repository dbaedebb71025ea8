//! What a callback does: it is a hint. It makes a question due, and it may tell the name of a task.

use serde_json::json;

use super::{
    draft::Draft,
    event::{Change, EventKind, Note},
    job::RetryMode,
    phase::{Outcome, Phase, Why},
    retry::NUDGE_WINDOW,
};

pub(super) fn arrived(mut draft: Draft<'_>, note: &Note) -> Option<Change> {
    count(&mut draft, note);
    if let (Some(known), Some(named)) = (&draft.was.task, &note.task)
        && known.id != *named
    {
        draft.notice(format!("a callback named task {named}, while {} was this job's", known.id));
    }
    match (&draft.was.phase, &note.task) {
        (Phase::Queued { .. } | Phase::Sending | Phase::Unknown { .. } | Phase::Held { .. }, Some(task)) => {
            draft.adopt(task, false, 0);
            draft.nudge();
        }
        // A refusal that was not one: the upstream took the job and we cannot tell as which task.
        (Phase::Queued { .. }, None) => draft.hold(Why::AcceptedWithoutId),
        // Taken, then. That a person must know before paying again; another callback may still name the task.
        (Phase::Held { why: Why::AnswerLost | Why::Restored }, None) => draft.hold(Why::AcceptedWithoutId),
        (Phase::Unknown { .. }, None) => draft.job.phase = Phase::Unknown { why: Why::AcceptedWithoutId },
        (Phase::Awaiting(_), named) => {
            if let Some(named) = named {
                draft.remember_rival(named);
            }
            draft.nudge();
        }
        (Phase::Settled { outcome }, _) => late(&mut draft, note, outcome),
        (Phase::Sending | Phase::Held { .. }, None) | (Phase::Fetching { .. }, _) => {}
    }
    draft.done()
}

fn count(draft: &mut Draft<'_>, note: &Note) {
    let memory = &mut draft.job.callback;
    memory.received = memory.received.saturating_add(1);
    memory.first_at.get_or_insert(draft.now);
    // A window that lies ahead is a clock that was set back.
    if memory.window.is_none_or(|start| !(0..NUDGE_WINDOW).contains(&draft.now.since(start))) {
        (memory.window, memory.nudges) = (Some(draft.now), 0);
    }
    memory.nudges = memory.nudges.saturating_add(1);
    if note.kept_bytes > 0 {
        memory.kept = memory.kept.saturating_add(1);
        memory.kept_bytes = memory.kept_bytes.saturating_add(note.kept_bytes);
        draft.event(EventKind::CallbackReceived, json!({ "task_id": note.task, "bytes": note.kept_bytes }));
    }
}

/// The outcome stands; a job that failed by our making is asked about again, free, as a new job.
fn late(draft: &mut Draft<'_>, note: &Note, outcome: &Outcome) {
    if let Some(task) = &note.task
        && draft.was.task.as_ref().is_none_or(|known| !known.proven && known.id != *task)
    {
        draft.remember(task, false);
    }
    let ours = matches!(outcome, Outcome::Failed { code, .. } if code.is_ours());
    if ours
        && !note.duplicate
        && let Some(next) = draft.job.again(RetryMode::Recheck, note.successor, draft.now)
    {
        draft.follow(next, RetryMode::Recheck);
    }
}
