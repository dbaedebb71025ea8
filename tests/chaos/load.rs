//! The clients: they order, and retry with their idempotency key until they are told that it was taken. One reads the
//! event log all the while, and an operator decides about some of what is held, with a nervous hand.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::{
    sync::Semaphore,
    task::JoinHandle,
    time::{Instant, sleep},
};
use url::Url;

use crate::{
    order::{self, Decision, Order},
    site::Site,
};

const CLIENTS: usize = 6;
const PAUSE: Duration = Duration::from_millis(25);

/// What the server has said while it could still be killed.
#[derive(Default)]
pub(crate) struct Promised {
    /// The job that each order was told, by its number.
    pub(crate) jobs: BTreeMap<usize, Taken>,
    /// The event log as it was read on the way.
    pub(crate) events: Vec<Value>,
    /// Answers that no order should have had.
    pub(crate) surprises: Vec<String>,
}

/// An order that was acknowledged.
pub(crate) struct Taken {
    pub(crate) order: Order,
    pub(crate) id: String,
}

struct Shared {
    api: String,
    provider: Url,
    seed: u64,
    http: reqwest::Client,
    wanted: Semaphore,
    ordered: AtomicUsize,
    promised: Mutex<Promised>,
}

pub(crate) struct Load {
    shared: Arc<Shared>,
    placed: AtomicUsize,
    tasks: Vec<JoinHandle<()>>,
    operator: JoinHandle<()>,
}

impl Load {
    pub(crate) fn start(site: &Site, seed: u64) -> Self {
        // Each request makes a connection of its own, and so meets whichever server there is.
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0);
        let http = http.timeout(Duration::from_secs(5)).build().unwrap();
        let shared = Arc::new(Shared {
            api: site.url(""),
            provider: site.sandbox.url(),
            seed,
            http,
            wanted: Semaphore::new(0),
            ordered: AtomicUsize::new(0),
            promised: Mutex::default(),
        });
        let clients = (0..CLIENTS).map(|_| tokio::spawn(Arc::clone(&shared).orders()));
        let mut tasks: Vec<_> = clients.collect();
        tasks.push(tokio::spawn(Arc::clone(&shared).follow()));
        let operator = tokio::spawn(Arc::clone(&shared).operate());
        Self { shared, placed: AtomicUsize::new(0), tasks, operator }
    }

    /// Has clients place so many more orders.
    pub(crate) fn order(&self, count: usize) {
        self.placed.fetch_add(count, Ordering::Relaxed);
        self.shared.wanted.add_permits(count);
    }

    /// Waits until no more than so many orders are placed and not taken.
    #[allow(dead_code, reason = "where every fault ends within a second, orders keep up by themselves")]
    pub(crate) async fn keep_up(&self, behind: usize) {
        while self.taken() + behind < self.placed.load(Ordering::Relaxed) {
            sleep(PAUSE).await;
        }
    }

    fn taken(&self) -> usize {
        self.shared.promised.lock().unwrap().jobs.len()
    }

    /// Sends the operator home, for a job that is sent again has all its time again; then waits until every order was
    /// taken. False if one is not within this time.
    pub(crate) async fn finish_orders(&self, limit: Duration) -> bool {
        self.operator.abort();
        let deadline = Instant::now() + limit;
        while self.taken() < self.placed.load(Ordering::Relaxed) && Instant::now() < deadline {
            sleep(PAUSE).await;
        }
        self.taken() == self.placed.load(Ordering::Relaxed)
    }

    /// Ends the clients, once the one that reads the event log has had time to come to its end.
    pub(crate) async fn end(self, site: &Site) -> Promised {
        let newest = newest(site).await;
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.shared.read_to() < newest && Instant::now() < deadline {
            sleep(PAUSE).await;
        }
        for task in &self.tasks {
            task.abort();
        }
        join_all(self.tasks).await;
        std::mem::take(&mut *self.shared.promised.lock().unwrap())
    }
}

