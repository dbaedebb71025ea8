//! A load on a real store, and a journal of what it acknowledged, and when.

use std::{cell::RefCell, collections::HashMap};

use bytes::Bytes;
use futures_util::future::{LocalBoxFuture, join_all};
use reelhook::{
    lifecycle::{Duty, Event, Job, JobId, Millis, Note, Phase, Report, StoredFile},
    store::{
        Arrival, CallbackRecord, EventFilter, Insert, Inserted, Judged, LogEntry, Replaced, Store, Verdict,
    },
};

use crate::{
    random::Random,
    recorder::Recording,
    support::{NOW, booking, claim, id, insertion, job, key, policy, record, task},
};

/// How many changes are asked for at once, one after the other.
const WIDTHS: [usize; 10] = [1, 64, 1, 450, 2, 8, 150, 1, 30, 3];
/// Bytes of the largest requests and callbacks: a hundred of them are more than the engine's segments hold.
const HEAVY: usize = 24 << 10;
/// Credits booked for each job.
const CREDITS: u64 = 5;

/// What the store said it had done.
pub(crate) enum Fact {
    /// The record of this job has had this revision.
    Job(JobId, u64),
    /// The callback of this number is in the log.
    Callback(u32),
}

pub(crate) struct Acknowledged {
    /// The operations on the disk until then.
    pub(crate) at: usize,
    /// The newest event that readers of the log had been shown.
    pub(crate) newest: u64,
    pub(crate) fact: Fact,
}

/// Everything that was asked of the store.
#[derive(Default)]
pub(crate) struct Journal {
    pub(crate) acknowledged: Vec<Acknowledged>,
    /// Every record that there was.
    pub(crate) records: HashMap<(JobId, u64), Job>,
    /// The number of each job, and its request.
    pub(crate) requests: HashMap<JobId, (u16, Bytes)>,
    /// The body of each callback, by its number, which is its delivery id.
    pub(crate) bodies: HashMap<u32, Bytes>,
    /// The event log in the end.
    pub(crate) log: Vec<LogEntry>,
}

/// A store under load.
pub(crate) struct Load<'a> {
    store: &'a dyn Store,
    recording: &'a Recording,
    journal: RefCell<Journal>,
    jobs: u16,
    calls: u32,
    /// Bytes of a request or a callback at most.
    longest: usize,
    now: Millis,
}

impl<'a> Load<'a> {
    pub(crate) fn new(store: &'a dyn Store, recording: &'a Recording) -> Self {
        Self { store, recording, journal: RefCell::default(), jobs: 0, calls: 0, longest: 0, now: NOW }
    }

    /// Asks for several changes at once, so many times, and waits for all of them each time.
    pub(crate) async fn run(mut self, waves: usize, random: &mut Random) -> Journal {
        for wave in 0..waves {
            self.now = self.now.plus(60_000);
            let width = WIDTHS[wave % WIDTHS.len()];
            self.longest = if random.once_in(6) { HEAVY } else { 600 };
            let plan: Vec<_> = (0..width).map(|_| self.plan(random)).collect();
            join_all(plan.into_iter().map(|action| self.act(action))).await;
        }
        let mut journal = self.journal.into_inner();
        journal.log = all_events(self.store).await;
        journal
    }

    fn plan(&mut self, random: &mut Random) -> Action {
        let existing = |jobs: u16, random: &mut Random| u16::try_from(1 + random.below(jobs.into())).unwrap();
        match random.below(16) {
            _ if self.jobs == 0 => self.insert(random),
            0..4 => self.insert(random),
            4 => Action::Claim([Duty::Submit, Duty::Ask, Duty::Fetch][random.below(3)], 1 + random.below(40)),
            5..7 => {
                self.calls += 1;
                Action::Callback(existing(self.jobs, random), self.calls, random.below(self.longest))
            }
            7 if random.once_in(4) => Action::Cancel(existing(self.jobs, random)),
            _ => Action::Step(existing(self.jobs, random)),
        }
    }

    fn insert(&mut self, random: &mut Random) -> Action {
        self.jobs += 1;
        Action::Insert(self.jobs, random.below(self.longest))
    }

