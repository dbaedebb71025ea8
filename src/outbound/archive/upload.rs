//! From the spool into the bucket: whole or not at all, and never over what is there.

use std::{path::Path as FsPath, time::Duration};

use bytes::Bytes;
use object_store::{
    Attribute, Attributes, GetOptions, MultipartUpload, ObjectStore as _, PutMode, PutMultipartOptions,
    PutOptions, path::Path,
};
use tokio::{fs::File, io::AsyncReadExt as _, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    ArchiveError,
    bucket::{Bucket, Fault, is_taken},
    parse,
};

/// A file up to this size goes in one request; a larger one in pieces of it, the least that S3 takes.
const PIECE: u64 = 5 << 20;

/// S3 takes no more pieces of one file.
const MAX_PIECES: u64 = 10_000;

/// Pieces of one file under way at a time; one more is being read.
const AT_ONCE: usize = 2;

/// Longest wait for an upload to be taken back.
const ABORTING: Duration = Duration::from_secs(5);

/// Where the hash of a file stands in the bucket. Azure takes no other characters in such a name.
const HASH: &str = "sha256";

/// A file that is whole and has been verified.
#[derive(Clone, Copy, Debug)]
pub(in crate::outbound) struct Whole<'a> {
    /// The key that it is to have.
    pub(in crate::outbound) location: &'a str,
    pub(in crate::outbound) bytes: u64,
    /// In lower-case hex.
    pub(in crate::outbound) sha256: &'a str,
    pub(in crate::outbound) content_type: &'static str,
}

impl Whole<'_> {
    pub(super) fn attributes(&self) -> Attributes {
        Attributes::from_iter([
            (Attribute::ContentType, self.content_type.to_owned()),
            (Attribute::Metadata(HASH.into()), self.sha256.to_owned()),
        ])
    }

    /// How one request stores it: only where nothing has its name.
    pub(super) fn created(&self) -> PutOptions {
        PutOptions { mode: PutMode::Create, attributes: self.attributes(), ..PutOptions::default() }
    }

    /// How it is stored in pieces.
    pub(super) fn in_pieces(&self) -> PutMultipartOptions {
        PutMultipartOptions { attributes: self.attributes(), ..PutMultipartOptions::default() }
    }

    /// The name that it has where other content has its own: nobody else's content has this one.
    fn second_name(&self) -> String {
        let (stem, extension) = self.location.rsplit_once('.').unwrap_or((self.location, "mp4"));
        format!("{stem}{}.{extension}", suffix(self.sha256))
    }
}

/// What the stem of a second name ends with.
pub(crate) fn suffix(sha256: &str) -> String {
    format!("-{}", &sha256[..16.min(sha256.len())])
}

impl Bucket {
    /// Has the file at `source` in the bucket; its location there. See [`super::Archive::publish`].
    pub(super) async fn upload(
        &self,
        source: &FsPath,
        file: &Whole<'_>,
        stop: &CancellationToken,
    ) -> Result<String, ArchiveError> {
        for name in [file.location.to_owned(), file.second_name()] {
            let location = parse(&name)?;
            if self.create(source, &location, file, stop).await? {
                return Ok(name);
            }
            tracing::warn!(
                location = name,
                "this name in the bucket is of other content, which is left as it is"
            );
        }
        Err(ArchiveError::Io(format!("the bucket has other files under both names of {}", file.location)))
    }

    /// Whether the file is in the bucket under this name now; if not, another is.
    async fn create(
        &self,
        source: &FsPath,
        location: &Path,
        file: &Whole<'_>,
        stop: &CancellationToken,
    ) -> Result<bool, ArchiveError> {
        let is_there = match self.has(location, file).await? {
            Some(is_same) => is_same,
            None if !self.reserve(location, file.sha256).await? => return Ok(false),
            None => match self.has(location, file).await? {
                Some(is_same) => is_same,
                None => self.send(source, location, file, stop).await?,
            },
        };
        self.release(location).await;
        Ok(is_there)
    }

    /// Sends it; whether the name is its own then, or other content's after all.
    async fn send(
        &self,
        source: &FsPath,
        location: &Path,
        file: &Whole<'_>,
        stop: &CancellationToken,
    ) -> Result<bool, ArchiveError> {
        let sent = if file.bytes <= PIECE {
            self.send_whole(source, location, file, stop).await
        } else {
            self.send_in_pieces(source, location, file, stop).await
        };
        match sent {
            Ok(()) => Ok(true),
            Err(Unsent::Taken) => match self.has(location, file).await? {
                Some(is_same) => Ok(is_same),
                None => Err(Fault::Away("another upload of the same file is under way".to_owned()).into()),
            },
            Err(Unsent::Refused(error)) => Err(self.troubled(&error)),
            Err(Unsent::Failed(error)) => Err(error),
        }
    }

