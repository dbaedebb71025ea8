//! Why a store does not do what it is asked.

use crate::disk::Trouble;

/// The store could not do it. Nothing that was acknowledged before is in doubt.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error(
        "the store at {path} is in use by {owner}; stop that process, or give this one another `[store] url`"
    )]
    Locked {
        /// Where it is.
        path: String,
        /// Who holds it, as far as can be told.
        owner: String,
    },
    /// There is none.
    #[error("there is no store at {path}: see `[store] url`")]
    Missing {
        /// Where it was looked for.
        path: String,
    },
    /// Something is there already.
    #[error("{path} is not empty and was not touched; name another place as `[store] url`, or move it away")]
    NotEmpty {
        /// Where it is.
        path: String,
    },
    /// Its jobs were moved to another store.
    #[error(
        "the store at {path} is sealed: its jobs were moved to another store ({note}), and working on them here as well \
         would pay for them twice; start with the other store. Only if that was never used, delete {path}/sealed"
    )]
    Sealed {
        /// Where it is.
        path: String,
        /// When, as the seal says.
        note: String,
    },
    /// It was made of a backup.
    #[error(
        "the store at {path} was restored {note}: what it has as not sent may have been sent since, and would be paid for \
         twice; start once with `reelhook serve --restored`, which holds that for a person to decide"
    )]
    Restored {
        /// Where it is.
        path: String,
        /// From which backup, and as it was when.
        note: String,
    },
    /// No copy of it can be made to look at.
    #[error("the store cannot be copied to {path} to be looked at: {why}; name another place with --scratch")]
    Uncopied {
        /// Where to.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// It does not open; nothing in it was changed.
    #[error(
        "the store at {path} does not open: {why}; nothing in it was deleted. `reelhook db recover FILE` writes what can \
         be read of it, and with --task jobs that ask about tasks that you name; `reelhook db import FILE` then makes a new \
         store of that where `[store] url` names an empty folder"
    )]
    Unreadable {
        /// Where it is.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// It was written by a newer version.
    #[error(
        "the store holds records of schema {found}, this version knows up to {known}: run the newer version"
    )]
    Newer {
        /// In the record.
        found: u16,
        /// Ours.
        known: u16,
    },
    /// The database acknowledges what it may lose.
    #[error(
        "the database runs with {setting} = off: a crash of it would lose jobs that were paid for; set {setting} = on, for \
         the whole server and for the role that reelhook connects as"
    )]
    Unsafe {
        /// The setting.
        setting: &'static str,
    },
    /// Its disk is full, read-only or gone; it heals by itself.
    #[error(transparent)]
    Disk(#[from] Trouble),
    /// The record is damaged; it is kept aside.
    #[error("the record of {0} is damaged; it was set aside and is left out of all work")]
    Damaged(String),
    /// The engine failed, or is shutting down.
    #[error("the store is not available: {0}")]
    Unavailable(String),
}
