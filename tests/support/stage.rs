//! A provider that outlives the server, and where the server lives, as a process that is killed and started again.

use std::{net::TcpListener, path::PathBuf, process::Command};

use reelhook::sandbox::{self, Options, Sandbox};
use tempfile::TempDir;

use super::{Process, SPEED, charges, configure, free_port};

pub struct Stage {
    pub sandbox: Sandbox,
    pub dir: TempDir,
    pub api: u16,
    callback: u16,
}

impl Stage {
    /// One whose server is configured by [`configure`], with this for `more`.
    pub async fn set(more: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sandbox = sandbox::start(listener, Options { speed: SPEED, seed: 5 }).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let stage = Self { sandbox, dir, api: free_port(), callback: free_port() };
        stage.configure(stage.sandbox.url().as_str(), more);
        stage
    }

    /// The server calls this provider from its next start on.
    pub fn configure(&self, provider: &str, more: &str) {
        configure(self.dir.path(), "reelhook.toml", provider, self.api, self.callback, more);
    }

    /// The same, and nobody is there.
    pub fn configure_nobody(&self, more: &str) {
        self.configure(&format!("http://127.0.0.1:{}", free_port()), more);
    }

    pub async fn serve(&self) -> Process {
        self.serve_with(|command| command).await
    }

    /// The server with more arguments, or another environment.
    pub async fn serve_with(&self, adjust: impl FnOnce(&mut Command) -> &mut Command) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reelhook"));
        command.args(["serve", "--config", "reelhook.toml"]);
        Process::run(adjust(&mut command), self.dir.path(), self.api).await
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn charges(&self, id: &str) -> usize {
        charges(&self.sandbox.ledger(), id)
    }
}
