//! A sandbox, a client that talks to it, and a receiver for its callbacks.

use std::{net::TcpListener, sync::Arc, time::Duration};

use actix_web::{App, HttpRequest, HttpServer, web};
use reelhook::sandbox::{self, Ledger, Options, Sandbox};
use reqwest::{Response, StatusCode, redirect::Policy};
use serde_json::{Value, json};
use tokio::sync::{Mutex, Semaphore, mpsc};

/// Turns the default task of 20 s into one of 20 ms, and `[[delay:1000s]]` into one second.
const SPEED: f64 = 1000.0;
/// Far longer than anything a test waits for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Bench {
    pub(crate) sandbox: Sandbox,
    pub(crate) client: reqwest::Client,
    pub(crate) receiver: Receiver,
}

impl Bench {
    pub(crate) async fn start() -> Self {
        Self::with_seed(1).await
    }

    pub(crate) async fn with_seed(seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sandbox = sandbox::start(listener, Options { speed: SPEED, seed }).await.unwrap();
        let client = reqwest::Client::builder().no_proxy().redirect(Policy::none()).build().unwrap();
        Self { sandbox, client, receiver: Receiver::start() }
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.sandbox.ledger()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        self.sandbox.url().join(path).unwrap().into()
    }

    /// The body of a create call whose callbacks go to the receiver.
    pub(crate) fn body(&self, prompt: &str) -> Value {
        json!({"model": "kling-3", "prompt": prompt, "callback_url": self.receiver.url})
    }

    pub(crate) fn create_call(&self, body: &Value) -> reqwest::RequestBuilder {
        self.client.post(self.url("/api/v1/videos/generations")).bearer_auth("aio_test").json(body)
    }

    pub(crate) async fn submit(&self, prompt: &str) -> Response {
        self.create_call(&self.body(prompt)).send().await.unwrap()
    }

    /// Makes a task and gives its id.
    pub(crate) async fn task(&self, prompt: &str) -> String {
        let answer = self.submit(prompt).await;
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
        self.ledger().creates.last().unwrap().task_id.clone().unwrap()
    }

    pub(crate) async fn ask(&self, task_id: &str) -> (StatusCode, Value) {
        let url = self.url(&format!("/api/v1/tasks/{task_id}"));
        let answer = self.client.get(url).bearer_auth("aio_test").send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    /// Asks until the task is no longer running; only for the default shape.
    pub(crate) async fn end_of(&self, task_id: &str) -> Value {
        eventually("the task ends", || async {
            let (_, body) = self.ask(task_id).await;
            (body["data"]["status"] != "IN_PROGRESS").then_some(body)
        })
        .await
    }

    /// Makes a task, waits for its success and gives the link to its video.
    pub(crate) async fn video_url(&self, prompt: &str) -> String {
        let task_id = self.task(prompt).await;
        link(&self.end_of(&task_id).await)
    }

    pub(crate) async fn get(&self, url: &str) -> Response {
        self.client.get(url).send().await.unwrap()
    }
}

/// The link to the video in a body of the default shape.
pub(crate) fn link(body: &Value) -> String {
    body["data"]["output"]["video_url"].as_str().unwrap_or_else(|| panic!("no link in {body}")).to_owned()
}

/// Tries until there is a result, for as long as [`PATIENCE`] lasts.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut attempt: impl FnMut() -> F,
) -> T {
    let polling = async {
        loop {
            if let Some(result) = attempt().await {
                return result;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, polling).await.unwrap_or_else(|_| panic!("never happened: {what}"))
}

/// Takes callbacks; answers each once it may.
pub(crate) struct Receiver {
    pub(crate) url: String,
    received: Mutex<mpsc::UnboundedReceiver<(String, Value)>>,
    may_answer: Arc<Semaphore>,
}

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/cb/job_1/token", listener.local_addr().unwrap());
        let (sender, received) = mpsc::unbounded_channel();
        let may_answer = Arc::new(Semaphore::new(1));
        let gate = Arc::clone(&may_answer);
        let server = HttpServer::new(move || {
            let state = web::Data::new((sender.clone(), Arc::clone(&gate)));
            App::new().app_data(state).default_service(web::post().to(take))
        })
        .workers(1)
        .disable_signals()
        .listen(listener)
        .unwrap()
        .run();
        tokio::spawn(server);
        Self { url, received: Mutex::new(received), may_answer }
    }

    /// The next callback: its path and its body.
    pub(crate) async fn next(&self) -> (String, Value) {
        let mut received = self.received.lock().await;
        tokio::time::timeout(PATIENCE, received.recv()).await.expect("no callback came").unwrap()
    }

    pub(crate) async fn next_body(&self) -> Value {
        self.next().await.1
    }

    /// Leaves callbacks without an answer until [`release`](Self::release).
    pub(crate) async fn hold(&self) {
        self.may_answer.acquire().await.unwrap().forget();
    }

    pub(crate) fn release(&self) {
        self.may_answer.add_permits(1);
    }
}

type Inbox = (mpsc::UnboundedSender<(String, Value)>, Arc<Semaphore>);

async fn take(request: HttpRequest, body: web::Json<Value>, inbox: web::Data<Inbox>) -> &'static str {
    let (sender, may_answer) = inbox.get_ref();
    sender.send((request.path().to_owned(), body.into_inner())).unwrap();
    drop(may_answer.acquire().await);
    "ok"
}
