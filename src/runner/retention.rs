//! Forgets what is past its time, in small steps that may be repeated: any number of instances may do it at once, and what
//! a crash leaves half done is done by the next round.
//!
//! Of a job the files go first, the manifest last of them, and then the record, which so never outlives what names it.

mod work;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::Serialize;
use tracing::{error, info, warn};

use self::work::Work;
use super::Runner;
use crate::{
    app::{App, AppError},
    config,
    lifecycle::{Job, JobId, Millis, Retention, StoredFile, cutoff},
    outbound::archive::{self, Archive, ArchiveError},
    store::{Litter, StoreError},
};

/// Between two rounds, and before the first: whoever starts with a wrong limit has time to notice.
const EVERY: Duration = Duration::from_hours(1);
/// After a jump of the clock nobody knows what is past its time.
const REST: Duration = Duration::from_hours(1);
/// A step of the clock up to this long is drift. Milliseconds.
const STEP: i64 = 60_000;

/// Bytes of a job's id as text.
const ID: usize = JobId::PREFIX.len() + 32;

/// Does the forgetting.
pub struct Retainer {
    app: Arc<App>,
    archive: Arc<Archive>,
    rules: Retention,
    steady: Mutex<Steady>,
    /// Bodies of callbacks up to this place are gone.
    bare_to: Mutex<u128>,
}

/// What is known of the clock.
struct Steady {
    /// Wall time minus the time that passed, in milliseconds.
    offset: i64,
    rests_until: Duration,
}

/// Why a round ended early. What it did stays done.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// The core's.
    #[error(transparent)]
    App(#[from] AppError),
    /// The store's.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The archive's.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// Nobody knows what is past its time.
    #[error(
        "the clock jumped less than an hour ago, so nothing is removed; look at the clock, and ask again later"
    )]
    ClockJumped,
}

/// What is kept for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Files of jobs, manifests aside.
    Videos,
    /// Jobs that have ended.
    Jobs,
    /// Entries of the event log.
    Events,
    /// Entries of the inbound log.
    Callbacks,
    /// Bodies of those.
    Bodies,
    /// Deliveries that are over.
    Deliveries,
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::Videos, Self::Jobs, Self::Events, Self::Callbacks, Self::Bodies, Self::Deliveries];

    const fn name(self) -> &'static str {
        match self {
            Self::Videos => "videos",
            Self::Jobs => "jobs",
            Self::Events => "events",
            Self::Callbacks => "callbacks",
            Self::Bodies => "bodies",
            Self::Deliveries => "deliveries",
        }
    }
}

/// What of a kind is past its time, or was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Of what.
    pub kind: Kind,
    /// What ended before this is past its time; none: it is kept for ever.
    pub before: Option<Millis>,
    /// How many.
    pub count: u64,
    /// What they take, roundly.
    pub bytes: u64,
    /// When the oldest ended, or was written.
    pub oldest: Option<Millis>,
}

/// What a round found or did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// One of each kind.
    pub removals: Vec<Removal>,
    /// Its time was over before its work was.
    pub more: bool,
}

impl Round {
    /// What it says of a kind.
    #[must_use]
    pub fn of(&self, kind: Kind) -> Option<&Removal> {
        self.removals.iter().find(|removal| removal.kind == kind)
    }
}

impl Retainer {
    /// By the configuration of `app`.
    #[must_use]
    pub fn new(app: Arc<App>, archive: Arc<Archive>) -> Self {
        let rules = rules(&app.config().retention, app.config().callback.keep_bodies);
        let steady = Steady { offset: offset(&app), rests_until: Duration::ZERO };
        Self { app, archive, rules, steady: Mutex::new(steady), bare_to: Mutex::default() }
    }

    /// What a round would remove now. Changes nothing.
    ///
    /// # Errors
    /// [`RetentionError::Store`].
    pub async fn preview(&self) -> Result<Round, RetentionError> {
        self.work(true, None).await
    }

    /// Removes what is past its time, for `at_most` so long.
    ///
    /// # Errors
    /// [`RetentionError`].
    pub async fn round(&self, at_most: Option<Duration>) -> Result<Round, RetentionError> {
        if !self.clock_is_steady() {
            return Err(RetentionError::ClockJumped);
        }
        let round = self.work(false, at_most).await?;
        let removed = round.removals.iter().filter(|removal| removal.count > 0);
        for Removal { kind, count, bytes, .. } in removed {
            info!(kind = kind.name(), count, bytes, "removed what was past its time");
        }
        Ok(round)
    }

    fn clock_is_steady(&self) -> bool {
        let (elapsed, offset) = (self.app.clock().elapsed(), offset(&self.app));
        let mut steady = self.steady.lock().unwrap_or_else(PoisonError::into_inner);
        if (offset - steady.offset).abs() > STEP {
            steady.rests_until = elapsed + REST;
        }
        steady.offset = offset;
        elapsed >= steady.rests_until
    }

