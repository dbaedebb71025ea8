//! Whether a change is written and durable in a bearable time.

use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::{Check, PATIENCE, span};
use crate::store::{Store, StoreError};

pub(super) const NAME: &str = "store";
/// A callback is answered after a write, and its sender has little patience.
const SLOW: Duration = Duration::from_secs(1);

/// Writes something of no meaning to the store that the server has open.
pub(super) async fn check(store: &dyn Store) -> Check {
    let began = Instant::now();
    let probed = timeout(PATIENCE, store.probe()).await;
    judge(probed.unwrap_or_else(|_| Err(late())), began.elapsed())
}

pub(super) fn judge(probed: Result<(), StoreError>, took: Duration) -> Check {
    match probed {
        Ok(()) if took > SLOW => Check::warning(
            NAME,
            format!("a change was written and synced, but that took {}", span(took)),
            "put [store] url on a faster disk, or find out what else keeps it busy: a provider gives up on callbacks that are \
             answered late",
        ),
        Ok(()) => Check::ok(NAME, format!("a change was written and synced in {}", span(took))),
        Err(error) => Check::failed(NAME, error.to_string(), remedy(&error)),
    }
}

pub(super) fn late() -> StoreError {
    StoreError::Unavailable(format!("a change was not durable within {}", span(PATIENCE)))
}

const fn remedy(error: &StoreError) -> &'static str {
    match error {
        StoreError::Locked { .. } => "name the server that has it with --server, or stop it",
        StoreError::Sealed { .. } => "set [store] url to the store that the jobs were moved to",
        StoreError::Unsafe { .. } => "switch the setting on, for the database and for the role",
        StoreError::Disk(_) => "make room on the disk, or mount it as it should be",
        StoreError::Unreadable { .. } => {
            "check that the folder of [store] url is the server's own; then `reelhook db check`"
        }
        _ => "check [store] url, and that what it names can be reached and written to",
    }
}
