//! A store whose file is far larger than what is in it is written anew at a start: the engine never gives space back.
//!
//! The new one is built beside its place and put there by one exchange of two names. So at any moment there is a whole store in
//! its place, and what lies beside it, half-built or replaced, can be removed at the next start.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use rustix::fs::{CWD, RenameFlags, renameat_with, statvfs};
use sled::{Batch, Db, Tree};

use super::{
    backup,
    import::{beside, sync_parent},
    open,
};
use crate::{config, store::StoreError};

/// A smaller file is left alone, in bytes: to look through it at every start costs more than its space is worth.
const LEAST: u64 = 1 << 30;
/// A file of as many times its content, or less, is left alone: overwriting alone makes it 3.9 times as large, and no
/// larger.
const TIMES: u64 = 4;
/// Rows that are copied together.
const BATCH: usize = 1024;

/// The engine, with its files written anew if they have grown too far. A store that cannot be is used as it is.
pub(super) fn if_grown(config: &config::Store, db: Db) -> Result<Db, StoreError> {
    rebuilt_from(config, db, LEAST)
}

fn rebuilt_from(config: &config::Store, db: Db, least: u64) -> Result<Db, StoreError> {
    let (path, new) = (&config.path, beside(&config.path, "rebuilding"));
    remove(&new);
    let allocated = fs::metadata(path.join("db")).map_or(0, |log| log.blocks() * 512);
    if allocated < least {
        return Ok(db);
    }
    let rebuild = || {
        if holds(&db, allocated / TIMES)? {
            return Ok(false);
        }
        let content = content(&db)?;
        if !has_room(config, content.bytes) {
            return Ok(false);
        }
        build(config, &db, &new, &content)?;
        renameat_with(CWD, &new, CWD, path, RenameFlags::EXCHANGE)?;
        sync_parent(path).map(|()| true)
    };
    match rebuild() {
        Ok(false) => Ok(db),
        Ok(true) => {
            tracing::info!(store = %path.display(), allocated, "the store was written anew, for its file had grown too far");
            drop(db);
            let db = open::engine_of(config)?;
            remove(&new);
            Ok(db)
        }
        Err(error) => {
            tracing::warn!(store = %path.display(), %error, "the store cannot be written anew and goes on as it is");
            remove(&new);
            Ok(db)
        }
    }
}

