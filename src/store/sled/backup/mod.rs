//! Continuous backup: what a lost disk loses is seconds.
//!
//! **What is copied.** The committer writes one batch a group and makes it durable before anybody is answered. The same
//! batch, keys and values as they are, is handed to a thread of the backup's own ([`feed`]), under a number that rises by
//! one. That thread uploads what came as a *segment* every second, or sooner when there is much ([`writer`]): a heading
//! that says of which store and which groups it is, then each group with its time and its checksum ([`format`]). Nothing
//! waits for it: what finds no room, while the target is slow or away, is left out and said.
//!
//! **What it is applied to.** A *snapshot* is every row, read while the store goes on ([`snapshot`]). It counts once its
//! manifest is there, which is written last, after each segment that it needs. So a torn upload is never taken for whole.
//!
//! **What belongs together.** A *generation* is a run of groups without a gap, with snapshots of it. Its number is claimed in
//! the target, so that of two processes each has its own. A process that finds the backup to end where the one before it said,
//! at its orderly end, goes on with its generation ([`Marker`]). Any other, and one that had to leave a group out, begins a
//! new generation with a new snapshot. A new snapshot is also made once the segments since the last outweigh it, or a day has
//! passed; what is older than the last two goes.
//!
//! **What comes back.** [`restore()`] takes the newest snapshot that is whole and can be read, applies the segments behind it, in
//! order, up to the first gap or damage, and says where that is; what may pass makes no older store, but an error. What it
//! builds is marked: it starts only by `serve --restored`.

mod catalog;
mod feed;
mod format;
mod restore;
mod snapshot;
mod status;
mod target;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{Builder, JoinHandle},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sled::Tree;
use tokio::runtime;
use tokio_util::sync::CancellationToken;

pub(super) use self::feed::{Begun, Feed};
use self::{feed::Outlet, writer::Writer};
pub use self::{
    restore::{Missing, RestoreError, Restored, restore},
    status::{Report, Status},
    target::Target,
};
use super::offline;
use crate::lifecycle::Millis;

/// Says in the store's folder where the backup ends that has everything.
const MARKER: &str = "backed-up";
/// Says in the store's folder in which other folder its backup was begun.
const BEGUN_IN: &str = "backed-up-in";
/// How long a store that is closed waits for the last uploads.
const GRACE: Duration = Duration::from_secs(5);

/// Where a backup ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marker {
    generation: u64,
    last: u64,
}

impl Marker {
    /// Takes what an orderly end left in a store's folder, durably: it is true of the store as it lies there and no longer.
    pub(super) fn take(store: &Path) -> io::Result<Option<Self>> {
        let path = store.join(MARKER);
        let marker = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            marker => marker?,
        };
        fs::remove_file(&path)?;
        File::open(store)?.sync_all()?;
        Ok(serde_json::from_slice(&marker).ok())
    }

    fn leave(self, store: &Path) -> io::Result<()> {
        let path = store.join(MARKER);
        fs::write(&path, serde_json::to_vec(&self)?)?;
        File::open(&path)?.sync_all()
    }
}

/// Whether the backup of the store in `store` was begun in the folder `place`. If nothing of it is there then, that is not
/// the volume which has it.
fn was_begun_in(place: &Path, store: &Path) -> bool {
    fs::read(store.join(BEGUN_IN)).is_ok_and(|begun| begun == place.as_os_str().as_encoded_bytes())
}

/// Has a store that takes the place of another know, too, in which folder its backup was begun.
pub(super) fn carry_place(from: &Path, to: &Path) -> io::Result<()> {
    match fs::copy(from.join(BEGUN_IN), to.join(BEGUN_IN)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn note_begun_in(place: &Path, store: &Path) -> io::Result<()> {
    if was_begun_in(place, store) {
        return Ok(());
    }
    offline::leave(store, BEGUN_IN, place.as_os_str().as_encoded_bytes())
}

/// A backup before its store is open.
#[derive(Debug)]
pub(super) struct Prepared {
    target: Target,
    outlet: Outlet,
    status: Arc<Status>,
    left: Option<Marker>,
}

/// A backup and the committer's way to it. `left` is what the process before left.
pub(super) fn prepare(target: Target, left: Option<Marker>) -> (Feed, Prepared) {
    let status = Arc::new(Status::new());
    let (feed, outlet) = feed::feed(left.map_or(0, |left| left.last), Arc::clone(&status));
    (feed, Prepared { target, outlet, status, left })
}

impl Prepared {
    /// Starts the backup of a store, known by `id`, in `folder`.
    pub(super) fn start(self, tree: Tree, id: &[u8], folder: PathBuf) -> io::Result<Backup> {
        let Self { target, outlet, status, left } = self;
        let writer = Writer::new(target, tree, outlet, Arc::clone(&status), hex::encode(id), folder.clone());
        let (closing, ended) = (CancellationToken::new(), CancellationToken::new());
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = Builder::new().name("store-backup".into()).spawn({
            let (closing, ended, status) = (closing.clone(), ended.clone(), Arc::clone(&status));
            move || {
                let _ended = ended.drop_guard();
                let _fault = Fault(status);
                let marker = runtime.block_on(async {
                    tokio::select! {
                        marker = writer.run(left) => marker,
                        () = grace(&closing) => None,
                    }
                });
                // A snapshot that is being read holds on to the store's files.
                runtime.shutdown_timeout(GRACE);
                match marker.map(|marker| marker.leave(&folder)) {
                    Some(Ok(())) => {}
                    Some(Err(error)) => {
                        tracing::warn!(%error, "the next start makes a new snapshot for the backup");
                    }
                    None => tracing::warn!(
                        "the store is closed and the backup lacks its end; the next start makes up for it"
                    ),
                }
            }
        })?;
        Ok(Backup { status, closing, ended, thread: Some(thread) })
    }
}

async fn grace(closing: &CancellationToken) {
    closing.cancelled().await;
    tokio::time::sleep(GRACE).await;
}

/// Says that a fault of ours ended the backup.
struct Fault(Arc<Status>);

impl Drop for Fault {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.failed("the backup ended by a fault of its own; it begins again with the next start");
        }
    }
}

/// The backup of an open store.
#[derive(Debug)]
pub(super) struct Backup {
    status: Arc<Status>,
    closing: CancellationToken,
    ended: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Backup {
    pub(super) fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// Waits for the last uploads, as far as the grace time allows. The committer has ended, or is about to.
    pub(super) async fn close(&self) {
        self.closing.cancel();
        self.ended.cancelled().await;
    }
}

impl Drop for Backup {
    /// Waits, so that the lock on the files is free afterwards. The committer is gone.
    fn drop(&mut self) {
        self.closing.cancel();
        if let Some(thread) = self.thread.take() {
            thread.join().ok(); // its panic is told by the status
        }
    }
}

fn now() -> Millis {
    Millis(jiff::Timestamp::now().as_millisecond())
}
