//! The one table: what each event does to a job in each phase.

use serde_json::json;

use super::{
    answer, callback,
    delivery::Delivery,
    draft::{Draft, record},
    event::{Change, Event, EventKind, EventRecord},
    fetching,
    id::{JobId, Millis, TaskId},
    job::{Job, NewJob, RetryMode, Task},
    phase::{Awaiting, Duty, FailCode, Outcome, Phase, Why},
    retry::Policy,
};

impl Job {
    /// What `event` makes of this job, or nothing when it is late, repeated or not ours.
    ///
    /// Total and pure: the same arguments give the same change, so a writer that lost a race may load again and
    /// step again.
    #[must_use]
    pub fn step(&self, event: &Event, now: Millis, policy: &Policy) -> Option<Change> {
        let draft = Draft::of(self, now, policy);
        match event {
            Event::Claimed(duty) => claimed(draft, *duty),
            Event::Accepted(task, lease) => answer::accepted(draft, task, *lease),
            Event::Refused(refusal, lease) => answer::refused(draft, refusal, *lease),
            Event::Unknown(why, lease) => answer::unknown(draft, *why, *lease),
            Event::Callback(note) => callback::arrived(draft, note),
            Event::Reported(task, report, lease) => answer::reported(draft, task, report, *lease),
            Event::Unanswered(fault, lease) => answer::unanswered(draft, fault, *lease),
            Event::Fetched { index, file, lease } => fetching::fetched(draft, *index, file, *lease),
            Event::NotFetched { index, fault, lease } => fetching::not_fetched(draft, *index, fault, *lease),
            Event::Archived(lease) => fetching::archived(draft, *lease),
            Event::Renewed(lease) => renewed(draft, *lease),
            Event::Released(lease) => released(draft, *lease),
            Event::Expired => expired(draft),
            Event::Orphaned => orphaned(draft),
            Event::Contradicted(task) => contradicted(draft, task),
            Event::Cancel => cancel(draft),
            Event::Attach(task) => attach(draft, task),
            Event::Abandon => abandon(draft),
            Event::Replace(successor) => replace(draft, successor),
            Event::Restored => restored(draft),
            Event::FilesRemoved => files_removed(draft),
        }
    }

    /// The first entry of a job's timeline.
    #[must_use]
    pub fn created_event(&self) -> EventRecord {
        let mut data = json!({ "model": self.model, "estimated_credits": self.cost.estimated_credits });
        if let Some(old) = self.retry_of {
            data["retry_of"] = json!(old);
        }
        record(self, EventKind::Created, 0, self.created_at, data)
    }

    /// The same, with the debts to sinks that it brings.
    #[must_use]
    pub fn created(&self, policy: &Policy) -> (EventRecord, Vec<Delivery>) {
        let event = self.created_event();
        let deliveries = Delivery::all(&event, Some(self), policy).collect();
        (event, deliveries)
    }

    /// A new job about the same task as this one: free, and due at once. None when this job never had a task.
    #[must_use]
    pub fn again(&self, mode: RetryMode, id: JobId, now: Millis) -> Option<Self> {
        let task = self.task.clone()?;
        let phase = match mode {
            RetryMode::Recheck => Phase::Awaiting(Awaiting::default()),
            RetryMode::Download => fetching::from_links(&[], now),
            RetryMode::Resubmit => return None,
        };
        let mut job = Self::new(id, now, NewJob { model: self.model.clone(), ..Default::default() });
        (job.mode, job.duration_s, job.tags) = (self.mode.clone(), self.duration_s, self.tags.clone());
        (job.phase, job.task, job.retry_of) = (phase, Some(task), Some(self.id));
        job.notify.clone_from(&self.notify);
        job.trace.clone_from(&self.trace);
        job.cost.exact = true;
        job.times.accepted_at = Some(now);
        job.times.confirmed_at = (mode == RetryMode::Download).then_some(now);
        Some(job)
    }
}

impl Job {
    /// A job about a task that is known while its own record is lost: free, and asked about at once. Its `model` serves for
    /// listing alone.
    #[must_use]
    pub fn recovered(id: JobId, now: Millis, task: TaskId, model: &str) -> Self {
        let new = NewJob { model: model.to_owned(), ..NewJob::default() };
        let mut job = Self::new(id, now, new);
        (job.phase, job.task) =
            (Phase::Awaiting(Awaiting::default()), Some(Task { id: task, proven: false }));
        job.times.accepted_at = Some(now);
        job.notices.push("its record was lost; it was made anew from the name of its task".to_owned());
        job
    }

    /// A job of which nothing is left but its id: a person decides, for it may have been paid for.
    #[must_use]
    pub fn remnant(id: JobId, now: Millis, model: &str) -> Self {
        let mut job = Self::new(id, now, NewJob { model: model.to_owned(), ..NewJob::default() });
        (job.phase, job.due_at) = (Phase::Held { why: Why::Restored }, None);
        job.notices.push("its record was lost, and with it the name of its task".to_owned());
        job
    }
}

fn restored(mut draft: Draft<'_>) -> Option<Change> {
    if !matches!(draft.was.phase, Phase::Queued { .. } | Phase::Sending) {
        return None;
    }
    draft.hold(Why::Restored);
    draft.done()
}

