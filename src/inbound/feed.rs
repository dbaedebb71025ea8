//! The event log, read once for everybody who follows it.
//!
//! One task reads what was appended and hands it to all followers, in stretches that join without a gap; so what a
//! follower costs does not depend on the store. Whoever finds a gap before a stretch, because it was too slow or came
//! later than it thought, reads on in the log itself until it has caught up: nothing is lost, and what waits for slow
//! followers is bounded for all of them together.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use actix_web::web::Bytes;
use tokio::{
    sync::{Notify, OnceCell, broadcast, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{sse, view::EventView};
use crate::{
    app::App,
    store::{EventFilter, LogEntry, StoreError},
};

/// Events in a stretch at most.
const STRETCH: usize = 200;
/// Stretches that are kept for the slowest follower.
const KEPT: usize = 32;
/// While events come in a row they are handed on this often, since every follower has to wake up for it.
const PACE: Duration = Duration::from_millis(20);
/// A wake is only a hint: without one the log is looked at this often.
const LOOK: Duration = Duration::from_secs(5);

/// Where followers get on.
#[derive(Clone, Debug)]
pub struct Feed {
    stretches: broadcast::Sender<Arc<Stretch>>,
    /// Somebody got on.
    boarded: Arc<Notify>,
}

/// What the log holds from one place to another.
#[derive(Debug)]
pub(super) struct Stretch {
    /// It begins behind the event of this number.
    pub(super) after: u64,
    /// It ends with this number.
    pub(super) read_to: u64,
    pub(super) entries: Vec<Entry>,
}

/// An event, and what is made of it once for all followers.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) log: LogEntry,
    frame: OnceLock<Bytes>,
    tags: OnceCell<Vec<String>>,
}

impl Feed {
    /// Starts reading, until `stop`.
    #[must_use]
    pub fn start(app: Arc<App>, stop: CancellationToken) -> Self {
        let feed = Self { stretches: broadcast::Sender::new(KEPT), boarded: Arc::default() };
        let reader = Reader { feed: feed.clone(), wake: app.store().wake(), app, at: None };
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = reader.run() => {}
            }
        });
        feed
    }

    /// Everything from now on. What is already in the log has to be read there, after this.
    pub(super) fn board(&self) -> broadcast::Receiver<Arc<Stretch>> {
        let receiver = self.stretches.subscribe();
        if self.stretches.receiver_count() == 1 {
            self.boarded.notify_one();
        }
        receiver
    }
}

struct Reader {
    feed: Feed,
    app: Arc<App>,
    wake: watch::Receiver<u64>,
    /// How far the log was handed on; none while nobody follows.
    at: Option<u64>,
}

impl Reader {
    async fn run(mut self) {
        loop {
            self.wake.mark_unchanged();
            let begun = Instant::now();
            if let Err(error) = self.read_on().await {
                tracing::warn!(%error, "the event log cannot be followed just now");
            }
            tokio::time::sleep_until(begun + PACE).await;
            let feed = self.feed.clone();
            tokio::select! {
                changed = self.wake.changed() => if changed.is_err() { return }, // the store is closed
                () = feed.boarded.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn read_on(&mut self) -> Result<(), StoreError> {
        if self.feed.stretches.receiver_count() == 0 {
            self.at = None;
            return Ok(());
        }
        let app = Arc::clone(&self.app);
        let store = app.store();
        let Some(mut after) = self.at else {
            let newest = store.bounds().await?.newest;
            // Who read the log before this place finds the gap.
            self.hand_on(Stretch { after: newest, read_to: newest, entries: Vec::new() });
            return Ok(());
        };
        loop {
            let page = store.events(after, STRETCH, EventFilter::default()).await?;
            if page.read_to > after {
                let entries = page.events.into_iter().map(Entry::from).collect();
                self.hand_on(Stretch { after, read_to: page.read_to, entries });
                after = page.read_to;
            }
            if !page.more {
                return Ok(());
            }
        }
    }

    fn hand_on(&mut self, stretch: Stretch) {
        self.at = Some(stretch.read_to);
        // Nobody may be left to take it.
        self.feed.stretches.send(Arc::new(stretch)).ok();
    }
}

impl From<LogEntry> for Entry {
    fn from(log: LogEntry) -> Self {
        Self { log, frame: OnceLock::new(), tags: OnceCell::new() }
    }
}

impl Entry {
    /// The event as a message of a stream.
    pub(super) fn frame(&self) -> Bytes {
        let render = || {
            let kind = self.log.event.kind.name();
            sse::message(&kind, Some(self.log.seq), &EventView::from(self.log.clone()))
        };
        self.frame.get_or_init(render).clone()
    }

    /// Whether it ends the timeline of its job.
    pub(super) const fn is_terminal(&self) -> bool {
        self.log.event.kind.is_terminal()
    }

    /// Whether a filter takes it, by the rules of the store. The tags of its job are looked up once for all followers.
    pub(super) async fn passes(&self, filter: &EventFilter, app: &App) -> Result<bool, StoreError> {
        let event = &self.log.event;
        let kind_fits = filter.kinds.is_empty() || filter.kinds.contains(&event.kind);
        if !kind_fits || filter.job.is_some_and(|job| Some(job) != event.job_id) {
            return Ok(false);
        }
        let Some(tag) = &filter.tag else { return Ok(true) };
        let look_up = || async {
            let Some(id) = event.job_id else { return Ok(Vec::new()) };
            let job = app.store().load(id).await?;
            Ok::<_, StoreError>(job.map(|job| job.tags).unwrap_or_default())
        };
        Ok(self.tags.get_or_try_init(look_up).await?.contains(tag))
    }
}
