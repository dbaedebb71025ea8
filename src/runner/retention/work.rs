//! One round: what is past its time is looked for in small steps, and removed unless it is only a look.

use std::time::Duration;

use futures_util::future::try_join_all;
use metrics::counter;
use tracing::{debug, warn};

use super::{Kind, Retainer, RetentionError, Round, named_in};
use crate::{
    lifecycle::{Event, Job, JobId, Millis, Past, cutoff},
    outbound::archive::{ArchiveError, Fault},
    store::{Litter, StoreError, Sweep, Swept},
};

/// Reservations that are ended at a time.
const NAMES: usize = 16;

/// A round under way.
pub(super) struct Work<'a> {
    pub(super) retainer: &'a Retainer,
    pub(super) now: Millis,
    pub(super) dry_run: bool,
    /// By the steady clock.
    pub(super) until: Option<Duration>,
    pub(super) round: Round,
}

impl Work<'_> {
    fn is_over(&mut self) -> bool {
        let over = self.until.is_some_and(|until| self.retainer.app.clock().elapsed() >= until);
        self.round.more |= over;
        over
    }

    fn note(&mut self, kind: Kind, count: u64, bytes: u64, oldest: Option<Millis>) {
        let Some(removal) = self.round.removals.iter_mut().find(|removal| removal.kind == kind) else {
            return;
        };
        removal.count += count;
        removal.bytes += bytes;
        removal.oldest = removal.oldest.into_iter().chain(oldest).min();
        if !self.dry_run {
            counter!("reelhook_retention_removed_total", "kind" => kind.name()).increment(count);
        }
    }

    pub(super) async fn sweep(&mut self, kind: Kind, litter: Litter) -> Result<(), RetentionError> {
        let Some(before) = cutoff(self.retainer.limit(kind), self.now) else { return Ok(()) };
        let mut after = if kind == Kind::Bodies { self.retainer.bare_to() } else { 0 };
        while !self.is_over() {
            let sweep = Sweep { litter, before, after, dry_run: self.dry_run };
            let Swept { count, bytes, oldest, read_to, more } =
                self.retainer.app.store().sweep(sweep).await?;
            self.note(kind, count, bytes, oldest);
            after = after.max(read_to);
            if kind == Kind::Bodies && !self.dry_run {
                self.retainer.set_bare_to(after);
            }
            if !more {
                break;
            }
        }
        Ok(())
    }

    /// Gives back names of the bucket. One that does not answer takes no more time than the round has.
    pub(super) async fn names(&mut self) -> Result<(), RetentionError> {
        if self.dry_run || self.is_over() {
            return Ok(());
        }
        let (retainer, clock) = (self.retainer, self.retainer.app.clock());
        let Some(until) = self.until else { return release_names(retainer).await };
        let left = until.saturating_sub(clock.elapsed());
        let released = tokio::time::timeout(left, release_names(retainer)).await;
        self.round.more |= released.is_err();
        released.unwrap_or(Ok(()))
    }

    pub(super) async fn jobs(&mut self) -> Result<(), RetentionError> {
        let Some(before) = self.retainer.rules.jobs_before(self.now) else { return Ok(()) };
        let (retainer, mut after) = (self.retainer, None);
        loop {
            let page = retainer.app.store().ended(before, after).await?;
            let mut done = Vec::new();
            for job in &page.jobs {
                if self.is_over() {
                    break;
                }
                if let Some(past) = self.past(job).await?
                    && self.files(job, past).await?
                    && past.record
                {
                    done.push(job);
                }
            }
            self.forget(&done).await?;
            after = page.next;
            if after.is_none() || self.round.more {
                return Ok(());
            }
        }
    }

    /// What of a job is past its time. Debts are looked up only where there would be something.
    async fn past(&self, job: &Job) -> Result<Option<Past>, StoreError> {
        let plan = |owed| self.retainer.rules.of_job(job, owed, self.now);
        if plan(0).is_none() {
            return Ok(None);
        }
        let owed = self.retainer.app.store().delivery_counts(job.id).await?.pending;
        Ok(plan(owed))
    }

    /// Removes the files of a job that are past their time, and says so in its record unless that goes as well. Whether the
    /// record may go.
    async fn files(&mut self, job: &Job, past: Past) -> Result<bool, RetentionError> {
        if !past.files {
            return Ok(true);
        }
        if !self.dry_run {
            if !self.retainer.remove_files(job).await? {
                return Ok(false);
            }
            if !past.record {
                self.retainer.app.apply_to(job, &Event::FilesRemoved, None).await?;
            }
        }
        let (count, bytes) = job.files().fold((0, 0), |sum, file| (sum.0 + 1, sum.1 + file.bytes));
        self.note(Kind::Videos, count, bytes, job.times.finished_at);
        Ok(true)
    }

    async fn forget(&mut self, jobs: &[&Job]) -> Result<(), RetentionError> {
        if jobs.is_empty() {
            return Ok(());
        }
        let gone: Vec<JobId> = if self.dry_run {
            jobs.iter().map(|job| job.id).collect()
        } else {
            let ids = jobs.iter().map(|job| (job.id, job.revision)).collect();
            self.retainer.app.store().forget(ids).await?
        };
        for job in jobs.iter().filter(|job| gone.contains(&job.id)) {
            let bytes = serde_json::to_vec(job).map_or(0, |json| json.len() as u64);
            self.note(Kind::Jobs, 1, bytes, job.times.finished_at);
        }
        Ok(())
    }
}

/// Ends what copies that came to no end have reserved in the bucket: a job that has ended stores nothing more. That the names
/// cannot be listed keeps nothing else from going.
async fn release_names(retainer: &Retainer) -> Result<(), RetentionError> {
    let names = match retainer.archive.reserved().await {
        Ok(names) => names,
        // Nothing else needs the right to list, so it may be withheld on purpose.
        Err(error @ ArchiveError::Bucket(Fault::Denied(_))) => {
            debug!(%error, "names of the bucket stay reserved for files that will not come");
            return Ok(());
        }
        Err(error) => {
            warn!(%error, "the names that are reserved in the bucket could not be listed; the next round goes on");
            return Ok(());
        }
    };
    for names in names.chunks(NAMES) {
        let mut done = Vec::new();
        for name in names {
            if is_done_with(retainer, name).await? {
                done.push(name);
            }
        }
        if !done.is_empty() {
            retainer.app.store().barrier().await?;
        }
        try_join_all(done.into_iter().map(|name| retainer.archive.release(name))).await?;
    }
    Ok(())
}

/// Whether the job in whose name this is has ended. One that this store does not know may be another's.
async fn is_done_with(retainer: &Retainer, name: &str) -> Result<bool, StoreError> {
    let Some(id) = named_in(name) else { return Ok(false) };
    match retainer.app.store().load(id).await {
        Ok(job) => Ok(job.is_some_and(|job| job.outcome().is_some())),
        Err(error @ StoreError::Damaged(_)) => {
            warn!(name, %error, "the name stays reserved in the bucket, for nobody knows whether its job has ended");
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
