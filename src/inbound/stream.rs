//! The event log as a stream of server-sent events: read from the log until it is caught up with, then from the feed.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use actix_web::{
    HttpResponse,
    http::header,
    web::{Bytes, Data},
};
use futures_util::stream;
use serde_json::json;
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{Instant, sleep_until},
};

use super::{
    Context,
    feed::{Entry, Stretch},
    problem::Problem,
    sse,
    view::{self, ProgressView},
};
use crate::{
    app::Progress,
    lifecycle::{Job, JobId},
    store::{EventFilter, LogBounds, StoreError},
};

/// Proxies and clients take a line that is silent for longer for dead.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);
/// How often the progress of a download is looked at.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// Events that are read from the log at once.
const PAGE: usize = 100;

/// Who follows the log, and from where. What it holds is bounded by a page or a stretch, whose text all followers share.
pub(super) struct Follower {
    context: Data<Context>,
    filter: EventFilter,
    /// The last event that was sent, or skipped.
    after: u64,
    /// The place that the reader knows of.
    told: Option<u64>,
    /// None while it reads the log itself.
    feed: Option<Receiver<Arc<Stretch>>>,
    ready: VecDeque<Bytes>,
    /// Of one job: its stream has an end.
    job: Option<JobId>,
    /// The last event of that job was seen.
    ended: bool,
    progress: Option<Progress>,
    heartbeat_at: Instant,
    over: bool,
}

impl Follower {
    /// Everything after `after` that the filter lets through, and whatever comes.
    pub(super) fn new(context: Data<Context>, filter: EventFilter, after: u64) -> Self {
        Self {
            context,
            filter,
            after,
            told: None,
            feed: None,
            ready: VecDeque::new(),
            job: None,
            ended: false,
            progress: None,
            heartbeat_at: Instant::now() + HEARTBEAT,
            over: false,
        }
    }

    /// The timeline of one job from `after` to its end.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn of_job(context: Data<Context>, job: &Job, after: u64) -> Result<Self, StoreError> {
        let filter = EventFilter { job: Some(job.id), ..EventFilter::default() };
        let ended = job.outcome().is_some();
        if ended {
            // The log ends at what is durable: wait until the end that was seen is.
            context.app.store().barrier().await?;
        }
        Ok(Self { job: Some(job.id), ended, ..Self::new(context, filter, after) })
    }

    /// Whether nothing follows: the job has ended, and its last event is not after the place to begin at.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn is_finished(&self) -> Result<bool, StoreError> {
        if !self.ended {
            return Ok(false);
        }
        let rest = self.context.app.store().events(self.after, PAGE, self.filter.clone()).await?;
        Ok(!rest.more && !rest.events.iter().any(|entry| entry.event.kind.is_terminal()))
    }

    /// Where the place to begin at is not in the log, since it is gone or was in another log: begins at the oldest event
    /// instead, and tells the reader so first.
    pub(super) fn within(mut self, LogBounds { oldest, newest }: LogBounds) -> Self {
        if self.after <= newest && self.after + 1 >= oldest {
            return self;
        }
        self.after = oldest.saturating_sub(1);
        let bounds = json!({ "oldest": oldest, "newest": newest });
        self.ready.push_back(sse::message("reset", Some(self.after), &bounds));
        self
    }

    /// The answer. It ends with the job where it is one job's, and when the server stops.
    pub(super) fn respond(self) -> HttpResponse {
        let frames = stream::unfold(self, |mut follower| async move {
            let frame = follower.next().await?;
            Some((Ok::<_, Infallible>(frame), follower))
        });
        HttpResponse::Ok()
            .content_type("text/event-stream")
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .insert_header(("x-accel-buffering", "no"))
            .streaming(frames)
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                self.heartbeat_at = Instant::now() + HEARTBEAT;
                return Some(frame);
            }
            if self.over || self.context.stop.is_cancelled() {
                return None;
            }
            let moved = if self.feed.is_some() { self.follow().await } else { self.read_on().await };
            if let Err(error) = moved {
                tracing::warn!(%error, "an event stream ends early");
                return None;
            }
            if self.ready.is_empty() && !self.over && self.heartbeat_at <= Instant::now() {
                self.say_place();
            }
        }
    }

    /// Reads a page of the log, or as far as one read goes; with the last one begins to follow the feed.
    async fn read_on(&mut self) -> Result<(), StoreError> {
        let context = self.context.clone();
        // Before the log is read: what comes after that read is in the feed.
        let feed = context.feed.board();
        let page = context.app.store().events(self.after, PAGE, self.filter.clone()).await?;
        for entry in page.events.into_iter().map(Entry::from) {
            self.take(&entry);
        }
        self.after = page.read_to;
        if !page.more {
            self.feed = Some(feed);
            self.finish().await;
            // So that who comes back begins here, whatever the filter left out.
            if !self.over && self.told != Some(self.after) {
                self.say_place();
            }
        }
        Ok(())
    }

    /// Waits for a stretch of the log, for progress, or for the time to say that the line is alive.
    async fn follow(&mut self) -> Result<(), StoreError> {
        let Some(feed) = &mut self.feed else { return Ok(()) };
        let mut alarm = self.heartbeat_at;
        if self.job.is_some() {
            alarm = alarm.min(Instant::now() + PROGRESS_EVERY);
        }
        tokio::select! {
            () = self.context.stop.cancelled() => self.over = true,
            () = sleep_until(alarm) => self.note_progress(),
            stretch = feed.recv() => match stretch {
                Ok(stretch) => self.pass_on(&stretch).await?,
                Err(RecvError::Lagged(_)) => self.feed = None,
                Err(RecvError::Closed) => self.over = true,
            },
        }
        Ok(())
    }

    async fn pass_on(&mut self, stretch: &Stretch) -> Result<(), StoreError> {
        if stretch.after > self.after {
            // Something came between: it is in the log.
            self.feed = None;
            return Ok(());
        }
        let (context, after) = (self.context.clone(), self.after);
        for entry in stretch.entries.iter().filter(|entry| entry.log.seq > after) {
            if entry.passes(&self.filter, &context.app).await? {
                self.take(entry);
            }
        }
        self.after = self.after.max(stretch.read_to);
        self.finish().await;
        Ok(())
    }

    fn say_place(&mut self) {
        let place = Some(self.after).filter(|_| self.told != Some(self.after));
        self.told = Some(self.after);
        self.ready.push_back(sse::heartbeat(place));
    }

    fn take(&mut self, entry: &Entry) {
        self.ready.push_back(entry.frame());
        self.told = Some(entry.log.seq);
        self.ended |= self.job.is_some() && entry.is_terminal();
    }

    /// Ends the stream of a job that has ended. Its log was read up to there.
    async fn finish(&mut self) {
        let Some(id) = self.job.filter(|_| self.ended) else { return };
        self.over = true;
        // A job that is forgotten by now has nothing more to say.
        let Ok(job) = self.context.app.get(id).await.map_err(Problem::from) else { return };
        if let Ok(view) = view::view(job, &self.context).await {
            self.ready.push_back(sse::message("done", None, &view));
        }
    }

    /// Live only: no id, so that a reader never resumes after it.
    fn note_progress(&mut self) {
        let Some(id) = self.job else { return };
        let Some(now) = self.context.app.progress(id) else { return };
        if self.progress.replace(now) != Some(now) {
            let data = json!({ "type": "job.progress", "job_id": id, "data": ProgressView::from(now) });
            self.ready.push_back(sse::message("job.progress", None, &data));
        }
    }
}
