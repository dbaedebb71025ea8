//! The binary as a child process, with a folder and ports of its own.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context;
use reelhook::{
    config::{self, Config, LoadOptions},
    lifecycle::JobId,
    provider::token::{Purpose, Tokens},
};
use secrecy::SecretString;
use tempfile::TempDir;

const SECRET: &str = "the-key-of-the-callback-tokens-of-a-bench";
const STORE: &str = r#"url = "sled:state""#;
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// Where a server lives: its folder, its configuration, its addresses.
pub(crate) struct Site {
    folder: TempDir,
    pub(crate) api: SocketAddr,
    pub(crate) callback: SocketAddr,
}

impl Site {
    /// Writes a configuration: nobody listens upstream, limits are far away, and the lanes hardly ever call, so that
    /// what is measured is the work for the request. `more` is appended.
    pub(crate) fn new(more: &str) -> anyhow::Result<Self> {
        // On the disk of the build, for the usual place for temporary files may be memory.
        let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR"))?;
        let [api, callback, nobody] = free_addresses()?;
        let text = format!(
            r#"
[server]
listen = "{api}"
[callback]
listen = "{callback}"
public_url = "http://{callback}"
secrets = ["{SECRET}"]
[upstream]
base_url = "http://{nobody}"
requests_per_minute = 1
max_in_flight = 10_000_000
[api]
queue_limit = 10_000_000
rate_limit_per_minute = 100_000_000
[store]
{STORE}
[storage]
url = "file:videos"
[egress]
allow = ["127.0.0.0/8"]
{more}"#
        );
        fs::write(folder.path().join("reelhook.toml"), text)?;
        Ok(Self { folder, api, callback })
    }

    /// The folder that all of it is in.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The configuration, as the server reads it.
    pub(crate) fn config(&self) -> anyhow::Result<Config> {
        let path = Some(self.config_file());
        let options = LoadOptions { path, cwd: self.folder().into(), ..LoadOptions::default() };
        Ok(config::load(&options)?.config)
    }

    /// Has the configuration name another store.
    pub(crate) fn moves_to(&self, url: &str) -> anyhow::Result<()> {
        let text = fs::read_to_string(self.config_file())?;
        let (before, after) = text.split_once(STORE).context("the store was moved before")?;
        Ok(fs::write(self.config_file(), format!("{before}url = \"{url}\"{after}"))?)
    }

    /// Runs a command on the configuration, and how long it took.
    pub(crate) fn command(&self, args: &[&str]) -> anyhow::Result<Duration> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reelhook"));
        command.args(args).arg("--config").arg(self.config_file()).current_dir(self.folder());
        let begun = Instant::now();
        let output = command.stdin(Stdio::null()).output()?;
        let took = begun.elapsed();
        anyhow::ensure!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(took)
    }

    /// The path of a job's callbacks.
    pub(crate) fn callback_path(&self, id: JobId) -> anyhow::Result<String> {
        let tokens = Tokens::new(Purpose::Callback, vec![SecretString::from(SECRET)])?;
        let id = id.to_string();
        Ok(format!("/cb/{id}/{}", tokens.mint(&id)))
    }

    /// Starts the server and waits until it is ready.
    pub(crate) fn start(&self) -> anyhow::Result<Process> {
        self.start_binary(Path::new(env!("CARGO_BIN_EXE_reelhook")))
    }

    /// The same with another build of it.
    pub(crate) fn start_binary(&self, binary: &Path) -> anyhow::Result<Process> {
        let log = File::options().create(true).append(true).open(self.folder().join("log"))?;
        let begun = Instant::now();
        let child = Command::new(binary)
            .args(["serve", "--config"])
            .arg(self.config_file())
            .current_dir(self.folder())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let mut process = Process { child, ready_after: Duration::ZERO };
        while !ready(self.api) {
            if let Some(status) = process.child.try_wait()? {
                let log = fs::read_to_string(self.folder().join("log"))?;
                anyhow::bail!("the server ended with {status}:\n{log}");
            }
            anyhow::ensure!(begun.elapsed() < START_TIMEOUT, "the server was not ready in time");
            std::thread::sleep(Duration::from_micros(500));
        }
        process.ready_after = begun.elapsed();
        Ok(process)
    }

    fn config_file(&self) -> PathBuf {
        self.folder().join("reelhook.toml")
    }
}

/// A running server; dropping it kills it.
pub(crate) struct Process {
    child: Child,
    /// From starting the process to the first answer that it is ready.
    pub(crate) ready_after: Duration,
}

impl Process {
    /// Bytes of memory that are resident.
    pub(crate) fn memory(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1024)
    }
}

impl Process {
    /// Files and connections that it has open.
    pub(crate) fn open_files(&self) -> anyhow::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.child.id()))?.count())
    }

    /// Processor time that it has used so far.
    pub(crate) fn processor_time(&self) -> anyhow::Result<Duration> {
        /// `CLK_TCK`, which Linux fixes for what it tells of processes.
        const TICKS_A_SECOND: u32 = 100;
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name of the process, in brackets, may hold anything.
        let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
        let times = fields.split_whitespace().skip(11).take(2).map(str::parse::<u32>);
        let ticks: u32 = times.sum::<Result<u32, _>>()?;
        Ok(Duration::from_secs(1) * ticks / TICKS_A_SECOND)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn free_addresses() -> anyhow::Result<[SocketAddr; 3]> {
    let bind = || TcpListener::bind("127.0.0.1:0");
    let listeners = [bind()?, bind()?, bind()?];
    let [a, b, c] = listeners.each_ref().map(TcpListener::local_addr);
    Ok([a?, b?, c?])
}

fn ready(api: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(api)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        write!(stream, "GET /readyz HTTP/1.1\r\nHost: {api}\r\nConnection: close\r\n\r\n")?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        Ok(head.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}
