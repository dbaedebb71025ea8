//! How long to wait. The spread comes from the job's id, so a replay waits exactly as long.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use super::{
    delivery::SinkRule,
    experience::Experience,
    id::{DeliveryId, JobId, Millis},
    job::Job,
};

/// The limits and waits that `step` goes by, in milliseconds unless said otherwise.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Lease of an Ask or Fetch claim; renewed while the work lives.
    pub lease: i64,
    /// Lease of a create call: its time-out and a margin; never renewed.
    pub submit_lease: i64,
    /// How long an unknown outcome waits for its callback.
    pub unknown_wait: i64,
    /// First wait after a refusal that is about the account.
    pub probe_after: i64,
    /// What finished jobs taught.
    pub experience: Experience,
    /// Asking.
    pub poll: PollPolicy,
    /// Fetching.
    pub fetch: FetchPolicy,
    /// Who is told.
    pub sinks: Vec<SinkRule>,
    /// How hard to try to tell them.
    pub delivery: DeliveryPolicy,
}

/// How hard to try to tell a sink, in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryPolicy {
    /// The waits before the first try and after each that failed; once they are used up, so is the delivery.
    pub schedule: Vec<i64>,
    /// Lease of a claim: the longest time-out of a try and a margin; never renewed.
    pub lease: i64,
    /// A sink that has taken nothing for so long is disabled; 0 is never.
    pub disable_after: i64,
}

impl Default for DeliveryPolicy {
    /// That of Standard Webhooks: ten tries over 75 hours.
    fn default() -> Self {
        let minutes = [5, 30, 120, 300, 600, 840, 1_200, 1_440].map(|minutes| minutes * 60_000);
        let schedule = [0, 5_000].into_iter().chain(minutes).collect();
        Self { schedule, lease: 20_000, disable_after: 5 * 24 * HOUR }
    }
}

impl DeliveryPolicy {
    /// Wait before the first try.
    pub(super) fn first(&self) -> i64 {
        self.schedule.first().copied().unwrap_or(0)
    }

    /// Wait after failure number `failures` (from 1), if another try is left: up to a tenth longer than the schedule says,
    /// and at least as long as the sink asked for, up to a day.
    pub(super) fn wait(&self, id: DeliveryId, failures: u32, retry_after: Option<i64>) -> Option<i64> {
        let scheduled = *self.schedule.get(failures as usize)?;
        let own = scheduled
            .saturating_add(part(scheduled, (1.0 + chance(tail(id.as_bytes()), failures)) * SPREAD / 2.0));
        Some(retry_after.map_or(own, |asked| own.max(asked.clamp(0, LONGEST_ASKED))))
    }

    /// The longest wait for a try, in milliseconds; anything due later is a clock's mistake.
    #[must_use]
    pub fn longest_wait(&self) -> i64 {
        let scheduled = self.schedule.iter().copied().max().unwrap_or(0);
        scheduled.saturating_add(part(scheduled, SPREAD)).max(LONGEST_ASKED).max(self.lease)
    }

    /// From the event to the last try, at most, in milliseconds.
    #[must_use]
    pub fn length(&self) -> i64 {
        let scheduled = self.schedule.iter().fold(0_i64, |sum, wait| sum.saturating_add(*wait));
        scheduled.saturating_add(part(scheduled, SPREAD))
    }
}

/// When to ask the task route.
#[derive(Clone, Debug)]
pub struct PollPolicy {
    /// First question after acceptance when no callback can come.
    pub first_after: i64,
    /// First question after acceptance when a callback should have come by then.
    pub overdue_after: i64,
    /// Between questions at first.
    pub interval: i64,
    /// Between questions at last.
    pub max_interval: i64,
    /// Share of a wait by which it may be longer or shorter, 0 to 1.
    pub jitter: f64,
    /// Waiting ends this long after acceptance.
    pub give_up_after: i64,
}

