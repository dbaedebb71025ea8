//! The one way a record changes.

use super::{App, AppError, trace};
use crate::{
    lifecycle::{Change, Duty, Event, Job, JobId, TaskId},
    provider::token::TOKEN_LENGTH,
    store::{Claim, Exceeded, Replaced, StoreError},
};

/// What an event did. Durable, also when it did nothing.
#[derive(Clone, Debug)]
pub enum Applied {
    /// The record changed to this.
    Changed {
        /// The record now.
        job: Box<Job>,
        /// A job that follows it.
        successor: Option<JobId>,
    },
    /// It was late, repeated or not owed; the record is still this.
    Nothing(Box<Job>),
}

impl Applied {
    /// The record, changed or not.
    #[must_use]
    pub fn into_job(self) -> Job {
        match self {
            Self::Changed { job, .. } | Self::Nothing(job) => *job,
        }
    }
}

impl App {
    /// Lets `event` happen to a job.
    ///
    /// # Errors
    /// [`AppError::NotFound`], [`AppError::TaskTaken`] for a task that an operator named, [`AppError::OverBudget`] for a
    /// paid successor, and the store's.
    pub async fn apply(&self, id: JobId, event: &Event) -> Result<Applied, AppError> {
        self.apply_with(id, event, None).await
    }

    /// As [`apply`](Self::apply), and keeps the raw answer that the event was read from in the timeline.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub async fn apply_with(
        &self,
        id: JobId,
        event: &Event,
        evidence: Option<&str>,
    ) -> Result<Applied, AppError> {
        let job = self.get(id).await?;
        self.step_from(job, true, event, evidence).await
    }

    /// As [`apply_with`](Self::apply_with), for a job that was read or written a moment ago: only if it has changed since
    /// is it read again.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub async fn apply_to(
        &self,
        known: &Job,
        event: &Event,
        evidence: Option<&str>,
    ) -> Result<Applied, AppError> {
        self.step_from(known.clone(), false, event, evidence).await
    }

    /// Steps and writes until nobody was faster. A job that is not `fresh` is not believed that it owes nothing.
    async fn step_from(
        &self,
        mut job: Job,
        mut fresh: bool,
        event: &Event,
        evidence: Option<&str>,
    ) -> Result<Applied, AppError> {
        let (id, mut event) = (job.id, event.clone());
        loop {
            let Some(mut change) = job.step(&event, self.now(), &self.policy()) else {
                if !fresh {
                    (job, fresh) = (self.get(id).await?, true);
                    continue;
                }
                self.store.barrier().await?;
                return Ok(Applied::Nothing(Box::new(job)));
            };
            keep_evidence(&mut change, evidence.map(|raw| self.without_token(id, raw)));
            let next = change.job.clone();
            let books = change.book.is_some();
            let following = change.successor.as_ref().map(|next| next.job.clone());
            match self.store.replace_within(change, self.limits()).await? {
                Replaced::Done { successor } => {
                    self.noticed(&job, &next).await;
                    let new = following.filter(|new| successor == Some(new.id));
                    if books || new.as_ref().is_some_and(|new| new.cost.reserved.is_some()) {
                        self.mind_budgets(None).await;
                    }
                    new.iter().for_each(trace::created);
                    return Ok(Applied::Changed { job: Box::new(next), successor });
                }
                Replaced::Stale => {}
                Replaced::TaskTaken(owner) => event = contradiction(&next, event, owner)?,
                Replaced::OverBudget(exceeded) => {
                    self.mind_budgets(Some(exceeded)).await;
                    let Exceeded { period, booked, limit } = exceeded;
                    let estimated = following.map_or(0, |next| next.cost.estimated_credits);
                    return Err(AppError::OverBudget { period, estimated, booked, limit });
                }
            }
            (job, fresh) = (self.get(id).await?, true);
        }
    }

    /// Takes up to `max` jobs for which a duty is due, durably.
    ///
    /// # Errors
    /// The store's.
    pub async fn claim(&self, duty: Duty, max: usize) -> Result<Vec<Job>, StoreError> {
        let in_flight = self.config().upstream.max_in_flight as u64;
        let claim = Claim { duty, max, in_flight, now: self.now(), policy: self.policy() };
        let jobs = self.store.claim(claim).await?;
        jobs.iter().for_each(trace::claimed);
        Ok(jobs)
    }

    /// An upstream may echo the address that it is to call, and the token in it opens the callback route.
    fn without_token(&self, id: JobId, raw: &str) -> String {
        let id = id.to_string();
        let is_hex = |c: char| c.is_ascii_hexdigit();
        let redacted = raw.split_inclusive(|c| !is_hex(c)).map(|piece| {
            let run = piece.trim_end_matches(|c| !is_hex(c));
            match run.len().checked_sub(TOKEN_LENGTH).map(|at| run.split_at(at)) {
                Some((before, token)) if self.token_is_valid(&id, token) => {
                    format!("{before}[redacted]{}", &piece[run.len()..])
                }
                _ => piece.to_owned(),
            }
        });
        redacted.collect()
    }
}

/// What it means that the task of `next` is `owner`'s: an operator is told, an answer contradicts itself.
fn contradiction(next: &Job, event: Event, owner: JobId) -> Result<Event, AppError> {
    let task: TaskId = next.task.clone().map(|task| task.id).ok_or(AppError::NotFound(next.id))?;
    match event {
        Event::Attach(_) => Err(AppError::TaskTaken { task, owner }),
        _ => Ok(Event::Contradicted(task)),
    }
}

fn keep_evidence(change: &mut Change, evidence: Option<String>) {
    if let (Some(raw), Some(data)) =
        (evidence, change.events.last_mut().and_then(|event| event.data.as_object_mut()))
    {
        data.insert("raw".to_owned(), raw.into());
    }
}
