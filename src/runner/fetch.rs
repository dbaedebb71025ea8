//! The copy: every output into the archive, then the manifest, then the job may be called succeeded.

use jiff::Timestamp;
use metrics::{counter, histogram};
use tokio_util::sync::CancellationToken;

use super::{
    Duties,
    duties::{job_span, millis},
};
use crate::{
    app::{AppError, Applied},
    chaos::{self, Point},
    lifecycle::{Event, FetchFault, Job, Millis, Phase, StoredFile},
    outbound::{
        download::{FetchFault as Fault, Order, Stored},
        manifest::{Manifest, ManifestCost, ManifestFile, manifest},
    },
    spans::{Attribute, Work},
    store::StoreError,
};

/// Waits for another fetcher of the same file, in milliseconds.
const BUSY: i64 = 15_000;

/// How the copy of a claimed job was left.
#[derive(Debug, Default)]
pub struct Left {
    /// The job has ended.
    pub ended: bool,
    /// A file that was stored while the job ended otherwise: no record names it.
    pub unnamed: Option<StoredFile>,
}

impl Duties {
    /// Has `get` fetch what is missing of a claimed job, then `seal` write the manifest, and records each. `key` is the
    /// job's in the archive. When the claim is lost, `stop` is canceled, and `get` has to come to an end.
    pub async fn fetch<G, S>(
        &self,
        job: Job,
        key: &str,
        stop: &CancellationToken,
        get: impl Fn(Order) -> G,
        seal: impl FnOnce(Manifest) -> S,
    ) -> Left
    where
        G: Future<Output = Result<Stored, Fault>>,
        S: Future<Output = Result<(), String>>,
    {
        let (id, Some(lease)) = (job.id, job.lease) else { return Left::default() };
        let mut copy = Box::pin(self.copy(job.clone(), lease, key, get, seal));
        let latest = match self.holding(id, lease, &mut copy).await {
            Some(after) => after,
            None => {
                // Not dropped: a file that is being named would get its name, and nobody would know.
                stop.cancel();
                let after = copy.await;
                match self.record(&job, &Event::Released(lease), None).await {
                    Some(released) => Some((released.into_job(), after.and_then(|(_, file)| file))),
                    None => after,
                }
            }
        };
        let Some((job, file)) = latest else { return Left::default() };
        let ended = job.outcome().is_some();
        let is_named = |file: &StoredFile| job.files().any(|named| named.location == file.location);
        Left { ended, unnamed: file.filter(|file| ended && !is_named(file)) }
    }

    /// Fetches what is missing; the record as it is after the last thing that was recorded of it, and the file that was
    /// stored then.
    async fn copy<G, S>(
        &self,
        job: Job,
        lease: u64,
        key: &str,
        get: impl Fn(Order) -> G,
        seal: impl FnOnce(Manifest) -> S,
    ) -> Option<(Job, Option<StoredFile>)>
    where
        G: Future<Output = Result<Stored, Fault>>,
        S: Future<Output = Result<(), String>>,
    {
        let Phase::Fetching { outputs, .. } = &job.phase else { return None };
        let id = job.id;
        let mut latest = job.clone();
        for (index, output) in outputs.iter().enumerate() {
            let (None, Some(link)) = (&output.file, &output.link) else { continue };
            let (job_id, url) = (id.to_string(), link.url.clone());
            let mut span = job_span(Work::Fetch, &job);
            span.count(Attribute::Attempt, job.attempts.fetch);
            chaos::pass(Point::FetchBegins);
            let begun = self.app.clock().elapsed();
            let fetched = get(Order { job_id, index, url, key: key.to_owned() }).await;
            let result = result(&fetched);
            counter!("reelhook_downloads_total", "result" => result).increment(1);
            span.end(result, fetched.is_err() && result != "stopped");
            if let Ok(stored) = &fetched {
                counter!("reelhook_downloaded_bytes_total").increment(stored.bytes);
                histogram!("reelhook_download_seconds")
                    .record(self.app.clock().elapsed().saturating_sub(begun));
            }
            let event = match fetched {
                Ok(stored) => {
                    chaos::pass(Point::FetchEnds);
                    Event::Fetched { index, file: file(stored), lease }
                }
                Err(Fault::Stopped) => Event::Released(lease),
                Err(fault) => {
                    tracing::warn!(job = %id, why = %fault, "an attempt to fetch the video failed");
                    Event::NotFetched { index, fault: in_our_terms(fault), lease }
                }
            };
            match self.record(&latest, &event, None).await? {
                Applied::Changed { job, .. } if matches!(event, Event::Fetched { .. }) => latest = *job,
                other => {
                    let file = if let Event::Fetched { file, .. } = event { Some(file) } else { None };
                    return Some((other.into_job(), file));
                }
            }
        }
        chaos::pass(Point::ManifestMissing);
        // The manifest, last: where it lies, every file is complete.
        let sealed = match self.manifest(&latest).await {
            Ok(manifest) => seal(manifest).await,
            // Our own store is away, which says nothing about the file: it is no attempt.
            Err(AppError::Store(StoreError::Unavailable(_))) => {
                return Some((self.record(&latest, &Event::Released(lease), None).await?.into_job(), None));
            }
            Err(error) => Err(error.to_string()),
        };
        let event = match sealed {
            Ok(()) => Event::Archived(lease),
            Err(why) => Event::NotFetched { index: 0, fault: FetchFault::Trouble(why, None), lease },
        };
        chaos::pass(Point::ManifestWritten);
        Some((self.record(&latest, &event, None).await?.into_job(), None))
    }

