//! What happens while we owe the storage a copy.

use serde_json::json;

use super::{
    answer,
    draft::Draft,
    event::{Change, EventKind, FetchFault, Report},
    id::Millis,
    phase::{FailCode, Link, MAX_OUTPUTS, Outcome, Output, Phase, StoredFile},
    retry::{FRESH, MAX_LATE, MAX_NOT_VIDEO},
};

/// Owes a copy of each link; without links, of one output whose link is yet to be asked for.
pub(super) fn from_links(links: &[String], now: Millis) -> Phase {
    let linked = |url: &String| Output { link: Some(Link { url: url.clone(), learned_at: now }), file: None };
    let mut outputs: Vec<Output> = links.iter().take(MAX_OUTPUTS).map(linked).collect();
    if outputs.is_empty() {
        outputs.push(Output::default());
    }
    Phase::Fetching { outputs, attempts: 0, trouble: 0, late: 0 }
}

/// The task route was asked for a fresh link.
pub(super) fn answered(mut draft: Draft<'_>, report: &Report) -> Option<Change> {
    match report {
        Report::Succeeded { links, .. } if !links.is_empty() => refreshed(draft, links),
        Report::Failed { code, message, .. } => {
            answer::failed(&mut draft, *code, message);
            draft.done()
        }
        _ => no_fresh_link(draft, "the task route gives no link any more", None),
    }
}

fn refreshed(mut draft: Draft<'_>, links: &[String]) -> Option<Change> {
    let Phase::Fetching { outputs, attempts, trouble, late } = draft.was.phase.clone() else { return None };
    let Phase::Fetching { outputs: mut fresh, .. } = from_links(links, draft.now) else { return None };
    // Another number of videos: what is stored no longer tells which one is missing.
    if fresh.len() == outputs.len() {
        for (new, old) in fresh.iter_mut().zip(outputs) {
            new.file = old.file;
        }
    }
    draft.to(Phase::Fetching { outputs: fresh, attempts, trouble, late }, 0);
    draft.done()
}

/// A question for a fresh link came back without one.
pub(super) fn no_fresh_link(mut draft: Draft<'_>, message: &str, retry_after: Option<i64>) -> Option<Change> {
    trouble(&mut draft, message, retry_after);
    draft.done()
}

pub(super) fn fetched(mut draft: Draft<'_>, index: usize, file: &StoredFile, lease: u64) -> Option<Change> {
    if !draft.holds(lease) {
        return None;
    }
    let Phase::Fetching { outputs, trouble, .. } = &mut draft.job.phase else { return None };
    let output = outputs.get_mut(index).filter(|output| output.file.is_none())?;
    output.file = Some(file.clone());
    *trouble = 0;
    draft.job.trouble = None;
    draft.job.due_at = Some(draft.now.plus(draft.policy.lease));
    draft.done()
}

pub(super) fn archived(mut draft: Draft<'_>, lease: u64) -> Option<Change> {
    if !draft.holds(lease) {
        return None;
    }
    let Phase::Fetching { outputs, .. } = &draft.was.phase else { return None };
    let files: Vec<StoredFile> = outputs.iter().filter_map(|output| output.file.clone()).collect();
    if files.len() != outputs.len() {
        return None;
    }
    draft.job.times.stored_at = Some(draft.now);
    draft.event(EventKind::Stored, json!({ "files": files.len() }));
    draft.settle(Outcome::Stored { files });
    draft.done()
}

pub(super) fn not_fetched(
    mut draft: Draft<'_>,
    index: usize,
    fault: &FetchFault,
    lease: u64,
) -> Option<Change> {
    if !draft.holds(lease) {
        return None;
    }
    let Phase::Fetching { outputs, .. } = &draft.was.phase else { return None };
    let link = outputs.get(index)?.link.clone();
    match fault {
        FetchFault::LinkRefused(status) => {
            let fresh = link.is_some_and(|link| draft.now.since(link.learned_at) < FRESH);
            let age = if fresh { "fresh" } else { "old" };
            let message = format!("the file host answered {status} to a link that is {age}");
            let most = draft.policy.fetch.attempts;
            refuse(&mut draft, index, fresh, most, FailCode::ArtifactUnfetchable, &message);
        }
        FetchFault::NotVideo(what) => {
            let most = MAX_NOT_VIDEO.min(draft.policy.fetch.attempts);
            let message = format!("the file host sent something that is not a video: {what}");
            refuse(&mut draft, index, true, most, FailCode::ArtifactNotVideo, &message);
        }
        FetchFault::Denied(why) => fail(&mut draft, FailCode::ArtifactUnfetchable, why),
        FetchFault::TooLarge(why) => fail(&mut draft, FailCode::ArtifactTooLarge, why),
        FetchFault::Trouble(why, retry_after) => trouble(&mut draft, why, *retry_after),
    }
    draft.done()
}

/// Drops the link, so that the next thing due is a question for a fresh one.
fn refuse(draft: &mut Draft<'_>, index: usize, counts: bool, most: u32, code: FailCode, message: &str) {
    let given_up = given_up(draft);
    let Phase::Fetching { outputs, attempts, .. } = &mut draft.job.phase else { return };
    *attempts += u32::from(counts);
    // A link that was stale by its turn does not count; should none ever be fresh in time, the time limit ends it.
    if *attempts >= most || given_up {
        fail(draft, code, message);
        return;
    }
    let wait = draft.policy.fetch(draft.was.id, *attempts, None);
    if let Some(output) = outputs.get_mut(index) {
        output.link = None;
    }
    draft.trouble(message);
    draft.due_in(if counts { wait } else { 0 });
}

/// Counts an attempt that is late; whether the time limit ends the copy with it. Time in which nobody tried, since the server was down or the clock
/// ahead, ends none: it takes attempts after the limit, and the first of them may only have had an old link.
fn given_up(draft: &mut Draft<'_>) -> bool {
    let since = draft.job.times.confirmed_at.unwrap_or(draft.job.created_at);
    let is_late = draft.now.since(since) >= draft.policy.fetch.give_up_after;
    let Phase::Fetching { late, .. } = &mut draft.job.phase else { return false };
    *late += u32::from(is_late);
    *late >= MAX_LATE
}

fn trouble(draft: &mut Draft<'_>, message: &str, retry_after: Option<i64>) {
    if given_up(draft) {
        fail(draft, FailCode::ArtifactUnfetchable, message);
        return;
    }
    let Phase::Fetching { trouble, late, .. } = &mut draft.job.phase else { return };
    *trouble += 1;
    // The last attempts are not used up by the first seconds after a start.
    let least = if *late > 0 { draft.policy.fetch.max_backoff } else { 0 };
    let wait = draft.policy.fetch(draft.was.id, *trouble, retry_after).max(least);
    draft.trouble(message);
    draft.due_in(wait);
}

fn fail(draft: &mut Draft<'_>, code: FailCode, what: &str) {
    let hint =
        "the task is done and was charged: `retry` with mode `download` fetches it again and costs nothing";
    draft.fail(code, format!("{what}; {hint}"));
}
