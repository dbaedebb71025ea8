//! What is forgotten after its time.

use std::ops::Bound::{Excluded, Unbounded};

use async_trait::async_trait;
use bytes::Bytes;
use reelhook::{
    lifecycle::{CallbackId, Delivery, JobId, Millis},
    store::{Ended, Litter, Retain, StoreError, Sweep, Swept},
};

use super::{MemoryStore, Tables};

/// Small, so that tests see more than one step.
const STEP: usize = 4;

#[async_trait]
impl Retain for MemoryStore {
    async fn ended(&self, before: Millis, after: Option<JobId>) -> Result<Ended, StoreError> {
        self.read(|inner| {
            let from = after.map_or(Unbounded, Excluded);
            let rows = inner.tables.jobs.range((from, Excluded(JobId::new(before, &[0; 10]))));
            let jobs: Vec<_> = rows.map(|(_, row)| &row.job).collect();
            let next = jobs.get(STEP - 1).filter(|_| jobs.len() > STEP).map(|job| job.id);
            let ended = jobs.into_iter().take(STEP).filter(|job| job.outcome().is_some()).cloned();
            Ended { jobs: ended.collect(), next }
        })
        .await
    }

    async fn forget(&self, jobs: Vec<(JobId, u64)>) -> Result<Vec<JobId>, StoreError> {
        self.judge(false, |tables| {
            let gone = jobs.into_iter().filter(|(id, revision)| tables.forget(*id, *revision));
            Ok(gone.map(|(id, _)| id).collect())
        })
        .await
    }

    async fn sweep(&self, sweep: Sweep) -> Result<Swept, StoreError> {
        self.judge(false, |tables| Ok(tables.sweep(&sweep))).await
    }
}

/// An entry that a step looks at: its place, when it is of, its bytes; none of those that stay.
type Looked = (u128, Option<(Millis, usize)>);

impl Tables {
    fn sweep(&mut self, sweep: &Sweep) -> Swept {
        let looked: Vec<Looked> = match sweep.litter {
            Litter::Events => self.old_events(sweep),
            Litter::Callbacks => self.old_callbacks(sweep, |_| true),
            Litter::Bodies => self.old_callbacks(sweep, |body| !body.is_empty()),
            Litter::Deliveries => self.old_deliveries(sweep),
        };
        let mut swept = Swept { more: looked.len() > STEP, ..Swept::default() };
        for (place, found) in looked.into_iter().take(STEP) {
            swept.read_to = place;
            let Some((time, bytes)) = found else { continue };
            swept.count += 1;
            swept.bytes += bytes as u64;
            swept.oldest = swept.oldest.or(Some(time));
            if !sweep.dry_run {
                self.throw_out(sweep.litter, place);
            }
        }
        swept
    }

    fn old_events(&self, sweep: &Sweep) -> Vec<Looked> {
        let newest = self.newest();
        let rows = self.events.iter().take_while(|(seq, event)| **seq < newest && event.time < sweep.before);
        let after = rows.filter(|(seq, _)| u128::from(**seq) > sweep.after);
        after.map(|(seq, event)| (u128::from(*seq), Some((event.time, 1)))).take(STEP + 1).collect()
    }

    fn old_callbacks(&self, sweep: &Sweep, wanted: impl Fn(&Bytes) -> bool) -> Vec<Looked> {
        let rows = self.callbacks.iter().map(|(id, entry)| (u128::from_be_bytes(*id), entry));
        rows.take_while(|(_, entry)| entry.0.received_at < sweep.before)
            .filter(|(place, _)| *place > sweep.after)
            .map(|(place, entry)| (place, wanted(&entry.1).then_some((entry.0.received_at, entry.1.len()))))
            .take(STEP + 1)
            .collect()
    }

    fn old_deliveries(&self, sweep: &Sweep) -> Vec<Looked> {
        let over = |delivery: &Delivery| delivery.ended_at().filter(|at| *at < sweep.before);
        let rows =
            self.deliveries.iter().map(|(id, delivery)| (u128::from_be_bytes(*id.as_bytes()), delivery));
        rows.take_while(|(_, delivery)| delivery.created_at < sweep.before)
            .filter(|(place, _)| *place > sweep.after)
            .map(|(place, delivery)| (place, over(delivery).map(|at| (at, 1))))
            .take(STEP + 1)
            .collect()
    }

    fn throw_out(&mut self, litter: Litter, place: u128) {
        let id = place.to_be_bytes();
        match litter {
            Litter::Events => self.events.remove(&u64::try_from(place).unwrap()),
            Litter::Callbacks => {
                let (record, _) = (**self.callbacks.get(&id).unwrap()).clone();
                self.strays.remove(&(record.job_id, record.delivery_id));
                self.callbacks.remove(CallbackId::from_bytes(id).as_bytes());
            }
            Litter::Bodies => {
                let (record, _) = (**self.callbacks.get(&id).unwrap()).clone();
                self.callbacks.put(id, (record, Bytes::new()).into());
            }
            Litter::Deliveries => {
                let id = reelhook::lifecycle::DeliveryId::from_bytes(id);
                self.deliveries.remove(&id);
                self.bodies.remove(&id);
            }
        }
    }
}
