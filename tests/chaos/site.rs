//! What every loop has: a provider and an app that outlive the servers, a folder where those keep their files, and a port
//! behind which at least one of them is.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use reelhook::sandbox::{self, Options, Sandbox};
use reqwest::StatusCode;
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::{
    app::{App, SECRET},
    checker::{Kind, Violation},
    support::{PATIENCE, Process, SPEED, client},
};

pub(crate) struct Site {
    pub(crate) sandbox: Sandbox,
    pub(crate) app: App,
    dir: TempDir,
    api: u16,
}

/// Where one server listens, where callbacks reach it or another one, and what it keeps jobs in.
pub(crate) struct Place<'a> {
    pub(crate) api: u16,
    pub(crate) callback: u16,
    pub(crate) public: u16,
    pub(crate) store: &'a str,
    /// Lines that go before the first section of `[server]`.
    pub(crate) server: &'a str,
}

impl Site {
    /// The port is the one that clients are told.
    pub(crate) async fn set(seed: u64, api: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sandbox = sandbox::start(listener, Options { speed: SPEED, seed }).await.unwrap();
        Self { sandbox, app: App::start(seed).await, dir: tempfile::tempdir().unwrap(), api }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.api)
    }

    /// What the server says; one that cannot say it now is asked again.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = client().get(self.url(path)).send().await.unwrap();
            match answer.status() {
                StatusCode::OK => return answer.json().await.unwrap(),
                StatusCode::SERVICE_UNAVAILABLE if Instant::now() < deadline => {
                    sleep(Duration::from_millis(100)).await;
                }
                status => panic!("{path}: {status}"),
            }
        }
    }

    pub(crate) fn videos(&self) -> PathBuf {
        self.dir.path().join("videos")
    }

    /// Writes the configuration of one server.
    pub(crate) fn configure(&self, name: &str, place: &Place<'_>) {
        let Place { api, callback, public, store, server } = place;
        let (provider, app) = (self.sandbox.url(), self.app.address);
        // Enough that only a server that forgets gives up.
        let tries = vec![r#""100ms""#; 100].join(", ");
        let config = format!(
            r#"
            [server]
            listen = "127.0.0.1:{api}"
            {server}
            [upstream]
            base_url = "{provider}"
            api_key = "aio_test"
            submit_timeout = "1s"
            connect_timeout = "500ms"
            ask_timeout = "2s"
            unknown_wait = "3s"
            probe_after = "100ms"
            max_in_flight = 1000
            requests_per_minute = 60000
            [callback]
            listen = "127.0.0.1:{callback}"
            public_url = "http://127.0.0.1:{public}"
            [poll]
            first_after = "250ms"
            overdue_after = "500ms"
            interval = "250ms"
            max_interval = "500ms"
            give_up_after = "10s"
            [download]
            attempts = 4
            backoff = "50ms"
            max_backoff = "200ms"
            give_up_after = "10s"
            [delivery]
            schedule = [{tries}]
            timeout = "1s"
            disable_after = "0"
            [sinks.app]
            type = "webhook"
            url = "http://{app}/hooks"
            secret = "{SECRET}"
            [storage]
            url = "file:videos"
            min_free = "0"
            [store]
            url = "{store}"
            min_free = "0"
            [egress]
            allow = ["127.0.0.0/8"]
            [api]
            rate_limit_per_minute = 10000000
            queue_limit = 100000
            [log]
            level = "warn,reelhook::server=info"
            format = "text"
            "#
        );
        fs::write(self.dir.path().join(format!("{name}.toml")), config).unwrap();
    }

    /// Starts a server; what it says goes to a log of its name.
    pub(crate) fn spawn(
        &self,
        name: &str,
        api: u16,
        env: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reelhook"));
        command.args(["serve", "--config", &format!("{name}.toml")]).envs(env);
        Process::spawn_logging(&mut command, self.dir.path(), api, &format!("{name}.log"))
    }

    pub(crate) fn log(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(format!("{name}.log"))).unwrap_or_default()
    }

    /// What a server's log must never say.
    pub(crate) fn complaints(&self, name: &str) -> Vec<Violation> {
        const NEVER: [&str; 4] = ["panicked at", "the process ends so that", "breaks a rule", "quarantine"];
        let log = self.log(name);
        let bad = log.lines().filter(|line| NEVER.iter().any(|words| line.contains(words)));
        bad.map(|line| Violation { kind: Kind::Crash, what: line.to_owned() }).collect()
    }

    /// Leaves the files for whoever wants to look into them.
    pub(crate) fn keep(self) -> PathBuf {
        self.dir.keep()
    }
}

/// Every file below a folder, hidden ones too.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}
