//! The one table: what each event does to a job in each phase.

use serde_json::{Value, json};

use super::{
    answer,
    delivery::Delivery,
    event::{Change, Event, EventKind, EventRecord, Note, Successor},
    fetching,
    id::{EventId, JobId, Millis, TaskId, derived},
    job::{Awaiting, Duty, FailCode, Job, Outcome, Phase, RetryMode, StoredFile, Task, Why},
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
            Event::Callback(note) => callback(draft, note),
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

    /// A new job about the same task as this one: free, and due at once. None when this job never had a task.
    #[must_use]
    pub fn again(&self, mode: RetryMode, id: JobId, now: Millis) -> Option<Self> {
        let task = self.task.clone()?;
        let phase = match mode {
            RetryMode::Recheck => Phase::Awaiting(Awaiting::default()),
            RetryMode::Download => fetching::from_links(&[], now),
            RetryMode::Resubmit => return None,
        };
        let mut job = Self::new(id, now, super::NewJob { model: self.model.clone(), ..Default::default() });
        (job.mode, job.duration_s, job.tags) = (self.mode.clone(), self.duration_s, self.tags.clone());
        (job.phase, job.task, job.retry_of) = (phase, Some(task), Some(self.id));
        job.cost.exact = true;
        job.times.accepted_at = Some(now);
        job.times.confirmed_at = (mode == RetryMode::Download).then_some(now);
        Some(job)
    }
}

/// A change in the making.
pub(super) struct Draft<'a> {
    pub(super) was: &'a Job,
    pub(super) job: Job,
    pub(super) now: Millis,
    pub(super) policy: &'a Policy,
    change: Change,
}

impl<'a> Draft<'a> {
    fn of(was: &'a Job, now: Millis, policy: &'a Policy) -> Self {
        let mut job = was.clone();
        job.revision += 1;
        let empty = was.clone();
        let change =
            Change { job: empty, events: Vec::new(), deliveries: Vec::new(), successor: None, release: None };
        Self { was, job, now, policy, change }
    }

    /// This lease is the one under which the job is being worked on.
    pub(super) fn holds(&self, lease: u64) -> bool {
        self.was.lease == Some(lease)
    }

    pub(super) fn event(&mut self, kind: EventKind, data: Value) {
        let entry = record(&self.job, kind, self.change.events.len(), self.now, data);
        for rule in &self.policy.sinks {
            self.change.deliveries.extend(Delivery::owed(rule, kind, entry.id, entry.job_id, self.now));
        }
        self.change.events.push(entry);
    }

    /// Goes to a phase that has something due in `wait` milliseconds, claimed by nobody.
    pub(super) fn to(&mut self, phase: Phase, wait: i64) {
        (self.job.phase, self.job.due_at, self.job.lease) = (phase, Some(self.now.plus(wait)), None);
    }

    /// Stays in its phase, to be looked at again in `wait` milliseconds.
    pub(super) fn due_in(&mut self, wait: i64) {
        (self.job.due_at, self.job.lease) = (Some(self.now.plus(wait)), None);
    }

    pub(super) fn hold(&mut self, why: Why) {
        (self.job.phase, self.job.due_at, self.job.lease) = (Phase::Held { why }, None, None);
        self.event(EventKind::Held, json!({ "why": why }));
    }

    pub(super) fn unknown(&mut self, why: Why) {
        self.event(EventKind::Unknown, json!({ "why": why }));
        if self.job.callback.expected {
            self.to(Phase::Unknown { why }, self.policy.unknown_wait);
        } else {
            self.hold(why);
        }
    }

    /// Takes the task and waits for it. `proven` by the create call's own answer or the task route.
    pub(super) fn adopt(&mut self, task: &TaskId, proven: bool, wait: i64) {
        if matches!(self.was.phase, Phase::Unknown { .. } | Phase::Held { .. } | Phase::Queued { .. }) {
            self.event(EventKind::Recovered, json!({ "task_id": task }));
        }
        self.job.task = Some(Task { id: task.clone(), proven });
        self.job.times.accepted_at.get_or_insert(self.now);
        self.to(Phase::Awaiting(Awaiting::default()), wait);
    }

    /// Marks the wait as asked for by a callback, and makes the question due.
    pub(super) fn nudge(&mut self, wait: i64) {
        let (revision, due) = (self.job.revision, self.now.plus(wait));
        if let Phase::Awaiting(awaiting) = &mut self.job.phase {
            awaiting.nudged = Some(revision);
            if self.job.lease.is_none() {
                self.job.due_at = self.job.due_at.map(|at| at.min(due));
            }
        }
    }

