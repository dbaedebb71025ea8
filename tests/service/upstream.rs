//! The far side: it takes jobs for money, answers in bytes or not at all, and calls back as it likes.

use reelhook::lifecycle::{JobId, TaskId};
use serde_json::{Value, json};

use crate::random::Random;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Running,
    Done,
    Failed,
}

/// Work that it took, and charged.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) id: TaskId,
    /// By the idempotency key of the create call.
    pub(crate) job: JobId,
    pub(crate) credits: u64,
    pub(crate) fate: Fate,
    callback_url: Option<String>,
    videos: usize,
}

/// A callback that is under way until it is acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Callback {
    pub(crate) job: JobId,
    pub(crate) token: String,
    pub(crate) delivery_id: String,
    pub(crate) body: Vec<u8>,
    pub(crate) forged: bool,
}

/// What comes back over the wire.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    NotConnected,
    /// The connection is cut, or nothing comes until the time is up.
    Silence,
    Http {
        status: u16,
        retry_after: Option<u64>,
        body: Vec<u8>,
    },
}

#[derive(Debug, Default)]
pub(crate) struct Upstream {
    pub(crate) works: Vec<Work>,
    pub(crate) callbacks: Vec<Callback>,
    /// Off: it answers everything, truthfully.
    pub(crate) faulty: bool,
    /// Some of its refusals are untrue; then no client can help paying twice.
    pub(crate) lies: bool,
    /// Some of its answers and callbacks name another job's task.
    pub(crate) mixes: bool,
    /// Refuses the account.
    pub(crate) broke: bool,
    pub(crate) deliveries: u32,
}

fn answer(status: u16, body: &Value) -> Answer {
    Answer::Http { status, retry_after: None, body: body.to_string().into_bytes() }
}

fn error(status: u16, message: &str) -> Answer {
    answer(status, &json!({ "error": { "code": status, "message": message } }))
}

impl Upstream {
    pub(crate) fn charged(&self, job: JobId) -> u64 {
        self.works.iter().filter(|work| work.job == job).map(|work| work.credits).sum()
    }

    pub(crate) fn times_accepted(&self, job: JobId) -> usize {
        self.works.iter().filter(|work| work.job == job).count()
    }

    fn take(&mut self, random: &mut Random, job: JobId, body: &Value, credits: u64) -> TaskId {
        let id = TaskId(format!("task-{}", self.works.len()));
        let callback_url = body["callback_url"].as_str().map(str::to_owned);
        let videos = 1 + random.below(4) / 3;
        self.works.push(Work { id: id.clone(), job, credits, fate: Fate::Running, callback_url, videos });
        if self.faulty && random.once_in(4) {
            self.call_back(random, self.works.len() - 1); // before its own answer is out
        }
        id
    }

    /// A create call arrives.
    pub(crate) fn create(&mut self, random: &mut Random, job: JobId, body: &Value, credits: u64) -> Answer {
        if self.broke {
            return error(402, "insufficient credits");
        }
        let roll = if self.faulty { random.below(24) } else { 23 };
        match roll {
            0 => return error(429, "too many requests"),
            1 => {
                let body =
                    json!({ "error": { "code": 503, "message": "overloaded" } }).to_string().into_bytes();
                return Answer::Http { status: 503, retry_after: Some(2), body };
            }
            2 if random.once_in(2) => return error(422, "prompt too long"),
            3 if random.once_in(2) => return error(401, "invalid key"),
            4 => return error(502, "bad gateway"),
            5 => return Answer::Silence,
            _ => {}
        }
        let id = self.take(random, job, body, credits);
        match roll {
            6 => Answer::Silence,
            7 => error(500, "internal error"),
            8 => answer(200, &json!({ "code": 200, "data": {} })),
            9 => {
                Answer::Http { status: 200, retry_after: None, body: b"{\"data\":{\"taskId\":\"ta".to_vec() }
            }
            10 if self.lies => error(429, "too many requests"),
            11 if self.mixes => {
                let another = self.works[random.below(self.works.len())].id.clone();
                accepted(random, &another)
            }
            12 => answer(409, &json!({ "task_id": id })),
            _ => accepted(random, &id),
        }
    }

