//! The backup from inside: what is read while it changes, what cannot be uploaded, what is not what was written.

mod keeps;
mod unread;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use futures_util::stream;
use object_store::memory::InMemory;
use proptest::prelude::*;
use sled::{Db, IVec, Tree};
use tempfile::TempDir;

use self::keeps::Keeps;
use super::{
    Begun, Feed, Marker, Status, Target,
    catalog::Catalog,
    feed::{Outlet, with_room},
    format::{self, Content, FORMAT, FrameError, Frames, Group, Heading},
    restore,
    snapshot::Rows,
    writer::Writer,
};
use crate::{
    config,
    lifecycle::Millis,
    store::sled::{
        open,
        txn::{self, Writes},
    },
};

type State = BTreeMap<IVec, IVec>;

fn tree() -> Db {
    sled::Config::new().temporary(true).open().unwrap()
}

fn state(tree: &Tree) -> State {
    tree.iter().map(Result::unwrap).collect()
}

fn apply(state: &mut State, writes: &Writes) {
    for (key, value) in writes {
        match value {
            Some(value) => state.insert(key.clone(), value.clone()),
            None => state.remove(key),
        };
    }
}

prop_compose! {
    /// Keys enough for a tree of some leaves, few enough to be written again and again.
    fn writes()(writes in prop::collection::btree_map(any::<u8>(), prop::option::of(any::<u8>()), 1..12)) -> Writes {
        let key = |key: u8| IVec::from(&[b'k', key]);
        writes.into_iter().map(|(k, value)| (key(k), value.map(|value| IVec::from(vec![value; 40])))).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn rows_that_are_read_while_they_change_and_the_groups_since_come_to_what_the_store_was(
        before in prop::collection::vec(writes(), 0..30),
        during in prop::collection::vec((writes(), 0..400_usize), 0..30),
        after in prop::collection::vec(writes(), 0..4),
    ) {
        let tree = tree();
        let mut states = vec![State::new()];
        let mut groups = Vec::new();
        let mut write = |writes: &Writes| {
            tree.apply_batch(txn::batch(writes.clone())).unwrap();
            let mut next = states.last().unwrap().clone();
            apply(&mut next, writes);
            states.push(next);
            groups.push(writes.clone());
        };
        before.iter().for_each(&mut write);
        let begin = before.len();
        let (mut rows, mut read) = (Rows::of(&tree), Vec::new());
        for (writes, room) in &during {
            read.extend(rows.frame(*room).unwrap());
            write(writes);
        }
        while let Some(frame) = rows.frame(100).unwrap() {
            read.push(frame);
        }
        let end = begin + during.len();
        after.iter().for_each(&mut write);

        let rows = read.iter().flat_map(|frame| format::rows(&frame[8..]).unwrap());
        let mut restored: State = rows.map(|(key, value)| (key, value.unwrap())).collect();
        groups[begin..end].iter().for_each(|writes| apply(&mut restored, writes));
        prop_assert_eq!(&restored, &states[end]);
        for (number, writes) in groups.iter().enumerate().skip(end) {
            apply(&mut restored, writes);
            prop_assert_eq!(&restored, &states[number + 1]);
        }
    }

    #[test]
    fn an_object_that_was_cut_or_changed_is_never_read_as_another(
        groups in prop::collection::vec(writes(), 1..4),
        at in any::<prop::sample::Index>(),
        flip in 1..=255_u8,
        cut in any::<bool>(),
    ) {
        let groups: Vec<_> = (1..).zip(groups).map(|(number, writes)| Group { number, at: Millis(7), writes }).collect();
        let mut bytes = format::heading(&heading(1, groups.len() as u64));
        groups.iter().for_each(|group| format::frame(&mut bytes, &group.encode()));
        prop_assert_eq!(&read(bytes.clone()).0, &groups);
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= flip;
        }
        let (whole, error) = read(bytes);
        prop_assert_eq!(&whole[..], &groups[..whole.len()]);
        prop_assert!(error.is_some() || whole.len() < groups.len());
    }
}

fn heading(first: u64, last: u64) -> Heading {
    let content = Content::Segment { first, last, from: Millis(1), to: Millis(7) };
    Heading { format: FORMAT, schema: 1, store: "ab".into(), generation: 1, content }
}

/// The groups of an object up to what is wrong with it.
fn read(bytes: Vec<u8>) -> (Vec<Group>, Option<FrameError>) {
    let parts: Vec<_> = bytes.chunks(13).map(|part| Ok(part.to_vec().into())).collect();
    let mut groups = Vec::new();
    let error = futures_util::FutureExt::now_or_never(async {
        let (_, mut frames) = Frames::begin(stream::iter(parts)).await?;
        while let Some(frame) = frames.next().await? {
            groups.push(Group::decode(&frame).ok_or(FrameError::Damaged)?);
        }
        Ok::<_, FrameError>(())
    });
    (groups, error.unwrap().err())
}

