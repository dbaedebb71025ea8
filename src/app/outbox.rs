//! Telling sinks: what the Deliver lane writes through, and what operators can do about it.

use std::sync::Arc;

use bytes::Bytes;
use metrics::counter;
use secrecy::{ExposeSecret, SecretString};
use tracing::{info, warn};

use super::{App, AppError, render};
use crate::{
    config::Config,
    lifecycle::{
        Answer, Attempt, Delivery, DeliveryEvent, DeliveryId, DeliveryState, EventId, EventKind, JobId,
        Millis, is_notify_lane,
    },
    provider::signing::SigningKey,
    store::{ClaimedDelivery, DeliveryChanged, DeliveryClaim, SinkRecord, StoreError},
};

impl App {
    /// Takes up to `max` deliveries of a lane that are due, durably.
    ///
    /// # Errors
    /// The store's.
    pub async fn claim_deliveries(&self, lane: &str, max: usize) -> Result<Vec<ClaimedDelivery>, StoreError> {
        let (policy, render) = (self.policy(), Arc::clone(&self.render));
        let claim = DeliveryClaim { lane: lane.to_owned(), max, now: self.now(), policy, render };
        self.store.claim_deliveries(claim).await
    }

    /// Records what a try came to. Nothing, when it was another claim's by now.
    ///
    /// # Errors
    /// The store's: then the lease brings the delivery back.
    pub async fn answer_delivery(
        &self,
        id: DeliveryId,
        attempt: Attempt,
        lease: u64,
    ) -> Result<Option<Delivery>, StoreError> {
        let answer = attempt.answer;
        let changed = self.change(id, DeliveryEvent::Answered(attempt, lease)).await?;
        if let Some(DeliveryChanged { delivery, disabled }) = &changed {
            said(delivery, answer, *disabled);
        }
        Ok(changed.map(|changed| changed.delivery))
    }

    /// Gives a claim back untried, as at shutdown.
    ///
    /// # Errors
    /// The store's.
    pub async fn release_delivery(&self, id: DeliveryId, lease: u64) -> Result<(), StoreError> {
        self.change(id, DeliveryEvent::Released(lease)).await.map(drop)
    }

    /// The delivery.
    ///
    /// # Errors
    /// [`AppError::NoDelivery`], and the store's.
    pub async fn delivery(&self, id: DeliveryId) -> Result<Delivery, AppError> {
        self.store.delivery(id).await?.ok_or(AppError::NoDelivery(id))
    }

    /// Delivers again, by a schedule that begins anew: what is exhausted, what waits, and what has arrived before. A try
    /// that is under way goes on instead.
    ///
    /// # Errors
    /// [`AppError::NoDelivery`], and the store's.
    pub async fn retry_delivery(&self, id: DeliveryId) -> Result<Delivery, AppError> {
        match self.change(id, DeliveryEvent::Replayed).await? {
            Some(changed) => Ok(changed.delivery),
            None => self.delivery(id).await,
        }
    }

    /// Every sink of the configuration, with what is remembered of it.
    ///
    /// # Errors
    /// The store's.
    pub async fn sinks(&self) -> Result<Vec<SinkRecord>, StoreError> {
        let mut known = self.store.sinks().await?;
        let config = self.config();
        let named = config.sinks.keys().map(|name| {
            let at = known.iter().position(|record| record.name == *name);
            let state = at.map(|at| known.swap_remove(at).state).unwrap_or_default();
            SinkRecord { name: name.clone(), state }
        });
        Ok(named.collect())
    }

    /// Enables a sink and delivers what was given up of events since then; how many deliveries that are.
    ///
    /// # Errors
    /// [`AppError::NoSink`], and the store's.
    pub async fn recover_sink(&self, name: &str, since: Millis) -> Result<u64, AppError> {
        if !self.config().sinks.contains_key(name) {
            return Err(AppError::NoSink(name.to_owned()));
        }
        let replayed = self.store.recover_sink(name, since, self.now(), &self.policy()).await?;
        info!(sink = name, replayed, "the sink is enabled");
        Ok(replayed)
    }

    /// What signs for sinks without a secret of their own: the configured one, else one that is made once and kept.
    ///
    /// # Errors
    /// The store's, and [`AppError::NoEntropy`].
    pub async fn delivery_secret(&self) -> Result<SecretString, AppError> {
        self.delivery_secret_under(&self.config()).await
    }

    /// The same under a configuration that is not in force yet.
    ///
    /// # Errors
    /// As [`delivery_secret`](Self::delivery_secret).
    pub async fn delivery_secret_under(&self, config: &Config) -> Result<SecretString, AppError> {
        if let Some(configured) = &config.delivery.secret {
            return Ok(configured.clone());
        }
        let fresh = SigningKey::text(&self.entropy.bytes()?);
        let kept = self.store.keep("delivery-secret", fresh.expose_secret().as_bytes().to_vec()).await?;
        Ok(SecretString::from(String::from_utf8_lossy(&kept).into_owned()))
    }

    /// A message that tests a sink, as if this had happened to a job that does not exist: its id, the job's and its body.
    ///
    /// # Errors
    /// [`AppError::NoSink`], [`AppError::NoEntropy`].
    pub fn test_event(&self, name: &str, kind: EventKind) -> Result<(EventId, JobId, Bytes), AppError> {
        let config = self.config();
        let sink = config.sinks.get(name).ok_or_else(|| AppError::NoSink(name.to_owned()))?;
        let (now, unique) = (self.now(), self.entropy.bytes()?);
        let (id, job) = (EventId::new(now, &unique), JobId::new(now, &unique));
        Ok((id, job, render::test(sink.format, kind, id, job, now, self.external_url())))
    }

    async fn change(
        &self,
        id: DeliveryId,
        event: DeliveryEvent,
    ) -> Result<Option<DeliveryChanged>, StoreError> {
        self.store.change_delivery(id, event, self.now(), &self.policy()).await
    }
}

/// One line for what a person may have to look into, and one count for everything. Hosts of jobs' own URLs are no labels:
/// whoever submits jobs could make as many as they like.
fn said(delivery: &Delivery, answer: Answer, disabled: bool) {
    let sink = if is_notify_lane(&delivery.lane) { "notify" } else { delivery.lane.as_str() };
    let outcome = match (answer, delivery.state) {
        (Answer::Delivered, _) => "delivered",
        (_, DeliveryState::Exhausted) => "exhausted",
        _ => "failed",
    };
    counter!("reelhook_deliveries_total", "sink" => sink.to_owned(), "outcome" => outcome).increment(1);
    if delivery.state == DeliveryState::Exhausted {
        let job = delivery.job_id.map(tracing::field::display);
        warn!(delivery = %delivery.id, job, sink = delivery.lane, "a delivery is exhausted");
    }
    if disabled {
        counter!("reelhook_sinks_disabled_total", "sink" => sink.to_owned()).increment(1);
        warn!(
            sink,
            "the sink is disabled; `reelhook sinks recover` enables it and delivers what was left out"
        );
    }
}
