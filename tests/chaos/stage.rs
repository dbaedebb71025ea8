//! The server as a process that dies, the provider that does not, and where they keep their files.

use std::{
    fs,
    net::TcpListener,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use clap::ValueEnum;
use reelhook::{
    chaos::Safeguard,
    sandbox::{self, Options, Sandbox},
};
use tempfile::TempDir;

use crate::{
    app::{App, SECRET},
    checker::{Kind, Violation},
    name,
    plan::Kill,
    support::{Process, SPEED, free_port},
};

/// A point that was not passed often enough by then is not going to be.
const POINT_PATIENCE: Duration = Duration::from_secs(5);
const SIGABRT: i32 = 6;
const SIGTERM: i32 = 15;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// As planned.
    Planned,
    /// By SIGKILL, since it did not come to the point.
    Missed,
}

pub(crate) struct Stage {
    pub(crate) sandbox: Sandbox,
    pub(crate) app: App,
    dir: TempDir,
    api: u16,
    missing: Option<Safeguard>,
}

impl Stage {
    pub(crate) async fn set(seed: u64, missing: Option<Safeguard>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sandbox = sandbox::start(listener, Options { speed: SPEED, seed }).await.unwrap();
        let app = App::start(seed).await;
        let stage = Self { sandbox, app, dir: tempfile::tempdir().unwrap(), api: free_port(), missing };
        let (provider, app, api, callback) = (stage.sandbox.url(), stage.app.address, stage.api, free_port());
        // Enough that only a server that forgets gives up.
        let tries = vec![r#""100ms""#; 100].join(", ");
        let config = format!(
            r#"
            [server]
            listen = "127.0.0.1:{api}"
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
            public_url = "http://127.0.0.1:{callback}"
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
            url = "sled:state"
            min_free = "0"
            [egress]
            allow = ["127.0.0.0/8"]
            [api]
            rate_limit_per_minute = 10000000
            queue_limit = 100000
            [log]
            level = "warn"
            format = "text"
            "#
        );
        fs::write(stage.dir.path().join("reelhook.toml"), config).unwrap();
        stage
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.api)
    }

    pub(crate) fn videos(&self) -> PathBuf {
        self.dir.path().join("videos")
    }

    /// Starts a process that is to be killed, and sees it die.
    ///
    /// # Errors
    /// It ended otherwise.
    pub(crate) async fn live_and_die(&self, kill: Kill) -> Result<Death, String> {
        match kill {
            Kill::After(moment) => {
                let mut server = self.spawn(None);
                match server.ended_within(moment).await {
                    Some(status) => Err(format!("the server ended by itself: {status}")),
                    None => Ok(Death::Planned),
                }
            }
            Kill::Ending(moment, grace) => {
                let mut server = self.spawn(None);
                if let Some(status) = server.ended_within(moment).await {
                    return Err(format!("the server ended by itself: {status}"));
                }
                server.terminate();
                match server.ended_within(grace).await {
                    // SIGTERM itself ends one that does not yet listen for it.
                    Some(status) if status.success() || status.signal() == Some(SIGTERM) => {
                        Ok(Death::Planned)
                    }
                    Some(status) => Err(format!("the server did not end well: {status}")),
                    None => Ok(Death::Planned),
                }
            }
            Kill::At(point, passes) => {
                let mut server = self.spawn(Some(format!("{}:{passes}", name(point))));
                match server.ended_within(POINT_PATIENCE).await {
                    Some(status) if status.signal() == Some(SIGABRT) => Ok(Death::Planned),
                    Some(status) => Err(format!("the server ended by itself: {status}")),
                    None => Ok(Death::Missed),
                }
            }
        }
    }

    /// Starts a process that lives, and waits until it is ready.
    pub(crate) async fn start(&self) -> Process {
        Process::run(&mut self.command(None), self.dir.path(), self.api).await
    }

    fn spawn(&self, die_at: Option<String>) -> Process {
        Process::spawn(&mut self.command(die_at), self.dir.path(), self.api)
    }

    fn command(&self, die_at: Option<String>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reelhook"));
        command.args(["serve", "--config", "reelhook.toml"]);
        command.envs(die_at.map(|at| ("CHAOS_DIE_AT", at)));
        let missing = self.missing.and_then(|missing| missing.to_possible_value());
        command.envs(missing.map(|missing| ("CHAOS_WITHOUT", missing.get_name().to_owned())));
        command
    }

    /// What the server's log must never say.
    pub(crate) fn complaints(&self) -> Vec<Violation> {
        const NEVER: [&str; 4] = ["panicked at", "the process ends so that", "breaks a rule", "quarantine"];
        let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
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
