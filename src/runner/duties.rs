//! What a claim obliges to, but for the call to the outside, which the caller makes: what comes before it, how long
//! the claim is held, and what its answer does to the record.

use std::{sync::Arc, time::Duration};

use backon::{ExponentialBuilder, Retryable};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::gate::Gate;
use crate::{
    app::{App, AppError, Applied, RENEW_EVERY},
    lifecycle::{Event, Job, JobId},
    spans::{Attribute, Span, Work},
    store::StoreError,
};

/// The duties of claimed jobs. Each takes the call to the outside as an argument and goes by the app's clock alone.
pub struct Duties {
    pub(super) app: Arc<App>,
    pub(super) gate: Gate,
    /// No create call begins any more.
    pub(super) stop: CancellationToken,
    /// Running work is given back.
    pub(super) abort: CancellationToken,
}

impl Duties {
    /// Duties towards the jobs of `app`.
    #[must_use]
    pub fn new(app: Arc<App>) -> Self {
        let gate = Gate::new(Arc::clone(&app));
        Self { app, gate, stop: CancellationToken::new(), abort: CancellationToken::new() }
    }

    /// Returns when a create call may be made: at once, or while the upstream refuses the account, as its next probe.
    pub async fn opened(&self) {
        self.gate.opened().await;
    }

    /// The account may be well again.
    pub fn probe_account(&self) {
        self.gate.hasten();
    }

    /// No create call begins any more; what runs goes on.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Running work is given back, but for create calls under way, whose answers may be the only word of a paid task.
    pub fn abort(&self) {
        self.abort.cancel();
    }

    /// When the wall clock jumped, waits that were reckoned by it would last as much longer: they are cut.
    pub async fn mind_the_clock(&self) {
        let Some(by) = self.app.clock().stepped() else { return };
        warn!(by_ms = by, "the clock jumped; waits that would last too long now end");
        if let Err(error) = self.app.store().reclamp(self.app.now(), &self.app.policy()).await {
            error!(%error, "the waits were not shortened");
        }
    }

    /// Applies an answer, however long the store takes to be there again: an answer about money is never dropped
    /// while the process lives. Even when the process ends it is tried once more, since it may be the only word of a
    /// task that was paid for. Nothing, when the job is gone, its record is damaged, or the store is away to the end.
    /// `known` is the job as it was claimed or recorded last: most often it still is, and need not be read again.
    pub(super) async fn record(&self, known: &Job, event: &Event, evidence: Option<&str>) -> Option<Applied> {
        let id = known.id;
        let patience = ExponentialBuilder::new().with_max_delay(Duration::from_secs(5)).without_max_times();
        let clock = self.app.clock().clone();
        let sleep = move |wait| {
            let clock = clock.clone();
            async move { clock.sleep(wait).await }
        };
        let stored = (|| self.app.apply_to(known, event, evidence))
            .retry(patience.with_jitter().with_jitter_seed(spread(id)))
            .sleep(sleep)
            .when(|error| may_heal(error) && !self.abort.is_cancelled())
            .notify(|error, wait| warn!(job = %id, %error, ?wait, "an answer waits for the store"))
            .await;
        stored.inspect_err(|error| error!(job = %id, %error, "an answer was not recorded")).ok()
    }

    /// Does `work` for a claim, renewing its lease meanwhile. Ends early, without a result, when the claim is lost
    /// (the job was canceled, or another lane has it) or when the process ends.
    pub(super) async fn holding<T>(&self, id: JobId, lease: u64, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased; // work that is done counts, whatever happened beside it
                done = &mut work => return Some(done),
                () = self.abort.cancelled() => return None,
                () = self.app.clock().sleep(RENEW_EVERY) => {}
            }
            match self.app.apply(id, &Event::Renewed(lease)).await {
                Ok(Applied::Nothing(_)) | Err(AppError::NotFound(_)) => return None,
                Ok(Applied::Changed { .. }) => {}
                // The lease may run out while the store is away; then the work is done twice, and harmlessly so.
                Err(error) => warn!(job = %id, %error, "a lease was not renewed"),
            }
        }
    }
}

/// Answers of many jobs that wait for the store do not all try at once.
fn spread(id: JobId) -> u64 {
    id.as_bytes().last_chunk().map_or(0, |tail| u64::from_be_bytes(*tail))
}

/// A damaged record stays damaged: to wait for it would keep its slot for ever.
const fn may_heal(error: &AppError) -> bool {
    matches!(error, AppError::Store(error) if !matches!(error, StoreError::Damaged(_)))
}

/// A span of a job's trace.
pub(super) fn job_span(work: Work, job: &Job) -> Span {
    let mut span = Span::of_job(work, job.trace.as_deref());
    span.tell(Attribute::Job, job.id);
    span
}

pub(super) fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}