/// Whether a tree has so many bytes. It reads no further: to read all of a million jobs would double the time of a start.
fn holds(tree: &Tree, least: u64) -> io::Result<bool> {
    let mut bytes = 0;
    for row in tree.iter() {
        let (key, value) = row.map_err(io::Error::other)?;
        bytes += (key.len() + value.len()) as u64;
        if bytes >= least {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Room for the new files beside the old ones, which are up to [`TIMES`] what is in them.
fn has_room(config: &config::Store, content: u64) -> bool {
    let free = statvfs(&config.path).map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    free.is_ok_and(|free| free > content.saturating_mul(TIMES).saturating_add(config.min_free))
}

/// What is in a tree.
#[derive(Debug, PartialEq, Eq)]
struct Content {
    bytes: u64,
    rows: u64,
    sum: u32,
}

fn content(tree: &Tree) -> io::Result<Content> {
    let (mut content, mut sum) = (Content { bytes: 0, rows: 0, sum: 0 }, crc32fast::Hasher::new());
    for row in tree.iter() {
        let (key, value) = row.map_err(io::Error::other)?;
        content.bytes += (key.len() + value.len()) as u64;
        content.rows += 1;
        [key, value].iter().for_each(|part| sum.update(part));
    }
    content.sum = sum.finalize();
    Ok(content)
}

/// Copies every row into a new folder, and makes it durable.
fn build(config: &config::Store, from: &Tree, folder: &Path, wanted: &Content) -> io::Result<()> {
    let failed = |error: StoreError| io::Error::other(error);
    let db = open::engine_of(&config::Store { path: folder.to_owned(), ..config.clone() }).map_err(failed)?;
    let mut rows = from.iter().peekable();
    while rows.peek().is_some() {
        let mut batch = Batch::default();
        for row in rows.by_ref().take(BATCH) {
            let (key, value) = row.map_err(io::Error::other)?;
            batch.insert(key, value);
        }
        db.apply_batch(batch).map_err(io::Error::other)?;
    }
    db.flush().map_err(io::Error::other)?;
    if content(&db)? != *wanted {
        return Err(io::Error::other("the new files do not hold what the old ones do"));
    }
    drop(db);
    backup::carry_place(&config.path, folder)?;
    sync(folder)
}

fn sync(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        File::open(entry?.path())?.sync_all()?;
    }
    File::open(folder)?.sync_all()
}

fn remove(folder: &Path) {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(folder = %folder.display(), %error, "what a rebuild of the store left cannot be removed");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;

    struct Grown {
        _folder: TempDir,
        config: config::Store,
    }

    impl Grown {
        /// A file of some megabytes with a hundred rows in it.
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let config = config::Store { path: folder.path().join("state"), cache: 1 << 20, min_free: 0 };
            let grown = Self { _folder: folder, config };
            let db = grown.open();
            let value = vec![7; 3000];
            (0..4000_u32).for_each(|n| drop(db.insert(n.to_be_bytes(), &*value).unwrap()));
            db.flush().unwrap();
            (100..4000_u32).for_each(|n| drop(db.remove(n.to_be_bytes()).unwrap()));
            db.flush().unwrap();
            grown
        }

        fn open(&self) -> Db {
            open::engine_of(&self.config).unwrap()
        }

        fn beside(&self) -> PathBuf {
            beside(&self.config.path, "rebuilding")
        }

        fn allocated(&self) -> u64 {
            fs::metadata(self.config.path.join("db")).unwrap().blocks() * 512
        }

        /// A start finds all rows and leaves nothing beside the store.
        fn is_whole(&self) {
            let db = if_grown(&self.config, self.open()).unwrap();
            assert_eq!(db.iter().map(Result::unwrap).filter(|(_, value)| value.len() == 3000).count(), 100);
            assert_eq!(db.len(), 100);
            assert!(!self.beside().exists());
        }
    }

    #[test]
    fn a_file_that_has_grown_too_far_is_written_anew_and_nothing_is_lost() {
        let grown = Grown::new();
        let before = grown.allocated();
        fs::write(grown.config.path.join("backed-up-in"), "/mnt/backup").unwrap();
        drop(rebuilt_from(&grown.config, grown.open(), 0).unwrap());
        let place = fs::read_to_string(grown.config.path.join("backed-up-in")).unwrap();
        assert_eq!(place, "/mnt/backup", "or a volume that is not mounted would be taken for a new place");
        assert!(grown.allocated() < before / 4, "{before} → {}", grown.allocated());
        grown.is_whole();
        let after = grown.allocated();
        drop(rebuilt_from(&grown.config, grown.open(), 0).unwrap());
        assert_eq!(grown.allocated(), after, "and not again");
    }

    #[test]
    fn whatever_a_kill_leaves_the_next_start_finds_the_whole_store() {
        let half_built = Grown::new();
        fs::create_dir(half_built.beside()).unwrap();
        fs::write(half_built.beside().join("db"), "half").unwrap();
        half_built.is_whole();

        let built = Grown::new();
        let db = built.open();
        build(&built.config, &db, &built.beside(), &content(&db).unwrap()).unwrap();
        drop(db);
        built.is_whole();

        let exchanged = Grown::new();
        let db = exchanged.open();
        build(&exchanged.config, &db, &exchanged.beside(), &content(&db).unwrap()).unwrap();
        renameat_with(CWD, exchanged.beside(), CWD, &exchanged.config.path, RenameFlags::EXCHANGE).unwrap();
        drop(db);
        exchanged.is_whole();

        let half_removed = Grown::new();
        fs::create_dir_all(half_removed.beside().join("blobs")).unwrap();
        half_removed.is_whole();
    }

    #[test]
    fn a_store_is_left_alone_below_the_limits_and_without_room() {
        let grown = Grown::new();
        let before = grown.allocated();
        drop(if_grown(&grown.config, grown.open()).unwrap());
        assert_eq!(grown.allocated(), before, "{LEAST} bytes are far away");
        let full = config::Store { min_free: u64::MAX, ..grown.config.clone() };
        drop(rebuilt_from(&full, grown.open(), 0).unwrap());
        assert_eq!(grown.allocated(), before);
        let (db, bytes) = (grown.open(), 100 * 3004);
        assert!(holds(&db, bytes).unwrap() && !holds(&db, bytes + 1).unwrap());
    }
}
