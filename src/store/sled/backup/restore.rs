//! A new store of a backup: the newest snapshot that can be used, and every segment behind it up to the first gap or damage.

use std::{fs::File, io, thread};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use object_store::path::Path;
use sled::{Db, IVec};
use tokio::runtime;

use super::{
    catalog::{self, Catalog, Generation, STORE, Segment},
    format::{self, Content, FORMAT, FrameError, Frames, Group, Manifest},
    target::Target,
    writer::Identity,
};
use crate::{
    config,
    lifecycle::Millis,
    refusal::is_refusal,
    store::{
        StoreError,
        sled::{
            check::{Report, check},
            import, keys, offline, open,
            txn::{batch, engine},
        },
    },
};

/// A store that was restored. It starts only by `serve --restored`.
#[derive(Clone, Debug)]
pub struct Restored {
    /// When the snapshot was made.
    pub snapshot_at: Millis,
    /// Groups of changes that were applied to it.
    pub groups: u64,
    /// When the last of them was made durable: what was acknowledged later is not in the store.
    pub complete_to: Millis,
    /// What the backup knows of and the store lacks.
    pub missing: Option<Missing>,
    /// Newer snapshots that cannot be used, each with the reason.
    pub passed_over: Vec<String>,
    /// Jobs in it.
    pub jobs: u64,
    /// Every rule of the store, held against it; or why that could not be done.
    pub report: Result<Report, String>,
}

/// What is in the backup and could not be restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Where the log of changes breaks off, and why.
    pub why: String,
    /// Time of the newest object behind that.
    pub newest: Millis,
}

/// No store was made; the place is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The place, or the engine.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The disk.
    #[error("the store cannot be written: {0}")]
    Io(#[from] io::Error),
    /// The target.
    #[error("the backup cannot be read: {0}; nothing was made of it, try again")]
    Target(#[from] object_store::Error),
    /// An object, for a reason that may pass.
    #[error(
        "the backup cannot be read: {0}; nothing was made of it, try again. An object that stays so is done without once it \
         is moved away: then what it held is missing"
    )]
    Unread(object_store::Error),
    /// It is not one.
    #[error("there is no backup there: {0}")]
    NoBackup(String),
    /// It was written by a newer version.
    #[error("the backup is of format {0}, which is newer: run the version of reelhook that wrote it")]
    Newer(u16),
    /// There is no snapshot, or none that can be used.
    #[error("no snapshot in the backup can be used{}", listed(.0))]
    NothingWhole(Vec<String>),
}

fn listed(reasons: &[String]) -> String {
    if reasons.is_empty() { ": there is none".to_owned() } else { format!(": {}", reasons.join("; ")) }
}

/// Makes a store of a backup, at the configured place, which must be missing or an empty folder, and marks it so that a server
/// starts on it by `serve --restored` only. `from` names the backup in that mark. Durable when it returns.
///
/// # Errors
/// [`StoreError::NotEmpty`], or whatever is wrong with the backup; the place is then as it was.
pub fn restore(config: &config::Store, target: &Target, from: &str) -> Result<Restored, RestoreError> {
    import::refuse_occupied(&config.path)?;
    // On a thread of its own, where a panic of the engine is an answer and not the end.
    let restored = thread::scope(|scope| scope.spawn(|| restore_here(config, target, from)).join());
    restored.unwrap_or_else(|_| Err(open::unreadable(&config.path, "the engine gave up on its files").into()))
}

fn restore_here(config: &config::Store, target: &Target, from: &str) -> Result<Restored, RestoreError> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let source = runtime.block_on(Source::open(target))?;
    let mut passed_over = Vec::new();
    for (generation, begin) in source.catalog.snapshots.keys().rev().copied() {
        let built = import::put_in_place(config, "restoring", |stage| {
            let built = runtime.block_on(source.build(stage, generation, begin))?;
            let note = format!("from {from}, as it was at {}", shown(built.complete_to));
            offline::mark_restored(&stage.path, &note)?;
            Ok::<_, Fault>(built)
        });
        match built {
            Ok(built) => {
                let missing = source.missing(generation, &built);
                let Built { manifest: Manifest { at: snapshot_at, .. }, groups, complete_to, jobs, .. } =
                    built;
                let report = check(config, None).map_err(|error| error.to_string());
                return Ok(Restored { snapshot_at, groups, complete_to, missing, passed_over, jobs, report });
            }
            Err(fault) => {
                let why = runtime.block_on(source.own_fault(fault))?;
                passed_over.push(format!("{}: {why}", catalog::snapshot(generation, begin)));
            }
        }
    }
    Err(RestoreError::NothingWhole(passed_over))
}