async fn newest(site: &Site) -> u64 {
    let mut newest = 0;
    loop {
        let page = site.get(&format!("/v1/events?limit=250&after={newest}")).await;
        match page["data"].as_array().unwrap().last() {
            Some(event) => newest = event["seq"].as_u64().unwrap(),
            None => return newest,
        }
    }
}

impl Shared {
    fn read_to(&self) -> u64 {
        let promised = self.promised.lock().unwrap();
        promised.events.last().map_or(0, |event| event["seq"].as_u64().unwrap())
    }

    async fn orders(self: Arc<Self>) {
        loop {
            self.wanted.acquire().await.unwrap().forget();
            let number = self.ordered.fetch_add(1, Ordering::Relaxed);
            let order = order::order(number, self.seed);
            let id = self.place(number, &order).await;
            if let Some(wait) = order.cancel_after {
                tokio::spawn(Arc::clone(&self).cancel(id.clone(), wait));
            }
            self.promised.lock().unwrap().jobs.insert(number, Taken { order, id });
        }
    }

    /// Posts until it is acknowledged; the id that it is told.
    async fn place(&self, number: usize, order: &Order) -> String {
        let body = json!({ "input": { "model": "kling-3", "prompt": order.prompt, "duration": 3 } });
        let key = format!("order-{number}");
        loop {
            let post = self.http.post(format!("{}/v1/jobs", self.api)).header("idempotency-key", &key);
            if let Ok(answer) = post.json(&body).send().await {
                let status = answer.status();
                match answer.json::<Value>().await {
                    Ok(job) if status.is_success() => return job["id"].as_str().unwrap().to_owned(),
                    Ok(problem) if status.is_client_error() => {
                        self.surprise(format!("order {number} got {status}: {problem}"));
                    }
                    _ => {} // it died in the middle of its answer, or cannot answer well: again
                }
            }
            sleep(PAUSE).await;
        }
    }

    fn surprise(&self, what: String) {
        self.promised.lock().unwrap().surprises.push(what);
    }

    async fn cancel(self: Arc<Self>, id: String, wait: Duration) {
        sleep(wait).await;
        self.click(&format!("/v1/jobs/{id}/cancel"), &json!({})).await;
    }

    /// Several times at once. Whether one gets through is of no importance.
    async fn click(&self, path: &str, body: &Value) {
        let once = || self.http.post(format!("{}{path}", self.api)).json(body).send();
        join_all((0..4).map(|_| once())).await;
    }

    /// Names the task of a held job where the provider's books have it, sends it again, gives it up, or leaves it.
    async fn operate(self: Arc<Self>) {
        loop {
            sleep(10 * PAUSE).await;
            let Some(held) = self.read(&format!("{}/v1/jobs?status=held&limit=50", self.api)).await else {
                continue;
            };
            let Some(ledger) = self.read(&format!("{}sandbox/ledger", self.provider)).await else { continue };
            for job in held["data"].as_array().into_iter().flatten() {
                let id = job["id"].as_str().unwrap();
                let task = || {
                    let calls = ledger["creates"].as_array()?;
                    calls.iter().find(|call| call["idempotency_key"] == id && call["accepted"] == true)?["task_id"].as_str()
                };
                let decision = match (order::decision(id), task()) {
                    (Decision::Attach, Some(task)) => json!({ "action": "attach", "task_id": task }),
                    (Decision::Resubmit, _) => json!({ "action": "resubmit" }),
                    (Decision::Fail, _) => json!({ "action": "fail" }),
                    (Decision::Attach | Decision::Leave, _) => continue,
                };
                self.click(&format!("/v1/jobs/{id}/resolve"), &decision).await;
            }
        }
    }

    async fn read(&self, url: &str) -> Option<Value> {
        self.http.get(url).send().await.ok()?.json().await.ok()
    }

    /// Reads the event log on and on.
    async fn follow(self: Arc<Self>) {
        loop {
            let url = format!("{}/v1/events?limit=250&after={}", self.api, self.read_to());
            if let Some(mut page) = self.read(&url).await
                && let Some(events) = page["data"].as_array_mut()
            {
                self.promised.lock().unwrap().events.append(events);
            }
            sleep(PAUSE).await;
        }
    }
}
