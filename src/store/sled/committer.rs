//! The one writer. It judges whatever waits as a group, writes the group as one batch, syncs, then answers.
//!
//! sled shows a batch before it is durable, so nothing is answered before the sync, see [`durable`]; a sync that fails
//! or never ends takes the process with it, for after that nobody can tell what is on the disk.
//!
//! Two threads share the work: while the syncer makes a group durable, the committer judges the next one; it applies
//! that one only afterwards, so that never more than one batch awaits its sync.

use std::{
    fs::File,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{Builder, JoinHandle},
    time::{Duration, Instant},
};

use metrics::histogram;
use sled::Db;
use tokio::sync::{mpsc, oneshot};

use super::{
    backup::{Begun, Feed},
    durable,
    state::{Published, State},
    txn::{self, Txn, engine},
};
use crate::{
    chaos::{self, Point, Safeguard},
    store::StoreError,
};

/// Requests in a group at most.
const GROUP: usize = 512;
/// Bytes after which a group is closed.
const GROUP_BYTES: usize = 4 << 20;
/// Requests that wait at most; whoever comes then waits to be let in.
const QUEUE: usize = 4096;
/// A group that takes longer never ends: sled hangs on a full disk.
const STUCK: Duration = Duration::from_secs(10);

type Answer = Box<dyn FnOnce() + Send>;

enum Request {
    /// Reads and writes the group's view; what it returns is called once that is durable.
    Judge(Box<dyn FnOnce(&mut Txn) -> Answer + Send>),
    /// Ends the thread after everything that was asked before.
    Close,
}

/// A group that is in the tree and not yet on the disk.
struct Applied {
    /// What it leaves; none when it wrote nothing, and so saw only what is durable once its turn has come.
    state: Option<State>,
    /// The same for the backup, where there is one.
    group: Option<Begun>,
    answers: Vec<Answer>,
}

/// The way to the committer thread.
#[derive(Debug)]
pub(super) struct Committer {
    queue: mpsc::Sender<Request>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Committer {
    /// Starts the threads and their watchdog. `synced_file` is the one that holds the engine's log. What is durable is handed
    /// to `backup`, before anybody is answered.
    pub(super) fn start(
        db: Db,
        synced_file: File,
        state: State,
        published: Arc<Published>,
        backup: Option<Feed>,
    ) -> std::io::Result<Self> {
        let (queue, requests) = mpsc::channel(QUEUE);
        let pulses = Arc::new([Pulse::new(), Pulse::new()]);
        let watched = Arc::downgrade(&pulses);
        Builder::new().name("store-watchdog".into()).spawn(move || watch(&watched))?;

        let (applied, to_sync) = sync_channel(1);
        let (done, synced) = sync_channel(1);
        let syncer = Syncer {
            db: db.clone(),
            file: synced_file,
            published,
            backup: backup.clone(),
            pulses: Arc::clone(&pulses),
            done,
        };
        let syncer = Builder::new().name("store-syncer".into()).spawn(move || {
            let _fatal = FatalPanic;
            syncer.run(&to_sync);
        })?;
        let thread = Builder::new().name("store-committer".into()).spawn(move || {
            let _fatal = FatalPanic;
            let txn = Txn::new((*db).clone(), state);
            Judge { db, txn, answers: Vec::new(), synced, applied, backup, pulses }.run(requests);
            syncer.join().ok(); // a panic there has ended the process already
        })?;
        Ok(Self { queue, thread: Mutex::new(Some(thread)) })
    }

    /// Has a request judged. What it saw and wrote is durable when this returns; when it fails it wrote nothing.
    pub(super) async fn judge<T: Send + 'static>(
        &self,
        judge: impl FnOnce(&mut Txn) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.ask(judge, Safeguard::Sync).await
    }

    /// As [`judge`](Self::judge); the wait for the answer is what `kept` is about.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        judge: impl FnOnce(&mut Txn) -> Result<T, StoreError> + Send + 'static,
        kept: Safeguard,
    ) -> Result<T, StoreError> {
        let (request, verdict) = request(judge, kept);
        self.queue.send(request).await.map_err(|_| closed())?;
        verdict.await.map_err(|_| closed())?
    }

    /// As [`judge`](Self::judge), for a thread that is no worker of a runtime.
    pub(super) fn judge_blocking<T: Send + 'static>(
        &self,
        judge: impl FnOnce(&mut Txn) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (request, verdict) = request(judge, Safeguard::Sync);
        self.queue.blocking_send(request).map_err(|_| closed())?;
        verdict.blocking_recv().map_err(|_| closed())?
    }

    /// Ends the thread after everything that was asked before.
    pub(super) async fn close(&self) {
        // A closed queue means that somebody else closes it already.
        self.queue.send(Request::Close).await.ok();
        self.queue.closed().await;
    }
}

