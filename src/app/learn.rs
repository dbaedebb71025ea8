//! What finished jobs teach about the next ones.

use std::sync::{Arc, PoisonError};

use serde_json::{Value, json};
use tracing::{info, warn};

use super::{App, AppError, trace};
use crate::{
    lifecycle::{Delivery, EventId, EventKind, EventRecord, Experience, Job, JobId, Lesson, Turn},
    store::{JobFilter, StoreError},
};

/// So many of the newest records are read at a start, for what they teach.
const LOOK_BACK: usize = 5_000;
const PAGE: usize = 250;

impl App {
    /// Callbacks that were asked for do not come, so jobs are asked about as if there were none.
    #[must_use]
    pub fn callbacks_are_silent(&self) -> bool {
        self.policy().experience.is_silent()
    }

    /// Learns from the records of jobs that finished before this process began.
    ///
    /// # Errors
    /// The store's.
    pub async fn recall(&self) -> Result<(), StoreError> {
        let (mut jobs, mut before): (Vec<Job>, Option<JobId>) = (Vec::new(), None);
        loop {
            let page = self.store.list(JobFilter::default(), before, PAGE).await?;
            jobs.extend(page.items);
            before = page.read_to.filter(|_| page.more).map(JobId::from_bytes);
            if before.is_none() || jobs.len() >= LOOK_BACK {
                break;
            }
        }
        let recalled = Experience::of(jobs.iter().rev());
        self.change_experience(|experience| *experience = recalled);
        Ok(())
    }

    /// A job was changed: says so, and learns from it.
    pub(super) async fn noticed(&self, before: &Job, after: &Job) {
        trace::changed(before, after);
        let Some(lesson) = Lesson::of(Some(before), after) else { return };
        if self.policy().experience.knows(&lesson) {
            return;
        }
        let Some(turn) = self.change_experience(|experience| experience.learn(lesson)) else { return };
        let kind = match turn {
            Turn::Silent => {
                warn!(
                    "callbacks that were asked for do not come; jobs are asked about as if there were none: does \
                     [callback] public_url lead here from outside?"
                );
                EventKind::CallbackSilent
            }
            Turn::Recovered => {
                info!("callbacks come again; they are waited for");
                EventKind::CallbackRecovered
            }
        };
        if let Err(error) = self.log(kind, json!({})).await {
            warn!(%error, "that was not written to the event log");
        }
    }

    async fn log(&self, kind: EventKind, data: Value) -> Result<(), AppError> {
        let (event, owed) = self.about_no_job(kind, data)?;
        Ok(self.store.log(event, owed).await?)
    }

    /// An event about no job, and the debts to the sinks that want it.
    pub(super) fn about_no_job(
        &self,
        kind: EventKind,
        data: Value,
    ) -> Result<(EventRecord, Vec<Delivery>), AppError> {
        let (time, unique, policy) = (self.now(), self.entropy.bytes()?, self.policy());
        let event =
            EventRecord { id: EventId::new(time, &unique), kind, time, job_id: None, revision: None, data };
        let owed = Delivery::all(&event, None, &policy).collect();
        Ok((event, owed))
    }

    fn change_experience<T>(&self, change: impl FnOnce(&mut Experience) -> T) -> T {
        let mut policy = self.policy.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = (**policy).clone();
        let result = change(&mut next.experience);
        *policy = Arc::new(next);
        result
    }
}
