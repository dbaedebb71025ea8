//! One attempt at a file: requests until it is whole, each continuing where the last one was cut.

use std::{pin::pin, sync::Arc, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use reqwest::Response;
use tokio::time::{Instant, timeout};

use super::{
    FetchFault, Order, Progress,
    container::{Container, SNIFF_LEN},
    part::{Completeness, Part},
    resume::{self, Answer, Reading},
};
use crate::{
    config,
    outbound::{
        archive::Archive,
        outside::{Outside, OutsideError, describe},
    },
};

/// How often one attempt goes on after a cut.
const MAX_CUTS: usize = 4;

/// After so many versions of the same file in one attempt nothing is joined any more: it comes in one go or not.
const MAX_CHANGES: usize = 3;

/// Slower than this over two stall time-outs is as good as stalled, in bytes per second.
const MIN_RATE: u64 = 16 << 10;

/// What an attempt works with.
pub(super) struct Transfer<'a> {
    pub(super) archive: &'a Arc<Archive>,
    pub(super) outside: &'a Outside,
    pub(super) settings: &'a config::Download,
    pub(super) order: &'a Order,
    /// The key of the file without its extension.
    pub(super) stem: &'a str,
    pub(super) progress: Progress<'a>,
}

/// How one request ended, when it was not with a fault.
enum Turn {
    /// The file is whole.
    Complete,
    /// The host gave a piece and no error: go on at once.
    Piece,
    /// What it gave does not fit what is there: ask for the whole file.
    Misfit,
    /// The connection was cut.
    Cut(String),
}

impl Transfer<'_> {
    /// Sends requests until the part is whole.
    ///
    /// # Errors
    /// [`FetchFault::Network`] when it is cut too often, and what cannot be helped by asking again.
    pub(super) async fn run(&self, part: &mut Option<Part>) -> Result<(), FetchFault> {
        let Order { job_id, index, .. } = self.order;
        let mut delays = self.delays();
        let mut changes = 0;
        loop {
            let why = match self.turn(part, &mut changes).await? {
                Turn::Complete => return Ok(()),
                Turn::Piece => continue,
                Turn::Misfit => {
                    start_over(part, &mut changes).await?;
                    "the host answered with other bytes than it was asked for".to_owned()
                }
                Turn::Cut(why) => why,
            };
            tracing::debug!(job_id, index, why, "the download is interrupted");
            match delays.next() {
                Some(delay) => tokio::time::sleep(delay).await,
                None => return Err(FetchFault::Network(why)),
            }
        }
    }

    /// Short delays, since they are waited out in the slot of a download: the long ones are the caller's.
    fn delays(&self) -> impl Iterator<Item = Duration> + use<> {
        let seed = u64::from(crc32fast::hash(self.order.job_id.as_bytes())) ^ self.order.index as u64;
        ExponentialBuilder::new()
            .with_min_delay(self.settings.backoff / 8)
            .with_max_delay(self.settings.max_backoff)
            .with_max_times(MAX_CUTS)
            .with_jitter()
            .with_jitter_seed(seed)
            .build()
    }

    /// Sends one request and takes what it brings. Counts in `changes` how often bytes had to be thrown away.
    async fn turn(&self, part: &mut Option<Part>, changes: &mut usize) -> Result<Turn, FetchFault> {
        let joinable = part.as_ref().filter(|_| *changes < MAX_CHANGES);
        let validator = joinable.and_then(|part| part.validator(&self.order.url));
        let headers = resume::request_headers(joinable.map_or(0, Part::offset), validator);
        let asked = timeout(self.settings.stall_timeout, self.outside.get(&self.order.url, &headers));
        let response = match asked.await {
            Ok(Ok(response)) => response,
            Ok(Err(OutsideError::Network(why))) => return Ok(Turn::Cut(why)),
            Ok(Err(OutsideError::Denied(denied))) => return Err(FetchFault::Denied(denied)),
            Err(_) => return Ok(Turn::Cut("the host did not answer in time".to_owned())),
        };
        let answer = match resume::read(response.status(), response.version(), response.headers()) {
            Reading::Bytes(answer) => answer,
            Reading::Fault(fault) => return Err(fault),
            Reading::Unusable => return Ok(Turn::Misfit),
        };
        if answer.source.total.is_some_and(|total| total > self.settings.max_size) {
            return Err(FetchFault::TooLarge { limit: self.settings.max_size });
        }
        let end = answer.end;
        let mut chunks = pin!(self.chunks(response));
        let (part, head) = match part {
            Some(part) if answer.continues(part.source(), part.offset()) => {
                part.continue_from(&self.order.url, answer.source);
                (part, None)
            }
            _ if !answer.is_whole() => return Ok(Turn::Misfit),
            _ => {
                start_over(part, changes).await?;
                match read_head(&mut chunks).await {
                    Ok(head) => (part.insert(self.begin(&head, answer).await?), Some(Ok(head))),
                    Err(cut) => return Ok(Turn::Cut(cut)),
                }
            }
        };
        self.receive(part, end, futures_util::stream::iter(head).chain(chunks)).await
    }

    /// Opens a part for the kind of file that its first bytes promise.
    async fn begin(&self, head: &[u8], answer: Answer) -> Result<Part, FetchFault> {
        let container = match Container::sniff(head) {
            Ok(container) => Some(container),
            Err(why) if self.settings.verify_container => return Err(FetchFault::NotVideo(why)),
            Err(_) => None,
        };
        Part::begin(self.archive, self.stem, container, head, answer.source, &self.order.url).await
    }

    /// Takes the bytes of one answer, which end at `end` of the file.
    async fn receive(
        &self,
        part: &mut Part,
        end: Option<u64>,
        mut chunks: impl Stream<Item = Result<Bytes, String>> + Unpin,
    ) -> Result<Turn, FetchFault> {
        let limit = self.settings.max_size;
        (self.progress)(part.offset(), part.source().total);
        while let Some(chunk) = chunks.next().await {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(cut) => return Ok(Turn::Cut(cut)),
            };
            let after = part.offset() + chunk.len() as u64;
            if after > limit {
                return Err(FetchFault::TooLarge { limit });
            }
            if end.is_some_and(|end| after > end) {
                return Ok(Turn::Misfit);
            }
            part.push(chunk).await?;
            (self.progress)(after, part.source().total);
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
        .fuse()
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

/// As many of the first bytes as it takes to recognise a file, or all of a small one. The error is a cut.
async fn read_head(
    chunks: &mut (impl Stream<Item = Result<Bytes, String>> + Unpin),
) -> Result<Bytes, String> {
    let mut head = BytesMut::new();
    while head.len() < SNIFF_LEN {
        match chunks.next().await {
            Some(chunk) => head.extend_from_slice(&chunk?),
            None => break,
        }
    }
    Ok(head.freeze())
}

/// Drops what is there. A staging file that cannot be removed is a fault of our storage.
async fn start_over(part: &mut Option<Part>, changes: &mut usize) -> Result<(), FetchFault> {
    let Some(part) = part.take() else { return Ok(()) };
    *changes += 1;
    if part.discard().await {
        Ok(())
    } else {
        Err(FetchFault::Storage("the archive failed: a staging file cannot be removed".to_owned()))
    }
}