    /// Whether what has this name is this file; `None` where nothing has it.
    pub(super) async fn has(&self, location: &Path, file: &Whole<'_>) -> Result<Option<bool>, ArchiveError> {
        let options = GetOptions { head: true, ..GetOptions::default() };
        match self.store.get_opts(location, options).await {
            Ok(there) => {
                let hash = there.attributes.get(&Attribute::Metadata(HASH.into()));
                Ok(Some(there.meta.size == file.bytes && hash.is_some_and(|hash| **hash == *file.sha256)))
            }
            // S3 says "denied" of what is not there, to whoever may not list; the upload will tell.
            Err(object_store::Error::NotFound { .. } | object_store::Error::PermissionDenied { .. }) => {
                Ok(None)
            }
            Err(error) => Err(self.troubled(&error)),
        }
    }

    async fn send_whole(
        &self,
        source: &FsPath,
        location: &Path,
        file: &Whole<'_>,
        stop: &CancellationToken,
    ) -> Result<(), Unsent> {
        let mut spooled = Spooled::open(source, file.bytes).await?;
        let body = spooled.piece(PIECE).await?.unwrap_or_default();
        let put = self.store.put_opts(location, body.into(), file.created());
        let sent = stop.run_until_cancelled(put).await;
        sent.ok_or(ArchiveError::Stopped)??;
        Ok(())
    }

    /// The bucket has nothing until all pieces are there; where it comes to nothing, what was sent is taken back.
    async fn send_in_pieces(
        &self,
        source: &FsPath,
        location: &Path,
        file: &Whole<'_>,
        stop: &CancellationToken,
    ) -> Result<(), Unsent> {
        let spooled = Spooled::open(source, file.bytes).await?;
        let size = PIECE.max(file.bytes.div_ceil(MAX_PIECES));
        let mut upload = self.store.put_multipart_opts(location, file.in_pieces()).await?;
        let sent = match stop.run_until_cancelled(send_pieces(&mut *upload, spooled, size)).await {
            Some(sent) => sent,
            None => Err(ArchiveError::Stopped.into()),
        };
        if sent.is_err() {
            match tokio::time::timeout(ABORTING, upload.abort()).await {
                Ok(Ok(())) => {}
                // A rule of the bucket removes it in the end.
                left => tracing::warn!(%location, ?left, "what was sent of a file could not be taken back"),
            }
        }
        sent
    }
}

async fn send_pieces(
    upload: &mut dyn MultipartUpload,
    mut spooled: Spooled,
    size: u64,
) -> Result<(), Unsent> {
    let mut under_way = JoinSet::new();
    while let Some(piece) = spooled.piece(size).await? {
        if under_way.len() >= AT_ONCE {
            settled(&mut under_way).await?;
        }
        under_way.spawn(upload.put_part(piece.into()));
    }
    while !under_way.is_empty() {
        settled(&mut under_way).await?;
    }
    upload.complete().await?;
    Ok(())
}

async fn settled(under_way: &mut JoinSet<object_store::Result<()>>) -> Result<(), Unsent> {
    match under_way.join_next().await {
        Some(Err(panicked)) => Err(ArchiveError::Io(panicked.to_string()).into()),
        Some(Ok(sent)) => Ok(sent?),
        None => Ok(()),
    }
}

/// A file of the spool, read piece by piece.
struct Spooled {
    file: File,
    left: u64,
}

impl Spooled {
    async fn open(source: &FsPath, bytes: u64) -> Result<Self, ArchiveError> {
        Ok(Self { file: File::open(source).await?, left: bytes })
    }

    /// The next bytes, as many as `size` unless fewer are left.
    async fn piece(&mut self, size: u64) -> Result<Option<Bytes>, ArchiveError> {
        let size = size.min(self.left);
        if size == 0 {
            return Ok(None);
        }
        let mut piece = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
        self.file.read_exact(&mut piece).await?;
        self.left -= size;
        Ok(Some(piece.into()))
    }
}

/// Why a file is not in the bucket.
enum Unsent {
    /// Its name is.
    Taken,
    /// The bucket would not.
    Refused(object_store::Error),
    Failed(ArchiveError),
}

impl From<object_store::Error> for Unsent {
    fn from(error: object_store::Error) -> Self {
        if is_taken(&error) { Self::Taken } else { Self::Refused(error) }
    }
}

impl From<ArchiveError> for Unsent {
    fn from(error: ArchiveError) -> Self {
        Self::Failed(error)
    }
}
