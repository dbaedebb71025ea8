//! The embedded store: the list, and what only it promises.

use std::{fs, path::Path, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use reelhook::{
    config,
    disk::{Role, Trouble},
    lifecycle::{Duty, Event, Job, JobId, Millis, Phase},
    store::{Insert, JobFilter, Store, StoreError, sled::SledStore},
};
use tempfile::TempDir;

use crate::{
    conformance::{conformance, outbox},
    support::*,
};

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn config(&self) -> config::Store {
        config::Store { path: self.path(), cache: 16 << 20, min_free: 0 }
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("state")
    }

    fn try_open(&self, now: Millis) -> Result<SledStore, StoreError> {
        SledStore::open(&self.config(), now, &policy())
    }

    fn open_at(&self, now: Millis) -> SledStore {
        self.try_open(now).unwrap()
    }

    /// Changes raw entries while nobody has the store open.
    fn tamper(&self, tamper: impl FnOnce(&sled::Tree)) {
        self.until_let_go();
        let db = sled::Config::new().path(self.path()).mode(sled::Mode::LowSpace).open().unwrap();
        tamper(&db);
        db.flush().unwrap();
        drop(db);
        self.until_let_go();
    }

    /// An engine that is dropped lets go of its files when the last of its threads is through with its write, and so late
    /// on a busy machine; so does a child that was forked meanwhile, until it is another program.
    fn until_let_go(&self) {
        fs::File::open(self.path().join("db")).unwrap().lock().unwrap();
    }
}

#[async_trait]
impl Place for Folder {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(self.open_at(NOW))
    }
}

conformance!(Folder::new());

fn raw(prefix: u8, id: JobId) -> Vec<u8> {
    [&[prefix], id.as_bytes().as_slice()].concat()
}

fn flip(tree: &sled::Tree, key: &[u8]) {
    let mut value = tree.get(key).unwrap().unwrap().to_vec();
    let middle = value.len() / 2;
    value[middle] ^= 4;
    tree.insert(key, value).unwrap();
}

async fn closed(store: SledStore) {
    store.close().await;
}

#[tokio::test]
async fn a_second_process_is_told_who_has_the_store() {
    let folder = Folder::new();
    let store = folder.open_at(NOW);
    let refused = folder.try_open(NOW).unwrap_err();
    let text = refused.to_string();
    assert!(matches!(refused, StoreError::Locked { .. }), "{text}");
    assert!(text.contains(&format!("process {} (since 2026-01-15", std::process::id())), "{text}");
    closed(store).await;
    folder.open_at(NOW);
}

#[tokio::test]
async fn a_damaged_record_is_set_aside_and_the_others_go_on() {
    let folder = Folder::new();
    let store = folder.open_at(NOW);
    for n in 1..=4 {
        put(&store, job(n)).await;
    }
    closed(store).await;
    folder.tamper(|tree| [1, 2, 3].into_iter().for_each(|n| flip(tree, &raw(b'j', id(n)))));
    let store = folder.open_at(NOW);
    for _ in 0..2 {
        let damaged = store.load(id(1)).await;
        assert!(matches!(damaged, Err(StoreError::Damaged(name)) if name == id(1).to_string()));
    }
    let claimed = store.claim(claim(Duty::Submit, 1, NOW)).await.unwrap();
    assert_eq!(ids(&claimed), [id(4)], "entries of damaged records are passed over");
    assert_eq!(store.next_due(Duty::Submit).await.unwrap(), None);
    assert_eq!(ids(&store.list(JobFilter::default(), None, 9).await.unwrap().items), [id(4)]);
    assert_eq!(store.quarantined(), 3);
    assert!(store.insert(insertion(job(4))).await.is_err(), "nor is a record ever inserted over");
    closed(store).await;
    let store = folder.open_at(NOW);
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.phase("queued"), counts.phase("unknown"), store.quarantined()), (0, 1, 3));
}

#[tokio::test]
async fn a_list_meets_a_damaged_record_and_sets_it_aside() {
    let folder = Folder::new();
    let store = folder.open_at(NOW);
    put(&store, job(1)).await;
    closed(store).await;
    folder.tamper(|tree| flip(tree, &raw(b'j', id(1))));
    let store = folder.open_at(NOW);
    assert!(store.list(JobFilter::default(), None, 9).await.unwrap().items.is_empty());
    assert_eq!(store.quarantined(), 1);
}

