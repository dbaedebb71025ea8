//! The task that uploads: groups as segments as they come, and snapshots from time to time.

use std::{path::PathBuf, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use metrics::counter;
use object_store::{PutPayload, path::Path};
use serde::{Deserialize, Serialize};
use sled::Tree;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    Marker,
    catalog::{self, Generation, STORE},
    feed::Outlet,
    format::{self, Content, FORMAT, Group, Heading, Manifest},
    now,
    snapshot::{self, Plan, UploadError},
    status::Status,
    target::Target,
};
use crate::{lifecycle::Millis, store::sled::value::SCHEMA};

/// How long a durable change waits for others to be uploaded with.
const GATHER: Duration = Duration::from_secs(1);
/// Bytes of a segment that waits for no others.
const SEGMENT: usize = 4 << 20;
/// Bytes of segments that are cheaper to keep than a new snapshot, however small that would be.
const LEAST: u64 = 64 << 20;
/// A snapshot is made at least so often while anything changes.
const DAILY: Duration = Duration::from_hours(24);
/// How long an answer of the target is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pauses after a failure: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// What `store.json` says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) format: u16,
    pub(super) store: String,
}

/// Groups that are not uploaded so far.
struct Gathered {
    /// Frames.
    groups: Vec<u8>,
    first: u64,
    last: u64,
    from: Millis,
    to: Millis,
    due: Instant,
}

/// The uploads of one store.
pub(super) struct Writer {
    target: Target,
    tree: Tree,
    outlet: Outlet,
    status: Arc<Status>,
    /// The store, in hexadecimal …
    store: String,
    /// … and its folder.
    home: PathBuf,
    generation: Generation,
    /// The newest group that was taken from the outlet, or is in the snapshot that the generation begins with.
    seen: u64,
    /// The newest that is in the backup.
    saved: u64,
    gathered: Option<Gathered>,
    /// A snapshot that is being made …
    making: Option<JoinHandle<Result<Manifest, UploadError>>>,
    /// … or waits for segments.
    made: Option<Manifest>,
    /// What is outdated is being removed.
    pruning: Option<JoinHandle<()>>,
    /// When to try again to make one.
    make_at: Option<Instant>,
    /// Bytes and age of the newest whole one …
    newest: Option<(u64, Instant)>,
    /// … and of the segments since it began.
    since: u64,
}

impl Writer {
    pub(super) fn new(
        target: Target,
        tree: Tree,
        outlet: Outlet,
        status: Arc<Status>,
        store: String,
        home: PathBuf,
    ) -> Self {
        Self {
            target,
            tree,
            outlet,
            status,
            store,
            home,
            generation: 0,
            seen: 0,
            saved: 0,
            gathered: None,
            making: None,
            made: None,
            pruning: None,
            make_at: None,
            newest: None,
            since: 0,
        }
    }

    /// Uploads until the store is closed; then says where the backup ends, if it is whole and has everything.
    pub(super) async fn run(mut self, left: Option<Marker>) -> Option<Marker> {
        if !self.is_ours().await {
            // Whoever waits is let go.
            while self.outlet.next().await.is_some() {}
            return None;
        }
        match left {
            Some(left) if self.goes_on(left).await => self.note_whole(),
            _ => self.begin().await,
        }
        loop {
            if self.ends_in_a_hole() {
                self.begin().await;
            }
            let timer =
                self.gathered.as_ref().map(|gathered| gathered.due).into_iter().chain(self.make_at).min();
            tokio::select! {
                group = self.outlet.next() => match group {
                    Some(group) => self.take(&group).await,
                    None => break,
                },
                () = at(timer) => self.on_time().await,
                made = done(&mut self.making) => self.settle(made).await,
            }
        }
        self.flush().await;
        if self.making.is_some() {
            let made = done(&mut self.making).await;
            self.settle(made).await;
        }
        let has_all = self.status.report().whole && self.saved == self.outlet.numbers.begun();
        has_all.then_some(Marker { generation: self.generation, last: self.saved })
    }

