//! One job that things happen to, each step judged.

use reelhook::lifecycle::{
    AskFault, Awaiting, Change, Duty, Event, EventKind, FailCode, FetchFault, Job, JobId, Millis, Note,
    Outcome, Phase, Policy, Refusal, Report, StoredFile, Why,
};

use crate::support::{self, START, task};

pub(crate) const SECOND: i64 = 1_000;
pub(crate) const MINUTE: i64 = 60 * SECOND;
pub(crate) const HOUR: i64 = 60 * MINUTE;

/// A job, the time, and the last change.
pub(crate) struct Player {
    pub(crate) job: Job,
    pub(crate) now: Millis,
    pub(crate) policy: Policy,
    last: Option<Change>,
}

impl Player {
    pub(crate) fn queued() -> Self {
        Self { job: support::job(1, true), now: START, policy: support::policy(), last: None }
    }

    pub(crate) fn without_callbacks() -> Self {
        Self { job: support::job(1, false), ..Self::queued() }
    }

    pub(crate) fn sending() -> Self {
        Self::queued().then(&Event::Claimed(Duty::Submit))
    }

    pub(crate) fn unknown() -> Self {
        let player = Self::sending();
        let lease = player.lease();
        player.then(&Event::Unknown(Why::AnswerLost, lease))
    }

    pub(crate) fn held() -> Self {
        Self::unknown().due().then(&Event::Expired)
    }

    pub(crate) fn awaiting() -> Self {
        let player = Self::sending();
        let lease = player.lease();
        player.then(&Event::Accepted(task("ours"), lease))
    }

    /// Awaiting a task that only a callback named.
    pub(crate) fn unproven() -> Self {
        Self::sending().then(&note(Some("ours")))
    }

    pub(crate) fn asking() -> Self {
        Self::awaiting().due().then(&Event::Claimed(Duty::Ask))
    }

    /// Owes the storage so many videos, with links.
    pub(crate) fn linked(videos: usize) -> Self {
        let player = Self::asking();
        let lease = player.lease();
        player.then(&Event::Reported(task("ours"), succeeded(videos), lease))
    }

    pub(crate) fn fetching(videos: usize) -> Self {
        Self::linked(videos).then(&Event::Claimed(Duty::Fetch))
    }

    pub(crate) fn settled(event: &Event) -> Self {
        Self::held().then(event)
    }

    /// The event happens, and changes something.
    pub(crate) fn then(mut self, event: &Event) -> Self {
        assert!(self.take(event), "{event:?} changes nothing of {:?}", self.job);
        self
    }

    /// The event happens, and changes nothing.
    pub(crate) fn ignores(&self, event: &Event) {
        assert_eq!(self.job.step(event, self.now, &self.policy), None);
    }

    pub(crate) fn take(&mut self, event: &Event) -> bool {
        let change = self.job.step(event, self.now, &self.policy);
        support::judge(&self.job, event, self.now, &self.policy, change.as_ref()).unwrap();
        let Some(change) = change else { return false };
        self.job = change.job.clone();
        self.last = Some(change);
        true
    }

    /// Waits until something is due.
    pub(crate) fn due(mut self) -> Self {
        self.now = self.now.max(self.job.due_at.unwrap());
        self
    }

    pub(crate) fn later(mut self, span: i64) -> Self {
        self.now = self.now.plus(span);
        self
    }

    /// Asks when that is due, and is answered so.
    pub(crate) fn asks(self, report: &Report) -> Self {
        let player = self.due().then(&Event::Claimed(Duty::Ask));
        let (lease, known) = (player.lease(), player.job.task.clone().unwrap().id);
        player.then(&Event::Reported(known, report.clone(), lease))
    }

    pub(crate) fn lease(&self) -> u64 {
        self.job.lease.unwrap()
    }

    /// Milliseconds until the next thing is due.
    pub(crate) fn wait(&self) -> i64 {
        self.job.due_at.unwrap().since(self.now)
    }

    pub(crate) fn awaits(&self) -> &Awaiting {
        let Phase::Awaiting(wait) = &self.job.phase else { panic!("not awaiting: {:?}", self.job) };
        wait
    }

    pub(crate) fn why(&self) -> Why {
        match self.job.phase {
            Phase::Held { why } | Phase::Unknown { why } => why,
            _ => panic!("neither held nor unknown: {:?}", self.job),
        }
    }

    pub(crate) fn trouble(&self) -> &str {
        self.job.trouble.as_deref().unwrap()
    }

    pub(crate) fn failure(&self) -> FailCode {
        match self.job.outcome() {
            Some(Outcome::Failed { code, .. }) => *code,
            _ => panic!("not failed: {:?}", self.job),
        }
    }

    pub(crate) fn change(&self) -> &Change {
        self.last.as_ref().unwrap()
    }

    /// The kinds of events that the last change wrote.
    pub(crate) fn told(&self) -> Vec<EventKind> {
        self.last.iter().flat_map(|change| &change.events).map(|entry| entry.kind).collect()
    }

    pub(crate) fn task(&self) -> (&str, bool) {
        let task = self.job.task.as_ref().unwrap();
        (&task.id.0, task.proven)
    }
}

pub(crate) fn note(named: Option<&str>) -> Event {
    let successor = JobId::new(START, &[77; 10]);
    Event::Callback(Note { task: named.map(task), duplicate: false, kept_bytes: 10, successor })
}

pub(crate) fn repeated(event: Event) -> Event {
    let Event::Callback(note) = event else { panic!("not a callback") };
    Event::Callback(Note { duplicate: true, kept_bytes: 0, ..note })
}

pub(crate) fn running() -> Report {
    Report::Running { word: Some("processing".into()), known: true, progress: Some(40) }
}

pub(crate) fn succeeded(videos: usize) -> Report {
    let links = (0..videos).map(|n| format!("https://files.example/{n}.mp4")).collect();
    Report::Succeeded { links, credits: Some(300) }
}

pub(crate) fn failed() -> Report {
    Report::Failed { code: FailCode::UpstreamFailed, message: "out of memory".into(), credits: Some(0) }
}

pub(crate) fn silence(lease: u64) -> Event {
    Event::Unanswered(AskFault { message: "502".into(), retry_after: None }, lease)
}

pub(crate) fn busy(lease: u64) -> Event {
    Event::Refused(Refusal::Busy(None), lease)
}

pub(crate) fn account(others_pass: bool, lease: u64) -> Event {
    Event::Refused(Refusal::Account { message: "no credits".into(), others_pass }, lease)
}

pub(crate) fn rejected(lease: u64) -> Event {
    Event::Refused(Refusal::Job(FailCode::UpstreamRejected, "no such mode".into()), lease)
}

pub(crate) fn fetched(index: usize, lease: u64) -> Event {
    let name = format!("{index}.mp4");
    let file = StoredFile {
        location: name.clone(),
        name,
        bytes: 9,
        sha256: "0".repeat(64),
        content_type: "video/mp4".into(),
    };
    Event::Fetched { index, file, lease }
}

pub(crate) fn not_fetched(fault: FetchFault, lease: u64) -> Event {
    Event::NotFetched { index: 0, fault, lease }
}
