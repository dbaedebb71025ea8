//! How long is kept what has ended: what of a job or a delivery is past its time, by its record alone.

use super::{
    delivery::{Delivery, DeliveryState},
    id::Millis,
    job::Job,
};

/// How long things are kept after their end, in milliseconds; none: for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Files of jobs that have ended. Not longer than `jobs`, for nobody would know of them.
    pub videos: Option<i64>,
    /// Jobs that have ended.
    pub jobs: Option<i64>,
    /// Entries of the event log and of the log of callbacks.
    pub events: Option<i64>,
    /// Deliveries that are over.
    pub deliveries: Option<i64>,
    /// Bodies of callbacks.
    pub bodies: Option<i64>,
}

/// What of a job is past its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past {
    /// Its files, which go first.
    pub files: bool,
    /// The job with all that belongs to it.
    pub record: bool,
}

impl Retention {
    /// What of a job is past its time at `now`; none while it has not ended, or `owed` deliveries of it are pending.
    #[must_use]
    pub fn of_job(&self, job: &Job, owed: u32, now: Millis) -> Option<Past> {
        let finished = job.outcome().and(job.times.finished_at).filter(|_| owed == 0)?;
        let over = |limit: Option<i64>| cutoff(limit, now).is_some_and(|before| finished < before);
        let has_files = job.files_removed_at.is_none() && job.files().next().is_some();
        let past = Past { files: has_files && over(self.videos), record: over(self.jobs) };
        (past.files || past.record).then_some(past)
    }

    /// No job that was created at this time or later has anything past its time at `now`.
    #[must_use]
    pub fn jobs_before(&self, now: Millis) -> Option<Millis> {
        cutoff(self.videos, now).max(cutoff(self.jobs, now))
    }
}

/// What ended before this time is past a limit at `now`.
#[must_use]
pub const fn cutoff(limit: Option<i64>, now: Millis) -> Option<Millis> {
    match limit {
        Some(limit) => Some(now.plus(limit.saturating_neg())),
        None => None,
    }
}

impl Delivery {
    /// When it ended, as far as its tries tell; none while it is owed.
    #[must_use]
    pub fn ended_at(&self) -> Option<Millis> {
        let last = self.tries.last().map_or(self.created_at, |attempt| attempt.at);
        (self.state != DeliveryState::Pending).then_some(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::{JobId, NewJob, Outcome, Phase, StoredFile, Why};

    const DAY: i64 = 86_400_000;
    const END: Millis = Millis(1_000 * DAY);
    const RULES: Retention = Retention {
        videos: Some(30 * DAY),
        jobs: Some(90 * DAY),
        events: None,
        deliveries: None,
        bodies: None,
    };

    fn stored() -> Job {
        let mut job = Job::new(JobId::new(END, &[1; 10]), END, NewJob::default());
        let file = StoredFile {
            name: "a.mp4".into(),
            location: "a.mp4".into(),
            bytes: 1,
            sha256: String::new(),
            content_type: String::new(),
        };
        job.phase = Phase::Settled { outcome: Outcome::Stored { files: vec![file] } };
        job.times.finished_at = Some(END);
        job
    }

    fn after(days: i64) -> Millis {
        END.plus(days * DAY)
    }

    #[test]
    fn files_go_at_their_limit_and_the_record_with_them_or_later() {
        let job = stored();
        assert_eq!(RULES.of_job(&job, 0, after(30)), None, "not before it is over");
        assert_eq!(RULES.of_job(&job, 0, after(30).plus(1)), Some(Past { files: true, record: false }));
        assert_eq!(RULES.of_job(&job, 0, after(91)), Some(Past { files: true, record: true }));
        let without = Job { files_removed_at: Some(after(31)), ..job };
        assert_eq!(RULES.of_job(&without, 0, after(31)), None);
        assert_eq!(RULES.of_job(&without, 0, after(91)), Some(Past { files: false, record: true }));
    }

    #[test]
    fn videos_that_are_kept_for_ever_outlive_their_job() {
        let rules = Retention { videos: None, ..RULES };
        assert_eq!(rules.of_job(&stored(), 0, after(1_000)), Some(Past { files: false, record: true }));
        assert_eq!(Retention::default().of_job(&stored(), 0, after(1_000)), None);
    }

    #[test]
    fn nothing_goes_of_a_job_that_is_open_held_or_owes_a_delivery() {
        let mut job = stored();
        assert_eq!(RULES.of_job(&job, 1, after(1_000)), None);
        job.times.finished_at = None;
        for phase in [Phase::Held { why: Why::AnswerLost }, Phase::Queued { attempts: 0 }, Phase::Sending] {
            job.phase = phase;
            assert_eq!(RULES.of_job(&job, 0, after(1_000)), None);
        }
    }

    #[test]
    fn the_latest_cutoff_of_jobs_leaves_none_out() {
        assert_eq!(RULES.jobs_before(after(100)), Some(after(70)));
        assert_eq!(Retention { videos: None, ..RULES }.jobs_before(after(100)), Some(after(10)));
        assert_eq!(Retention::default().jobs_before(END), None);
    }
}
