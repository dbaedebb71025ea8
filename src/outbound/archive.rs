//! The archive: where finished videos are kept, durably, a folder or a bucket.
//!
//! What is on its way is written to a folder in either case. In a `file:` archive that is the archive itself, and a file is
//! stored once it has its name. A bucket has a spool: a file is whole and verified there before its upload begins, so no
//! other than whole and verified files ever reach the bucket, and a bucket that is away costs no second download.

mod bucket;
#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
mod cloud;
#[cfg(not(any(feature = "s3", feature = "gcs", feature = "azure")))]
#[path = "archive/no_cloud.rs"]
mod cloud;
mod error;
mod folders;
mod local;
mod lock;
mod probe;
mod reserved;
mod upload;
mod writeback;

use std::{ops::Range, sync::Arc, time::Duration};

use jiff::{Timestamp, tz::TimeZone};
use object_store::{
    GetOptions, GetResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, path::Path,
};
use tokio_util::sync::CancellationToken;
use url::Url;

pub(crate) use self::upload::suffix;
use self::{bucket::Bucket, local::Local};
pub use self::{
    bucket::{Fault, State},
    error::ArchiveError,
    probe::{Unfit, probe_bucket},
};
pub(super) use self::{lock::Lock, upload::Whole};
use super::manifest::Manifest;
use crate::{
    config::{self, Storage},
    disk::{self, Role, Trouble},
};

/// What is ours in the archive's folder, and no video.
const HIDDEN: &str = ".reelhook";

/// A folder or a bucket of videos.
#[derive(Debug)]
pub struct Archive {
    /// What the archive holds.
    store: Arc<dyn ObjectStore>,
    /// Where files are written: the archive itself, or the spool of the bucket.
    local: Local,
    bucket: Option<Bucket>,
    key_template: String,
}

impl Archive {
    /// Opens the archive: makes its folder where needed, and removes what a killed process left half-written. What
    /// another living process is writing stays. A bucket is not asked: a server starts without it, too.
    ///
    /// # Errors
    /// The folder cannot be made, read or synced; or nothing can be made of what is known of the bucket.
    pub async fn open(settings: &Storage) -> Result<Self, ArchiveError> {
        let bucket = settings.bucket.as_ref().map(Bucket::new).transpose()?;
        let local = Local::open(settings.root.clone(), settings.min_free, role(settings)).await?;
        Ok(Self::of(local, bucket, settings))
    }

    /// Opens an archive that was opened before, and makes or removes nothing. `None` where its folder, or the spool of
    /// its bucket, has no mark: no server was ever started on it, or its volume is not mounted.
    ///
    /// # Errors
    /// The folder cannot be read; or nothing can be made of what is known of the bucket.
    pub async fn existing(settings: &Storage) -> Result<Option<Self>, ArchiveError> {
        let bucket = settings.bucket.as_ref().map(Bucket::new).transpose()?;
        let local = Local::existing(settings.root.clone(), settings.min_free, role(settings)).await?;
        Ok(local.map(|local| Self::of(local, bucket, settings)))
    }

    fn of(local: Local, bucket: Option<Bucket>, settings: &Storage) -> Self {
        let store = match &bucket {
            Some(bucket) => bucket.store(),
            None => Arc::new(local.store.clone()),
        };
        Self { store, local, bucket, key_template: settings.key_template.clone() }
    }

    /// The key of a job: the template of `[storage] key_template` filled in. Files are named after it, with an
    /// extension. `created_at` is the job's, so that the key never changes; the date is UTC.
    pub fn key(&self, job_id: &str, created_at: Timestamp) -> String {
        let date = created_at.to_zoned(TimeZone::UTC).date().to_string();
        self.key_template.replace("{date}", &date).replace("{job_id}", job_id)
    }

