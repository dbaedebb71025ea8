//! The table at the end of a run.

use std::{collections::BTreeMap, fmt, time::Instant};

use clap::ValueEnum;
use reelhook::chaos::Point;

use crate::{
    checker::{Found, Kind, Violation},
    name,
    plan::Kill,
    stage::Death,
};

/// Violations of a kind that are shown one by one.
const SHOWN: usize = 3;

pub(crate) struct Report {
    begun: Instant,
    at_random: usize,
    while_ending: usize,
    /// Deaths at each point, and kills before it was come to.
    at_points: BTreeMap<Point, (usize, usize)>,
    pub(crate) found: Found,
    pub(crate) violations: Vec<Violation>,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self {
            begun: Instant::now(),
            at_random: 0,
            while_ending: 0,
            at_points: BTreeMap::new(),
            found: Found::default(),
            violations: Vec::new(),
        }
    }

    pub(crate) fn died(&mut self, kill: Kill, death: Death) {
        match (kill, death) {
            (Kill::After(_), _) => self.at_random += 1,
            (Kill::Ending(..), _) => self.while_ending += 1,
            (Kill::At(point, _), Death::Planned) => self.at_points.entry(point).or_default().0 += 1,
            (Kill::At(point, _), Death::Missed) => self.at_points.entry(point).or_default().1 += 1,
        }
    }

    pub(crate) fn add(&mut self, kind: Kind, what: String) {
        self.violations.push(Violation { kind, what });
    }

    /// A point at which nothing died was not tested.
    pub(crate) fn never_reached(&self) -> Vec<Violation> {
        let missed = |point: &&Point| self.at_points.get(*point).is_none_or(|(deaths, _)| *deaths == 0);
        let all = Point::value_variants().iter().filter(missed);
        all.map(|point| Violation { kind: Kind::NotTested, what: format!("no death at {}", name(*point)) })
            .collect()
    }

    pub(crate) fn is_spotless(&self) -> bool {
        self.violations.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (deaths, missed) =
            self.at_points.values().fold((0, 0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        writeln!(
            f,
            "  killed {} times in {} s: {} at random moments, {} while ending, {deaths} at points, {missed} short of a point",
            self.at_random + self.while_ending + deaths + missed,
            self.begun.elapsed().as_secs(),
            self.at_random,
            self.while_ending,
        )?;
        let points: Vec<_> =
            self.at_points.iter().map(|(point, (deaths, _))| format!("{} {deaths}", name(*point))).collect();
        writeln!(f, "  deaths: {}", points.join(" · "))?;
        writeln!(f, "  {}", self.found)?;
        let mut kinds: BTreeMap<Kind, Vec<&str>> = BTreeMap::new();
        for violation in &self.violations {
            kinds.entry(violation.kind).or_default().push(&violation.what);
        }
        for (kind, all) in kinds {
            writeln!(f, "  VIOLATION {kind:?}, {} times:", all.len())?;
            all.iter().take(SHOWN).try_for_each(|what| writeln!(f, "    {what}"))?;
        }
        writeln!(f, "  {} violations", self.violations.len())
    }
}