/// Why an object is of no use.
enum Fault {
    /// Of what is in it, or since it is not there or can never be read. Another one may do.
    Object(String),
    /// It could not be read, in as many tries as the bucket's client makes.
    Unread(object_store::Error),
    /// Nothing can be made at all.
    Fatal(RestoreError),
}

impl<E: Into<RestoreError>> From<E> for Fault {
    fn from(error: E) -> Self {
        Self::Fatal(error.into())
    }
}

impl From<FrameError> for Fault {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Unread(error) => Self::Unread(error),
            FrameError::Newer(format) => Self::Fatal(RestoreError::Newer(format)),
            damage => Self::Object(damage.to_string()),
        }
    }
}

/// What a store was made of.
struct Built {
    manifest: Manifest,
    groups: u64,
    /// The last group.
    reached: u64,
    complete_to: Millis,
    jobs: u64,
    /// Why the log of changes was not followed further, if it is damaged there.
    broken: Option<String>,
}

/// A backup to read from.
struct Source<'a> {
    target: &'a Target,
    store: String,
    catalog: Catalog,
}

impl<'a> Source<'a> {
    async fn open(target: &'a Target) -> Result<Self, RestoreError> {
        let identity = match target.get(&Path::from(STORE)).await {
            Err(object_store::Error::NotFound { .. }) => {
                return Err(RestoreError::NoBackup(format!("it has no {STORE}")));
            }
            found => found?.bytes().await?,
        };
        let Identity { format, store } = serde_json::from_slice(&identity)
            .map_err(|error| RestoreError::NoBackup(format!("its {STORE} is damaged: {error}")))?;
        if format > FORMAT {
            return Err(RestoreError::Newer(format));
        }
        Ok(Self { target, store, catalog: target.list().await? })
    }

    async fn build(
        &self,
        config: &config::Store,
        generation: Generation,
        begin: u64,
    ) -> Result<Built, Fault> {
        let manifest = self.manifest(generation, begin).await?;
        let db = open::engine_of(config)?;
        let synced = File::open(config.path.join("db"))?;
        self.rows(&db, &manifest).await?;
        let mut built =
            Built { groups: 0, reached: begin, complete_to: manifest.at, jobs: 0, broken: None, manifest };
        for segment in self.catalog.run(generation, begin) {
            if let Err(fault) = self.segment(&db, segment, &mut built).await {
                let why = self.own_fault(fault).await?;
                built.broken = Some(format!("{}: {why}", segment.meta.location));
                break;
            }
        }
        if built.reached < built.manifest.end {
            let Built { reached, manifest: Manifest { end, .. }, broken, .. } = built;
            let why = broken.unwrap_or_else(|| format!("the log of changes ends at {reached}"));
            return Err(Fault::Object(format!("it needs the changes up to group {end}: {why}")));
        }
        built.jobs = db.scan_prefix([keys::JOB]).count() as u64;
        db.flush().map_err(engine)?;
        open::sync_files(&config.path, &synced, 1)?;
        Ok(built)
    }

    async fn manifest(&self, generation: Generation, begin: u64) -> Result<Manifest, Fault> {
        let found = self.target.get(&catalog::manifest(generation, begin)).await.map_err(Fault::Unread)?;
        let manifest = found.bytes().await.map_err(Fault::Unread)?;
        let manifest: Manifest = serde_json::from_slice(&manifest)
            .map_err(|error| Fault::Object(format!("its manifest is damaged: {error}")))?;
        if manifest.format > FORMAT {
            return Err(RestoreError::Newer(manifest.format).into());
        }
        Ok(manifest)
    }

    /// Writes the rows of a snapshot.
    async fn rows(&self, db: &Db, manifest: &Manifest) -> Result<(), Fault> {
        let Manifest { generation, begin, .. } = *manifest;
        let (path, wanted) = (catalog::snapshot(generation, begin), Content::Snapshot { begin });
        let mut frames = self.frames(&path, generation, |content| *content == wanted).await?;
        let mut count = 0;
        while let Some(frame) = frames.next().await? {
            let rows = format::rows(&frame).ok_or(FrameError::Damaged)?;
            count += rows.len() as u64;
            apply(db, rows)?;
        }
        if count != manifest.rows {
            let why = format!("it has {count} rows, and its manifest says {}", manifest.rows);
            return Err(Fault::Object(why));
        }
        Ok(())
    }

