//! What finished jobs teach: how long tasks take, and whether callbacks come. It decides when the next ones are asked about.

use std::collections::{BTreeMap, VecDeque};

use super::{
    id::Millis,
    job::{Job, Via},
    phase::{FailCode, Outcome, Phase},
};

/// Durations that are remembered of a kind of task; the oldest go first.
const REMEMBERED: usize = 50;
/// Fewer teach nothing yet.
const ENOUGH: usize = 5;
/// Kinds that are told apart; callers make them up, and memory is finite.
const KINDS: usize = 256;
/// After so many finished tasks in a row whose callbacks never came, callbacks are not waited for.
const SILENT_AFTER: u32 = 3;
/// What one question is worth, in milliseconds of one job's delay.
const PRICE_OF_A_QUESTION: i64 = 2_000;
/// A create call that was answered later than this, in milliseconds, hides when its task began.
const PROMPT: i64 = 60_000;

/// Tasks that take about as long as each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    model: String,
    mode: Option<String>,
    duration_s: Option<u32>,
}

impl Kind {
    fn of(job: &Job) -> Self {
        Self { model: job.model.clone(), mode: job.mode.clone(), duration_s: job.duration_s }
    }
}

/// What one change of a job teaches.
#[derive(Clone, Debug, PartialEq)]
pub struct Lesson {
    /// A callback that was asked for came (true), or its task ended without it (false).
    heard: Option<bool>,
    /// How long a task of a kind took, in milliseconds.
    took: Option<(Kind, i64)>,
}

impl Lesson {
    /// What the change from `before` to `after` teaches; without a `before`, what the record does.
    #[must_use]
    pub fn of(before: Option<&Job>, after: &Job) -> Option<Self> {
        let came = before.map_or(0, |job| job.callback.received);
        let ended = ended(after) && !before.is_some_and(ended);
        let heard = match after.callback.received {
            _ if !after.callback.expected => None,
            received if received > came => Some(true),
            0 if ended => Some(false),
            _ => None,
        };
        let confirmed = before.is_none_or(|job| job.times.confirmed_at.is_none());
        let took = took(after).filter(|_| confirmed).map(|took| (Kind::of(after), took));
        (heard.is_some() || took.is_some()).then_some(Self { heard, took })
    }
}

/// The task route said that the task is over.
fn ended(job: &Job) -> bool {
    let failed_there = |code: &FailCode| {
        matches!(code, FailCode::UpstreamFailed | FailCode::UpstreamCancelled | FailCode::ContentPolicy)
    };
    job.times.confirmed_at.is_some()
        || matches!(&job.phase, Phase::Settled { outcome: Outcome::Failed { code, .. } } if failed_there(code))
}

/// From acceptance to confirmation, where a callback kept the latter close to the truth.
fn took(job: &Job) -> Option<i64> {
    let (submitted, accepted) = (job.times.submitted_at?, job.times.accepted_at?);
    let prompt = (0..PROMPT).contains(&accepted.since(submitted)) && job.completed_via == Some(Via::Callback);
    Some(job.times.confirmed_at?.since(accepted)).filter(|took| prompt && *took > 0)
}

/// What changes when a lesson is learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Callbacks do not come any more.
    Silent,
    /// They come again.
    Recovered,
}

/// Everything that was learned.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Experience {
    /// Finished tasks in a row whose callbacks never came.
    missed: u32,
    kinds: BTreeMap<Kind, Durations>,
}

