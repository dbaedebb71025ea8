//! Fetches finished videos into the archive.
//!
//! One call is one attempt: it continues over cut connections a few times, and otherwise says what stands in the way
//! so that the caller can choose between waiting, a fresh link and giving up. Bytes that are there are kept for the
//! next attempt in this process; after a crash the file is fetched again, and renamed over whatever is there.

use std::{pin::pin, sync::Arc, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use reqwest::Response;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    archive::{Archive, ArchiveError},
    container::{Container, SNIFF_LEN},
    egress::{Denied, Guard},
    outside::{Outside, OutsideError, describe},
    part::{Completeness, Finished, Part},
    resume::{self, Answer, Reading},
    shelf::{Claim, Shelf},
};
use crate::config;

/// How often one call goes on after a cut.
const MAX_CUTS: usize = 4;

/// After so many versions of the same file in one call nothing is joined any more: it comes in one go or not.
const MAX_CHANGES: usize = 3;

/// Slower than this over two stall time-outs is as good as stalled, in bytes per second.
const MIN_RATE: u64 = 16 << 10;

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
            ArchiveError::NoSpace(_) => Self::NoSpace(error.to_string()),
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

/// How one request ended, when it was not with a fault.
enum Turn {
    /// The file is whole.
    Complete,
    /// The host gave a piece and no error: go on at once.
    Piece,
    /// What it gave does not fit what is there: start over.
    Changed,
    /// The connection was cut.
    Cut(String),
}

