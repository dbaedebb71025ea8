//! Callbacks that come at the same time, in one transaction: two round trips for all of them.
//!
//! While the hearers write, what comes gathers for the next one that is free: transactions grow with the load, and a callback
//! that comes alone waits for nobody. Only what is plain goes together: jobs that nobody else has in hand, and changes
//! that touch nothing but their own job. Whatever is not plain, and whatever the database refuses, is left to be
//! [heard alone](super::callback): none suffers for its neighbour.

use std::{collections::HashSet, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use sqlx::Row as _;
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    time::timeout,
};
use uuid::Uuid;

use super::{
    beat::Log,
    board::Board,
    callback,
    link::{Link, Trouble},
    row::{self, Changes, Writer},
};
use crate::{
    lifecycle::{Change, Event, Job, Millis},
    store::{Arrival, Changed, Heard, Judged, StoreError},
};

/// Transactions under way at once: while one waits for the disk, the other is judged. More would only be smaller.
const HEARERS: usize = 2;
/// Callbacks of one transaction: beyond, sharing saves next to nothing, and more fail together.
const MOST: usize = 64;
/// Bytes of bodies after which a transaction takes no more.
const ENOUGH: usize = 1 << 20;
/// Callbacks that wait in line: as many as are taken next. Those beyond wait for a place, and take their bodies with them
/// when they stop waiting.
const LINE: usize = HEARERS * MOST;
/// Longest wait for one's turn, as for a connection: a sender that is told to come again does, one that hears nothing
/// may not.
const PATIENCE: Duration = Duration::from_secs(2);

/// What becomes of a callback here.
pub(super) enum Answer {
    Heard(Heard),
    /// It has to be heard alone.
    Alone(Arrival),
    Failed(StoreError),
}

struct Waiting {
    arrival: Arrival,
    /// Says that its turn has come; closed when nobody waits for it any more.
    turn: oneshot::Sender<()>,
    answer: oneshot::Sender<Answer>,
}

/// A callback whose turn has come. It is written whether or not its sender goes on waiting: others are in the same
/// transaction.
struct Call {
    arrival: Arrival,
    /// By what its repeats are known, beside the job.
    delivery: i64,
    answer: oneshot::Sender<Answer>,
}

impl Call {
    fn answer(self, answer: impl FnOnce(Arrival) -> Answer) {
        // Whoever stopped waiting hears that it was written when he sends it again.
        drop(self.answer.send(answer(self.arrival)));
    }
}

/// The line in which callbacks wait for the hearers, which end when it is dropped.
#[derive(Debug)]
pub(super) struct Together(mpsc::Sender<Waiting>);

impl Together {
    /// Starts the hearers, on the runtime of the caller.
    pub(super) fn start(link: &Arc<Link>, board: &Arc<Board>, log: &Arc<Log>, writer: &Writer) -> Self {
        let (sender, receiver) = mpsc::channel(LINE);
        let line = Arc::new(Mutex::new(receiver));
        for _ in 0..HEARERS {
            let (link, board, log) = (Arc::clone(link), Arc::clone(board), Arc::clone(log));
            let hearer = Hearer { link, board, log, writer: writer.clone() };
            tokio::spawn(hearer.run(Arc::clone(&line)));
        }
        Self(sender)
    }

    pub(super) async fn hear(&self, arrival: Arrival) -> Answer {
        let ((turn, come), (answer, answered)) = (oneshot::channel(), oneshot::channel());
        let queued = async {
            self.0.send(Waiting { arrival, turn, answer }).await.ok()?;
            come.await.ok()
        };
        let failed = |why: &str| Answer::Failed(StoreError::Unavailable(why.to_owned()));
        match timeout(PATIENCE, queued).await {
            Ok(Some(())) => answered.await.unwrap_or_else(|_| failed("the callback was not carried out")),
            Ok(None) => failed("the store was closed"),
            Err(_) => failed("the database does not keep up with the callbacks"),
        }
    }
}

struct Hearer {
    link: Arc<Link>,
    board: Arc<Board>,
    log: Arc<Log>,
    writer: Writer,
}

impl Hearer {
    async fn run(self, line: Arc<Mutex<mpsc::Receiver<Waiting>>>) {
        while let Some(calls) = gather(&line).await {
            // A bug that one of them meets is not the others': alone, it is met by its own request. What was written of a
            // transaction that a panic ended is undone, or makes the same callback a repeat.
            let written = AssertUnwindSafe(self.write(&calls)).catch_unwind().await;
            let why = match written {
                Ok(Ok(heard)) => {
                    for (call, heard) in calls.into_iter().zip(heard) {
                        call.answer(|arrival| heard.map_or(Answer::Alone(arrival), Answer::Heard));
                    }
                    continue;
                }
                Ok(Err(trouble)) if trouble.is_of_the_moment() => {
                    let why = trouble.to_string();
                    let failed = |_| Answer::Failed(StoreError::Unavailable(why.clone()));
                    calls.into_iter().for_each(|call| call.answer(failed));
                    continue;
                }
                Ok(Err(trouble)) => trouble.to_string(),
                Err(_) => "they met a bug".to_owned(),
            };
            let callbacks = calls.len();
            tracing::warn!(callbacks, why, "callbacks that came together are heard one by one");
            calls.into_iter().for_each(|call| call.answer(Answer::Alone));
        }
    }

