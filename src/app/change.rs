//! The one way a record changes.

use super::{App, AppError, trace};
use crate::{
    lifecycle::{Change, Event, Job, JobId, TaskId},
    store::Replaced,
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
    /// [`AppError::NotFound`], [`AppError::TaskTaken`] for a task that an operator named, and the store's.
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
        let mut event = event.clone();
        loop {
            let job = self.get(id).await?;
            let Some(mut change) = job.step(&event, self.now(), &self.policy) else {
                self.store.barrier().await?;
                return Ok(Applied::Nothing(Box::new(job)));
            };
            keep_evidence(&mut change, evidence);
            let next = change.job.clone();
            match self.store.replace(change).await? {
                Replaced::Done { successor } => {
                    trace::changed(&job, &next);
                    return Ok(Applied::Changed { job: Box::new(next), successor });
                }
                Replaced::Stale => {}
                Replaced::TaskTaken(owner) => event = contradiction(&next, event, owner)?,
            }
        }
    }
}

/// What it means that the task of `next` is `owner`'s: an operator is told, an answer contradicts itself.
pub(super) fn contradiction(next: &Job, event: Event, owner: JobId) -> Result<Event, AppError> {
    let task: TaskId = next.task.clone().map(|task| task.id).ok_or(AppError::NotFound(next.id))?;
    match event {
        Event::Attach(_) => Err(AppError::TaskTaken { task, owner }),
        _ => Ok(Event::Contradicted(task)),
    }
}

fn keep_evidence(change: &mut Change, evidence: Option<&str>) {
    if let (Some(raw), Some(data)) =
        (evidence, change.events.last_mut().and_then(|event| event.data.as_object_mut()))
    {
        data.insert("raw".to_owned(), raw.into());
    }
}