    /// Begins a file. It takes its name only in `complete`, durably, and replaces what had that name. Where the archive
    /// is a bucket, that is a name in the spool, and [`Archive::publish`] is to follow.
    ///
    /// # Errors
    /// The folder or the staging file cannot be made.
    pub async fn writer(&self, location: &str) -> Result<Box<dyn MultipartUpload>, ArchiveError> {
        self.local.writer(location).await
    }

    /// Has a file that was written under its name in the archive, durably, and returns its location there.
    ///
    /// In a bucket nothing is ever overwritten: where this very content is there already, be it from another instance, it
    /// counts as stored; where other content has the name, the file gets one of its own, made from its hash.
    ///
    /// # Errors
    /// [`ArchiveError::Disk`], [`ArchiveError::Bucket`], [`ArchiveError::Stopped`] by `stop`, or [`ArchiveError::Io`].
    pub(super) async fn publish(
        &self,
        file: &Whole<'_>,
        stop: &CancellationToken,
    ) -> Result<String, ArchiveError> {
        self.local.ensure_usable()?;
        match &self.bucket {
            None => Ok(file.location.to_owned()),
            Some(bucket) => bucket.upload(&self.local.path(file.location)?, file, stop).await,
        }
    }

    /// Whether files that were written wait in a spool until they are published.
    pub(super) fn has_spool(&self) -> bool {
        self.bucket.is_some()
    }

    /// Removes a file from the spool.
    pub(super) async fn remove_spooled(&self, location: &str) -> Result<(), ArchiveError> {
        self.local.remove(location).await
    }

