//! The copy: every output into the archive, then the manifest, then the job may be called succeeded.

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::Runner;
use crate::{
    app::{Applied, Progress},
    lifecycle::{Event, FetchFault, Job, Millis, Phase, StoredFile},
    outbound::{
        download::{FetchFault as Fault, Order, Stored},
        manifest::{ManifestCost, ManifestFile, manifest},
    },
};

/// Waits for another fetcher of the same file, in milliseconds.
const BUSY: i64 = 15_000;

impl Runner {
    pub(super) async fn fetch(&self, job: Job) {
        let (id, Some(lease)) = (job.id, job.lease) else { return };
        let stop = self.abort.child_token();
        let copy = Box::pin(self.copy(job, lease, &stop));
        let done = self.holding(id, lease, copy).await;
        stop.cancel();
        self.app.set_progress(id, None);
        let settled = match done {
            Some(after) => after.is_some_and(|job| matches!(job.phase, Phase::Settled { .. })),
            None => match self.record(id, &Event::Released(lease), None).await {
                Some(Applied::Nothing(job)) => matches!(job.phase, Phase::Settled { .. }),
                _ => false,
            },
        };
        if settled {
            self.downloader.forget(&id.to_string()).await;
        }
    }

    /// Fetches what is missing; the record as it is after the last thing that was recorded of it.
    async fn copy(&self, job: Job, lease: u64, stop: &CancellationToken) -> Option<Job> {
        let Phase::Fetching { outputs, .. } = &job.phase else { return None };
        let id = job.id;
        let key = self.archive.key(&id.to_string(), timestamp(job.created_at));
        let mut latest = job.clone();
        for (index, output) in outputs.iter().enumerate() {
            let (None, Some(link)) = (&output.file, &output.link) else { continue };
            let order = Order { job_id: id.to_string(), index, url: link.url.clone(), key: key.clone() };
            let progress = |done, total| self.app.set_progress(id, Some(Progress { done, total }));
            let event = match self.downloader.fetch(&order, &progress, stop).await {
                Ok(stored) => Event::Fetched { index, file: file(stored), lease },
                Err(Fault::Stopped) => Event::Released(lease),
                Err(fault) => {
                    tracing::warn!(job = %id, why = %fault, "an attempt to fetch the video failed");
                    Event::NotFetched { index, fault: in_our_terms(fault), lease }
                }
            };
            match self.record(id, &event, None).await? {
                Applied::Changed { job, .. } if matches!(event, Event::Fetched { .. }) => latest = *job,
                other => return Some(other.into_job()),
            }
        }
        self.finish(latest, &key, lease).await
    }

    /// The manifest, last: where it lies, every file is complete.
    async fn finish(&self, job: Job, key: &str, lease: u64) -> Option<Job> {
        let id = job.id;
        let event = match self.write_manifest(&job, key).await {
            Ok(()) => Event::Archived(lease),
            Err(why) => Event::NotFetched { index: 0, fault: FetchFault::Trouble(why, None), lease },
        };
        Some(self.record(id, &event, None).await?.into_job())
    }

    async fn write_manifest(&self, job: &Job, key: &str) -> Result<(), String> {
        let document = self.app.document(job.id).await.map_err(|error| error.to_string())?;
        let files = job.files().map(manifest_file).collect();
        let cost = ManifestCost {
            estimated_credits: Some(job.cost.estimated_credits),
            reported_credits: job.cost.reported_credits,
        };
        let task = job.task.as_ref().map(|task| task.id.0.as_str());
        let (created, stored) = (timestamp(job.created_at), timestamp(self.app.now()));
        let text = manifest(&job.id.to_string(), task, document.input, cost, files, created, stored);
        self.archive.put_manifest(key, &text).await.map(|_| ()).map_err(|error| error.to_string())
    }
}

fn timestamp(at: Millis) -> Timestamp {
    Timestamp::from_millisecond(at.0).unwrap_or_default()
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
        Fault::Upstream { retry_after, .. } => FetchFault::Trouble(message, retry_after.map(super::millis)),
        Fault::Busy => FetchFault::Trouble(message, Some(BUSY)),
        Fault::Network(_) | Fault::Storage(_) | Fault::NoSpace(_) | Fault::Stopped => {
            FetchFault::Trouble(message, None)
        }
    }
}