    /// What each was heard to be, or nothing for those that are left.
    async fn write(&self, calls: &[Call]) -> Result<Vec<Option<Heard>>, Trouble> {
        let (mut session, rows) = self.link.begin(&lock(calls)).await?;
        let mut sheet = Sheet::new(&self.writer);
        let mut outcomes: Vec<Option<Heard>> = calls.iter().map(|_| None).collect();
        for row in &rows {
            let place = usize::try_from(row.try_get::<i64, _>("place")? - 1).unwrap_or(usize::MAX);
            let (record, seen) = (row.try_get("record")?, row.try_get("seen")?);
            if let (Some(call), Some(outcome)) = (calls.get(place), outcomes.get_mut(place)) {
                *outcome = sheet.add(call, record, seen);
            }
        }
        let sql = sheet.sql().map_err(|error| Trouble::Lost(error.to_string()))?;
        match session.ask(sql.as_deref().unwrap_or("ROLLBACK")).await {
            Ok(_) => session.release(),
            Err(Trouble::Lost(why)) => {
                drop(session);
                let changed = outcomes.iter().flatten().filter_map(|heard| heard.changed.as_ref());
                let jobs = changed.map(|changed| changed.after.id);
                if !self.link.was_written(jobs, sheet.written_by).await.unwrap_or(false) {
                    return Err(Trouble::Lost(why));
                }
            }
            Err(refused) => return Err(refused),
        }
        self.note(&sheet, outcomes.iter().flatten());
        Ok(outcomes)
    }

    /// Tells whoever waits here.
    fn note<'a>(&self, sheet: &Sheet<'_>, heard: impl Iterator<Item = &'a Heard>) {
        for Changed { before, after } in heard.filter_map(|heard| heard.changed.as_ref()) {
            self.board.wrote(was_due(before), after);
            self.log.wrote();
        }
        if sheet.changes.owe() {
            self.board.forget_waiting();
        }
        self.board.wake();
    }
}

/// The next callbacks, as many as wait; none when no more will come. One a job: another has to see what this one leaves,
/// and goes alone.
async fn gather(line: &Mutex<mpsc::Receiver<Waiting>>) -> Option<Vec<Call>> {
    let mut line = line.lock().await;
    let (mut calls, mut jobs, mut bytes) = (Vec::new(), HashSet::new(), 0);
    loop {
        let next = match calls.len() {
            0 => Some(line.recv().await?),
            1..MOST if bytes < ENOUGH => line.try_recv().ok(),
            _ => None,
        };
        let Some(Waiting { arrival, turn, answer }) = next else { return Some(calls) };
        if turn.send(()).is_err() {
            continue;
        }
        let (length, is_first) = (arrival.body.len(), jobs.insert(arrival.job_id));
        let call = Call { delivery: callback::delivery(&arrival), arrival, answer };
        if is_first {
            bytes += length;
            calls.push(call);
        } else {
            call.answer(Answer::Alone);
        }
    }
}

fn lock(calls: &[Call]) -> String {
    let list = |item: fn(&Call) -> String| calls.iter().map(item).collect::<Vec<_>>().join(",");
    let jobs = list(|call| row::uuid(call.arrival.job_id).to_string());
    let deliveries = list(|call| call.delivery.to_string());
    format!("SELECT * FROM hear_together('{{{jobs}}}', '{{{deliveries}}}')")
}

/// When a job was due, as its row had it.
fn was_due(job: &Job) -> Option<(u8, Millis)> {
    job.duty().map(|duty| duty as u8).zip(job.due_at)
}

/// What a transaction writes.
struct Sheet<'a> {
    writer: &'a Writer,
    written_by: Uuid,
    deliveries: Vec<String>,
    entries: Vec<String>,
    changes: Changes,
}

impl<'a> Sheet<'a> {
    fn new(writer: &'a Writer) -> Self {
        let (deliveries, entries, changes) = (Vec::new(), Vec::new(), Changes::default());
        Self { writer, written_by: Uuid::now_v7(), deliveries, entries, changes }
    }

    /// Judges a callback and puts down what it does. None: it has to be heard alone; an error that it meets is told there.
    fn add(&mut self, call: &Call, record: &str, seen: bool) -> Option<Heard> {
        let arrival = &call.arrival;
        let before: Job = row::decode(record, arrival.job_id).ok()?;
        let Judged { record, keep, keep_body, note } = (arrival.judge)(Some(&before), seen);
        let verdict = record.verdict;
        let body: &[u8] = if keep_body { &arrival.body } else { &[] };
        let entry = keep.then(|| callback::entry(&record, body)).transpose().ok()?;
        let change = before.step(&Event::Callback(note), arrival.now, &arrival.policy);
        if let Some(change) = &change {
            if !is_plain(&before, change) {
                return None;
            }
            self.writer.add(&mut self.changes, change, self.written_by).ok()?;
        }
        self.entries.extend(entry);
        if !seen {
            self.deliveries.push(callback::heard(arrival.job_id, call.delivery));
        }
        let changed = change.map(|change| Changed { before: Box::new(before), after: Box::new(change.job) });
        Some(Heard { verdict, changed })
    }

    /// Nothing, if there is nothing to write.
    fn sql(&self) -> Result<Option<String>, StoreError> {
        let mut sql = String::new();
        if !self.deliveries.is_empty() {
            sql.push_str(&format!("INSERT INTO heard VALUES {}; ", self.deliveries.join(", ")));
        }
        if !self.entries.is_empty() {
            sql.push_str(&format!("INSERT INTO callbacks VALUES {}; ", self.entries.join(", ")));
        }
        if !self.changes.is_empty() {
            sql.push_str(&format!("SELECT replace_together({}); ", row::document(&self.changes)?));
        }
        Ok((!sql.is_empty()).then(|| sql + "COMMIT"))
    }
}

/// The change touches no other job, nor what all jobs share.
fn is_plain(before: &Job, change: &Change) -> bool {
    let Change { job, events: _, deliveries: _, successor, release, book } = change;
    job.task == before.task
        && job.phase_name() == before.phase_name()
        && successor.is_none()
        && release.is_none()
        && book.is_none()
}