#[tokio::test]
async fn the_key_of_a_damaged_job_makes_no_second_one() {
    let folder = Folder::new();
    let store = folder.open_at(NOW);
    let keyed = |n| Insert { key: Some(key("web", "a", 1)), ..insertion(job(n)) };
    store.insert(keyed(1)).await.unwrap();
    closed(store).await;
    folder.tamper(|tree| flip(tree, &raw(b'j', id(1))));
    let store = folder.open_at(NOW);
    assert!(matches!(store.insert(keyed(2)).await, Err(StoreError::Damaged(_))));
    assert!(store.load(id(1)).await.is_err());
    assert!(matches!(store.insert(keyed(2)).await, Err(StoreError::Damaged(_))));
}

#[tokio::test]
async fn a_due_entry_that_no_record_vouches_for_is_removed() {
    let folder = Folder::new();
    let store = folder.open_at(NOW);
    put(&store, job(1)).await;
    closed(store).await;
    folder.tamper(|tree| {
        tree.remove(raw(b'j', id(1))).unwrap();
    });
    let store = folder.open_at(NOW);
    assert!(store.claim(claim(Duty::Submit, 1, NOW)).await.unwrap().is_empty());
    assert_eq!(store.next_due(Duty::Submit).await.unwrap(), None);
    closed(store).await;
    folder.tamper(|tree| assert_eq!(tree.scan_prefix(b"d").count(), 0));
}

#[tokio::test]
async fn a_due_entry_that_its_record_has_left_behind_is_no_due_time_and_goes() {
    let folder = Folder::new();
    let store = folder.open_at(NOW);
    let due = awaiting(&store, 1).await.due_at.unwrap();
    store.callback(arrival(1, "first", b"{}")).await.unwrap();
    step(&store, id(1), &Event::Cancel, NOW).await;
    awaiting(&store, 2).await;
    let entries = |tree: &sled::Tree| tree.scan_prefix([b'd', Duty::Ask as u8]).count();
    assert_eq!(store.next_due(Duty::Ask).await.unwrap(), Some(due));
    closed(store).await;
    folder.tamper(|tree| assert_eq!(entries(tree), 1, "the other job's"));
}

#[tokio::test]
async fn a_damaged_head_never_gives_a_number_twice() {
    let folder = Folder::new();
    let store = folder.open_at(NOW);
    put(&store, job(1)).await;
    closed(store).await;
    folder.tamper(|tree| flip(tree, b"h"));
    let store = folder.open_at(NOW);
    put(&store, job(2)).await;
    assert_eq!(store.bounds().await.unwrap().newest, 2 + (1 << 32));
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_not_opened() {
    let folder = Folder::new();
    let store = folder.open_at(NOW);
    put(&store, job(1)).await;
    closed(store).await;
    folder.tamper(|tree| {
        let mut head = tree.get(b"h").unwrap().unwrap().to_vec();
        head[6] += 1;
        let sum = crc32fast::hash(&head[5..]).to_be_bytes();
        head[1..5].copy_from_slice(&sum);
        tree.insert(b"h", head).unwrap();
    });
    let refused = folder.try_open(NOW).unwrap_err();
    assert!(matches!(refused, StoreError::Newer { found: 2, known: 1 }), "{refused}");
}

#[tokio::test]
async fn a_snapshot_that_does_not_fit_is_set_aside_and_nothing_is_lost() {
    let folder = Folder::new();
    let store = folder.open_at(NOW);
    for n in 1..=50 {
        put(&store, job(n)).await;
    }
    closed(store).await;
    closed(folder.open_at(NOW)).await; // the engine writes one when it opens what it finds
    let named = |prefix: &str| {
        let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let starts = |path: &Path| path.file_name().unwrap().to_string_lossy().starts_with(prefix);
        names.filter(|path| starts(path)).collect::<Vec<_>>()
    };
    assert!(!named("snap.").is_empty());
    for snapshot in named("snap.") {
        fs::write(snapshot, b"").unwrap();
    }
    let store = folder.open_at(NOW);
    assert_eq!(store.list(JobFilter::default(), None, 100).await.unwrap().items.len(), 50);
    assert!(!named("aside.snap.").is_empty());
}

#[tokio::test]
async fn settings_of_the_engine_that_a_power_loss_tore_are_made_anew() {
    for torn in [0, 20, 58] {
        let folder = Folder::new();
        let store = folder.open_at(NOW);
        put(&store, job(1)).await;
        closed(store).await;
        let settings = fs::File::options().write(true).open(folder.path().join("conf")).unwrap();
        settings.set_len(torn).unwrap();
        assert_eq!(get(&folder.open_at(NOW), id(1)).await.id, id(1), "cut to {torn} bytes");
    }
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_an_error_that_says_where() {
    let folder = Folder::new();
    fs::write(folder.path(), b"a file").unwrap();
    let refused = folder.try_open(NOW).unwrap_err();
    assert!(matches!(refused, StoreError::Unreadable { .. }));
    assert!(refused.to_string().contains("state"), "{refused}");
}

#[tokio::test]
async fn every_claim_of_the_process_before_is_given_back_at_the_start() {
    let folder = Folder::new();
    let store = folder.open_at(NOW);
    for n in 1..=300 {
        put(&store, job(n)).await;
    }
    awaiting(&store, 301).await;
    assert_eq!(store.claim(claim(Duty::Submit, 290, NOW)).await.unwrap().len(), 290);
    let asked = store.claim(claim(Duty::Ask, 1, NOW.plus(3_600_000))).await.unwrap();
    assert_eq!(ids(&asked), [id(301)]);
    closed(store).await;
    let store = folder.open_at(NOW.plus(5));
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.phase("sending"), counts.phase("unknown"), counts.phase("queued")), (0, 290, 10));
    let waiting = get(&store, id(301)).await;
    assert_eq!((waiting.lease, waiting.due_at), (None, Some(NOW.plus(5))));
    assert!(matches!(get(&store, id(1)).await.phase, Phase::Unknown { .. }));
}

