//! Every state that one job and one upstream can get into within four claims, visited once.
//!
//! Nothing is drawn by chance here: wherever several things could happen next, all of them do. An answer that was
//! given once may arrive now, late, again, or never; the process may die anywhere; a person may cancel at any time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by a panic")]

#[path = "support/lifecycle.rs"]
mod support;

use std::collections::{HashSet, VecDeque};

use reelhook::lifecycle::{
    Change, Duty, Event, FailCode, Job, JobId, Millis, Note, Outcome, Phase, Policy, Refusal, Report,
    StoredFile, TaskId, Why,
};

const MOST_CLAIMS: usize = 4;
const MOST_CALLBACKS: usize = 2;

/// What became of a create call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Call {
    /// A worker holds the claim; no byte has left.
    InHand,
    /// No byte ever will.
    Dead,
    Taken,
    Refused,
}

/// An answer that exists, and so can arrive at any time and any number of times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Answer {
    Accepted,
    Silence,
    NoId,
    Busy,
    Rejected,
    NotSent,
    Running,
    Succeeded,
    Failed,
    NotFound,
    Nothing,
    File,
    Archived,
}

#[derive(Clone)]
struct State {
    job: Job,
    now: Millis,
    /// Leases of the claims so far.
    leases: Vec<u64>,
    /// The create call of each claim that was one.
    calls: Vec<Option<Call>>,
    /// Answers that exist, by claim.
    answers: Vec<(usize, Answer)>,
    callbacks: usize,
    terminal_events: usize,
}

/// What the future depends on; instants and revisions only by what they mean.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    phase: String,
    lease: Option<usize>,
    task: Option<(TaskId, bool)>,
    calls: Vec<Option<Call>>,
    answers: Vec<(usize, Answer)>,
    callbacks: usize,
    booked: bool,
}

impl State {
    fn key(&self) -> Key {
        let ordinal = |lease: u64| self.leases.iter().filter(|known| **known < lease).count();
        let phase = match &self.job.phase {
            Phase::Awaiting(wait) => {
                format!("awaiting {:?} {} {}", wait.nudged.map(ordinal), wait.polls, wait.not_found)
            }
            Phase::Fetching { outputs, .. } => {
                format!(
                    "fetching {:?}",
                    outputs.iter().map(|o| (o.link.is_some(), o.file.is_some())).collect::<Vec<_>>()
                )
            }
            Phase::Settled { outcome: Outcome::Failed { code, .. } } => format!("failed {code:?}"),
            other => format!("{other:?}"),
        };
        let mut answers = self.answers.clone();
        answers.sort_unstable();
        Key {
            phase,
            lease: self.job.lease.map(ordinal),
            task: self.job.task.clone().map(|task| (task.id, task.proven)),
            calls: self.calls.clone(),
            answers,
            callbacks: self.callbacks,
            booked: self.job.cost.reserved.is_some(),
        }
    }

    fn taken(&self) -> usize {
        self.calls.iter().filter(|call| **call == Some(Call::Taken)).count()
    }

    /// Everything that can happen next.
    fn futures(&self, policy: &Policy) -> Vec<Self> {
        let mut futures = Vec::new();
        self.claim(policy, &mut futures);
        self.call(&mut futures);
        for (claim, answer) in &self.answers {
            let event = event(*answer, self.leases[*claim]);
            futures.extend(self.after(&event, policy));
            // A worker whose answer is believed goes on.
            if *answer == Answer::File
                && let Some(next) = futures.last_mut().filter(|next| next.job.files().count() > 0)
            {
                next.answer(*claim, Answer::Archived);
            }
        }
        // Only a job that the upstream took can be called back about.
        if self.taken() > 0 && self.callbacks < MOST_CALLBACKS {
            for task in [None, Some(support::task("task"))] {
                let successor = JobId::new(self.now, &[9; 10]);
                let note = Note { task, duplicate: self.callbacks > 0, kept_bytes: 1, successor };
                let next = self.after(&Event::Callback(note), policy);
                futures.extend(next.map(|next| Self { callbacks: next.callbacks + 1, ..next }));
            }
        }
        let others = [Event::Expired, Event::Cancel, Event::Attach(support::task("task")), Event::Abandon];
        futures.extend(others.iter().filter_map(|event| self.after(event, policy)));
        for lease in &self.leases {
            futures.extend(self.after(&Event::Renewed(*lease), policy));
            futures.extend(self.after(&Event::Released(*lease), policy));
        }
        // The process is gone, and with it what was in its hands.
        if let Some(mut next) = self.after(&Event::Orphaned, policy) {
            next.bury();
            futures.push(next);
        }
        futures
    }

    fn claim(&self, policy: &Policy, futures: &mut Vec<Self>) {
        let Some(duty) = self.job.duty().filter(|duty| *duty != Duty::Expire) else { return };
        if self.leases.len() == MOST_CLAIMS {
            return;
        }
        let Some(mut next) = self.after(&Event::Claimed(duty), policy) else { return };
        next.leases.push(next.job.revision);
        next.calls.push((duty == Duty::Submit).then_some(Call::InHand));
        let claim = next.leases.len() - 1;
        let answers: &[Answer] = match duty {
            Duty::Ask => {
                &[Answer::Running, Answer::Succeeded, Answer::Failed, Answer::NotFound, Answer::Nothing]
            }
            Duty::Fetch => &[Answer::File],
            _ => &[],
        };
        if answers.is_empty() {
            futures.push(next.clone());
        }
        for answer in answers {
            let mut next = next.clone();
            next.answer(claim, *answer);
            futures.push(next);
        }
    }

