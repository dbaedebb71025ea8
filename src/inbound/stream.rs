//! The event log as a stream of server-sent events.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use actix_web::{HttpRequest, HttpResponse, Responder as _, http::header, web::Data};
use actix_web_lab::sse::{Data as Message, Event, Sse};
use futures_util::stream;
use serde_json::json;
use tokio::sync::watch;

use super::{
    Context,
    view::{self, EventView, ProgressView},
};
use crate::{
    lifecycle::{Job, JobId, Phase},
    store::{EventFilter, LogEntry, StoreError},
};

/// Proxies and clients take a line that is silent for longer for dead.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);
/// How often the progress of a download is looked at.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
const PAGE: usize = 100;

/// Who follows the log, and from where.
pub(super) struct Follower {
    context: Data<Context>,
    filter: EventFilter,
    /// The last event that was sent, or skipped.
    after: u64,
    /// Of one job: its stream has an end.
    job: Option<JobId>,
    progress: Option<ProgressView>,
    wake: watch::Receiver<u64>,
    ready: VecDeque<Message>,
    over: bool,
}

impl Follower {
    /// Everything after `after` that the filter lets through, and whatever comes.
    pub(super) fn new(context: Data<Context>, filter: EventFilter, after: u64) -> Self {
        let wake = context.app.store().wake();
        let job = None;
        Self { context, filter, after, job, progress: None, wake, ready: VecDeque::new(), over: false }
    }

    /// The timeline of one job from `after` to its end.
    pub(super) fn of_job(context: Data<Context>, id: JobId, after: u64) -> Self {
        let filter = EventFilter { job: Some(id), ..EventFilter::default() };
        Self { job: Some(id), ..Self::new(context, filter, after) }
    }

    /// Tells the reader first that what it has seen no longer fits the log: some of it is gone, or it was another log.
    pub(super) fn reset(mut self, oldest: u64, newest: u64) -> Self {
        self.after = oldest.saturating_sub(1);
        let data = json!({ "oldest": oldest, "newest": newest }).to_string();
        self.ready.push_back(Message::new(data).event("reset").id(self.after.to_string()));
        self
    }

    /// The answer. It ends with the job where it is one job's, and when the server stops.
    pub(super) fn respond(self, request: &HttpRequest) -> HttpResponse {
        let messages = stream::unfold(self, |mut follower| async move {
            let message = follower.next().await?;
            Some((Ok::<_, Infallible>(Event::Data(message)), follower))
        });
        let mut answer = Sse::from_stream(messages).with_keep_alive(HEARTBEAT).respond_to(request);
        let buffering = header::HeaderName::from_static("x-accel-buffering");
        answer.headers_mut().insert(buffering, header::HeaderValue::from_static("no"));
        answer.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
        answer
    }

    async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Some(message);
            }
            if self.over || self.context.stop.is_cancelled() {
                return None;
            }
            self.wake.mark_unchanged();
            match self.look().await {
                Ok(true) => {}
                Ok(false) => self.sleep().await,
                Err(error) => {
                    tracing::warn!(%error, "an event stream ends early");
                    return None;
                }
            }
        }
    }

    /// Reads on in the log. Says whether there is reason to look again at once.
    async fn look(&mut self) -> Result<bool, StoreError> {
        let context = self.context.clone();
        let store = context.app.store();
        let job = match self.job {
            Some(id) => store.load(id).await?,
            None => None,
        };
        let ended =
            self.job.is_some() && job.as_ref().is_none_or(|job| matches!(job.phase, Phase::Settled { .. }));
        if ended {
            // The log ends at what is durable: wait until the end that was seen is.
            store.barrier().await?;
        }
        let page = store.events(self.after, PAGE, self.filter.clone()).await?;
        let found = !page.events.is_empty();
        self.ready.extend(page.events.into_iter().map(message));
        self.after = page.read_to;
        match job {
            Some(job) if ended && !page.more => self.done(job).await,
            Some(job) => self.note_progress(&job),
            None => self.over = ended,
        }
        Ok(found || page.more || !self.ready.is_empty() || self.over)
    }

    async fn done(&mut self, job: Job) {
        self.over = true;
        if let Ok(view) = view::view(job, &self.context).await {
            self.ready.push_back(json_message(&view).event("done"));
        }
    }

    /// Live only: no id, so that a reader never resumes after it.
    fn note_progress(&mut self, job: &Job) {
        if self.context.app.progress(job.id).is_none() {
            return;
        }
        let now = crate::app::progress(job, self.context.app.viewer());
        if self.progress.replace(now) != Some(now) {
            let data = json!({ "type": "job.progress", "job_id": job.id, "data": now });
            self.ready.push_back(json_message(&data).event("job.progress"));
        }
    }

    async fn sleep(&mut self) {
        let stop = self.context.stop.clone();
        // Looked at again now and then even without a wake, which is only a hint.
        let longest = if self.job.is_some() { PROGRESS_EVERY } else { HEARTBEAT };
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(longest) => {}
            changed = self.wake.changed() => self.over |= changed.is_err(),
        }
    }
}

fn message(entry: LogEntry) -> Message {
    let (seq, kind) = (entry.seq, entry.event.kind.name());
    json_message(&EventView::from(entry)).event(kind).id(seq.to_string())
}

fn json_message(data: &impl serde::Serialize) -> Message {
    Message::new(serde_json::to_string(data).unwrap_or_default())
}
