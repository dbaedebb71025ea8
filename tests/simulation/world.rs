//! Store, lanes, network and clock around the lifecycle, all of them chance's to play with.

use std::collections::BTreeMap;

use reelhook::lifecycle::{Change, Duty, Event, Job, JobId, Millis, Note, Phase, Policy, RetryMode, TaskId};

use crate::{
    faults::{Fault, admits_doubt},
    random::Random,
    support,
    upstream::{Fate, Upstream},
};

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
            Event::Refused(reelhook::lifecycle::Refusal::NotSent("too late".into()), lease)
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
        let claimed = self.apply(index, &event)?;
        if claimed && matches!(event, Event::Claimed(_)) {
            // Its worker is gone at once.
            self.keep(&Item::Answer { job: index, event: Event::Renewed(self.records[index].job.revision) });
        }
        Ok(())
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

    /// Loads, steps, judges, writes; true when it changed anything.
    fn apply(&mut self, index: usize, event: &Event) -> Result<bool, String> {
        let was = &self.records[index].job;
        let Some(change) = self.fault.step(was, event, self.now, self.policy) else { return Ok(false) };
        support::judge(was, event, self.now, self.policy, Some(&change))?;
        if self.trace {
            println!(
                "  {} {index}: {} → {}: {event:?}",
                self.now.0,
                was.phase_name(),
                change.job.phase_name()
            );
        }
        *self.effects.entry((was.phase_name(), support::name(event))).or_default() += 1;
        let named = change.job.task.as_ref().filter(|task| was.task.as_ref().is_none_or(|t| t.id != task.id));
        let taken = named.map(|task| task.id.clone()).filter(|task| self.is_taken(index, task));
        match (taken, event) {
            (None, _) => {
                self.write(index, change)?;
                Ok(true)
            }
            (Some(task), Event::Callback(note)) => Ok(self.apply(index, &Event::Contradicted(task))?
                || self.apply(index, &Event::Callback(Note { task: None, ..note.clone() }))?),
            (Some(task), _) => self.apply(index, &Event::Contradicted(task)),
        }
    }

    /// The store keeps task → job unique, but for jobs that follow one another.
    fn is_taken(&self, index: usize, task: &TaskId) -> bool {
        let job = &self.records[index].job;
        self.records.iter().any(|record| {
            let other = &record.job;
            let kin = other.retry_of == Some(job.id) || job.retry_of == Some(other.id);
            other.id != job.id && !kin && other.task.as_ref().is_some_and(|known| known.id == *task)
        })
    }

    fn write(&mut self, index: usize, change: Change) -> Result<(), String> {
        let record = &mut self.records[index];
        record.terminal_events += change.events.iter().filter(|entry| entry.kind.is_terminal()).count();
        if record.terminal_events > 1 {
            return Err(format!("job {index} ended twice"));
        }
        record.named.extend(change.job.task.iter().map(|task| task.id.clone()));
        record.job = change.job;
        let Some(successor) = change.successor else { return Ok(()) };
        let open =
            |record: &Record| record.job.retry_of == successor.job.retry_of && record.job.outcome().is_none();
        let wanted = successor.mode == RetryMode::Resubmit || !self.records.iter().any(open);
        if wanted && self.records.len() < MOST_JOBS {
            if let Err(sentence) = successor.job.check() {
                return Err(format!("a successor: {sentence}"));
            }
            self.remember(successor.job);
        }
        Ok(())
    }

    /// Faults end. Everything still under way arrives, and what is due gets done, until nothing is.
    pub(crate) fn settle(&mut self) -> Result<(), String> {
        self.upstream.faulty = false;
        if self.random.once_in(2) {
            let calls = self.upstream.works.iter().map(|work| (work.job, work.id.clone()));
            self.items.extend(calls.map(|(job, id)| Item::Callback { job, task: Some(id) }));
        }
        for _ in 0..400 {
            while let Some(item) = self.items.pop() {
                self.advance(item)?;
            }
            if self.records.iter().all(|record| record.job.due_at.is_none()) {
                return self.nothing_is_lost();
            }
            self.tick()?;
        }
        let open = self.records.iter().find(|record| record.job.due_at.is_some()).map(|record| &record.job);
        Err(format!("a job does not settle: {open:?}"))
    }

    fn nothing_is_lost(&self) -> Result<(), String> {
        for (index, record) in self.records.iter().enumerate() {
            let settled = record.job.outcome().is_some();
            if record.terminal_events != usize::from(settled) {
                return Err(format!("job {index} has {} terminal events", record.terminal_events));
            }
        }
        let honest = !self.upstream.lies && !self.upstream.mixes;
        for record in self.records.iter().filter(|_| !self.upstream.mixes) {
            let noticed = |task: &TaskId| record.job.notices.iter().any(|text| text.contains(&task.0));
            if let Some(task) = record.told.iter().find(|task| !record.named.contains(task) && !noticed(task))
            {
                return Err(format!("{task} was accepted and forgotten by {:?}", record.job));
            }
        }
        for work in self.upstream.works.iter().filter(|_| honest) {
            let record = &self.records[work.job];
            if !record.named.contains(&work.id) && !admits_doubt(&record.job) {
                return Err(format!("{work:?} was charged and forgotten by {:?}", record.job));
            }
            if record.job.cost.reserved.is_none() {
                return Err(format!("{work:?} was charged and its booking given back by {:?}", record.job));
            }
            if work.fate == Fate::Running && matches!(record.job.phase, Phase::Awaiting(_)) {
                return Err(format!("{work:?} is still awaited by {:?}", record.job));
            }
        }
        Ok(())
    }
}
