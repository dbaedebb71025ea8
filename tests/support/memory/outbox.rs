//! Deliveries: what is owed, who takes it, and how sinks fare.

use bytes::Bytes;
use reelhook::{
    lifecycle::{
        Delivery, DeliveryEvent, DeliveryId, DeliveryState, JobId, Millis, Policy, SinkState, is_notify_lane,
    },
    store::{
        About, ClaimedDelivery, DeliveryChanged, DeliveryClaim, DeliveryCounts, DeliveryFilter, Lane, Page,
        Rendering, SinkRecord,
    },
};

use super::{read::page, tables::Tables};

impl Tables {
    pub(crate) fn lanes(&self) -> Vec<Lane> {
        let mut lanes: Vec<Lane> = Vec::new();
        for (_, delivery) in self.deliveries.iter() {
            let Some(due) = delivery.due_at else { continue };
            match lanes.iter_mut().find(|lane| lane.name == delivery.lane) {
                Some(lane) => lane.due = lane.due.min(due),
                None => lanes.push(Lane { name: delivery.lane.clone(), due }),
            }
        }
        lanes
    }

    pub(crate) fn owed(&self) -> u64 {
        self.deliveries.iter().filter(|(_, delivery)| delivery.due_at.is_some()).count() as u64
    }

    pub(crate) fn sink(&self, name: &str) -> SinkState {
        self.sinks.get(&name.to_owned()).cloned().unwrap_or_default()
    }

    pub(crate) fn sink_records(&self) -> Vec<SinkRecord> {
        self.sinks
            .iter()
            .map(|(name, state)| SinkRecord { name: name.clone(), state: state.clone() })
            .collect()
    }

    pub(crate) fn claim_deliveries(&mut self, ask: &DeliveryClaim) -> Vec<ClaimedDelivery> {
        let closed = if is_notify_lane(&ask.lane) { None } else { self.sink(&ask.lane).closed() };
        let in_lane = |delivery: &&Delivery| {
            delivery.lane == ask.lane && delivery.due_at.is_some_and(|at| at <= ask.now)
        };
        let mut due: Vec<Delivery> =
            self.deliveries.iter().map(|(_, delivery)| delivery).filter(in_lane).cloned().collect();
        due.sort_by_key(|delivery| (delivery.due_at, delivery.id));
        due.truncate(if closed.is_some() { usize::MAX } else { ask.max });
        let mut claimed = Vec::new();
        for delivery in due {
            let ready = match &closed {
                Some(why) => Err(why.clone()),
                None => self.prepare(&delivery, ask),
            };
            let event = match &ready {
                Ok(_) => DeliveryEvent::Claimed,
                Err(why) => DeliveryEvent::Withdrawn(why.clone()),
            };
            let Some(delivery) = self.step(&delivery, &event, ask.now, &ask.policy) else { continue };
            claimed.extend(ready.ok().map(|(body, notify)| ClaimedDelivery { delivery, body, notify }));
        }
        if !claimed.is_empty() {
            self.clock.put((), ask.now);
        }
        claimed
    }

    fn prepare(
        &mut self,
        delivery: &Delivery,
        ask: &DeliveryClaim,
    ) -> Result<(Bytes, Option<reelhook::lifecycle::Notify>), String> {
        let row = delivery.job_id.map(|id| self.jobs.get(&id).cloned());
        let row = row.map(|row| row.ok_or("the record of its job is gone or damaged")).transpose()?;
        let named = |at: u8| row.as_ref()?.job.notify.get(usize::from(at)).cloned();
        let notify = delivery.notify.and_then(named);
        if let Some(body) = self.bodies.get(&delivery.id) {
            return Ok((body.clone(), notify));
        }
        let about = row.as_ref().map(|row| About {
            job: &row.job,
            document: row.document.as_deref().unwrap_or_default(),
            counts: self.delivery_counts(row.job.id),
        });
        let body = (ask.render)(&Rendering { delivery, about });
        self.bodies.put(delivery.id, body.clone());
        Ok((body, notify))
    }

    pub(crate) fn change_delivery(
        &mut self,
        id: DeliveryId,
        event: &DeliveryEvent,
        now: Millis,
        policy: &Policy,
    ) -> Option<DeliveryChanged> {
        let old = self.deliveries.get(&id).cloned()?;
        let delivery = self.step(&old, event, now, policy)?;
        let mut disabled = false;
        if let DeliveryEvent::Answered(attempt, _) = event
            && let Some((state, said)) =
                self.sink(&delivery.lane).heard(&delivery, attempt, now, &policy.delivery)
        {
            disabled = state.disabled_at.is_some();
            self.sinks.put(delivery.lane.clone(), state);
            said.into_iter().for_each(|event| self.log(event));
        }
        Some(DeliveryChanged { delivery, disabled })
    }

    fn step(
        &mut self,
        old: &Delivery,
        event: &DeliveryEvent,
        now: Millis,
        policy: &Policy,
    ) -> Option<Delivery> {
        let change = old.step(event, now, &policy.delivery)?;
        change.delivery.check().unwrap();
        self.deliveries.put(old.id, change.delivery.clone());
        change.event.into_iter().for_each(|event| self.log(event));
        Some(change.delivery)
    }

    pub(crate) fn delivery_counts(&self, job: JobId) -> DeliveryCounts {
        let mut counts = DeliveryCounts::default();
        let of_job = self.deliveries.iter().filter(|(_, delivery)| delivery.job_id == Some(job));
        of_job.for_each(|(_, delivery)| counts.add(delivery.state));
        counts
    }

    pub(crate) fn list_deliveries(
        &self,
        filter: &DeliveryFilter,
        before: Option<DeliveryId>,
        limit: usize,
    ) -> Page<Delivery> {
        let older = self.deliveries.iter().rev().filter(|(id, _)| before.is_none_or(|before| **id < before));
        page(older.map(|(id, delivery)| (*id.as_bytes(), delivery)), limit, |delivery| {
            filter.takes(delivery).then(|| delivery.clone())
        })
    }

    pub(crate) fn recover_sink(&mut self, name: &str, since: Millis, now: Millis, policy: &Policy) -> u64 {
        self.sinks.put(name.to_owned(), SinkState::default());
        let first = DeliveryId::new(since, &[0; 10]);
        let given_up =
            |delivery: &&Delivery| delivery.lane == name && delivery.state == DeliveryState::Exhausted;
        let replay: Vec<Delivery> =
            self.deliveries.range(first..).map(|(_, delivery)| delivery).filter(given_up).cloned().collect();
        replay
            .iter()
            .filter_map(|delivery| self.step(delivery, &DeliveryEvent::Replayed, now, policy))
            .count() as u64
    }

    pub(crate) fn hasten_deliveries(&mut self, now: Millis, policy: &Policy) {
        let beyond = now.plus(policy.delivery.longest_wait());
        let deliveries = self.deliveries.iter().map(|(_, delivery)| delivery);
        let late: Vec<Delivery> =
            deliveries.filter(|delivery| delivery.due_at.is_some_and(|at| at > beyond)).cloned().collect();
        for delivery in late {
            self.step(&delivery, &DeliveryEvent::Hastened, now, policy);
        }
    }

    pub(crate) fn release_deliveries(&mut self, now: Millis, policy: &Policy) {
        let ids: Vec<DeliveryId> = self.deliveries.iter().map(|(id, _)| *id).collect();
        for id in ids {
            self.change_delivery(id, &DeliveryEvent::Orphaned, now, policy);
        }
    }
}