    fn act(&self, action: Action) -> LocalBoxFuture<'_, ()> {
        match action {
            Action::Insert(n, length) => Box::pin(self.create(n, length)),
            Action::Step(n) => Box::pin(async move {
                let Some(job) = self.store.load(id(n)).await.unwrap() else { return };
                if let Some(event) = next(&job, n) {
                    self.step(&job, &event).await;
                }
            }),
            Action::Cancel(n) => Box::pin(async move {
                let Some(job) = self.store.load(id(n)).await.unwrap() else { return };
                self.step(&job, &Event::Cancel).await;
            }),
            Action::Claim(duty, max) => Box::pin(async move {
                for job in self.store.claim(claim(duty, max, self.now)).await.unwrap() {
                    self.wrote(job).await;
                }
            }),
            Action::Callback(n, number, length) => Box::pin(self.call(n, number, length)),
        }
    }

    async fn create(&self, n: u16, length: usize) {
        let day = i32::try_from(NOW.0 / 86_400_000).unwrap();
        let job = booking(job(n), day, CREDITS);
        let document = Bytes::from(vec![b'a' + (n % 26) as u8; length]);
        let insert =
            Insert { document: document.clone(), key: Some(key("web", &n.to_string(), 1)), ..insertion(job) };
        self.journal.borrow_mut().requests.insert(id(n), (n, document));
        let Inserted::New(job) = self.store.insert(insert).await.unwrap() else {
            panic!("job {n} is not new")
        };
        self.wrote(*job).await;
    }

    async fn step(&self, job: &Job, event: &Event) {
        let Some(change) = job.step(event, self.now, &policy()) else { return };
        let after = change.job.clone();
        match self.store.replace(change).await.unwrap() {
            Replaced::Done { .. } => self.wrote(after).await,
            Replaced::Stale => {} // somebody else of the same wave was faster
            refused => panic!("{refused:?} for {}", job.id),
        }
    }

    async fn call(&self, n: u16, number: u32, length: usize) {
        let body = Bytes::from(vec![b'0' + (number % 10) as u8; length]);
        let delivery_id = number.to_string();
        let entry =
            CallbackRecord { delivery_id: delivery_id.clone(), ..record(n, &format!("{number:010}"), &body) };
        let judge = move |job: Option<&Job>, duplicate| {
            let verdict = if job.is_some() { Verdict::Matched } else { Verdict::Unmatched };
            let note = Note { task: None, duplicate, kept_bytes: length as u64, successor: id(u16::MAX) };
            Judged { record: CallbackRecord { verdict, ..entry.clone() }, keep: true, keep_body: true, note }
        };
        self.journal.borrow_mut().bodies.insert(number, body.clone());
        let now = self.now;
        let arrival =
            Arrival { job_id: id(n), delivery_id, body, now, policy: policy(), judge: Box::new(judge) };
        let heard = self.store.callback(arrival).await.unwrap();
        self.acknowledged(Fact::Callback(number)).await;
        if let Some(changed) = heard.changed {
            self.wrote(*changed.after).await;
        }
    }

    async fn wrote(&self, job: Job) {
        let fact = Fact::Job(job.id, job.revision);
        self.journal.borrow_mut().records.insert((job.id, job.revision), job);
        self.acknowledged(fact).await;
    }

    async fn acknowledged(&self, fact: Fact) {
        let newest = self.store.bounds().await.unwrap().newest;
        let acknowledged = Acknowledged { at: self.recording.now(), newest, fact };
        self.journal.borrow_mut().acknowledged.push(acknowledged);
    }
}

enum Action {
    Insert(u16, usize),
    Step(u16),
    Cancel(u16),
    Claim(Duty, usize),
    Callback(u16, u32, usize),
}

/// What brings a job nearer to its end.
fn next(job: &Job, n: u16) -> Option<Event> {
    match (&job.phase, job.lease) {
        (Phase::Queued { .. }, _) => Some(Event::Claimed(Duty::Submit)),
        (Phase::Sending, Some(lease)) => Some(Event::Accepted(task(n), lease)),
        (Phase::Awaiting(_), None) => Some(Event::Claimed(Duty::Ask)),
        (Phase::Awaiting(_), Some(lease)) => {
            let links = vec![format!("https://files.example/{n}.mp4")];
            Some(Event::Reported(task(n), Report::Succeeded { links, credits: Some(CREDITS) }, lease))
        }
        (Phase::Fetching { .. }, None) => Some(Event::Claimed(Duty::Fetch)),
        (Phase::Fetching { outputs, .. }, Some(lease)) if outputs[0].file.is_some() => {
            Some(Event::Archived(lease))
        }
        (Phase::Fetching { .. }, Some(lease)) => {
            let file = StoredFile {
                name: "1.mp4".into(),
                location: format!("{n}/1.mp4"),
                bytes: 1_000,
                sha256: "0".repeat(64),
                content_type: "video/mp4".into(),
            };
            Some(Event::Fetched { index: 0, file, lease })
        }
        _ => None,
    }
}

/// The event log as readers see it.
pub(crate) async fn all_events(store: &dyn Store) -> Vec<LogEntry> {
    let (mut log, mut after) = (Vec::new(), 0);
    loop {
        let page = store.events(after, 1_000, EventFilter::default()).await.unwrap();
        log.extend(page.events);
        after = page.read_to;
        if !page.more {
            return log;
        }
    }
}