    /// Whether the target is of this store; it is from now on if it was of none.
    async fn is_ours(&self) -> bool {
        if self.target.place().is_some_and(|place| super::was_begun_in(place, &self.home)) {
            self.patiently(async || self.target.ensure_there()).await;
        }
        let ours = Identity { format: FORMAT, store: self.store.clone() };
        let json = format::json(&ours);
        let path = Path::from(STORE);
        let is_new = self.patiently(|| self.target.create(&path, PutPayload::from(json.clone()))).await;
        let is_ours = is_new || {
            let found = self.patiently(|| async { self.target.get(&path).await?.bytes().await }).await;
            let theirs = serde_json::from_slice::<Identity>(&found).ok();
            theirs.is_some_and(|theirs| theirs.store == self.store && theirs.format <= FORMAT)
        };
        if is_ours {
            self.note_place();
        } else {
            let why = "`[store] backup` names the place of another store's backup, or of a newer version's, and nothing is \
                       written there: name another";
            tracing::error!("{why}");
            self.status.failed(why);
        }
        is_ours
    }

    /// Notes in the store where the backup is, so that a volume that is not mounted is told from a new place.
    fn note_place(&self) {
        if let Some(Err(error)) = self.target.place().map(|place| super::note_begun_in(place, &self.home)) {
            tracing::warn!(%error, "where the backup is cannot be noted in the store's folder");
        }
    }

    /// Goes on behind what the process before left, if that is how the backup ends.
    async fn goes_on(&mut self, left: Marker) -> bool {
        let catalog = self.patiently(|| self.target.list()).await;
        let Marker { generation, last } = left;
        let whole = catalog.snapshots.range((generation, 0)..(generation + 1, 0)).next_back();
        let Some((&(_, begin), _)) = whole.filter(|_| catalog.generations.last() == Some(&generation)) else {
            return false;
        };
        let path = catalog::manifest(generation, begin);
        let manifest = self.patiently(|| async { self.target.get(&path).await?.bytes().await }).await;
        let Ok(Manifest { bytes, .. }) = serde_json::from_slice(&manifest) else { return false };
        let run = catalog.run(generation, begin);
        if run.last().map_or(begin, |segment| segment.last) != last {
            return false;
        }
        self.since = run.iter().map(|segment| segment.meta.size).sum();
        self.newest = Some((bytes, Instant::now()));
        (self.generation, self.seen, self.saved) = (generation, last, last);
        true
    }

    /// Begins a new run of groups with a snapshot: nobody knows what the one before lacks.
    async fn begin(&mut self) {
        self.flush().await;
        self.status.opened(now());
        if let Some(making) = self.making.take() {
            making.abort();
        }
        // What it removes is reckoned from the generation that was.
        if let Some(pruning) = self.pruning.take() {
            pruning.abort();
        }
        (self.made, self.newest) = (None, None);
        self.generation = self.patiently(|| self.target.claim()).await;
        // All of them are durable, and so in the tree.
        let drained = self.outlet.drain();
        let numbers = &self.outlet.numbers;
        self.seen = self.seen.max(drained).max(numbers.durable()).max(numbers.left_out());
        self.saved = self.seen;
        self.status.uploaded();
        self.make();
    }

    /// Whether a group found no room behind all that did.
    fn ends_in_a_hole(&self) -> bool {
        self.outlet.is_empty() && self.has_hole()
    }

    /// Whether a group of this run found no room.
    fn has_hole(&self) -> bool {
        self.outlet.numbers.left_out() > self.seen
    }

    async fn take(&mut self, group: &Group) {
        if group.number <= self.seen {
            return;
        }
        let follows = group.number == self.seen + 1;
        self.seen = group.number;
        if !follows {
            return self.begin().await;
        }
        self.status.waits(group.at);
        let gathered = self.gathered.get_or_insert_with(|| Gathered {
            groups: Vec::new(),
            first: group.number,
            last: group.number,
            from: group.at,
            to: group.at,
            due: Instant::now() + GATHER,
        });
        (gathered.last, gathered.to) = (group.number, group.at);
        format::frame(&mut gathered.groups, &group.encode());
        if gathered.groups.len() >= SEGMENT {
            self.flush().await;
        }
    }

    async fn on_time(&mut self) {
        let is_due = |due: &Instant| *due <= Instant::now();
        if self.gathered.as_ref().is_some_and(|gathered| is_due(&gathered.due)) {
            self.flush().await;
        }
        if self.make_at.as_ref().is_some_and(is_due) {
            self.make();
        }
    }

