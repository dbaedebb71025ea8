//! What is known of a job only while this process lives, and waiting for what is not yet.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::{App, AppError};
use crate::lifecycle::{Job, JobId, Phase};

/// How far a download has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes in the archive so far.
    pub done: u64,
    /// Bytes in all, when the host says so.
    pub total: Option<u64>,
}

/// What a waiting caller waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The job has ended, or needs a person.
    Terminal,
    /// The record is not this revision any more.
    Past(u64),
}

/// Why no create calls are made at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// The upstream's words.
    pub why: String,
    /// Refusals in a row.
    pub refusals: u32,
}

#[derive(Debug, Default)]
pub(super) struct Live {
    pause: Mutex<Option<Pause>>,
    downloads: Mutex<HashMap<JobId, Progress>>,
}

impl Live {
    pub(super) fn progress(&self, id: JobId) -> Option<Progress> {
        self.downloads.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied()
    }

    pub(super) fn pause(&self) -> Option<Pause> {
        self.pause.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl App {
    /// How far the running download of this job has come.
    #[must_use]
    pub fn progress(&self, id: JobId) -> Option<Progress> {
        self.viewer.live.progress(id)
    }

    /// Notes how far a download has come; none when it is over.
    pub fn set_progress(&self, id: JobId, progress: Option<Progress>) {
        let mut downloads = self.viewer.live.downloads.lock().unwrap_or_else(PoisonError::into_inner);
        match progress {
            Some(progress) => downloads.insert(id, progress),
            None => downloads.remove(&id),
        };
    }

    /// Why no create calls are made at the moment, if so; jobs stay queued meanwhile.
    #[must_use]
    pub fn pause(&self) -> Option<Pause> {
        self.viewer.live.pause()
    }

    /// Notes why no create calls are made, or that they are made again.
    pub fn set_pause(&self, pause: Option<Pause>) {
        *self.viewer.live.pause.lock().unwrap_or_else(PoisonError::into_inner) = pause;
    }

    /// The job once what is waited for is so, or as it is after `timeout`.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn wait(&self, id: JobId, until: Until, timeout: Duration) -> Result<Job, AppError> {
        let deadline = tokio::time::Instant::now() + timeout;
        let mut wake = self.store.wake();
        loop {
            wake.mark_unchanged();
            let job = self.get(id).await?;
            let reached = match until {
                Until::Terminal => matches!(job.phase, Phase::Settled { .. } | Phase::Held { .. }),
                Until::Past(revision) => job.revision != revision,
            };
            if reached {
                // What is told as the end must be so after a crash, too.
                self.store.barrier().await?;
                return Ok(job);
            }
            match tokio::time::timeout_at(deadline, wake.changed()).await {
                Ok(Ok(())) => {}
                // Time is up, or the store closes.
                Ok(Err(_)) | Err(_) => return Ok(job),
            }
        }
    }
}
