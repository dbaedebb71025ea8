//! Deliveries, and what the indexes hold of them.

use sled::IVec;

use super::{Checker, REBUILD, RESTART};
use crate::{
    lifecycle::{Delivery, DeliveryId},
    store::sled::{
        keys::{self, PendingKey},
        outbox,
        source::Source,
        value::{self, Fault},
    },
};

impl Checker<'_> {
    pub(super) fn deliveries(&mut self) {
        self.each(&[keys::DELIVERY], "deliveries", |checker, key, head| {
            match value::join(checker.tree, key, head).and_then(|record| outbox::decode(&record)) {
                Ok(delivery) => checker.delivery(key, &delivery),
                Err(fault) => {
                    checker.damaged += 1;
                    checker.unusable(key, "the delivery", &fault);
                }
            }
        });
        self.each(&[keys::PENDING], "pending deliveries", |checker, key, _| {
            let vouched = |entry: &PendingKey| match outbox::read(checker.tree, keys::parse_pending(entry).1)
            {
                Ok(delivery) => delivery.and_then(|delivery| outbox::pending_key(&delivery)) == Some(*entry),
                Err(Fault::Damaged) => true, // it is told with the record
                Err(_) => false,
            };
            if !PendingKey::try_from(&**key).is_ok_and(|entry| vouched(&entry)) {
                checker.find(key, "no delivery is due as it says", REBUILD);
            }
        });
        self.each(&[keys::OF_JOB], "deliveries of jobs", |_, _, _| {});
        self.each(&[keys::DELIVERY_LEASE], "claimed deliveries", |checker, key, _| {
            let claimed = keys::parse_delivery(key).map(|id| outbox::read(checker.tree, id));
            if !matches!(claimed, Some(Ok(Some(Delivery { lease: Some(_), .. })) | Err(_))) {
                checker.find(key, "it names no delivery that is claimed", RESTART);
            }
        });
    }

    fn delivery(&mut self, key: &IVec, delivery: &Delivery) {
        if keys::parse_id(key).map(DeliveryId::from_bytes) != Some(delivery.id) {
            self.find(key, format!("the record is of {}", delivery.id), REBUILD);
            return;
        }
        if let Err(sentence) = delivery.check() {
            self.find(key, format!("it does not hold that {sentence}"), REBUILD);
        }
        let has = |key: &[u8]| Source::get(self.tree, key).is_ok_and(|entry| entry.is_some());
        let waits = outbox::pending_key(delivery).is_none_or(|entry| has(&entry));
        let state = |job| Source::get(self.tree, &keys::of_job(job, delivery.id)).ok().flatten();
        let listed = delivery
            .job_id
            .is_none_or(|job| state(job).is_some_and(|state| *state == [delivery.state as u8]));
        let leased = delivery.lease.is_none() || has(&keys::delivery_lease(delivery.id));
        if !waits && !self.recount {
            self.find(key, "it waits and is not in the index of those that do", REBUILD);
        }
        if !listed {
            self.find(key, "it is not listed as it stands among those of its job", REBUILD);
        }
        if !leased {
            self.find(key, "its claim is not listed", REBUILD);
        }
        self.tally.owes(None, Some(delivery.state));
    }
}
