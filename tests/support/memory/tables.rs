//! What the store holds, and the writes that every request is made of.

use std::sync::Arc;

use bytes::Bytes;
use reelhook::{
    lifecycle::{
        Change, Delivery, DeliveryId, Due, Duty, EventRecord, Job, JobId, Millis, Reservation, RetryMode,
        SinkState, TaskId,
    },
    store::{
        Booked, CallbackRecord, Counts, Exceeded, IdempotencyKey, Insert, Inserted, Limits, Replaced,
        StoreError,
    },
};

use super::{Fault, Written, table::Table};

/// A job with what belongs to it alone.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) job: Job,
    pub(crate) document: Option<Bytes>,
    /// Deliveries of callbacks that were seen.
    pub(crate) seen: Vec<String>,
}

/// Place of a due entry: the order is that in which work is taken.
pub(crate) type DueKey = (Duty, bool, Millis, JobId);

pub(crate) type Observer = Box<dyn FnMut(&Written<'_>) + Send>;

#[derive(Default)]
pub(crate) struct Tables {
    pub(crate) jobs: Table<JobId, Arc<Row>>,
    pub(crate) dues: Table<DueKey, ()>,
    pub(crate) events: Table<u64, Arc<EventRecord>>,
    pub(crate) callbacks: Table<[u8; 16], Arc<(CallbackRecord, Bytes)>>,
    pub(crate) deliveries: Table<DeliveryId, Delivery>,
    pub(crate) bodies: Table<DeliveryId, Bytes>,
    pub(crate) sinks: Table<String, SinkState>,
    tasks: Table<TaskId, JobId>,
    ledger: Table<i32, u64>,
    keys: Table<(String, String), ([u8; 32], JobId)>,
    pub(crate) kept: Table<String, Vec<u8>>,
    pub(crate) strays: Table<(JobId, String), u64>,
    phases: Table<&'static str, u64>,
    outcomes: Table<&'static str, u64>,
    /// The last time that something durable named.
    pub(crate) clock: Table<(), Millis>,
    /// Told of every record that is written.
    pub(crate) observer: Option<Observer>,
    pub(crate) fault: Fault,
}

/// Runs a method on every table.
macro_rules! on_all {
    ($tables:expr, $method:ident) => {{
        let tables = $tables;
        tables.jobs.$method();
        tables.dues.$method();
        tables.events.$method();
        tables.callbacks.$method();
        tables.deliveries.$method();
        tables.bodies.$method();
        tables.sinks.$method();
        tables.tasks.$method();
        tables.ledger.$method();
        tables.keys.$method();
        tables.kept.$method();
        tables.strays.$method();
        tables.phases.$method();
        tables.outcomes.$method();
        tables.clock.$method();
    }};
}

pub(crate) fn due_key(due: Due, id: JobId) -> DueKey {
    (due.duty, !due.urgent, due.at, id)
}

impl Tables {
    pub(crate) fn sync(&mut self) {
        on_all!(self, sync);
    }

    /// Back to what was synced; what comes back has been through its stored form.
    pub(crate) fn crash(&mut self) {
        on_all!(&mut *self, crash);
        for (_, row) in self.jobs.iter() {
            let stored = serde_json::to_vec(&row.job).unwrap();
            assert_eq!(
                row.job,
                serde_json::from_slice(&stored).unwrap(),
                "a record reads back as it was written"
            );
        }
    }

    pub(crate) fn job(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(&id).map(|row| &row.job)
    }

    pub(crate) fn newest(&self) -> u64 {
        self.events.iter().next_back().map_or(0, |(seq, _)| *seq)
    }

    pub(crate) fn oldest(&self) -> u64 {
        self.events.iter().next().map_or(1, |(seq, _)| *seq)
    }

    pub(crate) fn counts(&self) -> Counts {
        let named = |table: &Table<&'static str, u64>| {
            table.iter().filter(|(_, n)| **n > 0).map(|(name, n)| ((*name).to_owned(), *n)).collect()
        };
        Counts { phases: named(&self.phases), outcomes: named(&self.outcomes), owed: self.owed() }
    }

    pub(crate) fn in_flight(&self) -> u64 {
        ["sending", "unknown", "awaiting"].iter().filter_map(|name| self.phases.get(name)).sum()
    }

    pub(crate) fn booked(&self, day: i32) -> Booked {
        let (first, after) = month(day);
        let month = self.ledger.range(first..after).map(|(_, credits)| credits).sum();
        Booked { day: self.ledger.get(&day).copied().unwrap_or(0), month }
    }

    pub(crate) fn all_booked(&self) -> u64 {
        self.ledger.iter().map(|(_, credits)| credits).sum()
    }

    fn exceeded(&self, wanted: Reservation, limits: &Limits) -> Option<Exceeded> {
        let booked = self.booked(wanted.day);
        let periods =
            [("daily", booked.day, limits.daily_credits), ("monthly", booked.month, limits.monthly_credits)];
        let over =
            periods.into_iter().find(|(_, booked, limit)| *limit > 0 && booked + wanted.credits > *limit);
        over.map(|(period, booked, limit)| Exceeded { period, booked, limit })
    }

    fn book(&mut self, booking: Reservation, released: bool) {
        let sum = self.ledger.get(&booking.day).copied().unwrap_or(0);
        let sum = if released { sum.saturating_sub(booking.credits) } else { sum + booking.credits };
        self.ledger.put(booking.day, sum);
    }

    pub(crate) fn insert(&mut self, insert: Insert) -> Result<Inserted, StoreError> {
        let Insert { job, event, deliveries, document, key, limits } = insert;
        if let Some(key) = &key
            && let Some((fingerprint, holder)) = self.holder(key)
        {
            let same = fingerprint == key.fingerprint;
            return Ok(if same {
                Inserted::Replayed(Box::new(holder))
            } else {
                Inserted::KeyReused(holder.id)
            });
        }
        let queued = self.phases.get(&"queued").copied().unwrap_or(0);
        if job.phase_name() == "queued" && limits.queued > 0 && queued >= limits.queued {
            return Ok(Inserted::QueueFull { limit: limits.queued });
        }
        if let Some(Exceeded { period, booked, limit }) =
            job.cost.reserved.and_then(|wanted| self.exceeded(wanted, &limits))
            && self.fault != Fault::InsertsBeyondBudgets
        {
            return Ok(Inserted::OverBudget { period, booked, limit });
        }
        self.create(&job, event, Some(document))?;
        if let Some(key) = &key {
            self.remember(key, job.id);
        }
        deliveries.into_iter().for_each(|owed| self.deliveries.put(owed.id, owed));
        Ok(Inserted::New(Box::new(job)))
    }

    /// The job that a key made and that still holds it.
    fn holder(&self, key: &IdempotencyKey) -> Option<([u8; 32], Job)> {
        let (fingerprint, id) = *self.keys.get(&(key.owner.clone(), key.key.clone()))?;
        let job = self.job(id)?.clone();
        (!(key.reusable && job.outcome().is_some())).then_some((fingerprint, job))
    }

    fn remember(&mut self, key: &IdempotencyKey, id: JobId) {
        self.keys.put((key.owner.clone(), key.key.clone()), (key.fingerprint, id));
    }

    fn create(&mut self, job: &Job, event: EventRecord, document: Option<Bytes>) -> Result<(), StoreError> {
        checked(job)?;
        if self.job(job.id).is_some() {
            return Err(StoreError::Unavailable(format!("{} exists already", job.id)));
        }
        let inherited = || self.jobs.get(&job.retry_of?).and_then(|old| old.document.clone());
        let document = document.filter(|text| !text.is_empty() || job.retry_of.is_none()).or_else(inherited);
        if let Some(task) = &job.task
            && self.owner(&task.id).is_none()
        {
            self.tasks.put(task.id.clone(), job.id);
        }
        if let Some(booking) = job.cost.reserved {
            self.book(booking, false);
        }
        self.store(None, Row { job: job.clone(), document, seen: Vec::new() }, vec![event]);
        Ok(())
    }

    pub(crate) fn replace_within(&mut self, change: Change, limits: &Limits) -> Result<Replaced, StoreError> {
        let wanted = change.successor.as_ref().and_then(|next| next.job.cost.reserved);
        let next = self.job(change.job.id).is_some_and(|old| old.revision + 1 == change.job.revision);
        match wanted.and_then(|wanted| self.exceeded(wanted, limits)) {
            Some(exceeded) if next && self.fault != Fault::ReplacesBeyondBudgets => {
                Ok(Replaced::OverBudget(exceeded))
            }
            _ => self.replace(change, None),
        }
    }

    pub(crate) fn replace(&mut self, change: Change, delivery: Option<&str>) -> Result<Replaced, StoreError> {
        checked(&change.job)?;
        let Some(old) = self.jobs.get(&change.job.id).cloned() else { return Ok(Replaced::Stale) };
        if old.job.revision + 1 != change.job.revision && self.fault != Fault::SwapsBlindly {
            return Ok(Replaced::Stale);
        }
        if let Some(owner) = self.takes(&old.job, &change.job) {
            return Ok(Replaced::TaskTaken(owner));
        }
        let mut row = Row { job: change.job, ..(*old).clone() };
        row.seen.extend(delivery.filter(|id| !old.seen.iter().any(|seen| seen == id)).map(str::to_owned));
        let id = row.job.id;
        self.store(Some(&old), row, change.events);
        for owed in change.deliveries {
            self.deliveries.put(owed.id, owed);
        }
        if let Some(booking) = change.release {
            self.book(booking, true);
        }
        if let Some(booking) = change.book {
            self.book(booking, false);
        }
        let Some(next) = change.successor else { return Ok(Replaced::Done { successor: None }) };
        let key = IdempotencyKey {
            owner: "-".into(),
            key: format!("{}:{id}", next.mode.as_str()),
            fingerprint: [0; 32],
            reusable: next.mode != RetryMode::Resubmit,
        };
        if let Some((_, holder)) = self.holder(&key) {
            return Ok(Replaced::Done { successor: Some(holder.id) });
        }
        self.create(&next.job, next.event, None)?;
        next.deliveries.into_iter().for_each(|owed| self.deliveries.put(owed.id, owed));
        self.remember(&key, next.job.id);
        Ok(Replaced::Done { successor: Some(next.job.id) })
    }

    /// Gives the job its task if that is free; else says whose it is.
    fn takes(&mut self, old: &Job, new: &Job) -> Option<JobId> {
        let named = |job: &Job| job.task.as_ref().map(|task| task.id.clone());
        let task = named(new).filter(|task| named(old).as_ref() != Some(task))?;
        match self.owner(&task) {
            None => self.tasks.put(task, new.id),
            Some(owner) => {
                let follows_up = new.retry_of.is_some() && new.attempts.submit == 0;
                return Some(owner).filter(|_| owner != new.id && !follows_up && new.outcome().is_none());
            }
        }
        None
    }

    /// The job that has a task. An entry whose job names another task by now counts for nothing.
    pub(crate) fn owner(&self, task: &TaskId) -> Option<JobId> {
        let owner = *self.tasks.get(task)?;
        self.job(owner)?.task.as_ref().is_some_and(|named| named.id == *task).then_some(owner)
    }

    /// Forgets a job that has ended, did not change and is owed nothing; whether it did.
    pub(crate) fn forget(&mut self, id: JobId, revision: u64) -> bool {
        let Some(job) = self.job(id).cloned() else { return false };
        let Some(outcome) = job.outcome() else { return false };
        if job.revision != revision || self.delivery_counts(id).pending > 0 {
            return false;
        }
        add(&mut self.phases, job.phase_name(), -1);
        add(&mut self.outcomes, outcome_name(outcome), -1);
        let keys: Vec<_> =
            self.keys.iter().filter(|(_, held)| held.1 == id).map(|(key, _)| key.clone()).collect();
        keys.iter().for_each(|key| self.keys.remove(key));
        let told = self.deliveries.iter().filter(|(_, delivery)| delivery.job_id == Some(id));
        for delivery in told.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.deliveries.remove(&delivery);
            self.bodies.remove(&delivery);
        }
        if let Some(task) = job.task.filter(|task| self.tasks.get(&task.id) == Some(&id)) {
            self.tasks.remove(&task.id);
        }
        self.jobs.remove(&id);
        true
    }

    /// Writes a record with its events, its entries of the due index and its place in the counts.
    fn store(&mut self, old: Option<&Row>, row: Row, events: Vec<EventRecord>) {
        let before = old.map(|old| &old.job);
        for due in before.into_iter().flat_map(|job| job.dues()) {
            self.dues.remove(&due_key(due, row.job.id));
        }
        for due in row.job.dues() {
            self.dues.put(due_key(due, row.job.id), ());
        }
        for (job, step) in before.map(|job| (job, -1)).into_iter().chain([(&row.job, 1)]) {
            add(&mut self.phases, job.phase_name(), step);
            if let Some(outcome) = job.outcome() {
                add(&mut self.outcomes, outcome_name(outcome), step);
            }
        }
        if let Some(mut observer) = self.observer.take() {
            let booked = row.job.cost.reserved.map(|booking| self.booked(booking.day)).unwrap_or_default();
            let in_flight = self.in_flight();
            observer(&Written { before, after: &row.job, events: &events, in_flight, booked });
            self.observer = Some(observer);
        }
        events.into_iter().for_each(|event| self.log(event));
        self.jobs.put(row.job.id, Arc::new(row));
    }

    /// Appends an event that is no change of a job, with what is owed for it.
    pub(crate) fn log_alone(&mut self, event: EventRecord, owed: Vec<Delivery>) -> Result<(), StoreError> {
        self.log(event);
        owed.into_iter().for_each(|owed| self.deliveries.put(owed.id, owed));
        Ok(())
    }

    /// The same unless an event of this name was logged before; whether it is this one that was.
    pub(crate) fn log_once(
        &mut self,
        name: &str,
        event: EventRecord,
        owed: Vec<Delivery>,
    ) -> Result<bool, StoreError> {
        if let Some(logged) = self.kept.get(&name.to_owned()) {
            return Ok(logged == event.id.as_bytes());
        }
        self.keep(name, event.id.as_bytes().to_vec());
        self.log_alone(event, owed).map(|()| true)
    }

    pub(crate) fn keep(&mut self, name: &str, fresh: Vec<u8>) -> Vec<u8> {
        let kept = self.kept.get(&name.to_owned()).cloned().unwrap_or(fresh);
        self.kept.put(name.to_owned(), kept.clone());
        kept
    }

    /// Appends an event to the log.
    pub(crate) fn log(&mut self, event: EventRecord) {
        self.clock.put((), event.time);
        self.events.put(self.newest() + 1 + u64::from(self.fault == Fault::SkipsNumbers), Arc::new(event));
    }
}

fn checked(job: &Job) -> Result<(), StoreError> {
    job.check()
        .map_err(|rule| StoreError::Unavailable(format!("a change of {} breaks a rule: {rule}", job.id)))
}

fn outcome_name(outcome: &reelhook::lifecycle::Outcome) -> &'static str {
    use reelhook::lifecycle::Outcome;
    match outcome {
        Outcome::Stored { .. } => "succeeded",
        Outcome::Failed { .. } => "failed",
        Outcome::Canceled { .. } => "canceled",
    }
}

fn add(table: &mut Table<&'static str, u64>, name: &'static str, step: i64) {
    let count = table.get(&name).copied().unwrap_or(0);
    table.put(name, count.saturating_add_signed(step));
}

/// The first day of the month of `day`, and of the month after.
fn month(day: i32) -> (i32, i32) {
    let epoch = jiff::civil::date(1970, 1, 1);
    let date = epoch + jiff::Span::new().days(day);
    let first = day - i32::from(date.day()) + 1;
    (first, first + i32::from(date.days_in_month()))
}
