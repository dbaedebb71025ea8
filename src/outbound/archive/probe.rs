//! Whether the archive does what it is for.

use bytes::Bytes;
use object_store::{ObjectStore as _, ObjectStoreExt as _, PutOptions, path::Path};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{
    Archive, ArchiveError, HIDDEN, Whole,
    bucket::{Bucket, Fault, is_taken},
    parse,
};
use crate::{
    config,
    refusal::{is_refusal, reason},
};

/// Why an archive is not fit to keep videos.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It takes no file.
    #[error("no file can be stored: {0}")]
    Storing(ArchiveError),
    /// Something else went wrong than what was asked: no answer says that anything is missing.
    #[error("a file was stored, but not all that videos need could be tried: {0}")]
    Untried(ArchiveError),
    /// The bucket takes files, but none on the condition that nothing has its name.
    #[error(
        "files can be stored, but not on the condition that nothing has their name, `If-None-Match` ({0}): that is how \
         videos are stored, so none can be"
    )]
    Conditions(String),
    /// The bucket does not heed that condition.
    #[error(
        "the bucket ignores `If-None-Match`: a second file took the place of the first. So a video that is said to be \
         stored can be overwritten, by another instance or by a download that is made again"
    )]
    Overwrites,
    /// The bucket does not say whose content it has.
    #[error(
        "the bucket does not give back the size and the metadata `sha256` of a file: one that is stored already is not \
         known again, so an upload that breaks off in the end fails its job"
    )]
    Forgets,
    /// The bucket takes no file that is too large for one request.
    #[error("small files can be stored, but no upload in pieces can be begun ({0}), so no video over 5 MiB")]
    Pieces(String),
    /// The bucket keeps what is left of an upload that broke off.
    #[error(
        "an upload in pieces cannot be taken back ({0}): what is left of one that breaks off costs money, and no list of \
         files shows it"
    )]
    Leavings(String),
    /// What was stored cannot be had.
    #[error("a file was stored, but cannot be read: {0}")]
    Reading(ArchiveError),
    /// Something else can be had.
    #[error("what was read is not what had been stored")]
    Differs,
    /// What was stored stays.
    #[error("a file was stored and read, but cannot be removed: {0}")]
    Removing(ArchiveError),
}

/// Does [`Archive::probe`] to a bucket whose spool is not there.
///
/// # Errors
/// [`Unfit`].
pub async fn probe_bucket(settings: &config::Bucket) -> Result<(), Unfit> {
    Bucket::new(settings).map_err(Unfit::Storing)?.probe().await
}

impl Archive {
    /// Stores a small file as a video is stored, reads it and removes it; has a bucket show that it does not overwrite,
    /// knows a file again, and takes uploads in pieces.
    ///
    /// # Errors
    /// The first step that failed. Where it is [`Unfit::Removing`] the file stays, hidden.
    pub async fn probe(&self) -> Result<(), Unfit> {
        if let Some(bucket) = &self.bucket {
            return bucket.probe().await;
        }
        let content = Uuid::now_v7().to_string();
        let location = location(&content);
        self.write(&location, content.clone().into()).await.map_err(Unfit::Storing)?;
        let found = self.content(&location).await.map_err(Unfit::Reading);
        self.remove(&location).await.map_err(Unfit::Removing)?;
        same(&found?, content.as_bytes())
    }

    async fn write(&self, location: &str, content: Bytes) -> Result<(), ArchiveError> {
        let mut upload = self.writer(location).await?;
        upload.put_part(content.into()).await?;
        upload.complete().await?;
        Ok(())
    }

    async fn content(&self, location: &str) -> Result<Bytes, ArchiveError> {
        Ok(self.read(location, None).await?.bytes().await?)
    }
}

impl Bucket {
    async fn probe(&self) -> Result<(), Unfit> {
        let content = Uuid::now_v7().to_string();
        let (name, sha256) = (location(&content), hex::encode(Sha256::digest(&content)));
        let file = Whole {
            location: &name,
            bytes: content.len() as u64,
            sha256: &sha256,
            content_type: "application/octet-stream",
        };
        let location = parse(&name).map_err(Unfit::Storing)?;
        let kept = match self.probe_creation(&location, &file, &content).await {
            Ok(()) => self.probe_kept(&location, &file, &content).await,
            unfit => unfit,
        };
        // Also where storing failed: what was stored is not always said to be.
        let removed = self.store.delete(&location).await;
        kept.and(removed.map_err(|error| Unfit::Removing(Fault::writing(&error).into())))
    }

    /// A file is created, and no other in its place.
    async fn probe_creation(&self, location: &Path, file: &Whole<'_>, content: &str) -> Result<(), Unfit> {
        let put = |content: String, options| self.store.put_opts(location, content.into(), options);
        match put(content.to_owned(), file.created()).await {
            Ok(_) => {}
            // By a try whose answer was lost: nobody else knows the name.
            Err(error) if is_taken(&error) => {}
            Err(error) => {
                let overwriting = PutOptions::from(file.attributes());
                let takes_it_so = is_refusal(&error) && put(content.to_owned(), overwriting).await.is_ok();
                return Err(match takes_it_so {
                    true => Unfit::Conditions(reason(&error)),
                    false => Unfit::Storing(Fault::writing(&error).into()),
                });
            }
        }
        match put(format!("not {content}"), file.created()).await {
            Err(error) if is_taken(&error) => Ok(()),
            Err(error) => Err(lacking(&error, Unfit::Conditions)),
            Ok(_) => Err(Unfit::Overwrites),
        }
    }

    /// What is there is known again, can be read, and larger files can be there as well.
    async fn probe_kept(&self, location: &Path, file: &Whole<'_>, content: &str) -> Result<(), Unfit> {
        match self.has(location, file).await.map_err(Unfit::Reading)? {
            Some(true) => {}
            Some(false) => return Err(Unfit::Forgets),
            None => return Err(Unfit::Reading(ArchiveError::NotFound(location.to_string()))),
        }
        let reading = |error| Unfit::Reading(self.reading(error));
        let found = self.store.get(location).await.map_err(reading)?.bytes().await.map_err(reading)?;
        same(&found, content.as_bytes())?;
        let begun = self.store.put_multipart_opts(location, file.in_pieces()).await;
        let mut upload = begun.map_err(|error| lacking(&error, Unfit::Pieces))?;
        match upload.abort().await {
            // By a try whose answer was lost.
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(lacking(&error, Unfit::Leavings)),
        }
    }
}

/// What the bucket lacks, if that is what it says; a fault says nothing of the kind.
fn lacking(error: &object_store::Error, lacks: fn(String) -> Unfit) -> Unfit {
    if is_refusal(error) { lacks(reason(error)) } else { Unfit::Untried(Fault::writing(error).into()) }
}

fn location(content: &str) -> String {
    format!("{HIDDEN}/probe-{content}")
}

fn same(found: &[u8], stored: &[u8]) -> Result<(), Unfit> {
    if found == stored { Ok(()) } else { Err(Unfit::Differs) }
}
