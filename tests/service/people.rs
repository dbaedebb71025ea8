//! Callers, who repeat a request with its key until they have an answer, and operators, who decide what they like.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, sync::Arc};

use reelhook::{
    app::{App, AppError, Deadline, NewRequest, Resolution},
    lifecycle::{Job, JobId, Millis, RetryMode, TaskId},
};
use serde_json::json;

use crate::{judge::Judge, random::Random};

/// A caller with one wish.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    request: NewRequest,
    /// Answered, by a job or a refusal that it accepts.
    pub(crate) served: bool,
    /// A request of his is under way in the process.
    pub(crate) asking: bool,
}

/// What the service has said to the outside: it may never be taken back.
#[derive(Debug, Default)]
pub(crate) struct Promises {
    /// The job of each caller.
    jobs: BTreeMap<usize, JobId>,
    /// The newest revision of each job that anybody was told of.
    pub(crate) revisions: BTreeMap<JobId, u64>,
    /// Callbacks that were acknowledged, by job and delivery.
    pub(crate) callbacks: BTreeMap<JobId, Vec<String>>,
}

pub(crate) struct People {
    pub(crate) callers: RefCell<Vec<Caller>>,
    pub(crate) promises: RefCell<Promises>,
    pub(crate) judge: Judge,
}

impl People {
    pub(crate) fn new(random: &mut Random, callers: usize, now: Millis, judge: Judge) -> Self {
        let callers = (0..callers).map(|n| Caller::new(random, n, now)).collect();
        Self { callers: RefCell::new(callers), promises: RefCell::default(), judge }
    }

    /// Jobs that somebody was told of.
    pub(crate) fn known(&self) -> Vec<JobId> {
        self.promises.borrow().revisions.keys().copied().collect()
    }

    fn told(&self, job: &Job) {
        let mut promises = self.promises.borrow_mut();
        let newest = promises.revisions.entry(job.id).or_default();
        *newest = (*newest).max(job.revision);
    }

    /// The process died: whoever waits for an answer has to ask again.
    pub(crate) fn cut_off(&self) {
        self.callers.borrow_mut().iter_mut().for_each(|caller| caller.asking = false);
    }

    /// A caller who is not served and not asking, if there is one.
    pub(crate) fn waiting(&self, random: &mut Random) -> Option<usize> {
        let callers = self.callers.borrow();
        let waiting: Vec<_> =
            (0..callers.len()).filter(|n| !callers[*n].served && !callers[*n].asking).collect();
        (!waiting.is_empty()).then(|| waiting[random.below(waiting.len())])
    }

    /// Asks for the caller's job; afterwards he is served, or asks again some day. `gives_up` on a full queue or budget.
    pub(crate) async fn call(self: Rc<Self>, app: Arc<App>, caller: usize, gives_up: bool) {
        let request = {
            let mut callers = self.callers.borrow_mut();
            callers[caller].asking = true;
            callers[caller].request.clone()
        };
        let answer = app.create(request, "web").await;
        let mut callers = self.callers.borrow_mut();
        callers[caller].asking = false;
        match answer {
            Ok(created) => {
                callers[caller].served = true;
                let first = *self.promises.borrow_mut().jobs.entry(caller).or_insert(created.job.id);
                if first != created.job.id {
                    self.judge.object(format!("one key made {first} and {}", created.job.id));
                }
                self.told(&created.job);
            }
            Err(AppError::OverBudget { .. } | AppError::QueueFull(_)) => callers[caller].served = gives_up,
            Err(AppError::Store(why)) => self.judge.say(|| format!("caller {caller} is told: {why}")),
            // Long overdue: the deadline has passed before anybody heard the request.
            Err(AppError::Invalid(_)) => callers[caller].served = true,
            Err(other) => self.judge.object(format!("a caller is told: {other:?}")),
        }
    }

    /// A caller or an operator decides about a job.
    pub(crate) async fn decide(self: Rc<Self>, app: Arc<App>, job: JobId, roll: usize, task: TaskId) {
        let answer = match roll {
            0 => app.cancel(job).await,
            1 => app.resolve(job, Resolution::Attach(task)).await,
            2 => app.resolve(job, Resolution::Fail).await,
            3..=5 => app.resolve(job, Resolution::Resubmit).await,
            6 => app.retry(job, RetryMode::Recheck, false).await.map(|created| created.job),
            7 => app.retry(job, RetryMode::Download, false).await.map(|created| created.job),
            _ => app.retry(job, RetryMode::Resubmit, false).await.map(|created| created.job),
        };
        match answer {
            Ok(job) => self.told(&job),
            Err(AppError::KeyReused(_) | AppError::Invalid(_) | AppError::NoEntropy(_)) => {
                self.judge.object(format!("an operator is told: {answer:?}"));
            }
            Err(_) => {}
        }
    }
}

impl Caller {
    fn new(random: &mut Random, n: usize, now: Millis) -> Self {
        let mode = if random.once_in(3) { "pro" } else { "std" };
        let model = "kling-3";
        let input =
            json!({ "model": model, "prompt": format!("film {n}"), "mode": mode, "duration": 3 + n % 13 });
        let deadline = random.once_in(8).then(|| Deadline::At(now.plus(90_000)));
        let idempotency_key = Some(format!("key-{n}"));
        let request = NewRequest { input, deadline, idempotency_key, ..NewRequest::default() };
        Self { request, served: false, asking: false }
    }
}
