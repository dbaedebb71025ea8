//! Store, lanes, network and clock around the lifecycle, all of them chance's to play with.

mod end;
mod store;

use std::collections::BTreeMap;

use reelhook::lifecycle::{Duty, Event, Job, JobId, Millis, Note, Phase, Policy, Refusal, TaskId};

use crate::{faults::Fault, random::Random, support, upstream::Upstream};

/// Something under way: work of a lane, or a message.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// A worker is about to send the create call; no byte leaves after the instant (of the monotone clock).
    Create { job: usize, lease: u64, not_after: i64 },
    /// A worker is about to ask.
    Ask { job: usize, task: TaskId, lease: u64 },
    /// A worker is about to fetch.
    Fetch { job: usize, lease: u64 },
    /// An answer on its way to the record.
    Answer { job: usize, event: Event },
    /// A callback on its way to us.
    Callback { job: usize, task: Option<TaskId> },
}

/// A job as the store has it, and what it has been through.
pub(crate) struct Record {
    pub(crate) job: Job,
    terminal_events: usize,
    /// Tasks that it had.
    named: Vec<TaskId>,
    /// Tasks that answers to its create calls named.
    told: Vec<TaskId>,
}

pub(crate) struct World<'a> {
    pub(crate) records: Vec<Record>,
    pub(crate) upstream: Upstream,
    pub(crate) random: Random,
    now: Millis,
    monotone: i64,
    items: Vec<Item>,
    past: Vec<Item>,
    fault: Fault,
    policy: &'a Policy,
    ids: u16,
    pub(crate) trace: bool,
    /// Which events changed something, by the phase that they met.
    pub(crate) effects: BTreeMap<(&'static str, &'static str), u64>,
}

/// A create call's own time-out: the rest of its lease is the time in which its first byte may leave.
const SUBMIT_TIMEOUT: i64 = 30_000;
const MOST_JOBS: usize = 6;

impl<'a> World<'a> {
    pub(crate) fn new(seed: u64, fault: Fault, policy: &'a Policy) -> Self {
        let mut random = Random::new(seed);
        let upstream =
            Upstream { works: Vec::new(), faulty: true, lies: random.once_in(8), mixes: random.once_in(4) };
        let mut world = Self {
            records: Vec::new(),
            upstream,
            now: support::START,
            monotone: 0,
            items: Vec::new(),
            past: Vec::new(),
            fault,
            policy,
            ids: 256,
            trace: false,
            effects: BTreeMap::new(),
            random,
        };
        for number in 0..1 + world.random.below(2) {
            let mut job = support::job(u8::try_from(number).unwrap(), !world.random.once_in(4));
            job.deadline = world.random.once_in(8).then(|| support::START.plus(60_000));
            world.remember(job);
        }
        world
    }

    fn remember(&mut self, job: Job) {
        self.records.push(Record { job, terminal_events: 0, named: Vec::new(), told: Vec::new() });
    }

    /// One random thing happens.
    pub(crate) fn chance(&mut self) -> Result<(), String> {
        match self.random.below(24) {
            0..=11 => self.deliver(),
            12..=16 => self.tick(),
            17 | 18 => {
                if let Some(work) = self.upstream.progress(&mut self.random) {
                    self.call_back(work);
                }
                Ok(())
            }
            19 => {
                self.lose_or_repeat();
                Ok(())
            }
            20 => self.crash(),
            21 => {
                let jump = [-7_200_000, 3_000, 40_000, 700_000, 3 * 86_400_000][self.random.below(5)];
                self.now = self.now.plus(jump);
                Ok(())
            }
            22 => self.lease_event(),
            _ => self.person(),
        }
    }

    /// Calls back about this work, as often and as well as it likes.
    fn call_back(&mut self, work: usize) {
        let job = self.upstream.works[work].job;
        for _ in 0..self.random.below(3) {
            let named = match self.random.below(6) {
                0 | 1 => None,
                2 if self.upstream.mixes => Some(self.random.below(self.upstream.works.len())),
                _ => Some(work),
            };
            let task = named.map(|work| self.upstream.works[work].id.clone());
            self.items.push(Item::Callback { job, task });
        }
    }

    /// Anything under way gets one step further.
    fn deliver(&mut self) -> Result<(), String> {
        if self.items.is_empty() {
            return self.tick();
        }
        let at = self.random.below(self.items.len());
        let item = self.items.swap_remove(at);
        self.advance(item)
    }

    fn advance(&mut self, item: Item) -> Result<(), String> {
        if self.trace {
            println!("{item:?}");
        }
        match item {
            Item::Create { job, lease, not_after } => self.create(job, lease, not_after)?,
            Item::Ask { job, task, lease } => {
                let event = self.upstream.ask(&mut self.random, &task, lease);
                self.items.push(Item::Answer { job, event });
            }
            Item::Fetch { job, lease } => {
                let Phase::Fetching { outputs, .. } = &self.records[job].job.phase else { return Ok(()) };
                let event = match outputs.iter().position(|output| output.file.is_none()) {
                    Some(index) => self.upstream.fetch(&mut self.random, index, lease),
                    None => Event::Archived(lease),
                };
                self.items.push(Item::Answer { job, event });
            }
            Item::Answer { job, ref event } => {
                self.keep(&item);
                if let Event::Accepted(task, _) = event {
                    self.records[job].told.push(task.clone());
                }
                if self.apply(job, event)?
                    && let Event::Fetched { lease, .. } = *event
                {
                    self.items.push(Item::Fetch { job, lease });
                }
            }
            Item::Callback { job, ref task } => {
                let duplicate = self
                    .past
                    .iter()
                    .any(|past| matches!(past, Item::Callback { job: j, task: t } if *j == job && t == task));
                self.keep(&item);
                let kept_bytes = if duplicate { 0 } else { 100 };
                let note = Note { task: task.clone(), duplicate, kept_bytes, successor: self.id() };
                self.apply(job, &Event::Callback(note))?;
            }
        }
        Ok(())
    }