impl Drop for Committer {
    /// Waits for the group under way, so that the lock on the files is free afterwards.
    fn drop(&mut self) {
        let (unused, _) = mpsc::channel(1);
        drop(std::mem::replace(&mut self.queue, unused));
        if let Some(thread) = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            thread.join().ok(); // a panic there has ended the process already
        }
    }
}

pub(super) fn closed() -> StoreError {
    StoreError::Unavailable("it is closed".into())
}

fn request<T: Send + 'static>(
    judge: impl FnOnce(&mut Txn) -> Result<T, StoreError> + Send + 'static,
    kept: Safeguard,
) -> (Request, oneshot::Receiver<Result<T, StoreError>>) {
    let (answer, verdict) = oneshot::channel();
    let request = Request::Judge(Box::new(move |txn| {
        let verdict = txn.attempt(judge);
        // Whoever asked may have gone; what was asked stands.
        let tell = move || drop(answer.send(verdict));
        if chaos::without(kept) {
            tell();
            return Box::new(|| ());
        }
        Box::new(tell)
    }));
    (request, verdict)
}

/// The committer thread.
struct Judge {
    db: Db,
    txn: Txn,
    /// Of the group so far.
    answers: Vec<Answer>,
    /// Says that the syncer is free: the group before is durable.
    synced: Receiver<()>,
    applied: SyncSender<Applied>,
    backup: Option<Feed>,
    pulses: Arc<[Pulse; 2]>,
}

impl Judge {
    fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let pulses = Arc::clone(&self.pulses);
        while let Some(first) = requests.blocking_recv() {
            pulses[0].begin();
            self.take(first, &mut requests);
            self.fill(&mut requests);
            if self.synced.recv().is_err() {
                break; // the syncer's panic ends the process
            }
            // What came meanwhile joins the group: it costs no sync of its own.
            self.fill(&mut requests);
            self.apply();
            pulses[0].end();
        }
    }

    /// Judges what waits, as far as the group has room.
    fn fill(&mut self, requests: &mut mpsc::Receiver<Request>) {
        while self.answers.len() < GROUP && self.txn.bytes() < GROUP_BYTES {
            let Ok(request) = requests.try_recv() else { break };
            self.take(request, requests);
        }
    }

    fn take(&mut self, request: Request, requests: &mut mpsc::Receiver<Request>) {
        match request {
            Request::Judge(judge) => self.answers.push(judge(&mut self.txn)),
            Request::Close => requests.close(),
        }
    }

    fn apply(&mut self) {
        let applied = self.txn.writes().and_then(|writes| {
            let Some(writes) = writes else { return Ok((None, None)) };
            chaos::dawdle();
            chaos::pass(Point::StoreJudged);
            let group = self.backup.as_ref().map(|backup| backup.begin(&writes));
            self.db.apply_batch(txn::batch(writes)).map_err(engine)?;
            chaos::pass(Point::StoreApplied);
            Ok((Some(self.txn.state), group))
        });
        let (state, group) = applied.unwrap_or_else(|error| failed(&error));
        let answers = std::mem::take(&mut self.answers);
        // A syncer that is gone has ended the process.
        self.applied.send(Applied { state, group, answers }).ok();
    }
}

/// The thread that makes groups durable, one after the other, and answers.
struct Syncer {
    db: Db,
    file: File,
    published: Arc<Published>,
    backup: Option<Feed>,
    pulses: Arc<[Pulse; 2]>,
    done: SyncSender<()>,
}

impl Syncer {
    fn run(self, groups: &Receiver<Applied>) {
        self.free();
        for Applied { state, group, answers } in groups {
            if let Some(state) = state {
                self.pulses[1].begin();
                let begun = Instant::now();
                self.sync().unwrap_or_else(|error| failed(&error));
                histogram!("reelhook_store_sync_seconds").record(begun.elapsed());
                self.pulses[1].end();
                self.published.publish(&state);
            }
            self.free();
            if let (Some(backup), Some(group)) = (&self.backup, group) {
                backup.offer(group);
            }
            chaos::pass(Point::StoreAnswering);
            answers.into_iter().for_each(|answer| answer());
            chaos::pass(Point::StoreAnswered);
        }
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.db.flush().map_err(engine)?;
        chaos::pass(Point::StoreFlushed);
        if !durable::flush_is_sync() {
            self.file.sync_data().map_err(|error| StoreError::Unavailable(error.to_string()))?;
        }
        chaos::pass(Point::StoreSynced);
        Ok(())
    }

