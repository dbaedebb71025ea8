//! How often the server died, and where.

use std::{collections::BTreeMap, fmt};

use clap::ValueEnum;
use reelhook::chaos::Point;

use crate::{name, plan::Kill, stage::Death};

#[derive(Default)]
pub(crate) struct Deaths {
    at_random: usize,
    while_ending: usize,
    /// Deaths at each point, and kills before it was come to.
    at_points: BTreeMap<Point, (usize, usize)>,
}

impl Deaths {
    pub(crate) fn count(&mut self, kill: Kill, death: Death) {
        match (kill, death) {
            (Kill::After(_), _) => self.at_random += 1,
            (Kill::Ending(..), _) => self.while_ending += 1,
            (Kill::At(point, _), Death::Planned) => self.at_points.entry(point).or_default().0 += 1,
            (Kill::At(point, _), Death::Missed) => self.at_points.entry(point).or_default().1 += 1,
        }
    }

    /// The points at which nothing died: they were not tested.
    pub(crate) fn never_reached(&self) -> Vec<Point> {
        let missed = |point: &Point| self.at_points.get(point).is_none_or(|(deaths, _)| *deaths == 0);
        Point::value_variants().iter().copied().filter(missed).collect()
    }
}

impl fmt::Display for Deaths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (deaths, missed) =
            self.at_points.values().fold((0, 0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        writeln!(
            f,
            "  killed {} times: {} at random moments, {} while ending, {deaths} at points, {missed} short of a point",
            self.at_random + self.while_ending + deaths + missed,
            self.at_random,
            self.while_ending,
        )?;
        let points: Vec<_> =
            self.at_points.iter().map(|(point, (deaths, _))| format!("{} {deaths}", name(*point))).collect();
        writeln!(f, "  deaths: {}", points.join(" · "))
    }
}
