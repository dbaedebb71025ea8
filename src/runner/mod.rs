//! Does what the records owe: one lane a duty, each with its own slots.
//!
//! A lane takes a slot, waits until something is due (and for a permit of the pacer, where the upstream is called),
//! claims one job, performs its duty and applies the answer. There is no second queue: what a crash interrupts is
//! found again in the due index when its lease ends.

mod ask;
mod fetch;
mod gate;
mod submit;

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use backon::{ExponentialBuilder, Retryable};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, warn};

use crate::{
    app::{App, AppError, Applied, RENEW_EVERY},
    lifecycle::{Duty, Event, Job, JobId},
    outbound::{archive::Archive, download::Downloader, upstream::Upstream},
    store::StoreError,
};
use gate::Gate;

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
    upstream: Upstream,
    downloader: Downloader,
    archive: Arc<Archive>,
    gate: Gate,
    pacer: DefaultDirectRateLimiter,
    /// No further claims.
    stop: CancellationToken,
    /// Give running work back.
    abort: CancellationToken,
    tasks: TaskTracker,
}

/// The lanes at work.
pub struct Running {
    runner: Arc<Runner>,
}

impl Running {
    /// Starts a lane for each duty.
    #[must_use]
    pub fn start(app: Arc<App>, upstream: Upstream, downloader: Downloader, archive: Arc<Archive>) -> Self {
        let per_minute =
            NonZeroU32::new(app.config().upstream.requests_per_minute).unwrap_or(NonZeroU32::MIN);
        let runner = Arc::new(Runner {
            gate: Gate::new(app.config().upstream.probe_after),
            // Evenly: a minute's calls at once, and then those of the next, would be two minutes' in one.
            pacer: RateLimiter::direct(Quota::per_minute(per_minute).allow_burst(NonZeroU32::MIN)),
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
            tasks: TaskTracker::new(),
            app,
            upstream,
            downloader,
            archive,
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
        runner.tasks.spawn(Arc::clone(&runner).watch_the_clock());
        Self { runner }
    }

    /// Claims nothing more and lets running work reach its end within `grace`; what is left is given back.
    pub async fn drain(&self, grace: Duration) {
        self.runner.stop.cancel();
        self.runner.tasks.close();
        if tokio::time::timeout(grace, self.runner.tasks.wait()).await.is_err() {
            self.runner.abort.cancel();
            if tokio::time::timeout(Duration::from_secs(5), self.runner.tasks.wait()).await.is_err() {
                warn!("work is still running at shutdown; its leases bring it back at the next start");
            }
        }
    }
}

impl Runner {
    async fn lane(self: Arc<Self>, duty: Duty, slots: usize) {
        let slots = Arc::new(Semaphore::new(slots));
        while !self.stop.is_cancelled() {
            let slot = tokio::select! {
                () = self.stop.cancelled() => return,
                turn = self.turn(duty, &slots) => turn,
            };
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
                            runner.perform(duty, job).await;
                            drop(slot);
                        });
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    error!(?duty, %error, "the store gave out no work");
                    tokio::time::sleep(STORE_PAUSE).await;
                }
            }
        }
    }

    /// When the wall clock jumps, waits that were reckoned by it would last as much longer.
    async fn watch_the_clock(self: Arc<Self>) {
        while self.stop.run_until_cancelled(tokio::time::sleep(LONGEST_SLEEP)).await.is_some() {
            let Some(by) = self.app.clock().stepped() else { continue };
            warn!(by_ms = by, "the clock jumped; waits that would last too long now end");
            let longest = self.app.policy().longest_wait();
            if let Err(error) = self.app.store().reclamp(self.app.now(), longest).await {
                error!(%error, "the waits were not shortened");
            }
        }
    }

    /// A slot is free, something is due, and the upstream may be called: in this order, and only then a claim.
    async fn turn(&self, duty: Duty, slots: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, StoreError> {
        let slot = Arc::clone(slots).acquire_owned().await.map_err(|_| closed())?;
        self.something_due(duty).await?;
        if duty == Duty::Submit {
            self.room_in_flight().await?;
            self.gate.opened().await;
        }
        if matches!(duty, Duty::Submit | Duty::Ask) {
            self.pacer.until_ready().await;
        }
        Ok(slot)
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

    async fn perform(&self, duty: Duty, job: Job) {
        match duty {
            Duty::Submit => self.submit(job).await,
            Duty::Ask => self.ask(job).await,
            Duty::Fetch => self.fetch(job).await,
            Duty::Deliver | Duty::Expire => {}
        }
    }

    /// Applies an answer, however long the store takes to be there again: an answer about money is never dropped
    /// while the process lives. Even when the process ends it is tried once more, since it may be the only word of a
    /// task that was paid for. Nothing, when the job is gone, its record is damaged, or the store is away to the end.
    async fn record(&self, id: JobId, event: &Event, evidence: Option<&str>) -> Option<Applied> {
        let patience = ExponentialBuilder::new().with_max_delay(Duration::from_secs(5)).without_max_times();
        let stored = (|| self.app.apply_with(id, event, evidence))
            .retry(patience.with_jitter())
            .when(|error| may_heal(error) && !self.abort.is_cancelled())
            .notify(|error, wait| warn!(job = %id, %error, ?wait, "an answer waits for the store"))
            .await;
        stored.inspect_err(|error| error!(job = %id, %error, "an answer was not recorded")).ok()
    }

    /// Does `work` for a claim, renewing its lease meanwhile. Ends early, without a result, when the claim is lost
    /// (the job was canceled, or another lane has it) or when the process ends.
    async fn holding<T>(&self, id: JobId, lease: u64, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        let mut beat = tokio::time::interval_at(tokio::time::Instant::now() + RENEW_EVERY, RENEW_EVERY);
        loop {
            tokio::select! {
                done = &mut work => return Some(done),
                () = self.abort.cancelled() => return None,
                _ = beat.tick() => match self.app.apply(id, &Event::Renewed(lease)).await {
                    Ok(Applied::Nothing(_)) | Err(AppError::NotFound(_)) => return None,
                    Ok(Applied::Changed { .. }) => {}
                    // The lease may run out while the store is away; then the work is done twice, and harmlessly so.
                    Err(error) => warn!(job = %id, %error, "a lease was not renewed"),
                },
            }
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

/// A damaged record stays damaged: to wait for it would keep its slot for ever.
const fn may_heal(error: &AppError) -> bool {
    matches!(error, AppError::Store(error) if !matches!(error, StoreError::Damaged(_)))
}

fn closed() -> StoreError {
    StoreError::Unavailable("it is closing".to_owned())
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}
