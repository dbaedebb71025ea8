//! A change in the making: the moves that the arms of the table are written in.

use serde_json::{Value, json};

use super::{
    delivery::Delivery,
    event::{Change, EventKind, EventRecord, Successor},
    id::{EventId, Millis, TaskId, derived},
    job::{Job, Reservation, RetryMode, Task},
    phase::{Awaiting, FailCode, Outcome, Phase, StoredFile, Why},
    retry::{NUDGE_WINDOW, NUDGES_A_WINDOW, Policy, SLOW_NUDGE},
};

/// Longest trouble in characters: whose words it is may be somebody else's.
const TROUBLE_CHARS: usize = 300;

/// The record before and after a step, and what is written beside it.
pub(super) struct Draft<'a> {
    pub(super) was: &'a Job,
    pub(super) job: Job,
    pub(super) now: Millis,
    pub(super) policy: &'a Policy,
    events: Vec<EventRecord>,
    deliveries: Vec<Delivery>,
    successor: Option<Successor>,
    release: Option<Reservation>,
    book: Option<Reservation>,
}

impl<'a> Draft<'a> {
    pub(super) fn of(was: &'a Job, now: Millis, policy: &'a Policy) -> Self {
        let job = Job { revision: was.revision + 1, ..was.clone() };
        let (events, deliveries) = (Vec::new(), Vec::new());
        Self { was, job, now, policy, events, deliveries, successor: None, release: None, book: None }
    }

    /// This lease is the one under which the job is being worked on.
    pub(super) fn holds(&self, lease: u64) -> bool {
        self.was.lease == Some(lease)
    }

    pub(super) fn event(&mut self, kind: EventKind, data: Value) {
        let entry = record(&self.job, kind, self.events.len(), self.now, data);
        self.deliveries.extend(Delivery::all(&entry, Some(&self.job), self.policy));
        self.events.push(entry);
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
        self.job.trouble = None;
        self.event(EventKind::Held, json!({ "why": why }));
    }

    pub(super) fn unknown(&mut self, why: Why) {
        // A callback that named no task came meanwhile: then it is known that the upstream took the job.
        let why = if self.was.callback.received > 0 { Why::AcceptedWithoutId } else { why };
        self.event(EventKind::Unknown, json!({ "why": why }));
        self.job.trouble = None;
        if self.job.callback.expected {
            self.to(Phase::Unknown { why }, self.policy.unknown_wait);
        } else {
            self.hold(why);
        }
    }

    /// Takes the task and waits for it. `proven` by the create call's own answer or the task route.
    pub(super) fn adopt(&mut self, task: &TaskId, proven: bool, wait: i64) {
        let answered = proven && matches!(self.was.phase, Phase::Sending | Phase::Awaiting(_));
        if !answered {
            self.event(EventKind::Recovered, json!({ "task_id": task }));
        }
        self.name(task, proven);
        self.job.trouble = None;
        self.job.times.accepted_at = Some(self.now);
        self.to(Phase::Awaiting(Awaiting::default()), wait);
    }

    /// Remembers the task of a settled job, so that a person can follow it up, and what it costs.
    pub(super) fn remember(&mut self, task: &TaskId, proven: bool) {
        self.name(task, proven);
        let credits = self.job.cost.estimated_credits;
        if self.job.cost.reserved.is_none() && credits > 0 {
            self.job.cost.reserved = Some(Reservation { day: self.now.day(), credits });
            self.book = self.job.cost.reserved;
        }
    }

    fn name(&mut self, task: &TaskId, proven: bool) {
        let old = self.job.task.replace(Task { id: task.clone(), proven });
        if let Some(old) = old.filter(|old| old.id != *task) {
            self.notice(format!("task {} was named for this job before task {task}", old.id));
        }
    }

    /// Remembers a task that is not the one that is asked about, for when that turns out to be none of this job's.
    pub(super) fn remember_rival(&mut self, named: &TaskId) {
        let open = self.job.task.as_ref().is_some_and(|known| !known.proven && known.id != *named);
        if let Phase::Awaiting(awaiting) = &mut self.job.phase
            && open
        {
            awaiting.rival = Some(named.clone());
        }
    }

    /// Marks the wait as asked for by a callback, and makes the question due.
    pub(super) fn nudge(&mut self) {
        let (revision, due) = (self.job.revision, self.now.plus(self.nudge_wait()));
        if let Phase::Awaiting(awaiting) = &mut self.job.phase {
            awaiting.nudged = Some(revision);
            if self.job.lease.is_none() {
                self.job.due_at = self.job.due_at.map(|at| at.min(due));
            }
        }
    }

    /// How long the question waits that a callback asks for: a flood of them must not become a flood of questions.
    pub(super) fn nudge_wait(&self) -> i64 {
        let memory = &self.job.callback;
        let current = memory.window.is_some_and(|start| (0..NUDGE_WINDOW).contains(&self.now.since(start)));
        if current && memory.nudges > NUDGES_A_WINDOW { SLOW_NUDGE } else { 0 }
    }

    pub(super) fn notice(&mut self, text: String) {
        if self.job.notices.len() < 8 && !self.job.notices.contains(&text) {
            self.job.notices.push(text);
        }
    }

    /// Remembers why what was due did not succeed.
    pub(super) fn trouble(&mut self, why: &str) {
        self.job.trouble = Some(why.chars().take(TROUBLE_CHARS).collect());
    }

    pub(super) fn fail(&mut self, code: FailCode, message: String) {
        let files: Vec<StoredFile> = self.was.files().cloned().collect();
        self.settle(Outcome::Failed { code, message, files });
    }

    /// Gives the booking back: this job provably cost nothing.
    pub(super) fn release_booking(&mut self) {
        self.release = self.job.cost.reserved.take();
    }

    pub(super) fn settle(&mut self, outcome: Outcome) {
        let (kind, data) = match &outcome {
            Outcome::Stored { files } => (EventKind::Succeeded, json!({ "files": files })),
            Outcome::Failed { code, message, .. } => {
                (EventKind::Failed, json!({ "code": code, "message": message }))
            }
            Outcome::Canceled { may_still_charge, .. } => {
                (EventKind::Canceled, json!({ "upstream_may_still_charge": may_still_charge }))
            }
        };
        (self.job.phase, self.job.due_at, self.job.lease) = (Phase::Settled { outcome }, None, None);
        self.job.trouble = None;
        self.job.times.finished_at = Some(self.now);
        self.event(kind, data);
    }

    /// Creates `job` beside this change.
    pub(super) fn follow(&mut self, mut job: Job, mode: RetryMode) {
        job.retry_of = Some(self.job.id);
        let (event, deliveries) = job.created(self.policy);
        self.successor = Some(Successor { job, event, deliveries, mode });
    }

    #[expect(clippy::unnecessary_wraps, reason = "the arms of the table end with it")]
    pub(super) fn done(self) -> Option<Change> {
        let Self { job, events, deliveries, successor, release, book, .. } = self;
        Some(Change { job, events, deliveries, successor, release, book })
    }
}

pub(super) fn record(job: &Job, kind: EventKind, index: usize, time: Millis, data: Value) -> EventRecord {
    let unique = derived(&[job.id.as_bytes(), &job.revision.to_be_bytes(), &(index as u64).to_be_bytes()]);
    let (job_id, revision) = (Some(job.id), Some(job.revision));
    EventRecord { id: EventId::new(time, &unique), kind, time, job_id, revision, data }
}
