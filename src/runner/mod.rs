//! Does what the records owe: one lane a duty, each with its own slots.
//!
//! A lane takes a slot, waits until something is due (and for a permit of the pacer, where the upstream is called),
//! claims one job, performs its duty and applies the answer. There is no second queue: what a crash interrupts is
//! found again in the due index when its lease ends.

mod ask;
mod deliver;
mod duties;
mod fetch;
mod gate;
mod retention;
mod submit;

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::task::TaskTracker;
use tracing::{debug, error, warn};

pub use duties::Duties;
pub use fetch::Left;
pub use retention::{Kind, Removal, Retainer, RetentionError, Round};
pub use submit::CreateCall;

use crate::{
    app::{App, Progress},
    lifecycle::{Duty, Job, TaskId},
    live::Live,
    outbound::{
        archive::Archive,
        deliver::Sinks,
        download::{Downloader, Order},
        manifest::Manifest,
        upstream::Upstream,
    },
    store::StoreError,
};

/// Questions under way at once; the pacer bounds their rate.
const ASK_SLOTS: usize = 16;
/// A wake is a hint and a clock may step: nobody sleeps longer than this without a look.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// After the store refused, before it is tried again.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// Expired waits that are settled at once.
const EXPIRE_BATCH: usize = 256;

/// What the lanes share.
pub struct Runner {
    app: Arc<App>,
    duties: Duties,
    upstream: Arc<Live<Upstream>>,
    downloader: Arc<Downloader>,
    archive: Arc<Archive>,
    sinks: Arc<Live<Sinks>>,
    retainer: Arc<Retainer>,
    slots: deliver::Slots,
    pacer: DefaultDirectRateLimiter,
    /// Rings when the configuration is another.
    reloads: watch::Sender<()>,
    tasks: TaskTracker,
}

/// Whom the lanes call.
pub struct Calls {
    /// The provider.
    pub upstream: Arc<Live<Upstream>>,
    /// The file hosts.
    pub downloader: Arc<Downloader>,
    /// Where videos go.
    pub archive: Arc<Archive>,
    /// Who is told.
    pub sinks: Arc<Live<Sinks>>,
    /// Who forgets what is past its time.
    pub retainer: Arc<Retainer>,
}

/// The lanes at work.
pub struct Running {
    runner: Arc<Runner>,
}

impl Running {
    /// Starts a lane for each duty.
    #[must_use]
    pub fn start(app: Arc<App>, calls: Calls) -> Self {
        let Calls { upstream, downloader, archive, sinks, retainer } = calls;
        let per_minute =
            NonZeroU32::new(app.config().upstream.requests_per_minute).unwrap_or(NonZeroU32::MIN);
        let runner = Arc::new(Runner {
            duties: Duties::new(Arc::clone(&app)),
            // Evenly: a minute's calls at once, and then those of the next, would be two minutes' in one.
            pacer: RateLimiter::direct(Quota::per_minute(per_minute).allow_burst(NonZeroU32::MIN)),
            reloads: watch::Sender::default(),
            tasks: TaskTracker::new(),
            app,
            upstream,
            downloader,
            archive,
            sinks,
            retainer,
            slots: deliver::Slots::default(),
        });
        let config = runner.app.config();
        let lanes = [
            (Duty::Submit, config.upstream.max_concurrent_submits),
            (Duty::Ask, ASK_SLOTS),
            (Duty::Fetch, config.download.concurrency),
            (Duty::Expire, 1),
        ];
        for (duty, slots) in lanes {
            runner.tasks.spawn(Arc::clone(&runner).lane(duty, slots));
        }
        runner.tasks.spawn(Arc::clone(&runner).recall());
        runner.tasks.spawn(Arc::clone(&runner).deliver());
        runner.tasks.spawn(Arc::clone(&runner).watch_the_clock());
        runner.tasks.spawn(Arc::clone(&runner).retain());
        Self { runner }
    }

    /// The configuration is another: a limit that a job waits for may be higher, and the account well again, which the
    /// next queued job probes at once.
    pub fn reloaded(&self) {
        self.runner.duties.probe_account();
        self.runner.reloads.send_replace(());
    }

    /// Claims nothing more and lets running work reach its end within `grace`; what is left is given back.
    pub async fn drain(&self, grace: Duration) {
        self.runner.duties.stop();
        self.runner.tasks.close();
        if tokio::time::timeout(grace, self.runner.tasks.wait()).await.is_err() {
            self.runner.duties.abort();
            if tokio::time::timeout(Duration::from_secs(5), self.runner.tasks.wait()).await.is_err() {
                warn!("work is still running at shutdown; its leases bring it back at the next start");
            }
        }
    }
}