    async fn manifest(&self, job: &Job) -> Result<Manifest, AppError> {
        let document = self.app.document(job.id).await?;
        let files = job.files().map(manifest_file).collect();
        let cost = ManifestCost {
            estimated_credits: Some(job.cost.estimated_credits),
            reported_credits: job.cost.reported_credits,
        };
        let task = job.task.as_ref().map(|task| task.id.0.as_str());
        let (created, stored) = (timestamp(job.created_at), timestamp(self.app.now()));
        Ok(manifest(&job.id.to_string(), task, document.input, cost, files, created, stored))
    }
}

/// When a job was created, as the archive's keys have it.
pub(super) fn timestamp(at: Millis) -> Timestamp {
    Timestamp::from_millisecond(at.0).unwrap_or_default()
}

const fn result(fetched: &Result<Stored, Fault>) -> &'static str {
    match fetched {
        Ok(_) => "stored",
        Err(Fault::LinkRefused { .. }) => "refused",
        Err(Fault::Denied(_)) => "denied",
        Err(Fault::NotVideo(_)) => "not_video",
        Err(Fault::TooLarge { .. }) => "too_large",
        Err(Fault::Upstream { .. }) => "upstream",
        Err(Fault::Busy) => "busy",
        Err(Fault::Network(_)) => "network",
        Err(Fault::Storage(_)) => "storage",
        Err(Fault::NoSpace(_)) => "no_space",
        Err(Fault::Stopped) => "stopped",
    }
}

fn file(stored: Stored) -> StoredFile {
    let Stored { name, location, bytes, sha256, content_type, .. } = stored;
    StoredFile { name, location, bytes, sha256, content_type }
}

fn manifest_file(file: &StoredFile) -> ManifestFile {
    let StoredFile { name, location, bytes, sha256, content_type } = file.clone();
    ManifestFile { name, location, bytes, sha256, content_type }
}

fn in_our_terms(fault: Fault) -> FetchFault {
    let message = fault.to_string();
    match fault {
        Fault::LinkRefused { status } => FetchFault::LinkRefused(status),
        Fault::Denied(denied) if denied.is_transient() => FetchFault::Trouble(message, None),
        Fault::Denied(_) => FetchFault::Denied(message),
        Fault::NotVideo(what) => FetchFault::NotVideo(what),
        Fault::TooLarge { .. } => FetchFault::TooLarge(message),
        Fault::Upstream { retry_after, .. } => FetchFault::Trouble(message, retry_after.map(millis)),
        Fault::Busy => FetchFault::Trouble(message, Some(BUSY)),
        Fault::Network(_) | Fault::Storage(_) | Fault::NoSpace(_) | Fault::Stopped => {
            FetchFault::Trouble(message, None)
        }
    }
}
