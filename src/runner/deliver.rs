//! The Deliver lane: one dispatcher for all sinks, with slots of its own for each, so that one that hangs starves nobody.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use backon::{ExponentialBuilder, Retryable};
use futures_util::future::join_all;
use secrecy::SecretString;
use tokio::sync::{Notify as Signal, OwnedSemaphorePermit, Semaphore};
use tracing::{error, warn};

use super::{Duties, LONGEST_SLEEP, Runner, STORE_PAUSE, closed};
use crate::{
    chaos::{self, Point},
    lifecycle::{Answer, Attempt, Delivery, Notify, is_notify_lane},
    outbound::deliver::{Message, Sink, Sinks},
    spans::{Attribute, Span, Work},
    store::{ClaimedDelivery, Lane, StoreError},
};

/// Lanes without work whose slots are remembered.
const MAX_LANES: usize = 1024;

/// Slots by lane.
#[derive(Default)]
pub(super) struct Slots {
    lanes: Mutex<HashMap<String, Arc<Semaphore>>>,
    /// One became free.
    freed: Signal,
}

impl Slots {
    fn of(&self, lane: &str, slots: usize) -> Arc<Semaphore> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if lanes.len() >= MAX_LANES && !lanes.contains_key(lane) {
            lanes.retain(|_, slots| Arc::strong_count(slots) > 1);
        }
        Arc::clone(lanes.entry(lane.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(slots))))
    }
}

