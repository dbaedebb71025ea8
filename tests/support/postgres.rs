//! A real PostgreSQL that belongs to the test alone. Needs the package `postgresql`.

#![allow(dead_code, clippy::unwrap_used, reason = "each test binary uses its part; a test may panic")]

#[allow(clippy::duplicate_mod, reason = "most test binaries have it for more than this")]
#[path = "port.rs"]
mod port;

use std::{
    fs,
    net::TcpStream,
    os::unix::{
        fs::{PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use reelhook::config::Database;
use tempfile::TempDir;

use port::free_port;

/// A server in a temporary folder, on a port of its own.
pub(crate) struct Server {
    folder: TempDir,
    port: u16,
    databases: AtomicU32,
    watch: Child,
}

impl Server {
    /// Makes and starts one.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same, with settings such as `fsync=off`.
    pub(crate) fn start_with(settings: &[&str]) -> Self {
        let folder = TempDir::new_in("/tmp").unwrap();
        if let Some((uid, gid)) = user() {
            chown(folder.path(), Some(uid), Some(gid)).unwrap();
        }
        let port = free_port();
        let watch = watch(folder.path());
        let server = Self { folder, port, databases: AtomicU32::new(0), watch };
        let data = server.data();
        // What a crash of the machine would lose does not matter to a test, but for what reelhook itself asks of it.
        server.run(
            "initdb",
            &["-D", &data, "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--no-locale"],
        );
        let mut config = format!(
            "port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\nmax_connections = 200\n"
        );
        settings.iter().for_each(|setting| config.push_str(&format!("{setting}\n")));
        let path = Path::new(&data).join("postgresql.conf");
        let before = fs::read_to_string(&path).unwrap();
        fs::write(&path, before + &config).unwrap();
        server.up();
        server
    }

    /// Where it listens, on loopback.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    fn data(&self) -> String {
        self.folder.path().join("data").display().to_string()
    }

    fn run(&self, tool: &str, args: &[&str]) {
        let mut command = command(tool_path(tool), self.folder.path());
        let status =
            command.args(args).status().unwrap_or_else(|error| panic!("{tool}: {error}; install postgresql"));
        assert!(status.success(), "{tool} {args:?}: {status}");
    }

    /// Starts it again.
    pub(crate) fn up(&self) {
        let log = self.folder.path().join("log").display().to_string();
        self.run("pg_ctl", &["-D", &self.data(), "-w", "-l", &log, "start"]);
    }

    /// Ends it as a crash would.
    pub(crate) fn crash(&self) {
        self.run("pg_ctl", &["-D", &self.data(), "-m", "immediate", "-w", "stop"]);
    }

    /// Stops every process of it in its tracks, or lets them go on.
    pub(crate) fn freeze(&self, frozen: bool) {
        let signal = if frozen { "-STOP" } else { "-CONT" };
        let pid = fs::read_to_string(Path::new(&self.data()).join("postmaster.pid")).unwrap();
        let pid = pid.lines().next().unwrap().to_owned();
        let children = Command::new("pgrep").args(["-P", &pid]).output().unwrap().stdout;
        let children = String::from_utf8(children).unwrap();
        for process in std::iter::once(&*pid).chain(children.lines()) {
            // A child may have ended meanwhile.
            Command::new("kill").args([signal, process]).stderr(Stdio::null()).status().unwrap();
        }
    }

    /// A new, empty database.
    pub(crate) fn database(&self) -> Database {
        let name = format!("test{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let port = self.port.to_string();
        self.run("createdb", &["-h", "127.0.0.1", "-p", &port, "-U", "postgres", &name]);
        Database {
            url: format!("postgres://postgres@127.0.0.1:{port}/{name}").into(),
            direct_url: None,
            password: None,
            connections: 8,
            instance: "test".to_owned(),
        }
    }

    /// What SQL answers in a database, unaligned.
    pub(crate) fn sql(&self, database: &Database, sql: &str) -> String {
        self.tool("psql", database, &["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql])
    }

    /// The plan of each statement that a query runs, within functions too, as it is run in a session that
    /// has run another query before, which may have had plans kept.
    pub(crate) fn plans(&self, database: &Database, before: &str, query: &str) -> String {
        let explain = "LOAD 'auto_explain'; SET auto_explain.log_nested_statements = on; SET auto_explain.log_analyze = on; \
            SET auto_explain.log_timing = off; SET client_min_messages = log";
        let session =
            [explain, before, "SET auto_explain.log_min_duration = 0", query].map(|sql| ["-c", sql]).concat();
        let args = [&["-X", "-q", "-v", "ON_ERROR_STOP=1"], &*session].concat();
        String::from_utf8(self.run_tool("psql", database, &args).stderr).unwrap()
    }

    /// What a tool of the package says of a database.
    pub(crate) fn tool(&self, tool: &str, database: &Database, args: &[&str]) -> String {
        String::from_utf8(self.run_tool(tool, database, args).stdout).unwrap().trim().to_owned()
    }

    fn run_tool(&self, tool: &str, database: &Database, args: &[&str]) -> Output {
        use secrecy::ExposeSecret as _;
        let output =
            Command::new(tool_path(tool)).args(args).arg(database.url.expose_secret()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.watch.stdin.take());
        drop(self.watch.wait());
    }
}

/// A pooler in transaction mode before a server. Needs the package `pgbouncer`.
pub(crate) struct Pooler {
    _folder: TempDir,
    port: u16,
    watch: Child,
}

impl Pooler {
    pub(crate) fn before(server: &Server) -> Self {
        let folder = TempDir::new_in("/tmp").unwrap();
        let port = free_port();
        let config = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=postgres\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = transaction\nmax_client_conn = 1000\ndefault_pool_size = 3\n",
            server.port
        );
        fs::write(folder.path().join("pooler.ini"), config).unwrap();
        hand_over(folder.path());
        // However the test ends, its end of the pipe is closed.
        let mut watch = command("sh".into(), folder.path());
        watch.args(["-c", "/usr/sbin/pgbouncer -q pooler.ini & cat; kill $!"]).process_group(0);
        let watch = watch.stdin(Stdio::piped()).spawn().unwrap();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { _folder: folder, port, watch }
    }

    /// The same database, through the pooler; what needs a connection of its own goes straight to it.
    pub(crate) fn to(&self, direct: &Database) -> Database {
        use secrecy::ExposeSecret as _;
        let name = direct.url.expose_secret().rsplit('/').next().unwrap_or_default();
        let url = format!("postgres://postgres@127.0.0.1:{}/{name}", self.port);
        Database { url: url.into(), direct_url: Some(direct.url.clone()), ..direct.clone() }
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        drop(self.watch.stdin.take());
        drop(self.watch.wait());
    }
}

/// Gives a file or a folder to the user that servers run as.
pub(crate) fn hand_over(path: &Path) {
    if let Some((uid, gid)) = user() {
        chown(path, Some(uid), Some(gid)).unwrap();
    }
    let mode = if path.is_dir() { 0o700 } else { 0o600 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Ends the server, however the test ends: killed, it closes the pipe as well. In a group of its own, out of the reach of
/// what is sent to the test's.
fn watch(folder: &Path) -> Child {
    let stop = r#"cat; "$0" -D data -m immediate -w stop; rm -rf "$PWD""#;
    let mut watch = command("sh".into(), folder);
    watch.args(["-c", stop]).arg(tool_path("pg_ctl")).process_group(0).stdin(Stdio::piped()).spawn().unwrap()
}

/// A command of the server's user, in its folder, that says nothing.
fn command(program: PathBuf, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some((uid, gid)) = user() {
        command.uid(uid).gid(gid);
    }
    command
}

/// Whom it runs as: it refuses root, for whom the package has made a user.
fn user() -> Option<(u32, u32)> {
    static USER: OnceLock<Option<(u32, u32)>> = OnceLock::new();
    *USER.get_or_init(|| {
        rustix::process::geteuid().is_root().then(|| {
            let users = fs::read_to_string("/etc/passwd").unwrap();
            let user = users.lines().find(|line| line.starts_with("postgres:")).expect("the user postgres");
            let mut numbers = user.split(':').skip(2).map(|number| number.parse().unwrap());
            (numbers.next().unwrap(), numbers.next().unwrap())
        })
    })
}

/// Where the package keeps its tools: the newest version there is.
fn tool_path(tool: &str) -> PathBuf {
    let mut versions: Vec<_> = fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.map(|entry| entry.unwrap().path().join("bin")).collect())
        .unwrap_or_default();
    versions.sort();
    versions.pop().map_or_else(|| tool.into(), |bin| bin.join(tool))
}