/// The outcome keeps naming the files: what was made does not change.
fn files_removed(mut draft: Draft<'_>) -> Option<Change> {
    if draft.was.outcome().is_none() || draft.was.files_removed_at.is_some() {
        return None;
    }
    draft.job.files_removed_at = Some(draft.now);
    draft.done()
}

fn claimed(mut draft: Draft<'_>, duty: Duty) -> Option<Change> {
    let ripe = draft.was.due_at.is_some_and(|at| at <= draft.now);
    if draft.was.duty() != Some(duty) || !ripe {
        return None;
    }
    let lease = draft.job.revision;
    match duty {
        Duty::Submit => {
            if draft.was.deadline.is_some_and(|at| at <= draft.now) {
                return None; // its Expire entry is due as well, and no money moves on the way there
            }
            draft.job.attempts.submit += 1;
            draft.job.times.submitted_at.get_or_insert(draft.now);
            draft.event(EventKind::Submitted, json!({ "attempt": draft.job.attempts.submit }));
            draft.to(Phase::Sending, draft.policy.submit_lease);
        }
        Duty::Ask => {
            draft.job.attempts.ask += 1;
            draft.due_in(draft.policy.lease);
        }
        Duty::Fetch => {
            draft.job.attempts.fetch += 1;
            let attempt = draft.job.attempts.fetch;
            if draft.was.attempts.fetch == 0 {
                draft.event(EventKind::DownloadStarted, json!({ "attempt": attempt }));
            } else {
                let data = json!({ "attempt": attempt, "why": draft.was.trouble });
                draft.event(EventKind::DownloadRetried, data);
            }
            draft.due_in(draft.policy.lease);
        }
        Duty::Deliver | Duty::Expire => return None,
    }
    draft.job.lease = Some(lease);
    draft.done()
}

fn renewed(mut draft: Draft<'_>, lease: u64) -> Option<Change> {
    // A create call's lease is its proof that no byte leaves late: never longer than it was.
    if !draft.holds(lease) || matches!(draft.was.phase, Phase::Sending) {
        return None;
    }
    draft.due_in(draft.policy.lease);
    draft.job.lease = Some(lease);
    draft.done()
}

fn released(mut draft: Draft<'_>, lease: u64) -> Option<Change> {
    if !draft.holds(lease) || matches!(draft.was.phase, Phase::Sending) {
        return None;
    }
    draft.due_in(0);
    draft.done()
}

fn expired(mut draft: Draft<'_>) -> Option<Change> {
    let ripe = draft.was.due_at.is_some_and(|at| at <= draft.now);
    match &draft.was.phase {
        Phase::Sending if ripe => draft.unknown(Why::AnswerLost),
        Phase::Unknown { why } if ripe => draft.hold(*why),
        Phase::Queued { .. } if draft.was.deadline.is_some_and(|at| at <= draft.now) => {
            draft.release_booking();
            let message = "the job's deadline passed before it was submitted; nothing was spent; \
                           submit it again with a later deadline";
            draft.fail(FailCode::DeadlineExceeded, message.to_owned());
        }
        _ => return None,
    }
    draft.done()
}

fn orphaned(mut draft: Draft<'_>) -> Option<Change> {
    draft.was.lease?;
    if matches!(draft.was.phase, Phase::Sending) {
        draft.unknown(Why::AnswerLost);
    } else {
        draft.due_in(0);
    }
    draft.done()
}

fn contradicted(mut draft: Draft<'_>, task: &TaskId) -> Option<Change> {
    let open_answer = match &draft.was.phase {
        Phase::Queued { .. } | Phase::Sending | Phase::Unknown { .. } => true,
        // A task that the upstream itself vouched for stands, whatever else is named beside it.
        Phase::Awaiting(_) => draft.was.task.as_ref().is_none_or(|known| !known.proven),
        Phase::Held { why } => *why != Why::IdContradicted,
        Phase::Fetching { .. } | Phase::Settled { .. } => false,
    };
    if !open_answer {
        return None;
    }
    draft.notice(format!("the upstream named task {task}, which is another job's"));
    draft.hold(Why::IdContradicted);
    draft.done()
}

fn cancel(mut draft: Draft<'_>) -> Option<Change> {
    let may_still_charge = match &draft.was.phase {
        Phase::Settled { .. } => return None,
        Phase::Queued { .. } => {
            draft.release_booking();
            false
        }
        _ => true,
    };
    let files = draft.was.files().cloned().collect();
    draft.settle(Outcome::Canceled { may_still_charge, files });
    draft.done()
}

fn attach(mut draft: Draft<'_>, task: &TaskId) -> Option<Change> {
    if !matches!(draft.was.phase, Phase::Held { .. }) {
        return None;
    }
    draft.adopt(task, false, 0);
    draft.done()
}

const ABANDONED: &str = "the outcome of the create call stayed unknown and the job was given up; the upstream may have \
                         charged it; a late callback is still followed up";

fn abandon(mut draft: Draft<'_>) -> Option<Change> {
    if !matches!(draft.was.phase, Phase::Held { .. }) {
        return None;
    }
    draft.fail(FailCode::SubmitAbandoned, ABANDONED.to_owned());
    draft.done()
}

fn replace(mut draft: Draft<'_>, successor: &Job) -> Option<Change> {
    if !matches!(draft.was.phase, Phase::Held { .. }) {
        return None;
    }
    draft.fail(FailCode::SubmitAbandoned, ABANDONED.to_owned());
    draft.follow(successor.clone(), RetryMode::Resubmit);
    draft.done()
}
