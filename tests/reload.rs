//! SIGHUP, by the real binary: what changes at once, what waits, and what a wrong configuration does.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[cfg(feature = "postgres")]
#[path = "support/postgres.rs"]
mod database;
mod support;

use std::{
    fs,
    net::TcpListener,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use reelhook::{
    config::{Config, Database, Poll},
    sandbox::{self, Options, Sandbox},
};
use serde_json::{Value, json};
use support::{PATIENCE, Process, World, client, free_port, order};

/// A server under a service manager that waits for what it says.
struct Served {
    process: Process,
    manager: UnixDatagram,
    dir: tempfile::TempDir,
    ports: [u16; 2],
    sandbox: Sandbox,
}

impl Served {
    async fn start(more: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sandbox = sandbox::start(listener, Options { speed: 200.0, seed: 7 }).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let manager = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        manager.set_read_timeout(Some(PATIENCE)).unwrap();
        let ports = [free_port(), free_port()];
        write(dir.path(), &sandbox, ports, more);
        let mut command = Command::new(env!("CARGO_BIN_EXE_reelhook"));
        command.args(["serve", "--config", "reelhook.toml"]).env("NOTIFY_SOCKET", dir.path().join("notify"));
        let process = Process::run(&mut command, dir.path(), ports[0]).await;
        let served = Self { process, manager, dir, ports, sandbox };
        assert_eq!(served.told(), "READY=1");
        served
    }

    /// Has it read this configuration; returns once it has, with what it logged of that.
    fn reload(&self, more: &str) -> String {
        write(self.dir.path(), &self.sandbox, self.ports, more);
        let before = self.log().len();
        self.process.signal("HUP");
        assert!(self.told().starts_with("RELOADING=1\nMONOTONIC_USEC="));
        assert_eq!(self.told(), "READY=1");
        self.log()[before..].to_owned()
    }

    fn told(&self) -> String {
        let mut message = [0; 1024];
        let length = self.manager.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).trim().to_owned()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let answer = client().post(self.process.url(path)).json(body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn verdict(&self, name: &str) -> String {
        let (_, document) = self.post("/v1/doctor", &json!({})).await;
        let check =
            document["checks"].as_array().unwrap().iter().find(|check| check["name"] == name).unwrap();
        check["verdict"].as_str().unwrap().to_owned()
    }
}

fn write(dir: &Path, sandbox: &Sandbox, ports: [u16; 2], more: &str) {
    let [api, callback] = ports;
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:{api}\"\n[callback]\nlisten = \"127.0.0.1:{callback}\"\n\
         [storage]\nmin_free = \"0B\"\n[store]\nmin_free = \"0B\"\n{more}[upstream]\nbase_url = \"{}\"\n",
        sandbox.url()
    );
    let key: PathBuf = dir.join("key");
    let text = if key.exists() { text + "api_key_file = \"key\"\n" } else { text };
    fs::write(dir.join("reelhook.toml"), text).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_change_at_once_does_and_what_cannot_is_named() {
    let served = Served::start("").await;
    assert_eq!(served.post("/v1/jobs", &order("a lake")).await.0, 202);
    assert_eq!(served.verdict("api_key").await, "failed", "the sandbox wants a key");
    fs::write(served.dir.path().join("key"), "aio_canary-key").unwrap();
    let said = served
        .reload("[budget]\nper_job_credits = 1\n[delivery]\ntimeout = \"9s\"\n[log]\nlevel = \"debug\"\n");
    assert!(
        said.contains("this change waits for a restart") && said.contains("\"key\":\"delivery.timeout\""),
        "{said}"
    );
    for key in ["budget.per_job_credits", "upstream.api_key", "log.level"] {
        assert!(said.contains(key) && !said.contains(&format!("\"key\":\"{key}\"")), "{key}: {said}");
    }
    assert_eq!(served.post("/v1/jobs", &order("a lake")).await.0, 402, "the budget is in force");
    assert_eq!(served.verdict("api_key").await, "ok", "and so is the key");
    assert!(served.log().contains("\"level\":\"DEBUG\""), "and the level");
    assert!(!served.log().contains("canary-key"));
    let said = served.reload("[budget]\nper_job_credits = 0\n");
    assert!(said.contains("budget.per_job_credits") && !said.contains("waits for a restart"), "{said}");
    assert_eq!(served.post("/v1/jobs", &order("a lake")).await.0, 202);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_configuration_changes_nothing_and_every_mistake_is_logged() {
    let served = Served::start("[budget]\nper_job_credits = 1\n").await;
    for (wrong, mistakes) in [
        (
            "[budgets]\nper_job_credits = 0\n[poll]\njitter = 7.0\n",
            &["budgets.per_job_credits", "poll.jitter", ":12"][..],
        ),
        ("[budget\n", &["is not TOML"]),
        ("[sinks.app]\ntype = \"webhook\"\n", &["sinks.app.url"]),
    ] {
        let said = served.reload(wrong);
        assert!(said.contains("\"level\":\"ERROR\"") && said.contains("changes nothing"), "{said}");
        assert!(mistakes.iter().all(|mistake| said.contains(mistake)), "{mistakes:?}: {said}");
        assert_eq!(served.post("/v1/jobs", &order("a lake")).await.0, 402, "the old budget stands");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_limits_and_networks_are_taken_over() {
    let served = Served::start("").await;
    let notify = |url: &str| {
        let mut order = order("a lake");
        order["notify"] = json!([{ "url": url }]);
        order
    };
    let private = notify("http://127.0.0.1:9/hook");
    assert_eq!(served.post("/v1/jobs", &private).await.0, 422);
    served.reload("[egress]\nallow = [\"127.0.0.0/8\"]\n");
    assert_eq!(served.post("/v1/jobs", &private).await.0, 202);
    served.reload(
        "[auth]\nbootstrap_admin_key = \"a long enough key of a test\"\n[api]\nrate_limit_per_minute = 1\n",
    );
    assert_eq!(served.post("/v1/jobs", &private).await.0, 401);
    let asked = async || {
        let request = client().get(served.process.url("/v1/jobs")).bearer_auth("a long enough key of a test");
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!([asked().await, asked().await], [200, 429]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_waits_for_room_at_the_provider_is_sent_once_a_reload_makes_more() {
    more_room_is_used(None).await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_it_is_where_instances_share_the_limit() {
    let server = database::Server::start();
    more_room_is_used(Some(server.database())).await;
}

async fn more_room_is_used(database: Option<Database>) {
    const LONG: Duration = Duration::from_hours(1);
    let world = World::with(|config| {
        config.database = database;
        config.upstream.max_in_flight = 1;
        config.poll = Poll {
            first_after: LONG,
            overdue_after: LONG,
            interval: LONG,
            max_interval: LONG,
            jitter: 0.0,
            give_up_after: 24 * LONG,
        };
    })
    .await;
    let first = world.submit("a lake [[delay:24h]] [[no-callback]]").await;
    world.until(&first, |job| job["phase"] == "awaiting").await;
    let second = world.submit("a lake").await;
    // Meanwhile its lane finds that there is no room.
    let waiting = world.get(&format!("/v1/jobs/{second}?wait=1s")).await;
    assert_eq!(waiting["phase"], "queued", "{waiting:#}");
    let mut config = Config::clone(&world.server().app().config());
    config.upstream.max_in_flight = 2;
    world.server().reload(config).await.unwrap();
    world.until(&second, |job| job["phase"] != "queued" && job["phase"] != "sending").await;
    assert_eq!((world.charges(&first), world.charges(&second)), (1, 1));
}
