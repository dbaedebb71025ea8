//! Fetches finished videos into the archive.
//!
//! One call is one attempt: it continues over cut connections a few times, and otherwise says what stands in the way
//! so that the caller can choose between waiting, a fresh link and giving up. Bytes that are there are kept for the
//! next attempt in this process; after a crash the file is fetched again, and renamed over whatever is there.

mod container;
mod part;
mod resume;
mod shelf;
mod transfer;

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use self::{
    part::Finished,
    shelf::{Claim, Shelf},
    transfer::Transfer,
};
use super::{
    archive::{Archive, ArchiveError},
    egress::{Denied, Guard},
    outside::{Outside, OutsideError},
};
use crate::{config, disk::Trouble, live::Live};

/// What to fetch.
#[derive(Clone, Debug)]
pub struct Order {
    /// The job that the file belongs to.
    pub job_id: String,
    /// The place of the output in the upstream's answer, from 0.
    pub index: usize,
    /// Where the file is. Judged by the address guard.
    pub url: String,
    /// The job's key in the archive, see [`Archive::key`], without an extension. The first output is stored as
    /// `<key>.mp4`, the second as `<key>-2.mp4`, with the extension that its content asks for.
    pub key: String,
}

/// A file that is in the archive, durably.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The last segment of `location`.
    pub name: String,
    /// The key in the archive.
    pub location: String,
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 of the content in lower-case hex.
    pub sha256: String,
    /// Media type by content, whatever the host claimed.
    pub content_type: String,
    /// Play time in milliseconds, where the file tells.
    pub duration_ms: Option<u64>,
    /// Width in pixels, where the file tells.
    pub width: Option<u32>,
    /// Height in pixels, where the file tells.
    pub height: Option<u32>,
    /// The host's entity tag for the version that was fetched.
    pub etag: Option<String>,
}

/// Why a file is not in the archive. No fetch costs anything at the provider.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FetchFault {
    /// The host refuses this link: expired, withdrawn or never right. A fresh link from the task route may do.
    #[error("the file host refused the link with status {status}; the provider has to give a fresh one")]
    LinkRefused {
        /// The HTTP status.
        status: u16,
    },
    /// The address guard refuses the link or a place that it redirects to.
    #[error(transparent)]
    Denied(Denied),
    /// What the link leads to is no video.
    #[error("the file is no video: {0}")]
    NotVideo(String),
    /// The file is larger than `[download] max_size`.
    #[error("the file is larger than the {limit} bytes of [download] max_size")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The host cannot be reached, or the connection was cut too often. Try again.
    #[error("the file host could not be read: {0}")]
    Network(String),
    /// The host has trouble of its own, or asks for patience. Try again.
    #[error("the file host answered with status {status}")]
    Upstream {
        /// The HTTP status: 5xx, 408, 425 or 429.
        status: u16,
        /// How long it asks to wait, an hour at most.
        retry_after: Option<Duration>,
    },
    /// Our own archive failed. The link is not to blame; try again.
    #[error("{0}")]
    Storage(String),
    /// The archive's volume is full. Try again when there is room.
    #[error("{0}")]
    NoSpace(String),
    /// Another fetcher works on this very output.
    #[error("this file is being fetched already")]
    Busy,
    /// The caller asked to stop.
    #[error("the download was stopped")]
    Stopped,
}

impl From<ArchiveError> for FetchFault {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::NoSpace(_) | ArchiveError::Disk(Trouble::Full { .. }) => {
                Self::NoSpace(error.to_string())
            }
            ArchiveError::Stopped => Self::Stopped,
            _ => Self::Storage(error.to_string()),
        }
    }
}

impl From<OutsideError> for FetchFault {
    fn from(error: OutsideError) -> Self {
        match error {
            OutsideError::Denied(denied) => Self::Denied(denied),
            OutsideError::Network(why) => Self::Network(why),
        }
    }
}

impl FetchFault {
    /// Whether the bytes that are there may still be the beginning of the right file.
    fn keeps_part(&self) -> bool {
        matches!(self, Self::LinkRefused { .. } | Self::Network(_) | Self::Upstream { .. })
    }
}

