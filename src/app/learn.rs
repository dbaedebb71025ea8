//! What finished jobs teach about the next ones.

use std::sync::{Arc, PoisonError};

use tracing::{info, warn};

use super::{App, trace};
use crate::{
    lifecycle::{Experience, Job, JobId, Lesson, Turn},
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
    pub(super) fn noticed(&self, before: &Job, after: &Job) {
        trace::changed(before, after);
        let Some(lesson) = Lesson::of(Some(before), after) else { return };
        if self.policy().experience.knows(&lesson) {
            return;
        }
        match self.change_experience(|experience| experience.learn(lesson)) {
            Some(Turn::Silent) => warn!(
                "callbacks that were asked for do not come; jobs are asked about as if there were none: does [callback] \
                 public_url lead here from outside?"
            ),
            Some(Turn::Recovered) => info!("callbacks come again; they are waited for"),
            None => {}
        }
    }

    fn change_experience<T>(&self, change: impl FnOnce(&mut Experience) -> T) -> T {
        let mut policy = self.policy.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = (**policy).clone();
        let result = change(&mut next.experience);
        *policy = Arc::new(next);
        result
    }
}
