//! What is wrong with a run on purpose: the database without one of its safeguards, or damage done by hand.

use std::time::Duration;

use crate::{
    checker::{Ends, Kind},
    plan::{Fault, INSTANCES, Round, Strike},
    report::Report,
    stage::Stage,
    tamper,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// A claim locks nothing, and what somebody else has changed meanwhile is written over.
    Unlocked,
    /// A commit is acknowledged before it is durable.
    Unsynced,
    /// Damage by hand, after an honest run.
    Tampered,
}

/// What keeps two instances from doing the same, as the functions have it, and what takes its place.
const LOCKS: [(&str, &str, &str); 3] = [
    ("claimable", " FOR UPDATE SKIP LOCKED", ""),
    ("claimable", "FROM gate FOR UPDATE", "FROM gate, pg_sleep(0.02)"),
    ("replace_job", "was.revision + 1 <> j.revision", "false"),
];

impl Flaw {
    pub(crate) const ALL: [Self; 3] = [Self::Unlocked, Self::Unsynced, Self::Tampered];

    pub(crate) fn put_into(self, stage: &Stage) {
        match self {
            Self::Unlocked => {
                for (function, guard, nothing) in LOCKS {
                    let changed = stage.sql(&format!(
                        "DO $do$ BEGIN EXECUTE replace(pg_get_functiondef('{function}'::regproc), $a${guard}$a$, $b${nothing}$b$); \
                         END $do$; SELECT pg_get_functiondef('{function}'::regproc) NOT LIKE '%{guard}%'"
                    ));
                    assert!(changed.ends_with('t'), "{function} has no such safeguard: {guard}");
                }
            }
            // Set behind the back of servers that have looked; their connections are made anew.
            Self::Unsynced => {
                stage.sql("ALTER DATABASE test0 SET synchronous_commit = off");
                stage.sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                     WHERE datname = current_database() AND pid <> pg_backend_pid()",
                );
            }
            Self::Tampered => {}
        }
    }

    /// For the last look, at which servers refuse such a database.
    pub(crate) fn take_out(self, stage: &Stage) {
        if self == Self::Unsynced {
            stage.sql("ALTER DATABASE test0 RESET synchronous_commit");
        }
    }

    /// What the checker must say: one of these for a safeguard, each of them for damage.
    pub(crate) fn is_noticed(self, report: &Report) -> bool {
        match self {
            Self::Unlocked => report.has(Kind::PaidTwice),
            Self::Unsynced => {
                [Kind::LostJob, Kind::LostCallback, Kind::EventLog].into_iter().any(|kind| report.has(kind))
            }
            Self::Tampered => tamper::VERDICT.into_iter().all(|kind| report.has(kind)),
        }
    }

    /// Whether a fault comes when the safeguard matters is chance; damage is always there.
    pub(crate) const fn runs(self) -> u64 {
        match self {
            Self::Unlocked | Self::Unsynced => 3,
            Self::Tampered => 1,
        }
    }

    /// Damage comes after an honest run.
    pub(crate) const fn ends(self) -> Ends {
        match self {
            Self::Unlocked | Self::Unsynced => Ends::Broken,
            Self::Tampered => Ends::OrDoubted,
        }
    }

    /// The faults by which it shows.
    pub(crate) fn rounds(self, count: usize) -> Vec<Round> {
        let one = |nth: usize| {
            let fault = match self {
                Self::Unsynced => Fault::Crash { down: Duration::ZERO },
                Self::Unlocked | Self::Tampered => {
                    Fault::Kill { instance: nth % INSTANCES, down: Duration::ZERO }
                }
            };
            vec![Strike { after: Duration::from_millis(700), fault }]
        };
        (0..count).map(one).collect()
    }
}
