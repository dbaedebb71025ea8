//! Opening: one owner, no panic, nothing deleted, and every claim of the process before given back.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use sled::{Db, Mode, Tree};

use super::{
    SledStore,
    backup::{self, Marker, Target},
    claim,
    committer::Committer,
    hasten,
    keys::{self, DueKey, PendingKey},
    offline::{self, Held},
    oldest::Oldest,
    outbox, rebuild,
    record::Card,
    space::Space,
    state::{self, Head, Published, State, StoredTally, Tally},
    txn::engine,
    value, write,
};
use crate::{
    config,
    lifecycle::{JobId, Millis, Policy},
    store::StoreError,
};

/// A jump of the clock that is more than drift, in milliseconds.
const CLOCK_STEP: i64 = 60_000;
/// Entries of the due index that one request adds.
const OWED_AT_ONCE: usize = 4096;
/// The file of the engine's settings, all of which are its defaults.
const SETTINGS: &str = "conf";
/// Bytes of a segment of the engine's log.
const SEGMENT: usize = 512 << 10;
/// By what name the store keeps the id that its backups know it by.
const BACKUP_ID: &str = "backup.store";
/// How long to wait for the owner before to let go of the files.
pub(super) const LOCK_WAIT: Duration = Duration::from_secs(2);

/// Opens the store on a thread of its own, where a panic of the engine is an answer and not the end.
pub(super) fn open(
    config: &config::Store,
    target: Option<Target>,
    now: Millis,
    policy: &Arc<Policy>,
) -> Result<SledStore, StoreError> {
    let (config, policy, path) = (config.clone(), Arc::clone(policy), config.path.clone());
    let opening = thread::Builder::new()
        .name("store-open".into())
        .spawn(move || open_here(&config, target, now, &policy))
        .map_err(|error| unreadable(&path, &error.to_string()))?;
    opening.join().unwrap_or_else(|_| Err(unreadable(&path, "the engine gave up on its files")))
}

pub(super) fn unreadable(path: &Path, why: &str) -> StoreError {
    StoreError::Unreadable { path: path.display().to_string(), why: why.to_owned() }
}

fn open_here(
    config: &config::Store,
    target: Option<Target>,
    now: Millis,
    policy: &Policy,
) -> Result<SledStore, StoreError> {
    let path = &config.path;
    let io = |error: io::Error| unreadable(path, &error.to_string());
    offline::refuse_sealed(path)?;
    offline::refuse_restored(path)?;
    let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
    let made = path.ancestors().take_while(is_missing).count();
    fs::create_dir_all(path).map_err(io)?;
    let db = engine_of(config)?;
    offline::refuse_sealed(path)?; // whoever had the lock before may have moved its jobs
    let left = Marker::take(path).map_err(io)?;
    let db = rebuild::if_grown(config, db)?;
    let synced = File::open(path.join("db")).map_err(io)?;
    sync_files(path, &synced, made).map_err(io)?;
    let since = jiff::Timestamp::from_millisecond(now.0).unwrap_or_default();
    fs::write(owner_file(path), format!("process {} (since {since})", std::process::id())).map_err(io)?;

    let tree: Tree = (*db).clone();
    let Recalled { state, owed, pending } = recall(&tree)?;
    let published = Arc::new(Published::new(&state));
    let (feed, backup) = target.map(|target| backup::prepare(target, left)).unzip();
    let committer = Committer::start(db, synced, state, Arc::clone(&published), feed).map_err(io)?;
    let space = Space::new(path.clone(), config.min_free);
    let mut store = SledStore { tree, committer, published, space, oldest: Oldest::default(), backup: None };
    for owed in owed.chunks(OWED_AT_ONCE) {
        let owed = owed.to_vec();
        store.committer.judge_blocking(move |txn| {
            owed.iter().for_each(|due| txn.owe(*due));
            Ok(())
        })?;
    }
    for pending in pending.chunks(OWED_AT_ONCE) {
        let pending = pending.to_vec();
        store.committer.judge_blocking(move |txn| {
            pending.iter().for_each(|entry| txn.mark(entry));
            Ok(())
        })?;
    }
    set_right(&store, &state, now, policy)?;
    if let Some(backup) = backup {
        let mut fresh = vec![0; 16];
        getrandom::fill(&mut fresh).map_err(|error| io(io::Error::other(error)))?;
        let id = store.committer.judge_blocking(move |txn| write::keep(txn, BACKUP_ID, fresh))?;
        store.backup = Some(backup.start(store.tree.clone(), &id, path.clone()).map_err(io)?);
    }
    Ok(store)
}