    /// Applies a segment, as far as it is whole.
    async fn segment(&self, db: &Db, segment: &Segment, built: &mut Built) -> Result<(), Fault> {
        let wanted = (segment.first, segment.last);
        let is_it = |content: &Content| matches!(*content, Content::Segment { first, last, .. } if (first, last) == wanted);
        let mut frames = self.frames(&segment.meta.location, built.manifest.generation, is_it).await?;
        while let Some(frame) = frames.next().await? {
            let group = Group::decode(&frame).ok_or(FrameError::Damaged)?;
            if group.number <= built.reached {
                continue;
            }
            if group.number > built.reached + 1 {
                return Err(FrameError::Damaged.into());
            }
            apply(db, group.writes)?;
            (built.reached, built.complete_to) = (group.number, group.at.max(built.complete_to));
            built.groups += 1;
        }
        if built.reached < segment.last { Err(FrameError::Torn.into()) } else { Ok(()) }
    }

    /// An object's frames, if it says of itself what is expected.
    async fn frames(
        &self,
        path: &Path,
        generation: Generation,
        is_it: impl Fn(&Content) -> bool,
    ) -> Result<Frames<BoxStream<'static, object_store::Result<Bytes>>>, Fault> {
        let stream = self.target.get(path).await.map_err(Fault::Unread)?.into_stream();
        let (heading, frames) = Frames::begin(stream).await?;
        if heading.store == self.store && heading.generation == generation && is_it(&heading.content) {
            Ok(frames)
        } else {
            Err(Fault::Object("it is not what its name says".into()))
        }
    }

    /// Why an object will never be of use; an error if that is not its own fault, or may pass. A bucket says of an object
    /// that it is not there, or refuses it. All errors of a folder are taken for the object's own, since a bad sector
    /// cannot be told from the little that passes there. Either counts only while the rest of the backup is given out:
    /// else the credentials have expired, or the volume is gone.
    async fn own_fault(&self, fault: Fault) -> Result<String, RestoreError> {
        let error = match fault {
            Fault::Object(why) => return Ok(why),
            Fault::Fatal(error) => return Err(error),
            Fault::Unread(error) => error,
        };
        let why = match &error {
            object_store::Error::NotFound { .. } => "it is not there".to_owned(),
            error if is_refusal(error) || self.target.folder.is_some() => {
                format!("it cannot be read: {error}")
            }
            _ => return Err(RestoreError::Unread(error)),
        };
        match self.target.get(&Path::from(STORE)).await {
            Ok(_) => Ok(why),
            Err(_) => Err(RestoreError::Unread(error)),
        }
    }

    /// What lies in the backup behind what was restored.
    fn missing(&self, generation: Generation, built: &Built) -> Option<Missing> {
        let Catalog { segments, snapshots, .. } = &self.catalog;
        let segments = segments.iter().map(|((of, first), it)| (*of, *first, it.last, &it.meta));
        let snapshots = snapshots.iter().map(|((of, begin), meta)| (*of, *begin, *begin, meta));
        let is_behind = |of, last| of > generation || (of == generation && last > built.reached);
        let behind: Vec<_> =
            segments.chain(snapshots).filter(|(of, _, last, _)| is_behind(*of, *last)).collect();
        let newest = behind.iter().map(|(.., meta)| meta.last_modified.timestamp_millis()).max()?;
        let next = behind.iter().map(|(of, first, ..)| (*of, *first)).min()?;
        let why = built.broken.clone().unwrap_or_else(|| {
            if next.0 == generation {
                format!(
                    "the changes from group {} to {} are not in the backup",
                    built.reached + 1,
                    next.1 - 1
                )
            } else {
                format!("generation {} has no snapshot that can be used", next.0)
            }
        });
        Some(Missing { why, newest: Millis(newest) })
    }
}

/// Sets and removes keys, whatever is there.
fn apply(db: &Db, writes: impl IntoIterator<Item = (IVec, Option<IVec>)>) -> Result<(), RestoreError> {
    Ok(db.apply_batch(batch(writes)).map_err(engine)?)
}

/// A time for a person to read.
fn shown(at: Millis) -> String {
    jiff::Timestamp::from_millisecond(at.0).unwrap_or_default().to_string()
}
