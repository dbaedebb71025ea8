//! A file on its way into the archive: written, hashed and walked over as it streams, under no name yet.

use std::{mem, sync::Arc};

use bytes::Bytes;
use object_store::{MultipartUpload, PutPayload};
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    FetchFault,
    container::{BoxWalk, Container, End, Facts, matroska_length},
    resume::Source,
};
use crate::{
    chaos::{self, Point},
    outbound::archive::{Archive, ArchiveError, Whole},
};

/// Bytes that are written in one go. Two such pieces are in memory at a time: one fills up from the network while the
/// other is written. A whole number of pages, so that no page is written to twice.
const PIECE: usize = 1 << 20;

/// An unfinished file. Its staging file goes away with it, unless [`Part::finish`] succeeds; a file that is whole and
/// waits in the spool of a bucket is to be removed by [`Part::discard`] in any case.
#[derive(Debug)]
pub(super) struct Part {
    archive: Arc<Archive>,
    /// The key that the file will have.
    location: String,
    container: Option<Container>,
    upload: Box<dyn MultipartUpload>,
    /// The piece that is being written.
    writing: Option<JoinHandle<object_store::Result<()>>>,
    hasher: Sha256,
    buffer: Vec<Bytes>,
    buffered: usize,
    offset: u64,
    walk: Option<BoxWalk>,
    /// How long the file says itself that it is, at least.
    least: u64,
    source: Source,
    url: String,
    /// What it is, once it has its name.
    whole: Option<Finished>,
}

/// A file that has its name.
#[derive(Clone, Debug)]
pub(super) struct Finished {
    pub(super) location: String,
    pub(super) bytes: u64,
    pub(super) sha256: String,
    pub(super) content_type: &'static str,
    pub(super) facts: Facts,
    pub(super) etag: Option<String>,
}

/// Whether a part holds the whole file.
#[derive(Debug)]
pub(super) enum Completeness {
    Whole,
    /// The connection closed too early, and only the file's own structure tells.
    Cut(String),
}

impl Part {
    /// Begins a file of a known kind (`None` where the content is not to be judged) that begins with `head`, which has
    /// yet to be pushed. `stem` is its key without the extension.
    pub(super) async fn begin(
        archive: &Arc<Archive>,
        stem: &str,
        container: Option<Container>,
        head: &[u8],
        source: Source,
        url: &str,
    ) -> Result<Self, FetchFault> {
        // A tenth more, for whatever else grows on the volume meanwhile.
        archive.ensure_room(source.total.map_or(0, |total| total + total / 10))?;
        let location = format!("{stem}.{}", container.map_or("mp4", Container::extension));
        Ok(Self {
            upload: archive.writer(&location).await?,
            archive: Arc::clone(archive),
            location,
            container,
            writing: None,
            hasher: Sha256::new(),
            buffer: Vec::new(),
            buffered: 0,
            offset: 0,
            walk: container.is_some_and(Container::has_boxes).then(BoxWalk::default),
            least: container.and_then(|_| matroska_length(head)).unwrap_or(0),
            source,
            url: url.to_owned(),
            whole: None,
        })
    }

    /// How many bytes it has.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The version of the file that it holds.
    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    /// What to send in `If-Range` to get the rest of it from `url`; `None` where only starting over is safe.
    pub(super) fn validator(&self, url: &str) -> Option<&str> {
        self.source.validator(url != self.url).filter(|_| self.offset > 0)
    }

    /// The link and the length that its next bytes come with.
    pub(super) fn continue_from(&mut self, url: &str, source: Source) {
        url.clone_into(&mut self.url);
        self.source.total = source.total.or(self.source.total);
        self.source.framed = source.framed;
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`FetchFault::NotVideo`] by content, [`FetchFault::NoSpace`] or [`FetchFault::Storage`].
    pub(super) async fn push(&mut self, mut bytes: Bytes) -> Result<(), FetchFault> {
        if let Some(walk) = &mut self.walk {
            walk.feed(&bytes).map_err(FetchFault::NotVideo)?;
        }
        // Here rather than on a thread of its own: a chunk of the HTTP client (at most 408 KiB) is a fraction of a
        // millisecond's work while it is still in the core's cache, and moving it would cost more.
        self.hasher.update(&bytes);
        self.offset += bytes.len() as u64;
        while self.buffered + bytes.len() >= PIECE {
            self.hold(bytes.split_to(PIECE - self.buffered));
            self.flush().await?;
        }
        self.hold(bytes);
        Ok(())
    }

