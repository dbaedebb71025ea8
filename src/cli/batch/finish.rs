//! Waiting for the jobs of a file: one stream of ends for all of them.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    pin::Pin,
    time::Duration,
};

use futures_util::{Stream, StreamExt as _};
use tokio::time::Instant;

use super::{
    lines::Line,
    report::Report,
    send::{Created, Sent},
};
use crate::cli::{
    client::Client,
    download,
    exit::{Exit, Failure},
    feed::{self, Entry, Filter, Told},
    job::{Snapshot, Status},
    output::Output,
};

/// After these nothing more happens by itself.
const ENDS: [&str; 4] = ["job.succeeded", "job.failed", "job.canceled", "job.held"];

/// What is heard of the jobs.
pub(super) enum News {
    /// This one ended; it may be another's.
    Ended(String),
    /// The log has a gap: any of them may have ended.
    Unknown,
    /// The wait is over.
    TimeIsUp,
}

struct Waiting {
    line: Line,
    replayed: bool,
    snapshot: Snapshot,
}

pub(super) struct Finishing<'a> {
    client: &'a Client,
    feed: Pin<Box<dyn Stream<Item = Result<Told, Failure>> + 'a>>,
    end: Instant,
    folder: Option<PathBuf>,
    waiting: HashMap<String, Waiting>,
    /// Jobs that ended, while it is not known yet which are ours.
    ended: HashSet<String>,
}

impl<'a> Finishing<'a> {
    /// Listens from now on: before anything is sent, so that no end is missed.
    pub(super) async fn begin(
        client: &'a Client,
        output: &'a Output,
        limit: Duration,
        folder: Option<PathBuf>,
    ) -> Result<Self, Failure> {
        let head = feed::head(client).await?;
        let feed = feed::follow(client, Filter::of_types(&ENDS.map(str::to_owned)), head, output);
        let (waiting, ended) = (HashMap::new(), HashSet::new());
        Ok(Self { client, feed, end: Instant::now() + limit, folder, waiting, ended })
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The next news; none ever, where nobody waits. Nothing is lost when the answer is not awaited.
    pub(super) async fn next(finishing: &mut Option<Self>) -> Result<News, Failure> {
        let Some(Self { feed, end, .. }) = finishing else { return std::future::pending().await };
        loop {
            let told = tokio::select! {
                told = feed.next() => told.transpose(),
                () = tokio::time::sleep_until(*end) => return Ok(News::TimeIsUp),
            };
            match told.map_err(|failure| failure.and("the jobs go on without us"))? {
                Some(Told::Event(Entry { job_id: Some(id), .. }, _)) => return Ok(News::Ended(id)),
                Some(Told::Reset { .. }) => return Ok(News::Unknown),
                Some(Told::Event(..) | Told::Back) | None => {}
            }
        }
    }

    /// Takes up a line that was sent.
    pub(super) async fn sent(
        &mut self,
        Sent { line, result }: Sent,
        report: &mut Report<'_>,
    ) -> Result<(), Failure> {
        let created = match result {
            Ok(created) => created,
            Err(failure) => return report.refused(&line, &failure),
        };
        report.counted(&created);
        let Created { snapshot, replayed } = created;
        let id = snapshot.job.id.clone();
        let over = is_over(&snapshot);
        self.waiting.insert(id.clone(), Waiting { line, replayed, snapshot });
        if over || self.ended.contains(&id) { self.ended(&id, report).await } else { Ok(()) }
    }

    /// Takes up what was heard.
    pub(super) async fn heard(&mut self, news: &News, report: &mut Report<'_>) -> Result<(), Failure> {
        match news {
            News::Ended(id) => self.ended(id, report).await,
            News::Unknown => {
                let all: Vec<String> = self.waiting.keys().cloned().collect();
                for id in all {
                    self.ended(&id, report).await?;
                }
                Ok(())
            }
            News::TimeIsUp => Ok(()),
        }
    }

    /// Tells of a job that ended, and fetches its video if it is wanted.
    async fn ended(&mut self, id: &str, report: &mut Report<'_>) -> Result<(), Failure> {
        let Some(mut waiting) = self.waiting.remove(id) else {
            self.ended.insert(id.to_owned());
            return Ok(());
        };
        if !is_over(&waiting.snapshot) {
            waiting.snapshot = Snapshot::read(self.client.get_patiently(&["v1", "jobs", id]).await?)?;
        }
        if !is_over(&waiting.snapshot) {
            self.waiting.insert(id.to_owned(), waiting);
            return Ok(());
        }
        let mut outcome = waiting.snapshot.job.outcome();
        if let (Ok(()), Some(folder)) = (&outcome, &self.folder) {
            report.hide();
            outcome = download::save(self.client, &waiting.snapshot.job, folder, report.output).await;
        }
        report.done(&waiting.line, &waiting.snapshot, waiting.replayed, outcome)
    }

    /// Tells of the jobs that go on.
    pub(super) fn leave(self, report: &mut Report<'_>) -> Result<(), Failure> {
        let mut left: Vec<Waiting> = self.waiting.into_values().collect();
        left.sort_by_key(|waiting| waiting.line.number);
        for Waiting { line, replayed, snapshot } in left {
            let outcome = snapshot.job.outcome().map_err(|failure| match failure.exit {
                Exit::StillRunning => failure.and("it goes on without us"),
                _ => failure,
            });
            report.done(&line, &snapshot, replayed, outcome)?;
        }
        Ok(())
    }
}

fn is_over(snapshot: &Snapshot) -> bool {
    snapshot.job.is_settled() || snapshot.job.status == Status::Held
}