impl Runner {
    /// Claims what is due, lane by lane, for as long as the server runs.
    pub(super) async fn deliver(self: Arc<Self>) {
        let mut wake = self.app.store().wake();
        while !self.duties.stop.is_cancelled() {
            wake.mark_unchanged(); // before the look: what changes during it is not missed
            let wait = match self.dispatch().await {
                Ok(wait) => wait,
                Err(error) => {
                    error!(%error, "the store gave out no deliveries");
                    STORE_PAUSE
                }
            };
            tokio::select! {
                () = self.duties.stop.cancelled() => return,
                () = self.slots.freed.notified() => {}
                () = tokio::time::sleep(wait) => {}
                changed = wake.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Begins a try at all that is due and has a slot; how long nothing more will be, unless something changes.
    async fn dispatch(self: &Arc<Self>) -> Result<Duration, StoreError> {
        let now = self.app.now();
        let (due, later): (Vec<Lane>, Vec<Lane>) =
            self.app.store().lanes().await?.into_iter().partition(|lane| lane.due <= now);
        for begun in join_all(due.iter().map(|lane| self.begin(&lane.name))).await {
            begun?;
        }
        let next = later.iter().map(|lane| lane.due.since(now)).min();
        let next = next.map_or(LONGEST_SLEEP, |wait| Duration::from_millis(wait.max(1).cast_unsigned()));
        Ok(next.min(LONGEST_SLEEP))
    }

    async fn begin(self: &Arc<Self>, lane: &str) -> Result<(), StoreError> {
        let config = self.app.config();
        let wanted = config.sinks.get(lane).map_or(config.delivery.concurrency, |sink| sink.concurrency);
        let slots = self.slots.of(lane, wanted);
        let Ok(mut free) = Arc::clone(&slots).acquire_many_owned(0).await else { return Err(closed()) };
        while let Ok(one) = Arc::clone(&slots).try_acquire_owned() {
            free.merge(one);
        }
        if free.num_permits() == 0 {
            return Ok(()); // a slot that becomes free brings us back
        }
        for claimed in self.app.claim_deliveries(lane, free.num_permits()).await? {
            let slot = free.split(1);
            self.tasks.spawn(Arc::clone(self).attempt(claimed, slot));
        }
        Ok(())
    }

    async fn attempt(self: Arc<Self>, claimed: ClaimedDelivery, slot: Option<OwnedSemaphorePermit>) {
        let sink = self.sink(&claimed.delivery, claimed.notify.as_ref());
        let send = |message: Message| async move {
            match sink {
                Ok(sink) => sink.send(&message).await,
                Err(why) => unsent(&message, why),
            }
        };
        self.duties.deliver(claimed, send).await;
        drop(slot);
        self.slots.freed.notify_one();
    }

    fn sink(&self, delivery: &Delivery, notify: Option<&Notify>) -> Result<Arc<dyn Sink>, String> {
        sink(&self.sinks.get(), delivery, notify)
    }
}

/// Whom a delivery goes to, or why nobody can be told.
fn sink(sinks: &Sinks, delivery: &Delivery, notify: Option<&Notify>) -> Result<Arc<dyn Sink>, String> {
    let Some(notify) = notify else {
        let unknown = || format!("the configuration names no sink `{}` any more", delivery.lane);
        return sinks.get(&delivery.lane).ok_or_else(unknown);
    };
    let secret = notify.secret.as_ref().map(|secret| SecretString::from(secret.expose()));
    sinks.notify(&notify.url, secret.as_ref()).map_err(|error| error.to_string())
}

/// A try, in the trace of its job. Hosts of jobs' own URLs stay unsaid.
fn span(delivery: &Delivery) -> Span {
    let mut span = Span::of_job(Work::Deliver, delivery.trace.as_deref());
    if let Some(job) = delivery.job_id {
        span.tell(Attribute::Job, job);
    }
    let sink = if is_notify_lane(&delivery.lane) { "notify" } else { &delivery.lane };
    span.tell(Attribute::Sink, sink);
    span.tell(Attribute::Event, delivery.kind.name());
    span.count(Attribute::Attempt, delivery.attempts);
    span
}

const fn outcome(answer: Answer) -> (&'static str, bool) {
    match answer {
        Answer::Delivered => ("delivered", false),
        Answer::Failed { .. } => ("failed", true),
        Answer::Refused => ("refused", true),
        Answer::Gone => ("gone", true),
    }
}

/// It fails by the schedule: a sink that is named again, or a corrected secret, still gets everything.
fn unsent(message: &Message, why: String) -> Attempt {
    Attempt {
        at: message.time,
        took: 0,
        answer: Answer::Failed { retry_after: None },
        code: None,
        detail: why,
    }
}

impl Duties {
    /// Has `send` tell the sink of a claimed delivery, and records what came of it.
    pub async fn deliver<F>(&self, claimed: ClaimedDelivery, send: impl FnOnce(Message) -> F)
    where
        F: Future<Output = Attempt>,
    {
        let ClaimedDelivery { delivery, body, .. } = claimed;
        let (id, Some(lease)) = (delivery.id, delivery.lease) else { return };
        let span = span(&delivery);
        let message = Message {
            event_id: delivery.event_id,
            kind: delivery.kind,
            time: delivery.created_at,
            job_id: delivery.job_id,
            delivery_id: id,
            attempt: delivery.attempts,
            trace: span.context(),
            body,
        };
        chaos::pass(Point::Delivering);
        let attempt = tokio::select! {
            biased; // what was answered counts, whatever happened beside it
            attempt = send(message) => attempt,
            () = self.abort.cancelled() => {
                if let Err(error) = self.app.release_delivery(id, lease).await {
                    warn!(delivery = %id, %error, "a delivery was not given back; its lease brings it back");
                }
                return;
            }
        };
        chaos::pass(Point::Delivered);
        let (outcome, is_error) = outcome(attempt.answer);
        span.end(outcome, is_error);
        let clock = self.app.clock().clone();
        let patience = ExponentialBuilder::new().with_max_delay(Duration::from_secs(5)).without_max_times();
        let stored = (|| self.app.answer_delivery(id, attempt.clone(), lease))
            .retry(patience.with_jitter().with_jitter_seed(lease))
            .sleep(move |wait| {
                let clock = clock.clone();
                async move { clock.sleep(wait).await }
            })
            .when(|error| !matches!(error, StoreError::Damaged(_)) && !self.abort.is_cancelled())
            .notify(|error, wait| warn!(delivery = %id, %error, ?wait, "an answer waits for the store"))
            .await;
        if let Err(error) = stored {
            // It will be sent again under the same id, by which the receiver knows it.
            error!(delivery = %id, %error, "what became of a delivery was not recorded");
        }
    }
}