    /// Uploads what is gathered, as a segment.
    async fn flush(&mut self) {
        let Some(Gathered { groups, first, last, from, to, .. }) = self.gathered.take() else { return };
        let heading = format::heading(&Heading {
            format: FORMAT,
            schema: SCHEMA,
            store: self.store.clone(),
            generation: self.generation,
            content: Content::Segment { first, last, from, to },
        });
        let payload = PutPayload::from_iter([Bytes::from(heading), groups.into()]);
        self.put(&catalog::segment(self.generation, first, last), payload.clone()).await;
        self.saved = last;
        self.since += payload.content_length() as u64;
        self.status.uploaded();
        self.publish().await;
        let outweighs = |(bytes, age): (u64, Instant)| {
            self.since > bytes.max(LEAST) || (age.elapsed() > DAILY && self.since > 0)
        };
        if self.newest.is_some_and(outweighs) {
            self.make();
        }
    }

    /// Begins to make a snapshot, unless one is being made.
    fn make(&mut self) {
        self.make_at = None;
        if self.making.is_some() || self.made.is_some() {
            return;
        }
        let plan = Plan { store: self.store.clone(), generation: self.generation, begin: self.seen };
        self.since = 0;
        let (tree, numbers) = (self.tree.clone(), Arc::clone(&self.outlet.numbers));
        self.making = Some(tokio::spawn(snapshot::upload(plan, tree, numbers, self.target.clone())));
    }

    async fn settle(&mut self, made: Result<Manifest, String>) {
        self.making = None;
        match made {
            Ok(manifest) => {
                self.made = Some(manifest);
                self.publish().await;
            }
            Err(why) => {
                count(false);
                self.status.failed(&why);
                self.make_at = Some(Instant::now() + PAUSES.1);
            }
        }
    }

    /// Makes the snapshot count once every segment is there that it needs, and removes what is outdated then.
    async fn publish(&mut self) {
        let Some(manifest) = self.made.take_if(|made| made.end <= self.saved) else { return };
        let json = format::json(&manifest);
        self.put(&catalog::manifest(manifest.generation, manifest.begin), json.into()).await;
        counter!("reelhook_backup_uploaded_bytes_total").increment(manifest.bytes);
        self.newest = Some((manifest.bytes, Instant::now()));
        self.note_whole();
        tracing::info!(
            rows = manifest.rows,
            bytes = manifest.bytes,
            "the backup has a whole snapshot of the store"
        );
        // That may be thousands of requests, and segments do not wait for them.
        if self.pruning.as_ref().is_none_or(JoinHandle::is_finished) {
            let pruning = prune(self.target.clone(), self.generation);
            self.pruning = Some(tokio::spawn(async {
                if let Err(error) = pruning.await {
                    tracing::warn!(%error, "what is outdated in the backup cannot be removed, and stays until the next snapshot");
                }
            }));
        }
    }

    /// Says that a snapshot is there and what follows it, unless a group found no room meanwhile.
    fn note_whole(&self) {
        if !self.has_hole() {
            self.status.closed();
        }
    }

    async fn put(&self, path: &Path, payload: PutPayload) {
        self.patiently(|| self.target.put(path, payload.clone())).await;
        counter!("reelhook_backup_uploaded_bytes_total").increment(payload.content_length() as u64);
    }

    /// Tries until the target does it.
    async fn patiently<T, F>(&self, attempt: impl Fn() -> F) -> T
    where
        F: Future<Output = object_store::Result<T>>,
    {
        let mut pause = PAUSES.0;
        loop {
            let why = match timeout(PATIENCE, attempt()).await {
                Ok(Ok(done)) => {
                    count(true);
                    self.status.succeeded();
                    return done;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
            };
            count(false);
            self.status.failed(&why);
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

/// Removes what neither of the last two snapshots needs.
async fn prune(target: Target, generation: Generation) -> object_store::Result<()> {
    let catalog = target.list().await?;
    if catalog.generations.last().is_some_and(|newest| *newest > generation) {
        tracing::error!("another server writes to the same backup: `db restore` takes what that one wrote");
    }
    let Some(kept) = catalog.oldest_kept(generation) else { return Ok(()) };
    target.delete_all(catalog.outdated(kept)).await?;
    target.sweep(kept.0).await
}

fn count(did: bool) {
    counter!("reelhook_backup_requests_total", "result" => if did { "done" } else { "failed" }).increment(1);
}

/// Returns at that time, if ever.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Returns when the snapshot is made, if one is being made.
async fn done(making: &mut Option<JoinHandle<Result<Manifest, UploadError>>>) -> Result<Manifest, String> {
    match making {
        Some(making) => match pin!(making).await {
            Ok(made) => made.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        },
        None => std::future::pending().await,
    }
}
