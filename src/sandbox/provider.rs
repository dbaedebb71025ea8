//! The provider's books: which tasks there are, what was refused, what everybody did.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use sha2::{Digest, Sha256};
use tokio::{runtime::Handle, task::JoinHandle, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Options, Signing,
    ledger::{Create, Ledger},
    refusal::Refusal,
    request::{Body, Request},
    shape::{self, Stage},
    task::Task,
};

#[derive(Debug)]
pub(super) struct Provider {
    options: Options,
    pub(super) client: reqwest::Client,
    books: Mutex<Books>,
    /// Where callbacks run: the runtime that started the sandbox, which outlives every request.
    runtime: Handle,
    tracker: TaskTracker,
    stopping: CancellationToken,
}

#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) tasks: HashMap<String, Task>,
    pub(super) ledger: Ledger,
    pub(super) signing: Option<Signing>,
    /// How many create calls each job made so far.
    calls: HashMap<Vec<u8>, u32>,
}

/// A create call as it came in.
#[derive(Debug)]
pub(super) struct CreateCall<'a> {
    pub(super) authorized: Result<(), Refusal>,
    pub(super) idempotency_key: Option<String>,
    pub(super) body: &'a [u8],
    /// Scheme and authority under which the client reached us.
    pub(super) origin: String,
}

/// What a create call that was accepted is owed.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) task_id: String,
    pub(super) answer: serde_json::Value,
    pub(super) never_answered: bool,
}

impl Provider {
    pub(super) fn new(options: Options, client: reqwest::Client, runtime: Handle) -> Self {
        let (tracker, stopping) = (TaskTracker::new(), CancellationToken::new());
        Self { options, client, books: Mutex::default(), runtime, tracker, stopping }
    }

    /// Locked for the shortest time: never across an await.
    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Judges a create call and writes it down. From here on an accepted task is paid.
    pub(super) fn create(&self, call: CreateCall<'_>) -> Result<Accepted, Refusal> {
        let mut books = self.books();
        let ordinal = books.ledger.creates.len() as u64 + 1;
        let count = books.count(&call);
        let body = Body::parse(call.body);
        let (model, prompt) = match &body {
            Ok(body) => (body.model.clone(), body.prompt.clone()),
            Err(_) => Default::default(),
        };
        let idempotency_key = call.idempotency_key;
        let verdict = call.authorized.and(body).and_then(Body::check).and_then(|request| {
            match request.directives.refusal(count) {
                Some(status) => Err(Refusal::on_request(status)),
                None => Ok(request),
            }
        });
        let mut entry = Create {
            ordinal,
            count,
            idempotency_key,
            model,
            prompt,
            accepted: verdict.is_ok(),
            task_id: None,
            credits: 0,
            status: verdict.as_ref().err().map(Refusal::status),
        };
        let accepted = verdict.map(|request| {
            let accepted = self.accept(&mut books, ordinal, request, call.origin, &mut entry);
            entry.status = (!accepted.never_answered).then_some(200);
            accepted
        });
        books.ledger.creates.push(entry);
        accepted
    }

    fn accept(
        &self,
        books: &mut Books,
        ordinal: u64,
        request: Request,
        origin: String,
        entry: &mut Create,
    ) -> Accepted {
        let task = Task::new(ordinal, self.options.seed, self.options.speed, request, origin);
        books.ledger.charged_credits += u64::from(task.credits);
        entry.credits = task.credits;
        entry.task_id = Some(task.id.clone());
        let accepted = Accepted {
            task_id: task.id.clone(),
            answer: shape::created(&task),
            never_answered: task.directives.submit_timeout,
        };
        books.tasks.insert(task.id.clone(), task);
        accepted
    }

    /// Answers a question of the task route.
    pub(super) fn ask(&self, task_id: &str) -> Result<serde_json::Value, Refusal> {
        let mut books = self.books();
        let Books { tasks, ledger, .. } = &mut *books;
        *ledger.asks.entry(task_id.to_owned()).or_default() += 1;
        let unknown = || Refusal::new(404, "Task not found");
        let task = tasks.get_mut(task_id).ok_or_else(unknown)?;
        task.asks += 1;
        if task.asks <= task.directives.task_404 {
            return Err(unknown());
        }
        if task.asks <= task.directives.task_404 + task.directives.task_500 {
            return Err(Refusal::new(500, "Internal server error"));
        }
        let stage: Stage = task.stage(Instant::now());
        Ok(shape::task(task, task_id, &stage))
    }

    /// Runs `work` apart from any request, until the sandbox stops.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        let stopping = self.stopping.clone();
        let until_stopped = async move {
            stopping.run_until_cancelled(work).await;
        };
        self.tracker.spawn_on(until_stopped, &self.runtime)
    }

    /// Ends what was spawned.
    pub(super) async fn stop(&self) {
        self.stopping.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

impl Books {
    /// How many create calls this job has made, this one included.
    fn count(&mut self, call: &CreateCall<'_>) -> u32 {
        let job = match &call.idempotency_key {
            Some(key) => key.as_bytes().to_vec(),
            None => Sha256::digest(call.body).to_vec(),
        };
        let count = self.calls.entry(job).or_default();
        *count += 1;
        *count
    }
}
