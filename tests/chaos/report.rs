//! The table at the end of a run, and what it must say of a run that is meant to fail.

use std::{collections::BTreeMap, fmt, time::Instant};

use crate::checker::{Found, Kind, Violation};

/// Violations of a kind that are shown one by one.
const SHOWN: usize = 3;

pub(crate) struct Report {
    begun: Instant,
    pub(crate) found: Found,
    pub(crate) violations: Vec<Violation>,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self { begun: Instant::now(), found: Found::default(), violations: Vec::new() }
    }

    pub(crate) fn add(&mut self, kind: Kind, what: impl Into<String>) {
        self.violations.push(Violation { kind, what: what.into() });
    }

    pub(crate) fn has(&self, kind: Kind) -> bool {
        self.violations.iter().any(|violation| violation.kind == kind)
    }

    pub(crate) fn is_spotless(&self) -> bool {
        self.violations.is_empty()
    }
}

/// Whether what is wrong on purpose shows in one of so many runs, each with a seed of its own.
pub(crate) async fn is_noticed(
    flaw: impl fmt::Debug,
    runs: u64,
    seed: u64,
    shows: impl AsyncFn(u64) -> bool,
) -> bool {
    for seed in seed..seed + runs {
        let noticed = shows(seed).await;
        println!("{flaw:?}: the checker {}\n", if noticed { "notices" } else { "DOES NOT NOTICE" });
        if noticed {
            return true;
        }
    }
    false
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {}", self.found)?;
        let mut kinds: BTreeMap<Kind, Vec<&str>> = BTreeMap::new();
        for violation in &self.violations {
            kinds.entry(violation.kind).or_default().push(&violation.what);
        }
        for (kind, all) in kinds {
            writeln!(f, "  VIOLATION {kind:?}, {} times:", all.len())?;
            all.iter().take(SHOWN).try_for_each(|what| writeln!(f, "    {what}"))?;
        }
        writeln!(f, "  {} violations, {} s", self.violations.len(), self.begun.elapsed().as_secs())
    }
}
