//! Creating the jobs of a file, a few at a time, each once, within what may be spent.

use std::cell::{Cell, RefCell};

use super::{
    JOBS,
    lines::Line,
    price::{Priced, Queue},
};
use crate::cli::{
    client::Client,
    exit::{Exit, Failure},
    job::Snapshot,
    output::Output,
};

/// What became of a line that was to be sent.
pub(super) struct Sent {
    pub(super) line: Line,
    pub(super) result: Result<Created, Failure>,
}

/// A job that is there.
pub(super) struct Created {
    pub(super) snapshot: Snapshot,
    /// An earlier run had created it: it costs nothing now.
    pub(super) replayed: bool,
}

/// What is shared by those that are under way.
pub(super) struct Sender<'a> {
    client: &'a Client,
    queue: Queue<'a>,
    limit: Option<u64>,
    /// Credits of what was created now or may be.
    booked: Cell<u64>,
    /// Why nothing more is sent.
    stopped: RefCell<Option<(Exit, String)>>,
}

impl<'a> Sender<'a> {
    pub(super) fn new(client: &'a Client, output: &'a Output, limit: Option<u64>) -> Self {
        let (booked, stopped) = (Cell::new(0), RefCell::new(None));
        Self { client, queue: Queue::new(output), limit, booked, stopped }
    }

    /// Creates the job of a line. None if nothing is sent any more.
    pub(super) async fn send(&self, Priced { line, estimate, .. }: Priced) -> Option<Sent> {
        if self.stopped.borrow().is_some() {
            return None;
        }
        let credits = estimate.credits();
        if self.limit.is_some_and(|limit| self.booked.get() + credits > limit) {
            self.stop(Exit::Budget, "the next job would exceed --max-total-credits");
            return None;
        }
        self.booked.set(self.booked.get() + credits);
        let result = self.create(&line).await;
        match &result {
            Ok(Created { replayed: true, .. }) => self.booked.set(self.booked.get() - credits),
            Ok(Created { snapshot, .. }) => {
                let actual = snapshot.job.credits().unwrap_or(credits);
                self.booked.set(self.booked.get() - credits + actual);
            }
            // The job may be there.
            Err(failure) if failure.exit == Exit::Unreachable => {
                self.stop(failure.exit, "the server is away")
            }
            Err(failure) => {
                self.booked.set(self.booked.get() - credits);
                if concerns_all(failure) {
                    self.stop(failure.exit, "the server takes no more");
                }
            }
        }
        Some(Sent { line, result })
    }

    async fn create(&self, line: &Line) -> Result<Created, Failure> {
        let reply = self.queue.patiently(|| self.client.post_once(&JOBS, &line.body, &line.key)).await?;
        let replayed = reply.replayed;
        Ok(Created { snapshot: Snapshot::read(reply)?, replayed })
    }

    /// Sends nothing more. The first reason stands.
    pub(super) fn stop(&self, exit: Exit, why: &str) {
        self.stopped.borrow_mut().get_or_insert_with(|| (exit, why.to_owned()));
    }

    /// Why nothing more is sent.
    pub(super) fn stopped(&self) -> Option<(Exit, String)> {
        self.stopped.borrow().clone()
    }
}

/// Whether every other line would be refused as well.
fn concerns_all(failure: &Failure) -> bool {
    failure.exit == Exit::Auth || failure.code() == Some("budget-exceeded")
}
