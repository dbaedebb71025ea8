//! What is in a backup, by the names of its objects:
//!
//! ```text
//! store.json                           which store the backup is of
//! 00000003/claim                       one process, one run of groups without a gap: a generation
//! 00000003/log/<first>-<last>          a segment: groups, by the numbers of its first and last
//! 00000003/snapshot/<begin>            a snapshot: rows
//! 00000003/snapshot/<begin>.json       its manifest, written last: the snapshot is whole
//! ```

use std::collections::{BTreeMap, BTreeSet};

use futures_util::TryStreamExt as _;
use object_store::{ObjectMeta, ObjectStore, path::Path};

/// Which store the backup is of.
pub(super) const STORE: &str = "store.json";

/// Where a run of groups without a gap begins to be named.
pub(super) type Generation = u64;

pub(super) fn claim(generation: Generation) -> Path {
    Path::from(format!("{generation:08}/claim"))
}

pub(super) fn segment(generation: Generation, first: u64, last: u64) -> Path {
    Path::from(format!("{generation:08}/log/{first:016}-{last:016}"))
}

pub(super) fn snapshot(generation: Generation, begin: u64) -> Path {
    Path::from(format!("{generation:08}/snapshot/{begin:016}"))
}

pub(super) fn manifest(generation: Generation, begin: u64) -> Path {
    Path::from(format!("{generation:08}/snapshot/{begin:016}.json"))
}

/// The objects of a backup.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    pub(super) generations: BTreeSet<Generation>,
    /// By generation and first group.
    pub(super) segments: BTreeMap<(Generation, u64), Segment>,
    /// The whole ones, by generation and the group that they begin behind; with the time of their manifest.
    pub(super) snapshots: BTreeMap<(Generation, u64), ObjectMeta>,
    /// Everything that belongs to a generation, with the last group that it is of.
    pub(super) objects: Vec<(Generation, u64, Path)>,
}

#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) meta: ObjectMeta,
}

impl Catalog {
    pub(super) async fn list(store: &dyn ObjectStore) -> object_store::Result<Self> {
        let mut catalog = Self::default();
        let mut listed = store.list(None);
        while let Some(object) = listed.try_next().await? {
            catalog.add(object);
        }
        Ok(catalog)
    }

    /// What is not ours, and what a killed process left half-written, is passed over.
    fn add(&mut self, meta: ObjectMeta) {
        let path = meta.location.clone();
        let Some((generation, rest)) = path.as_ref().split_once('/') else { return };
        let Some(generation) = number(generation) else { return };
        let last = if rest == "claim" {
            0
        } else if let Some(range) = rest.strip_prefix("log/") {
            let Some((first, last)) = range.split_once('-') else { return };
            let (Some(first), Some(last)) = (number(first), number(last)) else { return };
            self.segments.insert((generation, first), Segment { first, last, meta });
            last
        } else if let Some(name) = rest.strip_prefix("snapshot/") {
            let Some(begin) = number(name.strip_suffix(".json").unwrap_or(name)) else { return };
            if name.ends_with(".json") {
                self.snapshots.insert((generation, begin), meta);
            }
            begin
        } else {
            return;
        };
        self.generations.insert(generation);
        self.objects.push((generation, last, path));
    }

    /// The segments behind a group, as far as they follow one another.
    pub(super) fn run(&self, generation: Generation, begin: u64) -> Vec<&Segment> {
        let mut run: Vec<&Segment> = Vec::new();
        for (_, segment) in self.segments.range((generation, 0)..(generation + 1, 0)) {
            let reached = run.last().map_or(begin, |segment| segment.last);
            if segment.last > reached {
                if segment.first > reached + 1 {
                    break;
                }
                run.push(segment);
            }
        }
        run
    }

    /// The second newest whole snapshot of a generation and those before it.
    pub(super) fn oldest_kept(&self, generation: Generation) -> Option<(Generation, u64)> {
        self.snapshots.range(..(generation + 1, 0)).rev().map(|(at, _)| *at).nth(1)
    }

    /// What neither that snapshot nor a newer one needs.
    pub(super) fn outdated(&self, (kept, begin): (Generation, u64)) -> Vec<Path> {
        let older = self.objects.iter().filter(|(generation, last, path)| {
            *generation < kept || (*generation == kept && *last < begin && *path != claim(kept))
        });
        older.map(|(.., path)| path.clone()).collect()
    }
}

/// A name that is a number and nothing else.
pub(super) fn number(text: &str) -> Option<u64> {
    Some(text).filter(|text| text.bytes().all(|digit| digit.is_ascii_digit()))?.parse().ok()
}