/// How hard to try for a file.
#[derive(Clone, Debug)]
pub struct FetchPolicy {
    /// Definite refusals of a fresh link.
    pub attempts: u32,
    /// First wait.
    pub backoff: i64,
    /// Longest wait.
    pub max_backoff: i64,
    /// Trouble that lasts ends the job this long after "succeeded".
    pub give_up_after: i64,
}

/// A deadline takes effect only after so many answered questions.
pub(super) const MIN_ANSWERS: u32 = 5;
/// A task is given up as unknown to the upstream after so many such answers …
pub(super) const MIN_NOT_FOUND: u32 = 5;
/// … over at least so long.
pub(super) const NOT_FOUND_WINDOW: i64 = 2 * 60_000;
/// Without answers a deadline waits so much longer.
pub(super) const SILENCE_GRACE: i64 = 24 * 3_600_000;
/// "Succeeded" without a video is asked about so often.
pub(super) const MAX_EMPTY: u32 = 10;
/// A file host's refusal of a link that is younger than this counts as an attempt.
pub(super) const FRESH: i64 = 60_000;
/// So many attempts that fail after the time limit end the job.
pub(super) const MAX_LATE: u32 = 3;
/// So many downloads that are no video end the job.
pub(super) const MAX_NOT_VIDEO: u32 = 3;
/// Refusals about the account that end the job, if other jobs pass meanwhile.
pub(super) const MAX_BLOCKED: u32 = 3;
/// Callbacks that make a question due at once, in a window of this many milliseconds …
pub(super) const NUDGE_WINDOW: i64 = 60_000;
/// … are so many at most;
pub(super) const NUDGES_A_WINDOW: u32 = 5;
/// those beyond share one question in so many milliseconds.
pub(super) const SLOW_NUDGE: i64 = 10_000;
/// Waits after callbacks that came before the task was done.
const NUDGED: [i64; 3] = [2_000, 5_000, 15_000];
const HOUR: i64 = 3_600_000;
/// A sink that asks for more time gets so much.
const LONGEST_ASKED: i64 = 24 * HOUR;
/// Share of a scheduled wait by which it may be longer.
const SPREAD: f64 = 0.1;

/// The wait before try number `attempt` (from 0): `min` doubling up to `max`, and up to `min` more by chance of the id.
fn exponential(id: JobId, min: i64, max: i64, attempt: u32) -> i64 {
    let (min, max) = (millis(min), millis(max.max(min)));
    // Past the cap every wait is the same; the seed differs by attempt so that waits keep spreading.
    let delay = ExponentialBuilder::new()
        .with_min_delay(min)
        .with_max_delay(max)
        .without_max_times()
        .with_jitter()
        .with_jitter_seed(seed(id) ^ u64::from(attempt))
        .build()
        .nth(attempt.min(24) as usize)
        .unwrap_or(max);
    i64::try_from(delay.as_millis()).unwrap_or(HOUR)
}

fn millis(span: i64) -> Duration {
    Duration::from_millis(span.max(1).cast_unsigned())
}

fn seed(id: JobId) -> u64 {
    tail(id.as_bytes())
}

/// The random half of an id.
fn tail(id: &[u8; 16]) -> u64 {
    id.last_chunk().map_or(0, |tail| u64::from_be_bytes(*tail))
}

/// A number in -1..=1 that the seed and the attempt fix.
fn chance(seed: u64, attempt: u32) -> f64 {
    let mixed = seed.wrapping_add(u64::from(attempt)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    #[expect(clippy::cast_precision_loss, reason = "24 bits are exact")]
    let unit = mixed as f64 / f64::from(1 << 23) - 1.0;
    unit
}

/// This share of a wait.
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "days in milliseconds fit")]
fn part(wait: i64, share: f64) -> i64 {
    (wait as f64 * share) as i64
}

impl Policy {
    /// Wait after a create call that did not leave.
    pub(super) fn not_sent(&self, id: JobId, attempt: u32) -> i64 {
        exponential(id, 1_000, 60_000, attempt)
    }

