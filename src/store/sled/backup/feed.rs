//! From the committer's threads to that of the backup: what is durable, in order, and never a wait.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use super::{format::Group, now, status::Status};
use crate::store::sled::txn::Writes;

/// Bytes that wait at most for a target that is slow or away. What comes then is left out, and a snapshot makes up for it.
const ROOM: usize = 64 << 20;
/// What a group takes beside its keys and values, in bytes, and each of those.
const OVERHEAD: usize = 64;

/// How far the store is, in groups.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// The newest group that the tree may show something of.
    begun: AtomicU64,
    /// The newest that is durable, and was offered.
    durable: AtomicU64,
    /// The newest that found no room.
    left_out: AtomicU64,
    /// Bytes that wait.
    queued: AtomicUsize,
}

impl Numbers {
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }

    pub(super) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    pub(super) fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Acquire)
    }
}

/// The committer's end. Its two threads have one each; what happens between them is in their own order.
#[derive(Clone, Debug)]
pub(in crate::store::sled) struct Feed {
    numbers: Arc<Numbers>,
    status: Arc<Status>,
    groups: UnboundedSender<Group>,
    room: usize,
}

/// A group that is being written.
#[derive(Debug)]
pub(in crate::store::sled) struct Begun {
    number: u64,
    writes: Writes,
}

impl Feed {
    /// Numbers a group that is about to be applied.
    pub(in crate::store::sled) fn begin(&self, writes: &Writes) -> Begun {
        Begun { number: self.numbers.begun.fetch_add(1, Ordering::AcqRel) + 1, writes: writes.clone() }
    }

    /// Hands over a group that is durable.
    pub(in crate::store::sled) fn offer(&self, group: Begun) {
        let Begun { number, writes } = group;
        let (at, bytes) = (now(), size(&writes));
        if self.numbers.queued.fetch_add(bytes, Ordering::AcqRel) + bytes > self.room {
            self.numbers.queued.fetch_sub(bytes, Ordering::AcqRel);
            self.numbers.left_out.store(number, Ordering::Release);
            self.status.left_out(at);
        } else {
            self.status.waits(at);
            // A backup that has ended takes nothing any more.
            self.groups.send(Group { number, at, writes }).ok();
        }
        self.numbers.durable.store(number, Ordering::Release);
    }
}

/// The backup's end.
#[derive(Debug)]
pub(super) struct Outlet {
    pub(super) numbers: Arc<Numbers>,
    groups: UnboundedReceiver<Group>,
}

impl Outlet {
    /// The next group; none once the store is closed.
    pub(super) async fn next(&mut self) -> Option<Group> {
        let group = self.groups.recv().await?;
        self.numbers.queued.fetch_sub(size(&group.writes), Ordering::AcqRel);
        Some(group)
    }

    /// Lets go of what waits; the number of the newest.
    pub(super) fn drain(&mut self) -> u64 {
        let mut newest = 0;
        while let Ok(group) = self.groups.try_recv() {
            self.numbers.queued.fetch_sub(size(&group.writes), Ordering::AcqRel);
            newest = group.number;
        }
        newest
    }

    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }
}

fn size(writes: &Writes) -> usize {
    let bytes = |value: &Option<sled::IVec>| value.as_ref().map_or(0, |value| value.len());
    writes.iter().fold(OVERHEAD, |sum, (key, value)| sum + OVERHEAD + key.len() + bytes(value))
}

/// A feed that goes on behind group `last`.
pub(super) fn feed(last: u64, status: Arc<Status>) -> (Feed, Outlet) {
    with_room(ROOM, last, status)
}

pub(super) fn with_room(room: usize, last: u64, status: Arc<Status>) -> (Feed, Outlet) {
    let numbers = Arc::new(Numbers { begun: last.into(), durable: last.into(), ..Numbers::default() });
    let (sender, groups) = mpsc::unbounded_channel();
    let feed = Feed { numbers: Arc::clone(&numbers), status, groups: sender, room };
    (feed, Outlet { numbers, groups })
}