    /// A create call that is in hand goes out, in time, and the upstream does with it what it likes.
    fn call(&self, futures: &mut Vec<Self>) {
        for (claim, call) in self.calls.iter().enumerate() {
            if *call != Some(Call::InHand) {
                continue;
            }
            let ends: [(Call, &[Answer]); 6] = [
                (Call::Taken, &[Answer::Accepted, Answer::Silence]),
                (Call::Taken, &[Answer::NoId]),
                (Call::Refused, &[Answer::Busy, Answer::Silence]),
                (Call::Refused, &[Answer::Rejected]),
                (Call::Dead, &[Answer::NotSent]),
                (Call::Dead, &[Answer::Silence]),
            ];
            for (end, answers) in ends {
                let mut next = self.clone();
                next.calls[claim] = Some(end);
                answers.iter().for_each(|answer| next.answer(claim, *answer));
                futures.push(next);
            }
        }
    }

    fn answer(&mut self, claim: usize, answer: Answer) {
        if !self.answers.contains(&(claim, answer)) {
            self.answers.push((claim, answer));
        }
    }

    fn bury(&mut self) {
        for call in self.calls.iter_mut().flatten().filter(|call| **call == Call::InHand) {
            *call = Call::Dead;
        }
    }

    /// The event happens; a limit or claim not before it is due.
    fn after(&self, event: &Event, policy: &Policy) -> Option<Self> {
        let timed = matches!(event, Event::Expired | Event::Claimed(_));
        let due = self.job.due_at.filter(|_| timed).unwrap_or(self.now);
        let now = self.now.max(due).plus(1);
        let change = self.job.step(event, now, policy);
        support::judge(&self.job, event, now, policy, change.as_ref()).unwrap();
        let Change { job, events, .. } = change?;
        let ends = events.iter().filter(|entry| entry.kind.is_terminal()).count();
        let mut next = Self { job, now, terminal_events: self.terminal_events + ends, ..self.clone() };
        if matches!(event, Event::Expired) {
            next.bury(); // no byte leaves that late
        }
        Some(next)
    }

    fn must_be_sound(&self) {
        let Self { job, .. } = self;
        assert!(self.taken() <= 1, "paid twice: {job:?}");
        assert_eq!(self.terminal_events, usize::from(job.outcome().is_some()), "{job:?}");
        if self.taken() == 1 {
            let known = match &job.phase {
                Phase::Queued { .. } => false,
                Phase::Settled { outcome: Outcome::Canceled { may_still_charge, .. } } => *may_still_charge,
                Phase::Settled { outcome: Outcome::Failed { code: FailCode::SubmitAbandoned, .. } } => true,
                Phase::Settled { .. } => job.task.is_some(),
                _ => true,
            };
            assert!(known, "the upstream runs a task that is forgotten: {job:?}");
            assert!(job.cost.reserved.is_some(), "a booking was given back for a task that runs: {job:?}");
        }
    }
}

fn event(answer: Answer, lease: u64) -> Event {
    let task = support::task("task");
    let report = |report| Event::Reported(support::task("task"), report, lease);
    match answer {
        Answer::Accepted => Event::Accepted(task, lease),
        Answer::Silence => Event::Unknown(Why::AnswerLost, lease),
        Answer::NoId => Event::Unknown(Why::AcceptedWithoutId, lease),
        Answer::Busy => Event::Refused(Refusal::Busy(None), lease),
        Answer::Rejected => {
            Event::Refused(Refusal::Job(FailCode::UpstreamRejected, "no such mode".into()), lease)
        }
        Answer::NotSent => Event::Refused(Refusal::NotSent("connection refused".into()), lease),
        Answer::Running => report(Report::Running { word: None, known: true, progress: None }),
        Answer::Succeeded => {
            report(Report::Succeeded { links: vec!["https://files.example/a.mp4".into()], credits: None })
        }
        Answer::Failed => report(Report::Failed {
            code: FailCode::UpstreamFailed,
            message: "out of memory".into(),
            credits: None,
        }),
        Answer::NotFound => report(Report::NotFound),
        Answer::Nothing => Event::Unanswered(
            reelhook::lifecycle::AskFault { message: "502".into(), retry_after: None },
            lease,
        ),
        Answer::File => Event::Fetched {
            index: 0,
            file: StoredFile {
                name: "a.mp4".into(),
                location: "a.mp4".into(),
                bytes: 1,
                sha256: "0".repeat(64),
                content_type: "video/mp4".into(),
            },
            lease,
        },
        Answer::Archived => Event::Archived(lease),
    }
}

/// Visits all states from a new job on, breadth first; returns how many there are and the phases met.
fn search(callback_expected: bool) -> (usize, HashSet<&'static str>) {
    let policy = support::policy();
    let first = State {
        job: support::job(1, callback_expected),
        now: support::START,
        leases: Vec::new(),
        calls: Vec::new(),
        answers: Vec::new(),
        callbacks: 0,
        terminal_events: 0,
    };
    let (mut seen, mut phases) = (HashSet::from([first.key()]), HashSet::new());
    let mut ahead = VecDeque::from([first]);
    while let Some(state) = ahead.pop_front() {
        phases.insert(state.job.phase_name());
        for next in state.futures(&policy) {
            next.must_be_sound();
            if seen.insert(next.key()) {
                ahead.push_back(next);
            }
        }
    }
    (seen.len(), phases)
}

#[test]
fn no_state_within_four_claims_pays_twice_or_forgets_a_task() {
    for callback_expected in [true, false] {
        let (states, phases) = search(callback_expected);
        println!("callback expected: {callback_expected}: {states} states");
        assert!(states > 10_000, "only {states} states");
        let unknown = usize::from(callback_expected);
        assert_eq!(phases.len(), 6 + unknown, "{phases:?}");
    }
}