    /// Wait after "busy": at least a second, at most an hour.
    pub(super) fn busy(&self, id: JobId, attempt: u32, retry_after: Option<i64>) -> i64 {
        let own = exponential(id, 1_000, 60_000, attempt);
        retry_after.map_or(own, |asked| asked.clamp(1_000, HOUR).saturating_add(own.min(1_000)))
    }

    /// Wait after a refusal about the account.
    pub(super) fn blocked(&self, id: JobId, times: u32) -> i64 {
        exponential(id, self.probe_after, self.probe_after.saturating_mul(40), times.saturating_sub(1))
    }

    /// Wait until the first question after acceptance, which is now.
    pub(super) fn first_ask(&self, job: &Job, now: Millis) -> i64 {
        if self.hopes(job) {
            let learned = self.experience.median(job).map_or(0, |median| median + median / 4);
            return self.spread(job.id, 0, self.poll.overdue_after.max(learned.min(HOUR)));
        }
        self.planned(job, now).unwrap_or_else(|| self.spread(job.id, 0, self.poll.first_after))
    }

    /// Wait after answer number `polls` (from 1) that said "running".
    pub(super) fn next_ask(&self, job: &Job, now: Millis, polls: u32) -> i64 {
        let mut unplanned = polls;
        if !self.hopes(job) {
            if let Some(wait) = self.planned(job, now) {
                return wait;
            }
            // Questions at planned moments do not make the pauses after them grow.
            unplanned = polls.saturating_sub(self.experience.moments(job));
        }
        let steps = 1.25_f64.powi(unplanned.saturating_sub(1).min(30).cast_signed());
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            reason = "hours in milliseconds fit"
        )]
        let grown = (self.poll.interval as f64 * steps) as i64;
        self.spread(job.id, polls, grown.min(self.poll.max_interval))
    }

    /// A callback may still tell of the end.
    fn hopes(&self, job: &Job) -> bool {
        job.callback.expected && !self.experience.is_silent()
    }

    /// Wait until the next moment that experience names. Not spread: it is reckoned from each job's own acceptance.
    fn planned(&self, job: &Job, now: Millis) -> Option<i64> {
        self.experience.best_moment(job, now).map(|wait| wait.max(1_000))
    }

    /// Wait after the `early`-th (from 0) callback that came before the task was done.
    pub(super) fn after_nudge(&self, job: &Job, now: Millis, early: u32, polls: u32) -> i64 {
        let usual = self.next_ask(job, now, polls);
        NUDGED.get(early as usize).map_or(usual, |wait| usual.min(*wait))
    }

    /// Wait after a question that taught nothing.
    pub(super) fn unanswered(&self, id: JobId, missed: u32, retry_after: Option<i64>) -> i64 {
        let own =
            exponential(id, self.poll.interval.min(5_000), self.poll.max_interval, missed.saturating_sub(1));
        retry_after.map_or(own, |asked| own.max(asked.min(HOUR)))
    }

    /// Wait after a download that failed.
    pub(super) fn fetch(&self, id: JobId, attempt: u32, retry_after: Option<i64>) -> i64 {
        let own = exponential(id, self.fetch.backoff, self.fetch.max_backoff, attempt.saturating_sub(1));
        retry_after.map_or(own, |asked| own.max(asked.min(HOUR)))
    }

    fn spread(&self, id: JobId, attempt: u32, base: i64) -> i64 {
        base.saturating_add(part(base, self.poll.jitter * chance(seed(id), attempt))).max(1)
    }

    /// The longest wait that a duty other than a person's can have; anything due later is a clock's mistake.
    #[must_use]
    pub fn longest_wait(&self) -> i64 {
        let waits = [
            self.lease,
            self.submit_lease,
            self.unknown_wait,
            self.poll.overdue_after.max(self.poll.first_after).saturating_mul(2),
            self.experience.longest_median().saturating_mul(3).min(2 * HOUR),
            self.poll.max_interval.saturating_mul(2),
            self.fetch.max_backoff.saturating_mul(2),
            self.probe_after.saturating_mul(80),
            HOUR + 60_000,
        ];
        waits.into_iter().max().unwrap_or(HOUR)
    }
}
