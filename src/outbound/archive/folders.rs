//! The archive's own folder and those in it, made so that a power loss does not take them back.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::{HIDDEN, lock};

/// The file by which the archive's volume is known.
pub(super) fn mark(root: &Path) -> PathBuf {
    root.join(HIDDEN).join("archive")
}

/// Makes the archive's folder, or its spool, with its hidden one and its mark, durably, and returns its canonical path.
pub(super) fn prepare(root: &Path, is_spool: bool) -> io::Result<PathBuf> {
    let made = root.ancestors().take_while(|folder| !folder.exists()).count();
    fs::create_dir_all(root)?;
    let root = fs::canonicalize(root)?;
    // The parent even when nothing was made now: a killed process may have made the folder without syncing it.
    for folder in root.ancestors().skip(1).take(made.max(1)) {
        if let Err(error) = sync_folder(folder) {
            tracing::debug!(folder = %folder.display(), %error, "a folder above the archive cannot be synced");
        }
    }
    sync_up_to(&lock::folder(&root), &root)?;
    if !mark(&root).exists() {
        let folder = root.display();
        if is_spool {
            tracing::info!(%folder, "files wait here for their upload");
        } else if made > 0 {
            tracing::info!(%folder, "a new archive is begun");
        } else {
            // Perhaps a mount point without its volume.
            tracing::warn!(%folder, "a new archive is begun: if it should have videos, its volume is missing");
        }
        make_mark(&mark(&root))?;
    }
    Ok(root)
}

/// The canonical path of an archive's folder, or of its spool, where it has been begun: nothing is made.
pub(super) fn begun(root: &Path) -> io::Result<Option<PathBuf>> {
    if mark(root).try_exists()? { fs::canonicalize(root).map(Some) } else { Ok(None) }
}

/// Whole or not at all: half a mark would be one that two volumes may have.
fn make_mark(mark: &Path) -> io::Result<()> {
    let made = mark.with_extension("new");
    let mut file = File::create(&made)?;
    writeln!(file, "{}", Uuid::now_v7())?;
    file.sync_all()?;
    fs::rename(&made, mark)?;
    mark.parent().map_or(Ok(()), sync_folder)
}

/// The error with what it is about.
pub(super) fn named(error: &io::Error, root: &Path, is_spool: bool) -> io::Error {
    let key = if is_spool { "spool" } else { "url" };
    io::Error::new(error.kind(), format!("{} ([storage] {key}): {error}", root.display()))
}

/// Makes a folder below `root`, which is not made, and syncs it and all above it up to `root`.
pub(super) fn sync_up_to(folder: &Path, root: &Path) -> io::Result<()> {
    let below: Vec<_> = folder.ancestors().take_while(|above| above.starts_with(root)).collect();
    for missing in below.iter().rev().skip(1) {
        match fs::create_dir(missing) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    below.into_iter().try_for_each(sync_folder)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_made_below_the_archive_and_never_the_archive() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("videos");
        assert!(sync_up_to(&root.join("a/b"), &root).is_err());
        assert!(!root.exists());
        prepare(&root, false).unwrap();
        sync_up_to(&root.join("a/b"), &root).unwrap();
        sync_up_to(&root.join("a/b"), &root).unwrap();
        assert!(root.join("a/b").is_dir());
    }

    #[test]
    fn a_mark_is_made_once_and_is_another_for_another_archive() {
        let place = tempfile::tempdir().unwrap();
        let marked = |name: &str| {
            let root = prepare(&place.path().join(name), false).unwrap();
            fs::read(mark(&root)).unwrap()
        };
        assert_eq!(marked("one"), marked("one"));
        assert_ne!(marked("one"), marked("two"));
    }
}