/// A store as the backup sees it.
struct Stage {
    home: TempDir,
    tree: Db,
    feed: Option<Feed>,
    outlet: Option<Outlet>,
    status: Arc<Status>,
    target: Target,
}

impl Stage {
    fn new(target: Target, room: usize) -> Self {
        let status = Arc::new(Status::new());
        let (feed, outlet) = with_room(room, 0, Arc::clone(&status));
        Self {
            home: TempDir::new().unwrap(),
            tree: tree(),
            feed: Some(feed),
            outlet: Some(outlet),
            status,
            target,
        }
    }

    /// As the committer does it.
    fn write(&self, key: u64) {
        let group = self.apply(key);
        self.feed.as_ref().unwrap().offer(group);
    }

    /// The first half of that: it can be seen and is not durable.
    fn apply(&self, key: u64) -> Begun {
        let value = IVec::from(vec![7; 100]);
        let writes = Writes::from([(IVec::from(&key.to_be_bytes()), Some(value))]);
        let group = self.feed.as_ref().unwrap().begin(&writes);
        self.tree.apply_batch(txn::batch(writes)).unwrap();
        group
    }

    /// One whose backup has begun and is whole, and its writer.
    async fn begun(target: Target, room: usize) -> (Self, tokio::task::JoinHandle<Option<Marker>>) {
        let mut stage = Self::new(target, room);
        let writer = stage.start();
        stage.write(1);
        stage.until(|report| report.whole).await;
        (stage, writer)
    }

    fn start(&mut self) -> tokio::task::JoinHandle<Option<Marker>> {
        let (outlet, status) = (self.outlet.take().unwrap(), Arc::clone(&self.status));
        let (target, home) = (self.target.clone(), self.home.path().to_owned());
        let writer = Writer::new(target, (*self.tree).clone(), outlet, status, "ab".into(), home);
        tokio::spawn(writer.run(None))
    }