/// The engine on a store's own files.
///
/// Of a log that it cannot follow it takes the room for free, and what is in it is soon written over. So it has to find the
/// jobs in a copy first wherever its snapshot does not fit, or where there is none and the log is damaged. What is done to
/// the copy is done to the store afterwards, no more and no less: only so does the one vouch for the other.
pub(super) fn engine_of(config: &config::Store) -> Result<Db, StoreError> {
    let path = &config.path;
    let opened = if is_doubtful(path).map_err(|error| unreadable(path, &error.to_string()))? {
        try_out(config, engine_or_anew)?;
        engine_or_anew(config)
    } else {
        match unlocked(config) {
            Err(sled::Error::Corruption { .. }) => {
                try_out(config, engine_anew)?;
                engine_anew(config)
            }
            opened => opened,
        }
    };
    opened.map_err(|error| {
        if !is_lock(&error) {
            return unreadable(path, &error.to_string());
        }
        let owner = fs::read_to_string(owner_file(path)).unwrap_or_else(|_| "another process".into());
        StoreError::Locked { path: path.display().to_string(), owner }
    })
}

/// The engine as it is, or else anew.
pub(super) fn engine_or_anew(config: &config::Store) -> sled::Result<Db> {
    match unlocked(config) {
        Err(sled::Error::Corruption { .. }) => engine_anew(config),
        opened => opened,
    }
}

/// The engine, after moving aside what it makes anew: snapshots that do not fit the log, and its settings, which it
/// never syncs, so that a power loss during the very first start may leave half of them.
fn engine_anew(config: &config::Store) -> sled::Result<Db> {
    set_aside(&config.path)?;
    unlocked(config)
}

/// There is no snapshot to follow the log by, and a segment of the log has no head that can be read.
fn is_doubtful(path: &Path) -> io::Result<bool> {
    let log = match File::open(path.join("db")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        log => log?,
    };
    for entry in fs::read_dir(path)? {
        if entry?.file_name().to_string_lossy().starts_with("snap.") {
            return Ok(false);
        }
    }
    for at in (0..log.metadata()?.len()).step_by(SEGMENT) {
        let mut head = [0; 20];
        match log.read_exact_at(&mut head, at) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            read => read?,
        }
        // The engine's own form: the complement of the checksum of what follows it.
        let (sum, rest) = head.split_at(4);
        if head != [0; 20] && sum != (!crc32fast::hash(rest)).to_le_bytes() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Opens a copy of the store in place of it. Where there is no log, nothing can be written over.
fn try_out(config: &config::Store, open: fn(&config::Store) -> sled::Result<Db>) -> Result<(), StoreError> {
    let held = match Held::take(&config.path) {
        Err(StoreError::Missing { .. }) => return Ok(()),
        held => held?,
    };
    let copy = held.copy(None, 0).map_err(|error| {
        let why = format!("the engine cannot follow its log, and is not let at it untried: {error}");
        unreadable(&config.path, &why)
    })?;
    copy.look_by(open, config.cache, |_| ())
}

/// The engine, once its files are free: one that was closed lets go of them a moment later, on its own threads.
fn unlocked(config: &config::Store) -> sled::Result<Db> {
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        let opened = sled::Config::new()
            .path(&config.path)
            .mode(Mode::LowSpace)
            .cache_capacity(config.cache)
            .flush_every_ms(Some(500)) // only the collection of garbage hangs on it: every group is flushed
            .open();
        match opened {
            Err(error) if is_lock(&error) && Instant::now() < deadline => thread::sleep(LOCK_WAIT / 20),
            other => return other,
        }
    }
}

/// The engine has no kind of its own for this.
fn is_lock(error: &sled::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

pub(super) fn owner_file(path: &Path) -> PathBuf {
    path.join("owner")
}

/// Renames the settings and every snapshot.
fn set_aside(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("snap.") || name == SETTINGS {
            fs::rename(entry.path(), path.join(format!("aside.{name}")))?;
            tracing::warn!(
                "{name} of the store at {} may not fit its log and was set aside to be made anew",
                path.display()
            );
        }
    }
    Ok(())
}

/// A file is only as durable as the folders that name it, `made` of which are new. At every start, since a process
/// that was killed may have made them and not come to this.
pub(super) fn sync_files(path: &Path, db: &File, made: usize) -> io::Result<()> {
    let sync = |path: &Path| File::open(path)?.sync_all();
    db.sync_all()?;
    sync(&path.join(SETTINGS))?;
    sync(path)?;
    for above in path.canonicalize()?.ancestors().skip(1).take(made.max(1)) {
        // One that was there before need not let us read it.
        sync(above).or_else(|error| if made > 0 { Err(error) } else { Ok(()) })?;
    }
    Ok(())
}