    pub(super) fn notice(&mut self, text: String) {
        if self.job.notices.len() < 8 && !self.job.notices.contains(&text) {
            self.job.notices.push(text);
        }
    }

    pub(super) fn fail(&mut self, code: FailCode, message: String) {
        let files: Vec<StoredFile> = self.was.files().cloned().collect();
        self.settle(Outcome::Failed { code, message, files });
    }

    /// Gives the booking back: this job provably cost nothing.
    pub(super) fn release_booking(&mut self) {
        self.change.release = self.job.cost.reserved.take();
    }

    pub(super) fn settle(&mut self, outcome: Outcome) {
        let (kind, data) = match &outcome {
            Outcome::Stored { files } => (EventKind::Succeeded, json!({ "files": files })),
            Outcome::Failed { code, message, .. } => {
                (EventKind::Failed, json!({ "code": code, "message": message }))
            }
            Outcome::Canceled { may_still_charge } => {
                (EventKind::Canceled, json!({ "upstream_may_still_charge": may_still_charge }))
            }
        };
        (self.job.phase, self.job.due_at, self.job.lease) = (Phase::Settled { outcome }, None, None);
        self.job.times.finished_at = Some(self.now);
        self.event(kind, data);
    }

    /// Creates `job` beside this change.
    pub(super) fn follow(&mut self, mut job: Job, mode: RetryMode) {
        job.retry_of = Some(self.job.id);
        let event = job.created_event();
        self.change.successor = Some(Successor { job, event, mode });
    }

    #[expect(clippy::unnecessary_wraps, reason = "the arms of the table end with it")]
    pub(super) fn done(mut self) -> Option<Change> {
        self.change.job = self.job;
        Some(self.change)
    }
}

fn record(job: &Job, kind: EventKind, index: usize, time: Millis, data: Value) -> EventRecord {
    let unique = derived(&[job.id.as_bytes(), &job.revision.to_be_bytes(), &(index as u64).to_be_bytes()]);
    EventRecord { id: EventId::new(time, &unique), kind, time, job_id: job.id, revision: job.revision, data }
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
            let kind = if draft.was.attempts.fetch == 0 {
                EventKind::DownloadStarted
            } else {
                EventKind::DownloadRetried
            };
            draft.event(kind, json!({ "attempt": draft.job.attempts.fetch }));
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
        Phase::Queued { .. } | Phase::Sending | Phase::Unknown { .. } | Phase::Awaiting(_) => true,
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
    draft.settle(Outcome::Canceled { may_still_charge });
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

/// Nudges of one job: five a minute, then one in ten seconds.
const NUDGES_A_MINUTE: u32 = 5;

fn callback(mut draft: Draft<'_>, note: &Note) -> Option<Change> {
    let memory = &mut draft.job.callback;
    memory.received = memory.received.saturating_add(1);
    memory.first_at.get_or_insert(draft.now);
    if memory.window.is_none_or(|start| draft.now.since(start) >= 60_000) {
        (memory.window, memory.nudges) = (Some(draft.now), 0);
    }
    memory.nudges = memory.nudges.saturating_add(1);
    let wait = if memory.nudges <= NUDGES_A_MINUTE { 0 } else { 10_000 };
    if note.kept_bytes > 0 {
        memory.kept += 1;
        memory.kept_bytes += note.kept_bytes;
        draft.event(EventKind::CallbackReceived, json!({ "task_id": note.task, "bytes": note.kept_bytes }));
    }
    match (&draft.was.phase, &note.task) {
        (Phase::Queued { .. } | Phase::Sending | Phase::Unknown { .. } | Phase::Held { .. }, Some(task)) => {
            draft.adopt(task, false, 0);
            draft.nudge(wait);
        }
        // A refusal that was not one: the upstream took the job and we cannot tell as which task.
        (Phase::Queued { .. }, None) => draft.hold(Why::AcceptedWithoutId),
        (Phase::Awaiting(_), _) => draft.nudge(wait),
        (Phase::Settled { outcome }, task) => {
            if draft.job.task.is_none() {
                draft.job.task = task.clone().map(|id| Task { id, proven: false });
            }
            let ours = matches!(outcome, Outcome::Failed { code, .. } if code.is_ours());
            if ours && !note.duplicate {
                if let Some(next) = draft.job.again(RetryMode::Recheck, note.successor, draft.now) {
                    draft.follow(next, RetryMode::Recheck);
                }
            }
        }
        (Phase::Sending | Phase::Unknown { .. } | Phase::Held { .. } | Phase::Fetching { .. }, _) => {}
    }
    draft.done()
}
