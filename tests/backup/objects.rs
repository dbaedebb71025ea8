//! The objects of a backup, as they lie in its folder.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::place::Place;

/// The segments, oldest first.
pub(crate) fn segments(place: &Place) -> Vec<PathBuf> {
    of_kind(place, "log")
}

/// The snapshots that are whole, oldest first; their rows, not their manifests.
pub(crate) fn snapshots(place: &Place) -> Vec<PathBuf> {
    let whole = of_kind(place, "snapshot").into_iter().filter(|path| path.with_extension("json").exists());
    whole.filter(|path| path.extension().is_none()).collect()
}

/// The generations, oldest first.
pub(crate) fn generations(place: &Place) -> Vec<PathBuf> {
    let folders = entries(&place.path("backup")).into_iter().filter(|path| path.is_dir());
    folders.collect()
}

fn of_kind(place: &Place, kind: &str) -> Vec<PathBuf> {
    generations(place).iter().flat_map(|generation| entries(&generation.join(kind))).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(found) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = found.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Changes a bit near the end.
pub(crate) fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.len() - 5;
    bytes[at] ^= 4;
    fs::write(path, bytes).unwrap();
}

/// Leaves the first part of it.
pub(crate) fn tear(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() - 5]).unwrap();
}