    fn free(&self) {
        // The committer may have ended.
        self.done.send(()).ok();
    }
}

fn failed(error: &StoreError) -> ! {
    fatal(&format!("a write to the store failed: {error}"))
}

/// When the group that a thread works on began.
#[derive(Debug)]
struct Pulse {
    base: Instant,
    /// Milliseconds since `base`, and one; 0 while idle.
    begun: AtomicU64,
}

impl Pulse {
    fn new() -> Self {
        Self { base: Instant::now(), begun: AtomicU64::new(0) }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    fn begin(&self) {
        self.begun.store(self.now(), Ordering::Release);
    }

    fn end(&self) {
        self.begun.store(0, Ordering::Release);
    }

    fn stuck(&self, now: u64) -> bool {
        let begun = self.begun.load(Ordering::Acquire);
        begun > 0 && u128::from(now.saturating_sub(begun)) > STUCK.as_millis()
    }
}

fn watch(pulses: &Weak<[Pulse; 2]>) {
    while let Some(pulses) = pulses.upgrade() {
        if pulses.iter().any(|pulse| pulse.stuck(pulse.now())) {
            fatal("a write to the store did not end within 10 s");
        }
        drop(pulses);
        std::thread::sleep(Duration::from_secs(1));
    }
}

struct FatalPanic;

impl Drop for FatalPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            fatal("the committer of the store panicked");
        }
    }
}

/// Ends the process: what was acknowledged is on the disk, of the rest nobody knows.
fn fatal(why: &str) -> ! {
    tracing::error!(
        "{why}; the process ends so that nothing is acknowledged that may be lost; start it again"
    );
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Set in the process that is to end.
    const DOOMED: &str = "REELHOOK_TEST_DOOMED_COMMITTER";

    fn start(synced: &str) -> Committer {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let (state, synced) = (State::default(), File::open(synced).unwrap());
        Committer::start(db, synced, state, Arc::new(Published::new(&state)), None).unwrap()
    }

    /// Runs this very test in a process of its own, where `doomed` ends it.
    fn ends_the_process(test: &str, doomed: impl FnOnce()) {
        if std::env::var_os(DOOMED).is_some() {
            doomed();
            println!("acknowledged");
            return;
        }
        let this = std::env::current_exe().unwrap();
        let test = format!("store::sled::committer::tests::{test}");
        let child =
            Command::new(this).args([&test, "--exact", "--nocapture"]).env(DOOMED, "1").output().unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(said.contains("running 1 test"), "{said}");
        assert!(!said.contains("acknowledged") && !child.status.success(), "{said}");
    }

    #[test]
    fn a_sync_that_fails_ends_the_process_before_anything_is_acknowledged() {
        ends_the_process("a_sync_that_fails_ends_the_process_before_anything_is_acknowledged", || {
            // fdatasync of a device that is no disk fails.
            start("/dev/null")
                .judge_blocking(|txn| {
                    txn.mark(b"z");
                    Ok(())
                })
                .ok();
        });
    }

    #[test]
    fn a_panic_of_the_committer_ends_the_process() {
        ends_the_process("a_panic_of_the_committer_ends_the_process", || {
            let bug = |_: &mut Txn| -> Result<(), StoreError> { panic!("a bug") };
            start("/dev/null").judge_blocking(bug).ok();
        });
    }

    #[test]
    fn a_group_is_stuck_after_ten_seconds_and_idleness_never_is() {
        let pulse = Pulse::new();
        assert!(!pulse.stuck(u64::MAX));
        pulse.begin();
        let begun = pulse.begun.load(Ordering::Acquire);
        assert!(!pulse.stuck(begun + 10_000));
        assert!(pulse.stuck(begun + 10_001));
        pulse.end();
        assert!(!pulse.stuck(begun + 10_001));
    }

    #[test]
    fn what_wrote_nothing_is_answered_without_a_sync() {
        assert!(start("/dev/null").judge_blocking(|_| Ok(())).is_ok());
    }
}