    async fn work(&self, dry_run: bool, at_most: Option<Duration>) -> Result<Round, RetentionError> {
        let now = self.app.now();
        let until = at_most.map(|span| self.app.clock().elapsed() + span);
        let removals = Kind::ALL.map(|kind| {
            let before = cutoff(self.limit(kind), now);
            Removal { kind, before, count: 0, bytes: 0, oldest: None }
        });
        let round = Round { removals: removals.into(), more: false };
        let mut work = Work { retainer: self, now, dry_run, until, round };
        // Jobs last: they need the archive, and its trouble is no reason to keep the rest. The names that are reserved for
        // them go before, since only a job's record tells that nobody needs them any more.
        work.sweep(Kind::Events, Litter::Events).await?;
        work.sweep(Kind::Callbacks, Litter::Callbacks).await?;
        work.sweep(Kind::Bodies, Litter::Bodies).await?;
        work.sweep(Kind::Deliveries, Litter::Deliveries).await?;
        work.names().await?;
        work.jobs().await?;
        Ok(work.round)
    }

    const fn limit(&self, kind: Kind) -> Option<i64> {
        match kind {
            Kind::Videos => self.rules.videos,
            Kind::Jobs => self.rules.jobs,
            Kind::Events | Kind::Callbacks => self.rules.events,
            Kind::Bodies => self.rules.bodies,
            Kind::Deliveries => self.rules.deliveries,
        }
    }
}

impl Retainer {
    /// Removes the files of a job, then its manifest. Not there any more is as good; whether all of them were its own.
    async fn remove_files(&self, job: &Job) -> Result<bool, ArchiveError> {
        let manifest = job.files().next().map(beside);
        let files = job.files().map(|file| file.location.clone());
        for location in files.chain(manifest) {
            if !is_own(job.id, &location) {
                error!(job = %job.id, location, "a file whose name is not the job's own is not removed");
                return Ok(false);
            }
            match self.archive.remove(&location).await {
                Ok(()) | Err(ArchiveError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn bare_to(&self) -> u128 {
        *self.bare_to.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_bare_to(&self, place: u128) {
        *self.bare_to.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }
}

/// Every key in the archive has the id of its job in it, so no other job's file can be meant.
fn is_own(job: JobId, location: &str) -> bool {
    location.contains(&job.to_string())
}

/// The job in whose key this is.
fn named_in(location: &str) -> Option<JobId> {
    let ids = location.match_indices(JobId::PREFIX).filter_map(|(at, _)| location.get(at..)?.get(..ID));
    ids.filter_map(|id| id.parse().ok()).next()
}

/// The manifest beside the first file of a job, whatever the template of keys was when it was stored, and whether or not
/// that file had to take its second name.
fn beside(first: &StoredFile) -> String {
    let stem = first.location.rsplit_once('.').map_or(&*first.location, |(stem, _)| stem);
    let stem = stem.strip_suffix(&archive::suffix(&first.sha256)).unwrap_or(stem);
    format!("{stem}.json")
}

/// Wall time minus the time that passed, in milliseconds.
fn offset(app: &App) -> i64 {
    let elapsed = i64::try_from(app.clock().elapsed().as_millis()).unwrap_or(i64::MAX);
    app.clock().now_ms() - elapsed
}

fn rules(limits: &config::Retention, bodies: Option<Duration>) -> Retention {
    let millis = |limit: Option<Duration>| limit.map(super::duties::millis);
    Retention {
        videos: millis(limits.videos),
        jobs: millis(limits.jobs),
        events: millis(limits.events),
        deliveries: millis(limits.deliveries),
        bodies: millis(bodies),
    }
}

impl Runner {
    /// One round after the other.
    pub(super) async fn retain(self: Arc<Self>) {
        while self.duties.stop.run_until_cancelled(self.app.clock().sleep(EVERY)).await.is_some() {
            let round = self.duties.stop.run_until_cancelled(self.retainer.round(None)).await;
            if let Some(Err(error)) = round {
                warn!(%error, "what is past its time was not removed, or not all of it; the next round goes on");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_is_found_beside_the_first_file_and_only_own_names_are_touched() {
        let id = JobId::new(Millis(1), &[7; 10]);
        let file = |location: &str| StoredFile {
            name: "job_1.webm".to_owned(),
            location: location.to_owned(),
            bytes: 1,
            sha256: "0123456789abcdef".repeat(4),
            content_type: "video/webm".to_owned(),
        };
        assert_eq!(beside(&file("2026-01-15/job_1.webm")), "2026-01-15/job_1.json");
        assert_eq!(beside(&file("2026-01-15/job_1-0123456789abcdef.webm")), "2026-01-15/job_1.json");
        assert!(is_own(id, &format!("2026/{id}/video-2.mp4")));
        assert!(!is_own(id, "2026/job_0/video.mp4"));
        assert_eq!(named_in(&format!("job_1/{id}-0123456789abcdef.webm")), Some(id));
        assert_eq!(named_in("2026/job_0/video.mp4"), None);
    }
}