#[tokio::test]
async fn long_requests_and_bodies_never_reach_the_files_that_are_not_synced() {
    let folder = Folder::new();
    let store = folder.open_at(NOW);
    for n in 1..=20 {
        let document = Bytes::from(vec![b'a'; 200 << 10]);
        store.insert(Insert { document, ..insertion(job(n)) }).await.unwrap();
    }
    awaiting(&store, 21).await;
    store.callback(arrival(21, "dlv", &[b'b'; 200 << 10])).await.unwrap();
    closed(store).await;
    assert_eq!(fs::read_dir(folder.path().join("blobs")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_record_that_shrinks_leaves_no_piece_behind() {
    let folder = Folder::new();
    let store = folder.open_at(NOW);
    let mut large = job(1);
    large.notices = vec!["n".repeat(3_000); 8];
    put(&store, large.clone()).await;
    assert_eq!(get(&store, id(1)).await, large);
    let mut change = stepped(&store, id(1), &Event::Cancel, NOW).await;
    change.job.notices.clear();
    store.replace(change).await.unwrap();
    closed(store).await;
    folder.tamper(|tree| {
        let left = tree.scan_prefix(raw(b'p', id(1))).count() + tree.scan_prefix(b"pj").count();
        assert_eq!(left, 0);
    });
}

#[tokio::test]
async fn a_start_after_a_jump_of_the_clock_hastens_deliveries() {
    outbox::a_start_after_a_jump_of_the_clock_hastens_deliveries(&Folder::new()).await;
}

#[tokio::test]
async fn after_a_jump_of_the_clock_nothing_waits_longer_than_it_may() {
    let folder = Folder::new();
    let ahead = NOW.plus(3 * 86_400_000);
    let store = folder.open_at(ahead);
    let far = |n| {
        let mut far = Job { due_at: Some(ahead), created_at: ahead, ..job(n) };
        far.deadline = Some(ahead.plus(86_400_000));
        far
    };
    put(&store, far(1)).await;
    store.reclamp(NOW, &policy()).await.unwrap();
    let due = get(&store, id(1)).await;
    assert_eq!((due.due_at, due.revision), (Some(NOW), 2));
    assert_eq!(store.next_due(Duty::Submit).await.unwrap(), Some(NOW));
    assert_eq!(store.next_due(Duty::Expire).await.unwrap(), far(1).deadline, "a deadline is the caller's");

    put(&store, far(2)).await;
    closed(store).await;
    let store = folder.open_at(NOW);
    assert_eq!(get(&store, id(2)).await.due_at, Some(NOW), "the start compares with the last durable time");
}

#[tokio::test]
async fn a_disk_that_runs_full_stops_writes_and_not_reads() {
    let folder = Folder::new();
    let store = folder.open_at(NOW);
    awaiting(&store, 1).await;
    let called = arrival(1, "dlv", b"{}");
    assert!(store.disk().unwrap().no_new_work.is_none());
    closed(store).await;
    let full = config::Store { min_free: u64::MAX, ..folder.config() };
    let store = SledStore::open(&full, NOW, &policy()).unwrap();
    assert!(matches!(store.disk().unwrap().no_writes, Some(Trouble::Full { role: Role::Store, .. })));
    assert!(matches!(store.insert(insertion(job(2))).await, Err(StoreError::Disk(Trouble::Full { .. }))));
    assert!(matches!(store.callback(called).await, Err(StoreError::Disk(Trouble::Full { .. }))));
    assert_eq!(get(&store, id(1)).await.id, id(1));
}