/// What is found at the start.
#[derive(Default)]
struct Recalled {
    /// Where the log and the tally stood.
    state: State,
    /// What has to be put into the due index …
    owed: Vec<DueKey>,
    /// … and into that of deliveries.
    pending: Vec<PendingKey>,
}

fn recall(tree: &Tree) -> Result<Recalled, StoreError> {
    fn stored<T: serde::de::DeserializeOwned>(tree: &Tree, key: &[u8]) -> Result<Option<T>, value::Fault> {
        let payload = value::read(tree, key)?;
        payload.map(|json| serde_json::from_slice(&json).map_err(|_| value::Fault::Damaged)).transpose()
    }
    let named = |fault: value::Fault| fault.of(|| "the store's own head".into());
    let head = match stored(tree, keys::HEAD) {
        Ok(head) => head.unwrap_or_default(),
        Err(value::Fault::Damaged) => lifted(tree)?,
        Err(fault) => return Err(named(fault)),
    };
    let tally = match stored::<StoredTally>(tree, keys::TALLY) {
        Ok(stored) => stored.map(Tally::from).unwrap_or_default(),
        Err(value::Fault::Damaged) => Tally::after_damage(0),
        Err(fault) => return Err(named(fault)),
    };
    if !tally.recount {
        return Ok(Recalled { state: State { head, tally }, ..Recalled::default() });
    }
    let (mut tally, owed) = recount(tree, tally.quarantined)?;
    let pending = waiting(tree, &mut tally)?;
    Ok(Recalled { state: State { head, tally }, owed, pending })
}

/// A head that lies beyond any number that can have been given.
fn lifted(tree: &Tree) -> Result<Head, StoreError> {
    let last = tree.scan_prefix([keys::EVENT]).keys().next_back().transpose().map_err(engine)?;
    let newest = last.and_then(|key| keys::parse_seq(&key)).unwrap_or(0).saturating_add(state::LIFT);
    tracing::error!("the head of the event log is damaged; numbering goes on at {newest}");
    Ok(Head { newest, ..Head::default() })
}

/// Counts the records and what they owe, as is needed once after one of them, or a page of the due index, was set aside.
fn recount(tree: &Tree, quarantined: u64) -> Result<(Tally, Vec<DueKey>), StoreError> {
    let mut tally = Tally::after_damage(quarantined);
    tally.recount = false;
    let mut owed = Vec::new();
    for row in tree.scan_prefix([keys::JOB]) {
        let (key, head) = row.map_err(engine)?;
        let Ok(card) = value::join(tree, &key, &head).and_then(|record| Card::parse(&record)) else {
            continue;
        };
        tally.moved(None, Some(&card));
        let id = keys::parse_id(&key).map(JobId::from_bytes);
        owed.extend(
            id.into_iter().flat_map(|id| card.dues.into_iter().flatten().map(move |due| keys::due(due, id))),
        );
    }
    Ok((tally, owed))
}

/// Counts the deliveries that wait; their entries in the index.
fn waiting(tree: &Tree, tally: &mut Tally) -> Result<Vec<PendingKey>, StoreError> {
    let mut pending = Vec::new();
    for row in tree.scan_prefix([keys::DELIVERY]) {
        let (key, head) = row.map_err(engine)?;
        let Ok(delivery) = value::join(tree, &key, &head).and_then(|record| outbox::decode(&record)) else {
            continue;
        };
        tally.owes(None, Some(delivery.state));
        pending.extend(outbox::pending_key(&delivery));
    }
    Ok(pending)
}

/// Releases every lease, and makes due what only a wrong clock can have put off so far.
fn set_right(store: &SledStore, state: &State, now: Millis, policy: &Policy) -> Result<(), StoreError> {
    let policy = Arc::new(policy.clone());
    loop {
        let policy = Arc::clone(&policy);
        if store.committer.judge_blocking(move |txn| claim::release_leases(txn, now, &policy))? == 0 {
            break;
        }
    }
    loop {
        let policy = Arc::clone(&policy);
        if store.committer.judge_blocking(move |txn| outbox::release(txn, now, &policy.delivery))? == 0 {
            break;
        }
    }
    if state.head.clock.is_none_or(|clock| now.since(clock).abs() <= CLOCK_STEP) {
        return Ok(());
    }
    let mut rest = Some(hasten::all(now, &policy));
    while let Some(part) = rest {
        let policy = Arc::clone(&policy);
        rest = store.committer.judge_blocking(move |txn| hasten::step(txn, part, now, &policy))?;
    }
    Ok(())
}
