//! Under a service manager: `serve` says that it is ready, that it lives, and that it stops.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    os::unix::net::UnixDatagram,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// Only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn a_service_manager_is_told_that_the_server_is_ready_lives_and_stops() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = || {
        let mut message = [0; 1024];
        let length = manager.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).trim().to_owned()
    };
    let mut served = Served(
        Command::new(env!("CARGO_BIN_EXE_reelhook"))
            .args(["serve", "--listen", "127.0.0.1:0", "--callback-listen", "127.0.0.1:0"])
            .current_dir(dir.path())
            .env("NOTIFY_SOCKET", &socket)
            .env("WATCHDOG_USEC", "100000")
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    assert_eq!(told(), "READY=1");
    assert_eq!([told(), told()], ["WATCHDOG=1", "WATCHDOG=1"]);
    let pid = served.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    while told() != "STOPPING=1" {}
    assert!(served.0.wait().unwrap().success());
}