    fn hold(&mut self, bytes: Bytes) {
        self.buffered += bytes.len();
        self.buffer.push(bytes);
    }

    /// Hands the buffered bytes to the disk, which writes them while the next ones arrive.
    async fn flush(&mut self) -> Result<(), ArchiveError> {
        self.settle().await?;
        if self.buffered == 0 {
            return Ok(());
        }
        self.archive.ensure_room(self.buffered as u64)?;
        self.buffered = 0;
        let piece: PutPayload = mem::take(&mut self.buffer).into_iter().collect();
        self.writing = Some(tokio::spawn(self.upload.put_part(piece)));
        Ok(())
    }

    /// Waits for the piece that is being written.
    async fn settle(&mut self) -> Result<(), ArchiveError> {
        if let Some(writing) = &mut self.writing {
            let done = writing.await;
            self.writing = None;
            done.map_err(|panicked| ArchiveError::Io(panicked.to_string()))??;
        }
        Ok(())
    }

    /// Frees the memory that it holds, to be kept for a while.
    pub(super) async fn rest(&mut self) -> Result<(), ArchiveError> {
        self.flush().await?;
        self.settle().await
    }

    /// Whether it is whole, now that a transfer has ended properly.
    ///
    /// # Errors
    /// [`FetchFault::NotVideo`]: all bytes are there, and they are no playable video.
    pub(super) fn completeness(&self) -> Result<Completeness, FetchFault> {
        match self.walk.as_ref().map(BoxWalk::finish) {
            None if self.offset < self.least => self.ended_early(format!("before byte {}", self.least)),
            None | Some(End::Whole(_)) => Ok(Completeness::Whole),
            Some(End::Open(_)) if self.source.framed => Ok(Completeness::Whole),
            Some(End::Open(_)) => Ok(Completeness::Cut("nothing tells where the file ends".to_owned())),
            Some(End::Cut(place)) => self.ended_early(place),
            Some(End::Broken(why)) => Err(FetchFault::NotVideo(why)),
        }
    }

    /// Where the transfer told its own end and reached it, the file was cut before it was ever offered.
    fn ended_early(&self, place: String) -> Result<Completeness, FetchFault> {
        if self.source.framed {
            Err(FetchFault::NotVideo(format!("it is incomplete at its host, it ends {place}")))
        } else {
            Ok(Completeness::Cut(format!("the file ended {place}")))
        }
    }

    /// Whether it is whole and waits for its upload: no byte of it is missing.
    pub(super) fn is_spooled(&self) -> bool {
        self.whole.is_some() && self.archive.has_spool()
    }

    /// Gives the file its name, and has it in the archive, durably. Where that is a bucket which is away, the file stays in
    /// the spool, and this may be called again.
    ///
    /// # Errors
    /// The archive's; whether the name is taken is then unknown, and writing the file again is right in any case.
    pub(super) async fn finish(&mut self, stop: &CancellationToken) -> Result<Finished, ArchiveError> {
        let whole = match self.whole.take() {
            Some(whole) => whole,
            None => self.name().await?,
        };
        self.whole = Some(whole.clone());
        let Finished { location, bytes, sha256, content_type, .. } = &whole;
        let file = Whole { location, bytes: *bytes, sha256, content_type };
        let location = self.archive.publish(&file, stop).await?;
        Ok(Finished { location, ..whole })
    }

    async fn name(&mut self) -> Result<Finished, ArchiveError> {
        self.rest().await?;
        chaos::pass(Point::Naming);
        self.upload.complete().await?;
        chaos::pass(Point::Named);
        let facts = match self.walk.as_ref().map(BoxWalk::finish) {
            Some(End::Whole(facts) | End::Open(facts)) => facts,
            _ => Facts::default(),
        };
        Ok(Finished {
            location: self.location.clone(),
            bytes: self.offset,
            sha256: hex::encode(mem::take(&mut self.hasher).finalize()),
            // What was not judged is served as bytes: it might be a page with a script.
            content_type: self.container.map_or("application/octet-stream", Container::content_type),
            facts,
            etag: self.source.etag.clone(),
        })
    }

    /// Removes its file that is staged or spooled. False if there may be one left.
    pub(super) async fn discard(mut self) -> bool {
        if self.is_spooled() {
            return self.archive.remove_spooled(&self.location).await.is_ok();
        }
        self.upload.abort().await.is_ok()
    }
}