/// Where the bytes so far and, once known, the whole length are told. Called for each chunk: it must return at once.
pub type Progress<'a> = &'a (dyn Fn(u64, Option<u64>) + Send + Sync);

/// Fetches files into an archive.
#[derive(Debug)]
pub struct Downloader {
    archive: Arc<Archive>,
    outside: Outside,
    settings: Live<config::Download>,
    shelf: Arc<Shelf>,
}

impl Downloader {
    /// Makes a downloader. Dropping it removes the parts that it keeps.
    ///
    /// # Errors
    /// The system's certificate store cannot be read.
    pub fn new(
        archive: Arc<Archive>,
        guard: Guard,
        settings: config::Download,
    ) -> Result<Self, reqwest::Error> {
        let outside = Outside::new(guard, settings.max_redirects)?;
        Ok(Self { shelf: Shelf::new(Arc::clone(&archive)), archive, outside, settings: Live::new(settings) })
    }

    /// Goes by these settings from the next fetch on; `max_redirects` stays as it was.
    pub fn reload(&self, settings: config::Download) {
        self.settings.set(settings);
    }

    /// Fetches one output: when this returns `Ok`, the file is complete, durable and readable under its location.
    ///
    /// # Errors
    /// See [`FetchFault`]. After `LinkRefused`, `Network` and `Upstream` the bytes so far are kept for a while, and
    /// the next call for the same job and index continues, with a fresh link too if length and entity tag agree. A whole
    /// file that a bucket did not take is kept as well: the next call only uploads it.
    pub async fn fetch(
        &self,
        order: &Order,
        progress: Progress<'_>,
        stop: &CancellationToken,
    ) -> Result<Stored, FetchFault> {
        let stem = stem(order);
        self.archive.ensure_ready().await?;
        let mut claim = self.shelf.claim((order.job_id.clone(), order.index), &stem).await?;
        let Self { archive, outside, .. } = self;
        let settings = &self.settings.get();
        let transfer = Transfer { archive, outside, settings, order, stem: &stem, progress };
        let pulled = match &claim.part {
            Some(part) if part.is_spooled() => Ok(()),
            _ => tokio::select! {
                biased;
                () = stop.cancelled() => Err(FetchFault::Stopped),
                pulled = transfer.run(&mut claim.part) => pulled,
            },
        };
        let finished = match (pulled, &mut claim.part) {
            (Ok(()), Some(part)) => part.finish(stop).await.map_err(FetchFault::from),
            (Ok(()), None) => Err(FetchFault::NotVideo("it is empty".to_owned())),
            (Err(fault), _) => Err(fault),
        };
        settle(claim, finished).await
    }

    /// Removes what is kept of a job's unfinished files: the job is settled, or starts over.
    pub async fn forget(&self, job_id: &str) {
        self.shelf.forget(job_id).await;
    }
}

async fn settle(mut claim: Claim, finished: Result<Finished, FetchFault>) -> Result<Stored, FetchFault> {
    match finished {
        Ok(finished) => {
            // In a spool it has had its time; in the archive it stays.
            claim.part.take_if(|part| !part.is_spooled());
            claim.clear().await;
            Ok(finished.into())
        }
        Err(fault) => {
            let is_spooled = claim.part.as_ref().is_some_and(part::Part::is_spooled);
            if fault.keeps_part() || is_spooled && matches!(fault, FetchFault::Storage(_)) {
                claim.park().await
            } else {
                claim.clear().await
            }
            Err(fault)
        }
    }
}

fn stem(order: &Order) -> String {
    match order.index {
        0 => order.key.clone(),
        index => format!("{}-{}", order.key, index + 1),
    }
}

impl From<Finished> for Stored {
    fn from(finished: Finished) -> Self {
        let Finished { location, bytes, sha256, content_type, facts, etag } = finished;
        let name = location.rsplit('/').next().unwrap_or(&location).to_owned();
        Self {
            name,
            location,
            bytes,
            sha256,
            content_type: content_type.to_owned(),
            duration_ms: facts.duration_ms,
            width: facts.width,
            height: facts.height,
            etag,
        }
    }
}
