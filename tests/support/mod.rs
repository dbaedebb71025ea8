//! A reelhook and a sandbox provider for a test: real sockets, a real store, nothing shared.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test binary uses its part; a test may panic"
)]

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use reelhook::{
    clock::Clock,
    config::Config,
    sandbox::{self, Ledger, Options, Sandbox},
    server::{Listeners, Server},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use url::Url;

/// The provider is so many times faster than in life: a task takes 100 ms.
pub const SPEED: f64 = 200.0;
/// Longer than any job of a test takes on a slow machine; only a failing test waits so long.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct World {
    pub sandbox: Sandbox,
    pub dir: TempDir,
    pub http: reqwest::Client,
    pub config: Config,
    server: Option<Server>,
}

impl World {
    pub async fn start() -> Self {
        Self::with(|_| ()).await
    }

    /// A world in which no create call is made: jobs stay queued.
    pub async fn idle(adjust: impl FnOnce(&mut Config)) -> Self {
        Self::with(|config| {
            config.upstream.max_in_flight = 0;
            adjust(config);
        })
        .await
    }

    /// A world whose server is configured by `adjust`.
    pub async fn with(adjust: impl FnOnce(&mut Config)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sandbox = sandbox::start(listener, Options { speed: SPEED, seed: 7 }).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut config = quick(dir.path(), &sandbox.url());
        adjust(&mut config);
        let mut world = Self { sandbox, dir, http: client(), config, server: None };
        world.start_server().await;
        world
    }

    pub async fn start_server(&mut self) {
        let mut config = self.config.clone();
        let listeners = Listeners::bind(&config).unwrap();
        let callback = listeners.callback().unwrap();
        if config.callback.public_url.is_some() {
            config.callback.public_url = Some(Url::parse(&format!("http://{callback}")).unwrap());
        }
        self.server = Some(Server::start(config, Clock::system(), listeners).await.unwrap());
    }

    pub async fn stop_server(&mut self) {
        self.server.take().unwrap().stop().await;
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server().api())
    }

    pub fn callback_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server().callback())
    }

    pub async fn get(&self, path: &str) -> Value {
        self.http.get(self.url(path)).send().await.unwrap().json().await.unwrap()
    }

    pub async fn post(&self, path: &str, body: &Value) -> Value {
        self.http.post(self.url(path)).json(body).send().await.unwrap().json().await.unwrap()
    }

    /// Submits a three-second job with this prompt; its id.
    pub async fn submit(&self, prompt: &str) -> String {
        let job = self.post("/v1/jobs", &order(prompt)).await;
        job["id"].as_str().unwrap_or_else(|| panic!("refused: {job}")).to_owned()
    }

    /// The job once it has ended, or is held.
    pub async fn ended(&self, id: &str) -> Value {
        let job = self.get(&format!("/v1/jobs/{id}?wait={}s", PATIENCE.as_secs())).await;
        assert!(
            matches!(job["status"].as_str(), Some("succeeded" | "failed" | "canceled" | "held")),
            "still going: {job:#}"
        );
        job
    }

    /// The job once this is so of it.
    pub async fn until(&self, id: &str, so: impl Fn(&Value) -> bool) -> Value {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut job = self.get(&format!("/v1/jobs/{id}")).await;
        while !so(&job) {
            assert!(tokio::time::Instant::now() < deadline, "never so: {job:#}");
            let etag = format!("\"{}\"", job["revision"]);
            let request =
                self.http.get(self.url(&format!("/v1/jobs/{id}?wait=5s"))).header("if-none-match", etag);
            let answer = request.send().await.unwrap();
            if answer.status() != 304 {
                job = answer.json().await.unwrap();
            }
        }
        job
    }

    /// What `/readyz?verbose` says, once this is so of it.
    pub async fn until_ready_says(&self, so: impl Fn(&Value) -> bool) -> Value {
        let mut wake = self.server().app().store().wake();
        loop {
            wake.mark_unchanged();
            let checks = self.get("/readyz?verbose").await["checks"].clone();
            if so(&checks) {
                return checks;
            }
            let changed = tokio::time::timeout(PATIENCE, wake.changed()).await;
            changed.unwrap_or_else(|_| panic!("never so: {checks}")).unwrap();
        }
    }

    /// The types of a job's events, in order.
    pub async fn timeline(&self, id: &str) -> Vec<String> {
        let events = self.get(&format!("/v1/jobs/{id}/events?limit=250")).await;
        let events = events["data"].as_array().unwrap_or_else(|| panic!("{events}"));
        events.iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
    }

    /// Create calls that the provider accepted, and so charged, for this job.
    pub fn charges(&self, id: &str) -> usize {
        charges(&self.sandbox.ledger(), id)
    }
}

pub fn charges(ledger: &Ledger, id: &str) -> usize {
    ledger.creates.iter().filter(|call| call.accepted && call.idempotency_key.as_deref() == Some(id)).count()
}

pub fn order(prompt: &str) -> Value {
    json!({ "input": { "model": "kling-3", "prompt": prompt, "duration": 3 } })
}

pub fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// The configuration of `dev`, with free ports and short waits.
pub fn quick(dir: &Path, provider: &Url) -> Config {
    let mut config = Config::for_dev(dir, provider, SPEED);
    config.server.listen = "127.0.0.1:0".parse().unwrap();
    config.callback.listen = "127.0.0.1:0".parse().unwrap();
    config.download.backoff = Duration::from_millis(20);
    config.download.max_backoff = Duration::from_millis(200);
    config.server.shutdown_grace = Duration::from_secs(5);
    config.storage.min_free = 0;
    config.store.min_free = 0;
    config
}

/// The server as a process of its own, to be killed.
pub struct Process {
    child: Child,
    api: String,
}

impl Process {
    /// Starts `reelhook serve` in `dir` with `reelhook.toml` there, and waits until it is ready.
    pub async fn start(dir: &Path, api: u16) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reelhook"));
        Self::run(command.args(["serve", "--config", "reelhook.toml"]), dir, api).await
    }

    /// The same with another command.
    pub async fn run(command: &mut Command, dir: &Path, api: u16) -> Self {
        let child = command
            .current_dir(dir)
            .stdout(Stdio::null())
            .stderr(std::fs::OpenOptions::new().create(true).append(true).open(dir.join("log")).unwrap())
            .spawn()
            .unwrap();
        let process = Self { child, api: format!("http://127.0.0.1:{api}") };
        let ready = process.url("/readyz");
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !matches!(client().get(&ready).send().await, Ok(answer) if answer.status() == 200) {
            let log = || std::fs::read_to_string(dir.join("log")).unwrap_or_default();
            assert!(tokio::time::Instant::now() < deadline, "not ready: {}", log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        process
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.api)
    }

    /// Waits for it to end by itself.
    pub async fn ended(mut self) -> std::process::ExitStatus {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(tokio::time::Instant::now() < deadline, "it goes on");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// SIGKILL: no destructor, no flush, no farewell.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _already_dead = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
