//! Under a service manager: `serve` says that it is ready, that it lives, and that it stops; and what it asks of the
//! system for itself.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    fs,
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

#[test]
fn a_server_leaves_no_core_and_may_open_as_many_files_as_it_has_callers() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    // Whatever the limits of the tests are, the server begins with cores and with few files.
    let begin = "ulimit -S -c $(ulimit -H -c); ulimit -S -n 256; exec \"$0\" \"$@\"";
    let served = Served(
        Command::new("sh")
            .args(["-c", begin, env!("CARGO_BIN_EXE_reelhook"), "serve"])
            .args(["--listen", "127.0.0.1:0", "--callback-listen", "127.0.0.1:0"])
            .current_dir(dir.path())
            .env("NOTIFY_SOCKET", &socket)
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    manager.recv(&mut [0; 1024]).unwrap();
    let limits = |pid: &str| fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let limit = |limits: &str, name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().take(2).map(|value| value.parse().unwrap_or(u64::MAX)).collect::<Vec<_>>()
    };
    let (its, ours) = (limits(&served.0.id().to_string()), limits("self"));
    assert_eq!(limit(&its, "Max core file size"), [0, 0]);
    let most = limit(&ours, "Max open files")[1];
    assert_eq!(limit(&its, "Max open files"), [most.min(65_536), most]);
}