impl Experience {
    /// What these records teach, the oldest first.
    pub fn of<'a>(jobs: impl IntoIterator<Item = &'a Job>) -> Self {
        let mut experience = Self::default();
        for lesson in jobs.into_iter().filter_map(|job| Lesson::of(None, job)) {
            experience.learn(lesson);
        }
        experience
    }

    /// Callbacks that were asked for do not come.
    #[must_use]
    pub const fn is_silent(&self) -> bool {
        self.missed >= SILENT_AFTER
    }

    /// Finished tasks in a row whose callbacks never came.
    #[must_use]
    pub const fn missed(&self) -> u32 {
        self.missed
    }

    /// Whether a lesson is none: callbacks come, as they did before.
    #[must_use]
    pub fn knows(&self, lesson: &Lesson) -> bool {
        lesson.took.is_none() && lesson.heard != Some(false) && self.missed == 0
    }

    /// Takes a lesson in.
    pub fn learn(&mut self, lesson: Lesson) -> Option<Turn> {
        if let Some((kind, took)) = lesson.took
            && (self.kinds.len() < KINDS || self.kinds.contains_key(&kind))
        {
            self.kinds.entry(kind).or_default().add(took);
        }
        let was_silent = self.is_silent();
        match lesson.heard {
            Some(true) => self.missed = 0,
            Some(false) => self.missed = self.missed.saturating_add(1),
            None => {}
        }
        match (was_silent, self.is_silent()) {
            (false, true) => Some(Turn::Silent),
            (true, false) => Some(Turn::Recovered),
            _ => None,
        }
    }

    /// How long a task like this job's takes in the middle, in milliseconds.
    #[must_use]
    pub fn median(&self, job: &Job) -> Option<i64> {
        self.like(job).map(|durations| durations.median)
    }

    /// The longest of those.
    pub(super) fn longest_median(&self) -> i64 {
        self.kinds.values().map(|durations| durations.median).max().unwrap_or(0)
    }

    /// How long after acceptance a task like this job's is best asked about next, when nobody tells of its end;
    /// nothing once it takes longer than any did before.
    pub(super) fn best_moment(&self, job: &Job, now: Millis) -> Option<i64> {
        let elapsed = now.since(job.times.accepted_at.unwrap_or(now));
        self.like(job)?.plan.iter().copied().find(|at| *at > elapsed).map(|at| at - elapsed)
    }

    /// How many such moments there are.
    pub(super) fn moments(&self, job: &Job) -> u32 {
        self.like(job).map_or(0, |durations| u32::try_from(durations.plan.len()).unwrap_or(u32::MAX))
    }

    fn like(&self, job: &Job) -> Option<&Durations> {
        self.kinds.get(&Kind::of(job)).filter(|durations| durations.latest.len() >= ENOUGH)
    }
}

/// How long tasks of a kind took.
#[derive(Clone, Debug, Default, PartialEq)]
struct Durations {
    /// In milliseconds, the newest last.
    latest: VecDeque<i64>,
    median: i64,
    /// When to ask, rising.
    plan: Vec<i64>,
}

impl Durations {
    fn add(&mut self, took: i64) {
        self.latest.push_back(took);
        if self.latest.len() > REMEMBERED {
            self.latest.pop_front();
        }
        let mut sorted: Vec<i64> = self.latest.iter().copied().collect();
        sorted.sort_unstable();
        self.median = sorted.get(sorted.len() / 2).copied().unwrap_or(0);
        self.plan = plan(&sorted);
    }
}

/// The moments of asking that would have cost these tasks least, each question and each millisecond of delay counted:
/// by the cheapest way to go on from each task, computed from the last one back.
fn plan(sorted: &[i64]) -> Vec<i64> {
    let count = sorted.len();
    // For the tasks from `i` on: what they cost at best, and the task at whose end the next question comes.
    let mut best = vec![(0_i64, count); count + 1];
    for from in (0..count).rev() {
        let questions = PRICE_OF_A_QUESTION.saturating_mul(i64::try_from(count - from).unwrap_or(i64::MAX));
        let mut delay = 0_i64;
        best[from] = (i64::MAX, from);
        for at in from..count {
            let earlier = i64::try_from(at - from).unwrap_or(i64::MAX);
            let step = sorted[at] - sorted[at.saturating_sub(1).max(from)];
            delay = delay.saturating_add(step.saturating_mul(earlier));
            let cost = delay.saturating_add(questions).saturating_add(best[at + 1].0);
            if cost < best[from].0 {
                best[from] = (cost, at);
            }
        }
    }
    let mut moments = Vec::new();
    let mut next = 0;
    while next < count {
        let at = best[next].1;
        moments.push(sorted[at]);
        next = at + 1;
    }
    moments.dedup();
    moments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_few_where_tasks_end_together_and_more_where_they_do_not() {
        assert_eq!(plan(&[60_000, 60_100, 60_200]), [60_200]);
        assert_eq!(plan(&[10_000, 60_000]), [10_000, 60_000]);
        assert!(plan(&[]).is_empty());
    }

    /// By brute force: no set of moments costs these tasks less.
    #[test]
    fn no_other_moments_cost_less() {
        let tasks = [3_000, 4_000, 9_000, 9_500, 14_000, 15_000, 31_000];
        let cost = |moments: &[i64]| -> i64 {
            let one = |task: &i64| {
                let asked = moments.iter().filter(|at| *at < task).count() as i64 + 1;
                let seen = moments.iter().find(|at| *at >= task).unwrap();
                asked * PRICE_OF_A_QUESTION + seen - task
            };
            tasks.iter().map(one).sum()
        };
        let last = tasks.len() - 1;
        let sets = (0..1_u32 << last).map(|set| {
            (0..=last).filter(|at| *at == last || set >> at & 1 == 1).map(|at| tasks[at]).collect::<Vec<_>>()
        });
        let cheapest = sets.map(|moments| cost(&moments)).min().unwrap();
        assert_eq!(cost(&plan(&tasks)), cheapest);
    }
}
