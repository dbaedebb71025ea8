//! The end of a schedule: faults are off, all that is owed gets done, and then nothing may be owed, lost or paid twice.

use std::collections::{BTreeMap, BTreeSet};

use reelhook::lifecycle::{EventRecord, FailCode, Job, JobId, Outcome, Phase};

use super::{DUTIES, World};

/// Longer than any schedule takes.
const PATIENCE: usize = 400_000;

impl World {
    pub(crate) fn settle(&mut self) -> Result<(), String> {
        self.judge.say(|| "faults end".into());
        self.disk.set_away(false);
        self.disk.lose_answers(0);
        (self.upstream.borrow_mut().faulty, self.upstream.borrow_mut().broke) = (false, false);
        self.the_clock_is_minded();
        for _ in 0..PATIENCE {
            self.judge.verdict()?;
            let now_due = DUTIES.into_iter().filter(|duty| self.is_due(*duty)).collect::<Vec<_>>();
            now_due.into_iter().for_each(|duty| self.lane(duty));
            self.a_callback_arrives();
            let asks = self.a_caller_asks(true);
            let due = self.disk.look(|tables| DUTIES.iter().any(|duty| tables.next_due(*duty).is_some()));
            if !due && !asks && self.tasks.are_done() && self.upstream.borrow().callbacks.is_empty() {
                return self.nothing_is_owed();
            }
            self.work();
        }
        let open = |tables: &crate::disk::Tables| {
            tables.jobs.iter().map(|(_, row)| &row.job).find(|job| job.due_at.is_some()).cloned()
        };
        Err(format!("a job does not settle: {:?}", self.disk.look(open)))
    }

    fn nothing_is_owed(&mut self) -> Result<(), String> {
        self.disk.sync();
        self.what_was_said_still_holds();
        self.judge.verdict()?;
        let jobs: Vec<Job> =
            self.disk.look(|tables| tables.jobs.iter().map(|(_, row)| row.job.clone()).collect());
        self.the_log_is_whole(&jobs)?;
        self.the_books_agree(&jobs)?;
        self.callbacks_are_kept(&jobs)
    }

    /// No gap, no repeat, what readers were shown unchanged, and one terminal event a settled job.
    fn the_log_is_whole(&self, jobs: &[Job]) -> Result<(), String> {
        let log: Vec<(u64, EventRecord)> = self
            .disk
            .look(|tables| tables.events.iter().map(|(seq, event)| (*seq, (**event).clone())).collect());
        if !log.iter().map(|(seq, _)| *seq).eq(1..=log.len() as u64) {
            return Err("the event log has a gap".into());
        }
        for ((seq, shown), (_, event)) in self.read.borrow().iter().zip(&log) {
            if event.id.to_string() != *shown {
                return Err(format!("event {seq} was {shown} for a reader and is {event:?} now"));
            }
        }
        let mut of_jobs: BTreeMap<JobId, Vec<&EventRecord>> = BTreeMap::new();
        for (event, job) in log.iter().filter_map(|(_, event)| Some((event, event.job_id?))) {
            of_jobs.entry(job).or_default().push(event);
        }
        for job in jobs {
            let events = of_jobs.remove(&job.id).unwrap_or_default();
            let terminal = events.iter().filter(|event| event.kind.is_terminal()).count();
            if terminal != usize::from(job.outcome().is_some()) {
                return Err(format!("{} has {terminal} terminal events: {job:?}", job.id));
            }
            if !events.is_sorted_by_key(|event| event.revision) {
                return Err(format!("the events of {} are out of order", job.id));
            }
            if !matches!(job.phase, Phase::Settled { .. } | Phase::Held { .. }) {
                return Err(format!("neither settled nor held: {job:?}"));
            }
        }
        if of_jobs.is_empty() { Ok(()) } else { Err(format!("events of jobs that are not: {of_jobs:?}")) }
    }

    /// What the upstream took is what is booked, wherever that can be known.
    fn the_books_agree(&self, jobs: &[Job]) -> Result<(), String> {
        let reserved = |job: &Job| job.cost.reserved.map_or(0, |booking| booking.credits);
        let (sum, ledger) =
            (jobs.iter().map(reserved).sum::<u64>(), self.disk.look(|tables| tables.all_booked()));
        if sum != ledger {
            return Err(format!("{sum} credits are reserved by jobs, the ledger has {ledger}"));
        }
        let upstream = self.upstream.borrow();
        if upstream.lies || upstream.mixes {
            return Ok(());
        }
        for job in jobs {
            let (charged, booked) = (upstream.charged(job.id), reserved(job));
            if booked < charged {
                return Err(format!("{charged} credits were taken, {booked} are booked: {job:?}"));
            }
            if booked > charged && !admits_doubt(job) {
                return Err(format!("{booked} credits are booked, {charged} were taken: {job:?}"));
            }
        }
        for work in &upstream.works {
            let named = |job: &Job| {
                job.task.as_ref().is_some_and(|task| task.id == work.id)
                    || job.notices.iter().any(|text| text.contains(&work.id.0))
            };
            let job = jobs.iter().find(|job| job.id == work.job);
            if job.is_none_or(|job| !named(job) && !admits_doubt(job)) {
                return Err(format!("{work:?} was charged and forgotten by {job:?}"));
            }
        }
        Ok(())
    }

    /// Each delivery that was acknowledged is in the log, as far as a job's share of the log goes.
    fn callbacks_are_kept(&self, jobs: &[Job]) -> Result<(), String> {
        let kept: BTreeSet<(JobId, String)> = self.disk.look(|tables| {
            tables.callbacks.iter().map(|(_, entry)| (entry.0.job_id, entry.0.delivery_id.clone())).collect()
        });
        let promises = self.people.promises.borrow();
        for (job, deliveries) in &promises.callbacks {
            let share = jobs.iter().find(|known| known.id == *job).map_or(0, |job| job.callback.received);
            let lost = |delivery: &&String| !kept.contains(&(*job, (*delivery).clone()));
            if share <= 64
                && let Some(lost) = deliveries.iter().find(lost)
            {
                return Err(format!("{lost} for {job} was acknowledged and is not in the log"));
            }
        }
        Ok(())
    }
}

/// The job ended without our knowing whether the upstream runs it, and says so.
fn admits_doubt(job: &Job) -> bool {
    match &job.phase {
        Phase::Held { .. } => true,
        Phase::Settled { outcome: Outcome::Canceled { may_still_charge, .. } } => *may_still_charge,
        Phase::Settled { outcome: Outcome::Failed { code, .. } } => *code == FailCode::SubmitAbandoned,
        _ => false,
    }
}
