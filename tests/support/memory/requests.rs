//! Claims, callbacks, and setting the due index right after a crash or a jump of the clock.

use std::sync::Arc;

use reelhook::{
    lifecycle::{Change, Duty, Event, Job, JobId, Millis, Note, Phase, Policy},
    store::{Arrival, Changed, Claim, Heard, Judged, Replaced, Share, StoreError},
};

use super::{
    Fault,
    tables::{DueKey, Tables},
};

const FIRST_ID: JobId = JobId::from_bytes([0; 16]);
const LAST_ID: JobId = JobId::from_bytes([0xff; 16]);
/// A jump of the clock that is more than drift, in milliseconds.
const CLOCK_STEP: i64 = 60_000;
const DUTIES: [Duty; 4] = [Duty::Submit, Duty::Ask, Duty::Fetch, Duty::Expire];

impl Tables {
    fn due(&self, duty: Duty, calm: bool, from: Millis, to: Millis) -> Vec<DueKey> {
        let (from, to) = ((duty, calm, from, FIRST_ID), (duty, calm, to, LAST_ID));
        self.dues.range(from..=to).map(|(key, ())| *key).collect()
    }

    pub(crate) fn next_due(&self, duty: Duty) -> Option<Millis> {
        let first = |calm| {
            let (from, to) =
                ((duty, calm, Millis(i64::MIN), FIRST_ID), (duty, calm, Millis(i64::MAX), LAST_ID));
            self.dues.range(from..=to).next().map(|((_, _, at, _), ())| *at)
        };
        first(false).into_iter().chain(first(true)).min()
    }

    /// Takes due jobs, urgent ones first.
    pub(crate) fn claim(&mut self, claim: &Claim) -> Vec<Job> {
        let bounded = claim.duty == Duty::Submit && self.fault != Fault::ClaimsWithoutBound;
        let room = if bounded { claim.in_flight.saturating_sub(self.in_flight()) } else { u64::MAX };
        let max = claim.max.min(usize::try_from(room).unwrap_or(usize::MAX));
        let mut jobs = Vec::new();
        for calm in [false, true] {
            for (.., id) in self.due(claim.duty, calm, Millis(i64::MIN), claim.now) {
                if jobs.len() == max {
                    break;
                }
                let Some(job) = self.job(id) else { continue };
                let Some(mut change) = job.step(&claim.event(), claim.now, &claim.policy) else { continue };
                if self.fault == Fault::RequeuesSending && matches!(job.phase, Phase::Sending) {
                    change.job.phase = Phase::Queued { attempts: 1 };
                    change.job.due_at = Some(claim.now);
                }
                jobs.extend(self.write(change));
            }
        }
        if !jobs.is_empty() {
            self.clock.put((), claim.now);
        }
        jobs
    }

    /// Writes what the store stepped itself.
    fn write(&mut self, change: Change) -> Option<Job> {
        let job = change.job.clone();
        match self.replace(change, None) {
            Ok(Replaced::Done { .. }) => Some(job),
            refused => panic!("the store could not write what it stepped itself: {refused:?}, {job:?}"),
        }
    }

    pub(crate) fn callback(&mut self, arrival: Arrival) -> Result<Heard, StoreError> {
        let Arrival { job_id, delivery_id, body, now, policy, judge } = arrival;
        let row = self.jobs.get(&job_id).cloned();
        let stray = (job_id, delivery_id.clone());
        let seen = match &row {
            Some(row) => row.seen.contains(&delivery_id),
            None => self.strays.get(&stray).is_some(),
        };
        let Judged { record, keep, keep_body, note } = judge(row.as_ref().map(|row| &row.job), seen);
        let verdict = record.verdict;
        let kept = if keep && keep_body { body.len() as u64 } else { 0 };
        if keep && (row.is_some() || seen || self.take_stray(stray, kept)) {
            let body = if keep_body { body } else { bytes::Bytes::new() };
            self.callbacks.put(*record.id.as_bytes(), Arc::new((record, body)));
        }
        let changed = match &row {
            _ if self.fault == Fault::DropsNotes => None,
            Some(row) => self.happen(&row.job, &note, &delivery_id, now, &policy)?,
            None => None,
        };
        Ok(Heard { verdict, changed })
    }

    /// Remembers a callback without a job, if there is room.
    fn take_stray(&mut self, stray: (JobId, String), bytes: u64) -> bool {
        let (mut of_job, mut of_all) = (Share::default(), Share::default());
        for ((job, _), bytes) in self.strays.iter() {
            of_all = of_all.with(*bytes);
            of_job = if *job == stray.0 { of_job.with(*bytes) } else { of_job };
        }
        let room = of_job.has_room(bytes, Share::OF_A_JOB) && of_all.has_room(bytes, Share::OF_STRAYS);
        if room {
            self.strays.put(stray, bytes);
        }
        room
    }

    fn happen(
        &mut self,
        job: &Job,
        note: &Note,
        delivery: &str,
        now: Millis,
        policy: &Policy,
    ) -> Result<Option<Changed>, StoreError> {
        let Some(change) = job.step(&Event::Callback(note.clone()), now, policy) else { return Ok(None) };
        let mut after = change.job.clone();
        if let Replaced::TaskTaken(_) = self.replace(change, Some(delivery))? {
            let contradicted = after.task.take().map(|task| Event::Contradicted(task.id));
            after = job.clone();
            for event in
                contradicted.into_iter().chain([Event::Callback(Note { task: None, ..note.clone() })])
            {
                let Some(change) = after.step(&event, now, policy) else { continue };
                after = change.job.clone();
                self.replace(change, Some(delivery))?;
            }
        }
        Ok(Some(Changed { before: Box::new(job.clone()), after: Box::new(after) }))
    }

    /// Gives back every claim of a process that is gone, and makes due what only a wrong clock can have put off.
    pub(crate) fn release_leases(&mut self, now: Millis, policy: &Policy) {
        let orphaned = |job: &Job| job.step(&Event::Orphaned, now, policy);
        let changes: Vec<_> = self.jobs.iter().filter_map(|(_, row)| orphaned(&row.job)).collect();
        for change in changes {
            self.write(change);
        }
        if self.clock.get(&()).is_some_and(|clock| now.since(*clock).abs() > CLOCK_STEP) {
            self.reclamp(now, policy);
        }
    }

    pub(crate) fn reclamp(&mut self, now: Millis, policy: &Policy) {
        self.hasten_deliveries(now, policy);
        let beyond = now.plus(policy.longest_wait()).plus(1);
        for (duty, calm) in DUTIES.into_iter().flat_map(|duty| [(duty, false), (duty, true)]) {
            for (_, _, at, id) in self.due(duty, calm, beyond, Millis(i64::MAX)) {
                let Some(mut job) = self.job(id).cloned() else { continue };
                if job.due_at == Some(at) && job.duty() == Some(duty) {
                    (job.revision, job.due_at) = (job.revision + 1, Some(now));
                    let (events, deliveries) = (Vec::new(), Vec::new());
                    self.write(Change {
                        job,
                        events,
                        deliveries,
                        successor: None,
                        release: None,
                        book: None,
                    });
                }
            }
        }
    }
}