impl Runner {
    async fn lane(self: Arc<Self>, duty: Duty, slots: usize) {
        let slots = Arc::new(Semaphore::new(slots));
        while !self.duties.stop.is_cancelled() {
            let slot = tokio::select! {
                () = self.duties.stop.cancelled() => return,
                turn = self.turn(duty, &slots) => turn,
            };
            let before = self.app.clock().elapsed();
            let claimed = match slot {
                Ok(slot) => self.claim(duty).await.map(|jobs| (slot, jobs)),
                Err(error) => Err(error),
            };
            match claimed {
                Ok((slot, jobs)) if duty != Duty::Expire => {
                    // One at the most: a slot is for one job.
                    if let Some(job) = jobs.into_iter().next() {
                        let runner = Arc::clone(&self);
                        self.tasks.spawn(async move {
                            runner.perform(duty, job, before).await;
                            drop(slot);
                        });
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    // A disk says itself what is wrong with it, once.
                    if matches!(error, StoreError::Disk(_)) {
                        debug!(?duty, %error, "the store gave out no work");
                    } else {
                        error!(?duty, %error, "the store gave out no work");
                    }
                    tokio::time::sleep(STORE_PAUSE).await;
                }
            }
        }
    }

    /// Beside the lanes: a long store is no reason to start late.
    async fn recall(self: Arc<Self>) {
        let recalled = self.duties.stop.run_until_cancelled(self.app.recall()).await;
        if let Some(Err(error)) = recalled {
            warn!(%error, "what earlier jobs taught was not read; it is learned anew");
        }
    }

    async fn watch_the_clock(self: Arc<Self>) {
        while self.duties.stop.run_until_cancelled(tokio::time::sleep(LONGEST_SLEEP)).await.is_some() {
            self.duties.mind_the_clock().await;
        }
    }

    /// A slot is free, something is due, and the upstream may be called: in this order, and only then a claim.
    async fn turn(&self, duty: Duty, slots: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, StoreError> {
        let slot = Arc::clone(slots).acquire_owned().await.map_err(|_| closed())?;
        self.something_due(duty).await?;
        if matches!(duty, Duty::Submit | Duty::Ask) {
            self.admitted(duty).await?;
        }
        Ok(slot)
    }

    /// Returns when the upstream may be called. A reload begins the wait anew: it may have raised the limit that is waited for.
    async fn admitted(&self, duty: Duty) -> Result<(), StoreError> {
        let mut reloads = self.reloads.subscribe();
        loop {
            tokio::select! {
                admitted = self.may_call(duty) => return admitted,
                // The bell is the runner's own, and so is never gone.
                _ = reloads.changed() => {}
            }
        }
    }

    /// As the store says where instances share it, else as this process keeps it.
    async fn may_call(&self, duty: Duty) -> Result<(), StoreError> {
        if let Some(shared) = self.app.store().gate() {
            self.app.set_pause(shared.pause()); // another instance may have been refused
            shared.admitted(duty, self.app.config().upstream.max_in_flight as u64).await?;
            self.app.set_pause(shared.pause());
            return Ok(());
        }
        if duty == Duty::Submit {
            self.room_in_flight().await?;
            self.duties.opened().await;
        }
        self.pacer.until_ready().await;
        Ok(())
    }

    /// Returns when fewer jobs than `max_in_flight` are with the upstream.
    async fn room_in_flight(&self) -> Result<(), StoreError> {
        let mut wake = self.app.store().wake();
        loop {
            wake.mark_unchanged();
            if self.app.store().counts().await?.in_flight() < self.app.config().upstream.max_in_flight as u64
            {
                return Ok(());
            }
            wake.changed().await.map_err(|_| closed())?;
        }
    }

    async fn claim(&self, duty: Duty) -> Result<Vec<Job>, StoreError> {
        let max = if duty == Duty::Expire { EXPIRE_BATCH } else { 1 };
        let jobs = self.app.claim(duty, max).await?;
        if jobs.is_empty() {
            // Due, but not to be had, since somebody was faster: something has to change first.
            let mut wake = self.app.store().wake();
            let _unchanged = tokio::time::timeout(STORE_PAUSE, wake.changed()).await;
        }
        Ok(jobs)
    }

    async fn perform(&self, duty: Duty, job: Job, claimed_at: Duration) {
        match duty {
            Duty::Submit => {
                let call = |call: CreateCall| async move {
                    self.upstream.get().submit(&call.body, &call.id.to_string()).await
                };
                self.duties.submit(job, claimed_at, call).await;
            }
            Duty::Ask => {
                let call = |task: TaskId| async move { self.upstream.get().ask(&task.0).await };
                self.duties.ask(job, call).await;
            }
            Duty::Fetch => self.fetch(job).await,
            Duty::Deliver | Duty::Expire => {}
        }
    }

    async fn fetch(&self, job: Job) {
        let id = job.id;
        let stop = &self.duties.abort.child_token();
        let key = &self.archive.key(&id.to_string(), fetch::timestamp(job.created_at));
        let get = |order: Order| async move {
            let progress = |done, total| self.app.set_progress(id, Some(Progress { done, total }));
            self.downloader.fetch(&order, &progress, stop).await
        };
        let seal = |manifest: Manifest| async move {
            self.archive.put_manifest(key, &manifest).await.map(drop).map_err(|error| error.to_string())
        };
        let Left { ended, unnamed } = Box::pin(self.duties.fetch(job, key, stop, get, seal)).await;
        stop.cancel();
        self.app.set_progress(id, None);
        if ended {
            self.downloader.forget(&id.to_string()).await;
        }
        if let Some(file) = unnamed
            && let Err(error) = self.archive.remove(&file.location).await
        {
            warn!(job = %id, %error, "the file of a job that was canceled meanwhile stays in the archive");
        }
    }

    /// Returns when a job of this duty is, or may be, due.
    async fn something_due(&self, duty: Duty) -> Result<(), StoreError> {
        let mut wake = self.app.store().wake();
        loop {
            wake.mark_unchanged(); // before the look: what changes during it is not missed
            let wait = match self.app.store().next_due(duty).await? {
                Some(at) => at.since(self.app.now()),
                None => i64::MAX,
            };
            if wait <= 0 {
                return Ok(());
            }
            let wait = Duration::from_millis(wait.cast_unsigned()).min(LONGEST_SLEEP);
            if let Ok(Err(_)) = tokio::time::timeout(wait, wake.changed()).await {
                return Err(closed());
            }
        }
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("it is closing".to_owned())
}