    fn keep(&mut self, item: &Item) {
        if self.past.len() < 12 {
            self.past.push(item.clone());
        }
    }

    fn create(&mut self, job: usize, lease: u64, not_after: i64) -> Result<(), String> {
        let event = if self.monotone > not_after {
            Event::Refused(Refusal::NotSent("too late".into()), lease)
        } else {
            let before = self.upstream.works.len();
            let event = self.upstream.create(&mut self.random, job, lease);
            let paid = self.upstream.works.iter().filter(|work| work.job == job).count();
            if paid > 1 && !self.upstream.lies {
                return Err(format!("job {job} is paid for {paid} times"));
            }
            if self.upstream.works.len() > before && self.upstream.faulty && self.random.once_in(4) {
                self.call_back(before);
            }
            event
        };
        self.items.push(Item::Answer { job, event });
        Ok(())
    }

    /// Time passes until something is due, and a lane takes it.
    fn tick(&mut self) -> Result<(), String> {
        let due = |record: &Record| record.job.dues().map(|due| due.at).min();
        let Some((job, at)) =
            self.records.iter().enumerate().filter_map(|(i, r)| Some((i, due(r)?))).min_by_key(|(_, at)| *at)
        else {
            return Ok(());
        };
        let wait = at.since(self.now).max(0);
        if wait > 0 && !self.items.is_empty() && !self.random.once_in(4) {
            return self.deliver();
        }
        (self.now, self.monotone) = (self.now.plus(wait), self.monotone + wait);
        // A deadline and a create call may be due together: either lane may come first.
        let record = &self.records[job].job;
        let ripe: Vec<Duty> = record.dues().filter(|due| due.at <= self.now).map(|due| due.duty).collect();
        let duty = ripe[self.random.below(ripe.len())];
        self.claim(job, duty)
    }

    fn claim(&mut self, index: usize, duty: Duty) -> Result<(), String> {
        let event = if duty == Duty::Expire { Event::Expired } else { Event::Claimed(duty) };
        if !self.apply(index, &event)? {
            return Ok(());
        }
        let job = &self.records[index].job;
        let (Some(lease), task) = (job.lease, job.task.clone()) else { return Ok(()) };
        let item = match (duty, task) {
            (Duty::Submit, _) => {
                let not_after = self.monotone + self.policy.submit_lease - SUBMIT_TIMEOUT;
                Item::Create { job: index, lease, not_after }
            }
            (Duty::Ask, Some(task)) => Item::Ask { job: index, task: task.id, lease },
            (Duty::Fetch, _) => Item::Fetch { job: index, lease },
            _ => return Ok(()),
        };
        self.items.push(item);
        Ok(())
    }

    fn lose_or_repeat(&mut self) {
        let fate = self.random.below(4);
        let from = if fate == 0 { self.items.len() } else { self.past.len() };
        if from == 0 {
            return;
        }
        let at = self.random.below(from);
        if fate == 0 {
            self.items.swap_remove(at);
        } else {
            self.items.push(self.past[at].clone());
        }
    }

    /// The process dies between claim and answer. Alone on its store it says so when it comes back; one of
    /// several just leaves its leases to lapse.
    fn crash(&mut self) -> Result<(), String> {
        self.items.retain(|item| matches!(item, Item::Callback { .. }));
        if self.random.once_in(2) {
            for job in 0..self.records.len() {
                self.apply(job, &Event::Orphaned)?;
            }
        }
        Ok(())
    }

    fn lease_event(&mut self) -> Result<(), String> {
        let index = self.random.below(self.records.len());
        let job = &self.records[index].job;
        let lease = job.lease.unwrap_or(1);
        let event = match self.random.below(4) {
            0 => Event::Renewed(lease),
            1 => Event::Released(lease),
            2 => Event::Expired,
            _ => Event::Claimed(job.duty().unwrap_or(Duty::Submit)),
        };
        self.apply(index, &event).map(drop)
    }

    fn person(&mut self) -> Result<(), String> {
        let index = self.random.below(self.records.len());
        let held = matches!(self.records[index].job.phase, Phase::Held { .. });
        let event = match self.random.below(if held { 4 } else { 12 }) {
            0 => Event::Cancel,
            1 => Event::Abandon,
            2 => match self.upstream.works.iter().find(|work| work.job == index) {
                Some(work) => Event::Attach(work.id.clone()),
                None => Event::Attach(support::task("a-typing-error")),
            },
            3 if self.records.len() < MOST_JOBS => {
                let mut next = support::job(7, true);
                next.id = self.id();
                Event::Replace(Box::new(next))
            }
            _ => return Ok(()),
        };
        self.apply(index, &event).map(drop)
    }

    fn id(&mut self) -> JobId {
        self.ids += 1;
        let [high, low] = self.ids.to_be_bytes();
        JobId::new(support::START, &[high, low, 0, 0, 0, 0, 0, 0, 0, 0])
    }
}