/// Fetches files into an archive.
#[derive(Debug)]
pub struct Downloader {
    archive: Arc<Archive>,
    outside: Outside,
    settings: config::Download,
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
        Ok(Self { shelf: Shelf::new(Arc::clone(&archive)), archive, outside, settings })
    }

    /// Fetches one output: when this returns `Ok`, the file is complete, durable and readable under its location.
    ///
    /// # Errors
    /// See [`FetchFault`]. After `LinkRefused`, `Network` and `Upstream` the bytes so far are kept for a while, and
    /// the next call for the same job and index continues, with a fresh link too if length and entity tag agree.
    pub async fn fetch(
        &self,
        order: &Order,
        progress: Progress<'_>,
        stop: &CancellationToken,
    ) -> Result<Stored, FetchFault> {
        let stem = stem(order);
        let mut claim = self.shelf.claim((order.job_id.clone(), order.index), &stem).await?;
        let pulled = tokio::select! {
            biased;
            () = stop.cancelled() => Err(FetchFault::Stopped),
            pulled = self.pull(order, &stem, &mut claim.part, progress) => pulled,
        };
        let finished = match (pulled, &mut claim.part) {
            (Ok(()), Some(part)) => part.finish().await.map_err(FetchFault::from),
            (Ok(()), None) => Err(FetchFault::NotVideo("it is empty".to_owned())),
            (Err(fault), _) => Err(fault),
        };
        self.settle(claim, finished).await
    }

    /// Removes what is kept of a job's unfinished files: the job is settled, or starts over.
    pub async fn forget(&self, job_id: &str) {
        self.shelf.forget(job_id).await;
    }

    async fn settle(
        &self,
        mut claim: Claim,
        finished: Result<Finished, FetchFault>,
    ) -> Result<Stored, FetchFault> {
        match finished {
            Ok(finished) => {
                claim.part = None;
                claim.clear().await;
                Ok(finished.into())
            }
            Err(fault) if fault.keeps_part() => {
                claim.park().await;
                Err(fault)
            }
            Err(fault) => {
                claim.clear().await;
                Err(fault)
            }
        }
    }

    /// Sends requests until the part is whole.
    async fn pull(
        &self,
        order: &Order,
        stem: &str,
        part: &mut Option<Part>,
        progress: Progress<'_>,
    ) -> Result<(), FetchFault> {
        let mut delays = self.delays(order);
        let mut changes = 0;
        loop {
            let in_one_go = changes >= MAX_CHANGES;
            let why = match self.turn(order, stem, part, in_one_go, progress).await? {
                Turn::Complete => return Ok(()),
                Turn::Piece => continue,
                Turn::Changed => {
                    changes += 1;
                    "the file keeps changing under the same link".to_owned()
                }
                Turn::Cut(why) => why,
            };
            tracing::debug!(job_id = order.job_id, index = order.index, why, "the download is interrupted");
            match delays.next() {
                Some(delay) => tokio::time::sleep(delay).await,
                None => return Err(FetchFault::Network(why)),
            }
        }
    }

    /// Short delays, since they are waited out in the slot of a download: the long ones are the caller's.
    fn delays(&self, order: &Order) -> impl Iterator<Item = Duration> + use<> {
        let seed = u64::from(crc32fast::hash(order.job_id.as_bytes())) ^ order.index as u64;
        ExponentialBuilder::new()
            .with_min_delay(self.settings.backoff / 8)
            .with_max_delay(self.settings.max_backoff)
            .with_max_times(MAX_CUTS)
            .with_jitter()
            .with_jitter_seed(seed)
            .build()
    }

    /// Sends one request and takes what it brings.
    async fn turn(
        &self,
        order: &Order,
        stem: &str,
        part: &mut Option<Part>,
        in_one_go: bool,
        progress: Progress<'_>,
    ) -> Result<Turn, FetchFault> {
        let here = part.as_ref().filter(|_| !in_one_go);
        let offset = here.map_or(0, Part::offset);
        let headers = resume::request_headers(offset, here.and_then(|part| part.validator(&order.url)));
        let response =
            match timeout(self.settings.stall_timeout, self.outside.get(&order.url, &headers)).await {
                Ok(Ok(response)) => response,
                Ok(Err(OutsideError::Network(why))) => return Ok(Turn::Cut(why)),
                Ok(Err(OutsideError::Denied(denied))) => return Err(FetchFault::Denied(denied)),
                Err(_) => return Ok(Turn::Cut("the host did not answer in time".to_owned())),
            };
        let answer = match resume::read(response.status(), response.version(), response.headers()) {
            Reading::Bytes(answer) => answer,
            Reading::Fault(fault) => return Err(fault),
            Reading::Unusable => return start_over(part).await,
        };
        if answer.source.total.is_some_and(|total| total > self.settings.max_size) {
            return Err(FetchFault::TooLarge { limit: self.settings.max_size });
        }
        let end = answer.end;
        let mut chunks = pin!(self.chunks(response));
        match part {
            Some(part) if answer.continues(part.source(), part.offset()) => {
                part.continue_from(&order.url, answer.source);
            }
            _ if !answer.is_whole() => return start_over(part).await,
            _ => {
                let _restarted = start_over(part).await?;
                match self.begin(order, stem, answer, &mut chunks).await? {
                    Ok(begun) => *part = Some(begun),
                    Err(cut) => return Ok(Turn::Cut(cut)),
                }
            }
        }
        let Some(part) = part else { return Ok(Turn::Changed) };
        self.receive(part, end, chunks, progress).await
    }

    /// Looks at the first bytes and opens a part for the kind of file that they promise. The inner error is a cut.
    async fn begin(
        &self,
        order: &Order,
        stem: &str,
        answer: Answer,
        chunks: &mut (impl Stream<Item = Result<Bytes, String>> + Unpin),
    ) -> Result<Result<Part, String>, FetchFault> {
        let mut head = BytesMut::new();
        while head.len() < SNIFF_LEN {
            match chunks.next().await {
                Some(Ok(chunk)) => head.extend_from_slice(&chunk),
                Some(Err(cut)) => return Ok(Err(cut)),
                None => break,
            }
        }
        let container = match Container::sniff(&head) {
            Ok(container) => Some(container),
            Err(why) if self.settings.verify_container => return Err(FetchFault::NotVideo(why)),
            Err(_) => None,
        };
        let mut part = Part::begin(&self.archive, stem, container, answer.source, &order.url).await?;
        part.push(head.freeze()).await?;
        Ok(Ok(part))
    }

    async fn receive(
        &self,
        part: &mut Part,
        end: Option<u64>,
        mut chunks: impl Stream<Item = Result<Bytes, String>> + Unpin,
        progress: Progress<'_>,
    ) -> Result<Turn, FetchFault> {
        let limit = self.settings.max_size;
        progress(part.offset(), part.source().total);
        while let Some(chunk) = chunks.next().await {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(cut) => return Ok(Turn::Cut(cut)),
            };
            let after = part.offset() + chunk.len() as u64;
            if after > limit {
                return Err(FetchFault::TooLarge { limit });
            }
            part.push(chunk).await?;
            progress(after, part.source().total);
        }
        if end.is_some_and(|end| part.offset() != end) {
            return Ok(Turn::Cut("the connection was closed before the end".to_owned()));
        }
        if part.source().total.is_some_and(|total| part.offset() < total) {
            return Ok(Turn::Piece);
        }
        match part.completeness()? {
            Completeness::Whole => Ok(Turn::Complete),
            Completeness::Cut(why) => Ok(Turn::Cut(why)),
        }
    }

    /// The body of an answer, which also ends when the host stalls or trickles.
    fn chunks(&self, response: Response) -> impl Stream<Item = Result<Bytes, String>> + use<> {
        let patience = self.settings.stall_timeout;
        let pace = Pace { since: Instant::now(), bytes: 0, window: patience * 2 };
        let state = Some((response.bytes_stream(), pace));
        futures_util::stream::unfold(state, move |state| async move {
            let (mut body, mut pace) = state?;
            match timeout(patience, body.next()).await {
                Ok(None) => None,
                Ok(Some(Ok(chunk))) if pace.is_kept(chunk.len()) => Some((Ok(chunk), Some((body, pace)))),
                Ok(Some(Ok(_))) => Some((Err(format!("fewer than {MIN_RATE} bytes a second came")), None)),
                Ok(Some(Err(error))) => Some((Err(describe(error)), None)),
                Err(_) => Some((Err(format!("nothing came for {} s", patience.as_secs_f32())), None)),
            }
        })
    }
}

/// Watches that a body keeps moving.
struct Pace {
    since: Instant,
    bytes: u64,
    window: Duration,
}

impl Pace {
    fn is_kept(&mut self, more: usize) -> bool {
        self.bytes += more as u64;
        let elapsed = self.since.elapsed();
        if elapsed < self.window {
            return true;
        }
        let kept = self.bytes as f64 >= MIN_RATE as f64 * elapsed.as_secs_f64();
        (self.since, self.bytes) = (Instant::now(), 0);
        kept
    }
}

/// Drops what is there. A staging file that cannot be removed is a fault of our storage.
async fn start_over(part: &mut Option<Part>) -> Result<Turn, FetchFault> {
    let Some(part) = part.take() else { return Ok(Turn::Changed) };
    if part.discard().await {
        Ok(Turn::Changed)
    } else {
        Err(FetchFault::Storage("the archive failed: a staging file cannot be removed".to_owned()))
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
