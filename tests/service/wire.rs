//! The wire: how calls travel to the far side and back, with its delays and cuts. Of the service's own code only the
//! HTTP client is replaced; the bytes that arrive are read by the reader that it uses.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use reelhook::{
    clock::Clock,
    config::Config,
    lifecycle::{Job, TaskId},
    outbound::{
        download::{FetchFault, Order, Stored},
        manifest::Manifest,
        upstream::Submitted,
    },
    provider::reply::{self, TaskAnswer},
    runner::CreateCall,
};

use crate::{
    disk::Disk,
    judge::Judge,
    random::Random,
    upstream::{Answer, Upstream},
};

pub(crate) struct Wire {
    pub(crate) clock: Clock,
    pub(crate) config: Arc<Config>,
    pub(crate) upstream: Rc<RefCell<Upstream>>,
    pub(crate) random: RefCell<Random>,
    pub(crate) judge: Judge,
    pub(crate) disk: Disk,
    /// The lease of a create call, in milliseconds.
    pub(crate) submit_lease: i64,
}

impl Wire {
    fn chance<T>(&self, draw: impl FnOnce(&mut Random, &mut Upstream) -> T) -> T {
        draw(&mut self.random.borrow_mut(), &mut self.upstream.borrow_mut())
    }

    /// Time on the way; whether it stays within `timeout` of `started`.
    async fn travels(&self, started: Duration, timeout: Duration) -> bool {
        let faulty = self.upstream.borrow().faulty;
        let spans = [0, 0, 0, 40, 300, 4_000, 20_000, 90_000];
        let at = self.random.borrow_mut().below(if faulty { spans.len() } else { 4 });
        let left = (started + timeout).saturating_sub(self.clock.elapsed());
        let span = Duration::from_millis(spans[at]);
        if !span.is_zero() {
            self.clock.sleep(span.min(left)).await;
        }
        // Whoever slept longer than he meant to finds the time-out first.
        span < left && self.clock.elapsed() < started + timeout
    }

    pub(crate) async fn create(&self, job: Job, call: CreateCall) -> Submitted {
        let (started, timeout) = (self.clock.elapsed(), self.config.upstream.submit_timeout);
        let no_route = self.chance(|random, upstream| upstream.faulty && random.once_in(16));
        if no_route || !self.travels(started, timeout).await {
            return Submitted::NotSent("no connection".into());
        }
        let lease = job.lease.unwrap();
        let durable =
            self.disk.look(|tables| tables.jobs.synced(&job.id).is_some_and(|row| row.job.revision >= lease));
        self.judge.byte_leaves(&job, lease, durable, self.submit_lease);
        let credits = price(&call);
        let answer = self.chance(|random, upstream| upstream.create(random, call.id, &call.body, credits));
        self.judge.say(|| format!("{} create call, lease {lease}: {answer:?}", call.id));
        let (accepted, lies) = {
            let upstream = self.upstream.borrow();
            (upstream.times_accepted(call.id), upstream.lies)
        };
        if accepted > 1 && !lies {
            self.judge.object(format!("{} is paid for {accepted} times", call.id));
        }
        match answer {
            _ if !self.travels(started, timeout).await => Submitted::Silence("timed out".into()),
            Answer::NotConnected | Answer::Silence => Submitted::Silence("cut".into()),
            Answer::Http { status, retry_after, body } => {
                let retry_after = retry_after.map(Duration::from_secs);
                let read = reply::read_submit(status, retry_after, &body, &self.config.upstream.mapping);
                Submitted::Answered(read, reply::scrub(&body, &[]))
            }
        }
    }

    pub(crate) async fn ask(&self, task: TaskId) -> (TaskAnswer, Option<String>) {
        let (started, timeout) = (self.clock.elapsed(), self.config.upstream.ask_timeout);
        let nothing = |why: &str| (TaskAnswer::Nothing { why: why.into() }, None);
        if !self.travels(started, timeout).await {
            return nothing("timed out");
        }
        let answer = self.chance(|random, upstream| upstream.ask(random, &task));
        self.judge.say(|| format!("{task} asked about: {answer:?}"));
        match answer {
            _ if !self.travels(started, timeout).await => nothing("timed out"),
            Answer::NotConnected | Answer::Silence => nothing("cut"),
            Answer::Http { status, retry_after, body } => {
                let retry_after = retry_after.map(Duration::from_secs);
                let mapping = &self.config.upstream.mapping;
                let read = reply::read_task(status, retry_after, &body, Some(&task.0), mapping);
                (read, Some(reply::scrub(&body, &[])))
            }
        }
    }

    /// Takes as long as it likes: a download has no time-out of its own but the lease that is renewed.
    pub(crate) async fn get(&self, order: Order) -> Result<Stored, FetchFault> {
        self.travels(self.clock.elapsed(), Duration::from_secs(86_400)).await;
        match self.chance(|random, upstream| if upstream.faulty { random.below(16) } else { 15 }) {
            0 | 1 => return Err(FetchFault::LinkRefused { status: 403 }),
            2 => return Err(FetchFault::Network("cut".into())),
            3 => return Err(FetchFault::NoSpace("full".into())),
            4 => return Err(FetchFault::Upstream { status: 503, retry_after: Some(Duration::from_secs(9)) }),
            5 => return Err(FetchFault::Busy),
            6 if self.random.borrow_mut().once_in(2) => return Err(FetchFault::NotVideo("text/html".into())),
            _ => {}
        }
        Ok(stored(format!("{}-{}.mp4", order.job_id, order.index), &order.key))
    }

    pub(crate) async fn seal(&self, manifest: Manifest) -> Result<(), String> {
        self.travels(self.clock.elapsed(), Duration::from_secs(86_400)).await;
        if self.chance(|random, upstream| upstream.faulty && random.once_in(10)) {
            return Err("the archive is full".into());
        }
        self.judge.sealed(&manifest.job_id, manifest.files.into_iter().map(|file| file.name).collect());
        Ok(())
    }
}

/// What the upstream takes for a request, by its own price list.
fn price(call: &CreateCall) -> u64 {
    let rate = if call.body["mode"] == "pro" { 80 } else { 60 };
    rate * call.body["duration"].as_u64().unwrap()
}

/// A small file.
pub(crate) fn stored(name: String, key: &str) -> Stored {
    Stored {
        location: format!("{key}/{name}"),
        name,
        bytes: 1_000,
        sha256: "0".repeat(64),
        content_type: "video/mp4".into(),
        duration_ms: None,
        width: None,
        height: None,
        etag: None,
    }
}
