//! What callers and operators decide about a job that exists.

use serde_json::Value;

use super::{App, AppError, Applied, Created, create::booked};
use crate::{
    lifecycle::{Event, Job, JobId, NewJob, Outcome, Phase, RetryMode, TaskId},
    store::IdempotencyKey,
};

/// An operator's decision about a held job.
#[derive(Clone, Debug)]
pub enum Resolution {
    /// Its task is this one.
    Attach(TaskId),
    /// Give it up and send the request again, paid.
    Resubmit,
    /// Give it up.
    Fail,
}

impl App {
    /// Cancels an open job.
    ///
    /// # Errors
    /// [`AppError::Terminal`] when it has ended.
    pub async fn cancel(&self, id: JobId) -> Result<Job, AppError> {
        match self.apply(id, &Event::Cancel).await? {
            Applied::Changed { job, .. } => Ok(*job),
            Applied::Nothing(_) => Err(AppError::Terminal(id)),
        }
    }

    /// Decides about a held job. The answer is the job that goes on: for a resubmit the new one.
    ///
    /// # Errors
    /// [`AppError::NotHeld`], [`AppError::TaskTaken`], and what speaks against a new job.
    pub async fn resolve(&self, id: JobId, resolution: Resolution) -> Result<Job, AppError> {
        let event = match resolution {
            Resolution::Attach(task) => Event::Attach(task),
            Resolution::Resubmit => {
                return self.retry(id, RetryMode::Resubmit, true).await.map(|created| created.job);
            }
            Resolution::Fail => Event::Abandon,
        };
        match self.apply(id, &event).await? {
            Applied::Changed { job, .. } => Ok(*job),
            Applied::Nothing(_) => Err(AppError::NotHeld(id)),
        }
    }

    /// Makes the job that follows `id`; a second call finds the first one's job. `held_only` refuses others.
    ///
    /// # Errors
    /// [`AppError::NothingToRetry`], [`AppError::NotHeld`], and what speaks against a new job.
    pub async fn retry(&self, id: JobId, mode: RetryMode, held_only: bool) -> Result<Created, AppError> {
        let job = self.get(id).await?;
        let held = matches!(job.phase, Phase::Held { .. });
        if held_only && !held {
            return Err(AppError::NotHeld(id));
        }
        let next = self.successor(&job, mode).await?;
        if held && mode == RetryMode::Resubmit {
            return match self.apply(id, &Event::Replace(Box::new(next))).await? {
                Applied::Changed { successor: Some(new), .. } => {
                    let job = self.get(new).await?;
                    // It may have been claimed meanwhile, and what is told must be so after a crash, too.
                    self.store.barrier().await?;
                    Ok(Created { job, fresh: None, replayed: false })
                }
                // Somebody else decided meanwhile; if it was the same, the key finds their job.
                Applied::Changed { successor: None, .. } | Applied::Nothing(_) => Err(AppError::NotHeld(id)),
            };
        }
        let document = self.document(id).await?;
        let key = IdempotencyKey {
            owner: "-".to_owned(),
            key: format!("{}:{id}", mode.as_str()),
            fingerprint: [0; 32],
            reusable: mode != RetryMode::Resubmit,
        };
        self.insert(next, document, Some(key)).await
    }

    async fn successor(&self, job: &Job, mode: RetryMode) -> Result<Job, AppError> {
        let refuse = |why| Err(AppError::NothingToRetry { id: job.id, why });
        let (id, now) = (self.fresh_id()?, self.now());
        match (&job.phase, mode) {
            (Phase::Held { .. } | Phase::Settled { .. }, RetryMode::Resubmit) => {
                // By its request: the job itself may have followed another one for free.
                let input = Value::Object(self.document(job.id).await?.input);
                let estimate = self.estimate_verbatim(&input)?.estimate;
                self.within_job_limit(estimate.credits)?;
                let new = NewJob {
                    model: job.model.clone(),
                    mode: job.mode.clone(),
                    duration_s: job.duration_s,
                    tags: job.tags.clone(),
                    deadline: None,
                    cost: booked(estimate.credits, estimate.exact, now),
                    callback_expected: self.expects_callback(&job.model),
                    notices: Vec::new(),
                    notify: job.notify.clone(),
                    trace: job.trace.clone(),
                };
                let mut next = Job::new(id, now, new);
                next.retry_of = Some(job.id);
                Ok(next)
            }
            (Phase::Held { .. }, _) => refuse("it is held, resolve it first"),
            (Phase::Settled { outcome: Outcome::Stored { .. } }, RetryMode::Recheck) => {
                refuse("its video is stored; mode `download` fetches it again, `resubmit` makes another")
            }
            (Phase::Settled { .. }, _) => match job.again(mode, id, now) {
                Some(next) => Ok(next),
                None => {
                    refuse("the upstream never named a task for it; mode `resubmit` sends it again, paid")
                }
            },
            _ => refuse("it has not ended; cancel it first, or wait"),
        }
    }
}
