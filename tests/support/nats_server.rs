//! A real `nats-server` with JetStream on a free port, for one test.

#![allow(dead_code, clippy::unwrap_used, reason = "each test binary uses its part; a test may panic")]

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

pub(crate) struct NatsServer {
    child: Child,
    port: u16,
    dir: TempDir,
}

impl NatsServer {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// With more arguments.
    pub(crate) fn with(arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (child, port) = run(&dir, "-1", arguments);
        Self { child, port, dir }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub(crate) fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Again, on the same port and with the same streams.
    pub(crate) fn start_again(&mut self) {
        (self.child, self.port) = run(&self.dir, &self.port.to_string(), &[]);
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn run(dir: &TempDir, port: &str, arguments: &[&str]) -> (Child, u16) {
    let child = Command::new("nats-server")
        .args(["-a", "127.0.0.1", "-p", port, "-js", "--ports_file_dir"])
        .arg(dir.path())
        .arg("-sd")
        .arg(dir.path().join("js"))
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nats-server is installed: `tests/run` does it");
    let ports = dir.path().join(format!("nats-server_{}.ports", child.id()));
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let told: serde_json::Value = std::fs::read(&ports)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        if let Some(url) = told["nats"][0].as_str() {
            return (child, url.rsplit(':').next().unwrap().parse().unwrap());
        }
        assert!(Instant::now() < deadline, "nats-server does not start");
        std::thread::sleep(Duration::from_millis(10));
    }
}
