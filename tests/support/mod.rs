//! A reelhook and a sandbox provider for a test: real sockets, a real store, nothing shared.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test binary uses its part; a test may panic"
)]

#[allow(clippy::duplicate_mod, reason = "the servers of tests have it too")]
mod port;
pub mod stage;

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
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

pub(crate) use port::free_port;

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
        submit(&self.http, &self.url("/v1/jobs"), prompt).await
    }

    /// The job once it has ended, or is held.
    pub async fn ended(&self, id: &str) -> Value {
        let job = self.get(&format!("/v1/jobs/{id}?wait={}s", PATIENCE.as_secs())).await;
        assert!(has_ended(&job), "still going: {job:#}");
        job
    }

    /// The job once this is so of it.
    pub async fn until(&self, id: &str, so: impl Fn(&Value) -> bool) -> Value {
        until(&self.http, &self.url(&format!("/v1/jobs/{id}")), so).await
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

async fn submit(http: &reqwest::Client, jobs: &str, prompt: &str) -> String {
    let job: Value = http.post(jobs).json(&order(prompt)).send().await.unwrap().json().await.unwrap();
    job["id"].as_str().unwrap_or_else(|| panic!("refused: {job}")).to_owned()
}

async fn until(http: &reqwest::Client, job: &str, so: impl Fn(&Value) -> bool) -> Value {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let (mut known, mut etag) = (Value::Null, String::new());
    loop {
        let request = http.get(format!("{job}?wait=5s")).header("if-none-match", &etag);
        let answer = request.send().await.unwrap();
        if answer.status() == 200 {
            known = answer.json().await.unwrap();
            if so(&known) {
                return known;
            }
            etag = format!("\"{}\"", known["revision"]);
        }
        assert!(tokio::time::Instant::now() < deadline, "never so: {known:#}");
    }
}

/// Whether a job has ended, or is held.
pub fn has_ended(job: &Value) -> bool {
    matches!(job["status"].as_str(), Some("succeeded" | "failed" | "canceled" | "held"))
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
    config.upstream.submit_timeout = Duration::from_secs(2);
    config.server.shutdown_grace = Duration::from_secs(5);
    config.storage.min_free = 0;
    config.store.min_free = 0;
    config
}

/// Writes the file `name` in `dir` for a server that is a process of its own: short waits, everything it keeps in `dir`. What
/// `more` has, as TOML, goes before that.
pub fn configure(dir: &Path, name: &str, provider: &str, api: u16, callback: u16, more: &str) {
    let usual = format!(
        r#"
        [server]
        listen = "127.0.0.1:{api}"
        [upstream]
        base_url = "{provider}"
        api_key = "aio_test"
        requests_per_minute = 6000
        [callback]
        listen = "127.0.0.1:{callback}"
        public_url = "http://127.0.0.1:{callback}"
        [poll]
        first_after = "250ms"
        overdue_after = "500ms"
        interval = "250ms"
        max_interval = "500ms"
        [storage]
        url = "file:videos"
        min_free = "0"
        [store]
        url = "sled:state"
        min_free = "0"
        [egress]
        allow = ["127.0.0.0/8"]
        "#
    );
    let (mut config, more): (toml::Table, toml::Table) = (usual.parse().unwrap(), more.parse().unwrap());
    for (section, keys) in more {
        let section = config.entry(section).or_insert_with(|| toml::Table::new().into());
        section.as_table_mut().unwrap().extend(keys.as_table().unwrap().clone());
    }
    std::fs::write(dir.join(name), config.to_string()).unwrap();
}

/// The server as a process of its own, to be killed.
pub struct Process {
    child: Child,
    api: String,
    http: reqwest::Client,
    log: PathBuf,
}

impl Process {
    /// Starts `reelhook serve` in `dir` with `reelhook.toml` there, and waits until it is ready.
    pub async fn start(dir: &Path, api: u16) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reelhook"));
        Self::run(command.args(["serve", "--config", "reelhook.toml"]), dir, api).await
    }

    /// The same with another command.
    pub async fn run(command: &mut Command, dir: &Path, api: u16) -> Self {
        Self::spawn(command, dir, api).ready().await
    }

    /// Waits until it is ready.
    pub async fn ready(mut self) -> Self {
        let ready = self.url("/readyz");
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !matches!(self.http.get(&ready).send().await, Ok(answer) if answer.status() == 200) {
            let ended = self.has_ended();
            let log = || std::fs::read_to_string(&self.log).unwrap_or_default();
            let in_time = tokio::time::Instant::now() < deadline;
            assert!(ended.is_none() && in_time, "not ready ({ended:?}): {}", log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self
    }

    /// The same without waiting. What it logs is appended to the file `log` in `dir`.
    pub fn spawn(command: &mut Command, dir: &Path, api: u16) -> Self {
        Self::spawn_logging(command, dir, api, "log")
    }

    /// The same with another name of that file.
    pub fn spawn_logging(command: &mut Command, dir: &Path, api: u16, log: &str) -> Self {
        let log = dir.join(log);
        let stderr = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let child = command.current_dir(dir).stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
        Self { child, api: format!("http://127.0.0.1:{api}"), http: client(), log }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.api)
    }

    pub async fn get(&self, path: &str) -> Value {
        self.http.get(self.url(path)).send().await.unwrap().json().await.unwrap()
    }

    /// Submits a three-second job with this prompt; its id.
    pub async fn submit(&self, prompt: &str) -> String {
        submit(&self.http, &self.url("/v1/jobs"), prompt).await
    }

    /// The job once this is so of it.
    pub async fn until(&self, id: &str, so: impl Fn(&Value) -> bool) -> Value {
        until(&self.http, &self.url(&format!("/v1/jobs/{id}")), so).await
    }

    /// Waits for it to end by itself.
    pub async fn ended(mut self) -> ExitStatus {
        self.ended_within(PATIENCE).await.expect("it goes on")
    }

    /// Waits so long for it to end; nothing if it goes on.
    pub async fn ended_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = tokio::time::Instant::now() + limit;
        while tokio::time::Instant::now() < deadline {
            if let Some(status) = self.has_ended() {
                return Some(status);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        None
    }

    /// How it ended, if it has.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// A signal, by its name.
    pub fn signal(&self, name: &str) {
        let (signal, pid) = (format!("-{name}"), self.child.id().to_string());
        assert!(Command::new("kill").args([&signal, &pid]).status().unwrap().success());
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