    async fn until(&self, so: impl Fn(&super::Report) -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        while !so(&self.status.report()) {
            assert!(tokio::time::Instant::now() < deadline, "never so: {:?}", self.status.report());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What comes back.
    fn restored(&self) -> State {
        let folder = TempDir::new().unwrap();
        let config = config::Store { path: folder.path().join("state"), cache: 1 << 20, min_free: 0 };
        let restored = restore(&config, &self.target, "a test").unwrap();
        assert_eq!(restored.missing, None);
        state(&open::engine_of(&config).unwrap())
    }
}

#[tokio::test]
async fn a_group_that_found_no_room_is_said_and_a_new_snapshot_makes_up_for_it() {
    let (mut stage, writer) = Stage::begun(Target::bucket(Arc::new(InMemory::new())), 4096).await;
    // The writer has no turn in between.
    (2..100).for_each(|key| stage.write(key));
    assert!(!stage.status.report().whole, "and nobody waited");
    stage.until(|report| report.whole).await;
    assert_eq!(stage.target.list().await.unwrap().generations.len(), 2);
    stage.write(100);
    stage.feed = None;
    assert!(writer.await.unwrap().is_some(), "it is whole and has everything");
    assert_eq!(stage.restored(), state(&stage.tree));
}

#[tokio::test]
async fn a_snapshot_counts_once_every_group_is_there_of_which_it_may_show_a_part() {
    let mut stage = Stage::new(Target::bucket(Arc::new(InMemory::new())), 1 << 20);
    let group = stage.apply(1);
    let writer = stage.start();
    let rows = super::catalog::snapshot(1, 0);
    while stage.target.get(&rows).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Long enough for a writer that would not wait.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!stage.status.report().whole);
    assert!(stage.target.list().await.unwrap().snapshots.is_empty());
    stage.feed.as_ref().unwrap().offer(group);
    stage.until(|report| report.whole).await;
    stage.feed = None;
    assert!(writer.await.unwrap().is_some());
    assert_eq!(stage.restored(), state(&stage.tree));
}

#[tokio::test]
async fn a_target_that_is_away_costs_nothing_and_is_made_up_for_when_it_is_back() {
    let folder = TempDir::new().unwrap();
    let (there, away) = (folder.path().join("backup"), folder.path().join("away"));
    let (mut stage, writer) = Stage::begun(Target::folder(&there).unwrap(), 1 << 20).await;

    std::fs::rename(&there, &away).unwrap();
    stage.write(2);
    stage.until(|report| report.trouble.as_ref().is_some_and(|why| why.contains("gone"))).await;
    assert!(!Path::new(&there).exists(), "nothing is written to where the volume was");
    assert!(stage.status.report().behind > Duration::ZERO);

    std::fs::rename(&away, &there).unwrap();
    stage
        .until(|report| *report == super::Report { behind: Duration::ZERO, whole: true, trouble: None })
        .await;
    stage.feed = None;
    assert!(writer.await.unwrap().is_some());
    assert_eq!(stage.restored(), state(&stage.tree));
    assert_eq!(stage.target.list().await.unwrap().generations.len(), 1, "what waited was uploaded");
}

#[tokio::test]
async fn a_folder_whose_volume_is_not_mounted_yet_is_not_taken_for_a_new_place() {
    let folder = TempDir::new().unwrap();
    let (there, away) = (folder.path().join("backup"), folder.path().join("away"));
    let (mut stage, writer) = Stage::begun(Target::folder(&there).unwrap(), 1 << 20).await;
    stage.feed = None;
    writer.await.unwrap();

    // The machine starts again, and the mount point is an empty folder so far.
    std::fs::rename(&there, &away).unwrap();
    let mut next = Stage::new(Target::folder(&there).unwrap(), 1 << 20);
    (next.home, next.tree) = (stage.home, stage.tree);
    let writer = next.start();
    next.write(2);
    next.until(|report| report.trouble.as_ref().is_some_and(|why| why.contains("not mounted"))).await;
    assert!(!next.status.report().whole);
    assert_eq!(std::fs::read_dir(&there).unwrap().count(), 0, "nothing is written below the mount point");

    std::fs::remove_dir(&there).unwrap();
    std::fs::rename(&away, &there).unwrap();
    next.until(|report| report.whole && report.behind == Duration::ZERO).await;
    next.feed = None;
    assert!(writer.await.unwrap().is_some());
    assert_eq!(next.restored(), state(&next.tree));
}

#[tokio::test]
async fn no_segment_waits_for_what_is_outdated_to_be_removed() {
    let mut stage = Stage::new(Target::bucket(Arc::new(Keeps::default())), 4096);
    let writer = stage.start();
    stage.until(|report| report.whole).await;
    // Two snapshots more, and the first is outdated.
    for keys in [1..100, 100..200] {
        keys.for_each(|key| stage.write(key));
        stage.until(|report| report.whole).await;
    }
    assert_eq!(stage.target.list().await.unwrap().snapshots.len(), 3);
    stage.write(200);
    stage.until(|report| report.behind == Duration::ZERO).await;
    stage.feed = None;
    assert!(writer.await.unwrap().is_some());
    assert_eq!(stage.restored(), state(&stage.tree));
}

#[test]
fn what_waited_first_is_what_counts_whatever_is_said_later() {
    let status = Status::new();
    status.closed();
    let ago = |seconds: i64| Millis(super::now().0 - seconds * 1_000);
    status.waits(ago(1));
    status.waits(ago(600));
    assert!(status.report().behind >= Duration::from_secs(600), "{:?}", status.report());
    status.uploaded();
    assert_eq!(status.report().behind, Duration::ZERO);
}

#[tokio::test]
async fn the_place_of_another_stores_backup_is_not_written_to() {
    let target = Target::bucket(Arc::new(InMemory::new()));
    let other = super::writer::Identity { format: FORMAT, store: "cd".into() };
    target.create(&super::catalog::STORE.into(), format::json(&other).into()).await.unwrap();
    let mut stage = Stage::new(target, 1 << 20);
    let writer = stage.start();
    stage.write(1);
    stage.until(|report| report.trouble.as_ref().is_some_and(|why| why.contains("another store"))).await;
    stage.feed = None;
    assert_eq!(writer.await.unwrap(), None);
    assert!(!stage.status.report().whole);
    assert!(stage.target.list().await.unwrap().generations.is_empty());
}

#[tokio::test]
async fn what_is_older_than_the_last_two_snapshots_is_outdated_and_their_own_segments_are_not() {
    let store = InMemory::new();
    let names = [
        "store.json",
        "00000001/claim",
        "00000001/log/0000000000000001-0000000000000009",
        "00000001/snapshot/0000000000000000",
        "00000001/snapshot/0000000000000000.json",
        "00000002/claim",
        "00000002/snapshot/0000000000000012",
        "00000002/snapshot/0000000000000012.json",
        "00000002/log/0000000000000011-0000000000000012",
        "00000002/log/0000000000000013-0000000000000020",
        "00000002/snapshot/0000000000000018",
        "00000003/claim",
        "00000003/snapshot/0000000000000021",
        "00000003/snapshot/0000000000000021.json",
        "00000004/log/0000000000000001-0000000000000002",
    ];
    for name in names {
        object_store::ObjectStoreExt::put(&store, &name.into(), "x".into()).await.unwrap();
    }
    let catalog = Catalog::list(&store).await.unwrap();
    let kept = catalog.oldest_kept(3).unwrap();
    let mut outdated: Vec<_> = catalog.outdated(kept).iter().map(ToString::to_string).collect();
    outdated.sort();
    assert_eq!(outdated, &names[1..5]);
    assert_eq!(catalog.oldest_kept(1), None, "there are no two of the first generation");
    let run: Vec<u64> = catalog.run(2, 12).iter().map(|segment| segment.last).collect();
    assert_eq!(run, [20], "the one before ends with the snapshot");
    assert!(catalog.run(2, 9).is_empty(), "10 is nowhere");
}
