//! The indexes, the ledger, what is set aside, and what belongs to nothing.

use super::{BUDGET, Checker, NEWER, REBUILD, RECOVER, REFUSED, RESTART, shown};
use crate::{
    lifecycle::JobId,
    store::{
        Share,
        sled::{
            keys, ledger, record,
            source::Source,
            state::Tally,
            stray,
            value::{self, Fault},
        },
    },
};

impl Checker<'_> {
    /// What was damaged before and is set aside.
    pub(super) fn quarantine(&mut self) {
        self.each(&[keys::QUARANTINE], "set aside", |checker, key, _| {
            let of = &key[1..];
            let job = keys::parse_id(of).filter(|_| of.first() == Some(&keys::JOB)).map(JobId::from_bytes);
            checker.aside.extend(job);
            // A page of the due index has been made anew.
            if of.first() != Some(&keys::DUE) {
                let what = format!("{} was damaged and is set aside", shown(of));
                checker.find(key, what, RECOVER);
            }
        });
    }

    pub(super) fn indexes(&mut self) {
        self.each(&[keys::IDEMPOTENCY], "idempotency keys", |checker, key, head| {
            match value::join(checker.tree, key, head) {
                Ok(entry) => {
                    let id = entry.get(32..).and_then(|id| id.try_into().ok()).map(JobId::from_bytes);
                    match id.map(|id| checker.exists(id)) {
                        Some(Ok(true)) => {}
                        Some(Err(fault)) => checker.unusable(key, "its job", &fault),
                        Some(Ok(false)) | None => {
                            checker.find(
                                key,
                                "it leads to no job: sent again, it makes a second one",
                                RECOVER,
                            );
                        }
                    }
                }
                Err(Fault::Damaged) => checker.find(key, "the idempotency key is damaged", REFUSED),
                Err(fault) => checker.unusable(key, "the idempotency key", &fault),
            }
        });
        self.each(&[keys::TASK], "tasks", |checker, key, head| {
            if let Err(fault) = value::join(checker.tree, key, head) {
                checker.unusable(key, "the owner of a task", &fault);
            }
        });
        self.each(&[keys::LEASE], "claims", |checker, key, _| {
            let id = keys::parse_id(key).map(JobId::from_bytes);
            let listed = id.map(|id| record::read_former(checker.tree, id));
            if !matches!(listed, Some(Ok(Some(_)) | Err(_))) {
                checker.find(key, "it names no job", RESTART);
            }
        });
        for (prefix, name) in [
            (keys::DOCUMENT, "requests"),
            (keys::BODY, "bodies"),
            (keys::KEPT, "kept values"),
            (keys::SINK, "sinks"),
        ] {
            self.each(&[prefix], name, |checker, key, head| {
                if let Err(fault) = value::join(checker.tree, key, head) {
                    checker.unusable(key, "the value", &fault);
                }
            });
        }
        self.strays();
    }

    fn strays(&mut self) {
        let mut sum = Share::default();
        self.each(&[keys::STRAY], "strays", |checker, key, head| {
            match stray::bytes(checker.tree, key, head) {
                Ok(bytes) => sum = sum.with(bytes),
                Err(fault) => checker.unusable(key, "the callback without a job", &fault),
            }
        });
        match value::read(self.tree, keys::STRAYS) {
            Ok(None) => {} // counted with the next one that comes
            Ok(Some(stored)) if stray::parse_sum(&stored) == Some(sum) => {}
            Ok(Some(stored)) => {
                let said = stray::parse_sum(&stored);
                self.find(keys::STRAYS, format!("it says {said:?}, {sum:?} is right"), REBUILD);
            }
            Err(fault) => self.unusable(keys::STRAYS, "the sum of callbacks without a job", &fault),
        }
    }

    /// Pieces that belong to no value.
    pub(super) fn pieces(&mut self) {
        self.each(&[keys::PIECE], "pieces", |checker, key, _| {
            let Some((of, number)) = key[1..].split_last_chunk::<8>() else {
                return checker.find(key, "it is too short for a piece", REBUILD);
            };
            let head = Source::get(checker.tree, of).ok().flatten();
            let aside = of.first() == Some(&keys::QUARANTINE);
            if !head.is_some_and(|head| aside || u64::from_be_bytes(*number) < value::pieces(&head)) {
                checker.find(key, format!("the piece belongs to no value: {} has none", shown(of)), REBUILD);
            }
        });
    }

    /// Entries of a kind that this version does not have.
    pub(super) fn unknown(&mut self) {
        let mut next = Vec::new();
        while let Ok(Some((key, _))) = self.tree.get_gt(&next) {
            let prefix = key.first().copied().unwrap_or_default();
            let single = [keys::HEAD[0], keys::TALLY[0], keys::STRAYS[0]].contains(&prefix);
            if keys::name(prefix) == keys::UNKNOWN || (single && key.len() > 1) {
                self.find(&key, "no version up to this one has such entries", NEWER);
            }
            next = vec![prefix, u8::MAX];
            next.extend_from_slice(&[u8::MAX; 64]);
        }
    }

    pub(super) fn counted(&mut self, stored: Tally) {
        let (said, counted) = (stored.counts(), self.tally.counts());
        if counted != said {
            self.find(keys::TALLY, format!("it says {said:?}, {counted:?} is right"), REBUILD);
        }
        let aside = self.aside.len() as u64;
        if aside != stored.quarantined {
            let what = format!("{aside} records are set aside, it says {}", stored.quarantined);
            self.find(keys::TALLY, what, REBUILD);
        }
    }

    /// A day of the ledger is what its jobs hold; it may be more once a job is gone.
    pub(super) fn ledger(&mut self) {
        let gone = self.head.forgotten > 0 || self.unproven || self.damaged > 0 || !self.aside.is_empty();
        let mut held = std::mem::take(&mut self.booked);
        self.each(&[keys::LEDGER], "days of the ledger", |checker, key, head| {
            let booked = match value::join(checker.tree, key, head) {
                Ok(entry) => ledger::parse(&entry),
                Err(fault) => return checker.unusable(key, "the day", &fault),
            };
            let sum = keys::parse_day(key).and_then(|day| held.remove(&day)).unwrap_or(0);
            if booked < sum || (booked > sum && !gone) {
                checker.find(key, format!("{booked} credits are booked, its jobs hold {sum}"), BUDGET);
            }
        });
        for (day, sum) in held.into_iter().filter(|(_, sum)| *sum > 0) {
            self.find(&keys::ledger(day), format!("nothing is booked, its jobs hold {sum} credits"), BUDGET);
        }
    }
}