    /// Opens a file for reading, whole or a range of bytes (end exclusive, cut at the end of the file).
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`], [`ArchiveError::Range`], [`ArchiveError::Disk`] where the volume is gone,
    /// [`ArchiveError::Bucket`] or [`ArchiveError::Io`].
    pub async fn read(&self, location: &str, range: Option<Range<u64>>) -> Result<GetResult, ArchiveError> {
        let start = range.as_ref().map_or(0, |range| range.start);
        let options = GetOptions { range: range.map(Into::into), ..GetOptions::default() };
        match self.store.get_opts(&parse(location)?, options).await {
            Ok(found) => Ok(found),
            // The crate's own error for this cannot be matched on.
            Err(_) if start > 0 && start >= self.head(location).await?.size => {
                Err(ArchiveError::Range(format!("byte {start} is behind the end")))
            }
            Err(error) => Err(self.fault(error)),
        }
    }

    /// Size and time of a file.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`], [`ArchiveError::Disk`] where the volume is gone, [`ArchiveError::Bucket`] or
    /// [`ArchiveError::Io`].
    pub async fn head(&self, location: &str) -> Result<ObjectMeta, ArchiveError> {
        self.store.head(&parse(location)?).await.map_err(|error| self.fault(error))
    }

    /// A file that is not found where the volume is gone may well be in the archive.
    fn fault(&self, error: object_store::Error) -> ArchiveError {
        if let Some(bucket) = &self.bucket {
            return bucket.reading(error);
        }
        match self.local.ensure_usable() {
            Err(ArchiveError::Disk(gone @ Trouble::Gone(_))) => gone.into(),
            _ => error.into(),
        }
    }

    /// Where a file may be fetched from without this server, for `ttl`, a week at most; `None` unless
    /// `[storage] serve` is `redirect`.
    ///
    /// # Errors
    /// [`ArchiveError::Bucket`]: the credentials cannot sign.
    pub async fn signed_url(&self, location: &str, ttl: Duration) -> Result<Option<Url>, ArchiveError> {
        match &self.bucket {
            Some(bucket) if bucket.redirects() => bucket.signed_url(location, ttl).await.map(Some),
            _ => Ok(None),
        }
    }

    /// Removes a file that no record names, or whose time is over.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`], [`ArchiveError::Disk`] where the volume is gone, [`ArchiveError::Bucket`] or [`ArchiveError::Io`].
    pub async fn remove(&self, location: &str) -> Result<(), ArchiveError> {
        self.store.delete(&parse(location)?).await.map_err(|error| self.fault(error))
    }

    /// The names in a bucket that are reserved for files on their way, and for those that never came; none in a folder.
    ///
    /// # Errors
    /// [`ArchiveError::Bucket`]: its files cannot be listed, which nothing else needs.
    pub async fn reserved(&self) -> Result<Vec<String>, ArchiveError> {
        let Some(bucket) = &self.bucket else { return Ok(Vec::new()) };
        Ok(bucket.reserved().await?.into_iter().map(String::from).collect())
    }

    /// Ends the reservation of a name under which nobody stores anything any more.
    ///
    /// # Errors
    /// [`ArchiveError::Io`]: it is no name. That the reservation could not be removed is none: it is found again.
    pub async fn release(&self, location: &str) -> Result<(), ArchiveError> {
        let location = parse(location)?;
        if let Some(bucket) = &self.bucket {
            bucket.release(&location).await;
        }
        Ok(())
    }

    /// Writes the manifest of a job as `<key>.json`, durably, and returns its location. Call it last: a manifest says
    /// that every file which it lists is complete. Writing it again replaces it.
    ///
    /// # Errors
    /// [`ArchiveError::NoSpace`], [`ArchiveError::Disk`], [`ArchiveError::Bucket`] or [`ArchiveError::Io`].
    pub async fn put_manifest(&self, key: &str, manifest: &Manifest) -> Result<String, ArchiveError> {
        let body = serde_json::to_vec_pretty(manifest).map_err(|e| ArchiveError::Io(e.to_string()))?;
        let location = format!("{key}.json");
        match &self.bucket {
            None => self.local.put(&location, body).await?,
            Some(bucket) => bucket.put(&location, body).await?,
        }
        Ok(location)
    }

    /// How the disk does that files are written to: the archive's own, or that of the spool.
    pub fn disk(&self) -> disk::Report {
        self.local.disk.report()
    }

    /// How the bucket did when it was last looked at; `None` where the archive is a folder.
    pub fn bucket(&self) -> Option<State> {
        self.bucket.as_ref().map(Bucket::state)
    }

    /// Asks whether the archive takes files. A bucket is asked again only after a while; a change is logged.
    ///
    /// # Errors
    /// [`ArchiveError::Disk`] or [`ArchiveError::Bucket`].
    pub async fn ensure_ready(&self) -> Result<(), ArchiveError> {
        self.ensure_room(0)?;
        match &self.bucket {
            Some(bucket) => bucket.ensure_answers().await,
            None => Ok(()),
        }
    }

    /// Asks whether `bytes` more leave `[storage] min_free` untouched.
    ///
    /// # Errors
    /// [`ArchiveError::Disk`] if not.
    pub fn ensure_room(&self, bytes: u64) -> Result<(), ArchiveError> {
        Ok(self.local.disk.ensure_room(bytes)?)
    }

    /// Claims the right to write files whose names begin with `stem` and a dot; `None` while another holds it, be it
    /// in another process that shares the folder. Left-overs of a holder that was killed are removed. A bucket has no
    /// locks: there a job's lease keeps others away, and nothing is overwritten.
    pub(super) async fn lock(&self, stem: &str) -> Result<Option<Lock>, ArchiveError> {
        self.local.lock(stem).await
    }
}

/// The store of objects below a bucket's prefix, for what is no video. Connects to nobody.
///
/// # Errors
/// [`ArchiveError::Bucket`]: what is configured does not suffice.
pub fn open_bucket(settings: &config::Bucket) -> Result<Arc<dyn ObjectStore>, ArchiveError> {
    Ok(Bucket::new(settings)?.store())
}

/// What the folder of `[storage]` is for.
fn role(settings: &Storage) -> Role {
    if settings.bucket.is_some() { Role::Spool } else { Role::Archive }
}

fn parse(location: &str) -> Result<Path, ArchiveError> {
    Path::parse(location).map_err(|e| ArchiveError::Io(e.to_string()))
}