    /// The task route is asked.
    pub(crate) fn ask(&mut self, random: &mut Random, task: &TaskId) -> Answer {
        let (faulty, roll) = (self.faulty, if self.faulty { random.below(14) } else { 13 });
        let work = self.works.iter_mut().find(|work| work.id == *task);
        match (roll, work) {
            (0, _) => Answer::Silence,
            (1, _) => error(502, "bad gateway"),
            (2, _) => Answer::NotConnected,
            (3, _) | (_, None) => error(404, "no such task"),
            (4, _) => error(429, "too many requests"),
            (5, Some(work)) => answer(200, &json!({ "data": { "id": work.id, "status": "dithering" } })),
            (6, Some(work)) if work.fate == Fate::Done => {
                answer(200, &json!({ "data": { "id": work.id, "status": "completed" } }))
            }
            (_, Some(work)) => {
                let told = answer(200, &work.report(random));
                if work.fate == Fate::Running && !faulty {
                    work.fate = Fate::Done;
                }
                told
            }
        }
    }

    /// Some running work ends, and says so.
    pub(crate) fn progress(&mut self, random: &mut Random) {
        let running: Vec<usize> =
            (0..self.works.len()).filter(|work| self.works[*work].fate == Fate::Running).collect();
        if running.is_empty() {
            return;
        }
        let work = running[random.below(running.len())];
        self.works[work].fate = if random.once_in(5) { Fate::Failed } else { Fate::Done };
        self.call_back(random, work);
    }

    /// Calls back about any work, as often and as well as it likes.
    pub(crate) fn call_back_about_any(&mut self, random: &mut Random) {
        if !self.works.is_empty() {
            let work = random.below(self.works.len());
            self.call_back(random, work);
        }
    }

    fn call_back(&mut self, random: &mut Random, work: usize) {
        let Some(url) = self.works[work].callback_url.clone() else { return };
        let mut segments = url.rsplit('/');
        let (token, job) = (segments.next().unwrap().to_owned(), segments.next().unwrap().parse().unwrap());
        for _ in 0..random.below(3) {
            self.deliveries += 1;
            let body = match random.below(8) {
                0 => json!({ "event": "task.updated" }), // names no task
                1 => json!({ "data": { "id": self.works[work].id, "status": "completed" } }), // true or not
                2 if self.mixes => json!({ "task_id": self.works[random.below(self.works.len())].id }),
                3 => Value::Null, // not JSON, below
                _ => self.works[work].report(random),
            };
            let body = if body.is_null() { b"{\"data\":".to_vec() } else { body.to_string().into_bytes() };
            let delivery_id = format!("dlv-{}", self.deliveries);
            let forged = random.once_in(12);
            let callback = Callback { job, token: token.clone(), delivery_id, body, forged };
            for _ in 0..1 + random.below(5) / 4 {
                self.callbacks.push(callback.clone());
            }
        }
    }
}

fn accepted(random: &mut Random, id: &TaskId) -> Answer {
    let shapes = [
        json!({ "code": 200, "data": { "taskId": id } }),
        json!({ "data": { "id": id, "status": "queued" } }),
        json!({ "id": id, "status": "starting" }),
    ];
    answer(200, &shapes[random.below(shapes.len())])
}

impl Work {
    fn report(&self, random: &mut Random) -> Value {
        let id = &self.id;
        let status = match self.fate {
            Fate::Running => "processing",
            Fate::Done => "completed",
            Fate::Failed => "failed",
        };
        let links: Vec<_> = (0..self.videos).map(|n| format!("https://files.example/{id}/{n}.mp4")).collect();
        let flat = random.once_in(2);
        match self.fate {
            Fate::Done if flat => {
                json!({ "data": { "task_id": id, "status": status, "videos": listed(&links),
                                                    "credits": self.credits } })
            }
            Fate::Done => json!({ "id": id, "status": status, "output": links }),
            Fate::Failed => {
                json!({ "data": { "id": id, "status": status, "error": { "message": "no memory" } } })
            }
            Fate::Running => json!({ "data": { "id": id, "status": status, "progress": random.below(100) } }),
        }
    }
}

fn listed(links: &[String]) -> Vec<Value> {
    links.iter().map(|link| json!({ "url": link })).collect()
}
