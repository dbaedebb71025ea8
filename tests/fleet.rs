//! Three servers, as processes of their own, on one PostgreSQL and one bucket: one is killed, one is stopped in good order, and
//! each is restarted in its turn, while jobs go on; every one succeeds once, with files that each server hands out.

#![cfg(all(feature = "postgres", feature = "s3"))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/postgres.rs"]
mod database;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "cluster/relay.rs"]
mod relay;
#[path = "support/seaweed.rs"]
mod seaweed;
mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::TcpListener,
    process::Command,
};

use futures_util::TryStreamExt as _;
use object_store::{ObjectStore as _, ObjectStoreExt as _};
use reelhook::{
    config::Database,
    sandbox::{self, Options, Sandbox},
};
use relay::Relay;
use seaweed::Seaweed;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use support::{PATIENCE, Process, SPEED, charges, client, configure, free_port, has_ended, order};
use tempfile::TempDir;

/// What they are called, and how each hands files out.
const SERVERS: [(&str, &str); 3] = [("one", "proxy"), ("two", "redirect"), ("three", "redirect")];

/// Each takes some other time and way.
const SCENES: [&str; 12] = [
    "[[delay:120s]] a fox",
    "[[size:1MiB]] [[slow-download:400kB]] a glacier",
    "[[no-callback]] a kite",
    "[[dup-callback:3]] a ferry",
    "[[delay:500s]] a mill",
    "[[early-callback]] a lamp",
    "[[size:6MiB]] a whale",
    "[[progress-callbacks]] a heron",
    "[[reset:40%]] a bridge",
    "[[url-404:1]] a door",
    "[[lying-callback]] a bell",
    "[[size:1MiB]] [[slow-download:400kB]] [[no-callback]] a river",
];

struct Fleet {
    sandbox: Sandbox,
    _server: database::Server,
    database: Database,
    bucket: Seaweed,
    dir: TempDir,
    callbacks: [u16; 3],
    /// From the port that the provider knows to whoever listens.
    balancer: Relay,
}

impl Fleet {
    async fn set() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sandbox = sandbox::start(listener, Options { speed: SPEED, seed: 11 }).await.unwrap();
        let server = database::Server::start();
        let database = server.database();
        let (dir, callbacks) = (tempfile::tempdir().unwrap(), SERVERS.map(|_| free_port()));
        fs::write(dir.path().join("s3"), seaweed::KEY).unwrap();
        let (bucket, balancer) = (Seaweed::start().await, Relay::start(callbacks.into()).await);
        Self { sandbox, _server: server, database, bucket, dir, callbacks, balancer }
    }

    async fn serve(&self, nth: usize) -> Process {
        let ((name, serve), api) = (SERVERS[nth], free_port());
        let (store, public) = (self.database.url.expose_secret(), self.balancer.port);
        let (endpoint, videos) = (self.bucket.endpoint(), seaweed::BUCKET);
        let more = format!(
            r#"
            server.instance = "{name}"
            callback.public_url = "http://127.0.0.1:{public}"
            store.url = "{store}"
            upstream.max_in_flight = 100
            [storage]
            url = "s3://{videos}/team"
            endpoint = "{endpoint}"
            credentials_file = "s3"
            spool = "spool-{name}"
            serve = "{serve}"
            "#
        );
        let file = format!("{name}.toml");
        configure(self.dir.path(), &file, self.sandbox.url().as_str(), api, self.callbacks[nth], &more);
        let mut command = Command::new(env!("CARGO_BIN_EXE_reelhook"));
        Process::run(command.args(["serve", "--config", &file]), self.dir.path(), api).await
    }

    /// The files in the bucket, but for those that are the servers' own.
    async fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let (client, mut files) = (self.bucket.client(), BTreeMap::new());
        for object in client.list(None).try_collect::<Vec<_>>().await.unwrap() {
            if !object.location.as_ref().contains(".reelhook/") {
                let content = client.get(&object.location).await.unwrap().bytes().await.unwrap();
                files.insert(object.location.to_string(), content.into());
            }
        }
        files
    }
}

/// Jobs that were ordered, each by a key of its own.
#[derive(Default)]
struct Orders(Vec<String>);

impl Orders {
    /// Orders so many more at these servers in turn.
    async fn more(&mut self, count: usize, servers: &[&Process]) {
        for nth in self.0.len()..self.0.len() + count {
            self.0.push(place(servers[nth % servers.len()], nth).await);
        }
    }

    /// Orders everything once more at one server: it answers with what there is.
    async fn again(&self, server: &Process) {
        for (nth, id) in self.0.iter().enumerate() {
            assert_eq!(&place(server, nth).await, id);
        }
    }
}

async fn ended_well(server: &mut Process) {
    let ended = server.ended_within(PATIENCE).await.expect("it ends");
    assert!(ended.success(), "{ended}");
}

async fn place(server: &Process, nth: usize) -> String {
    let body = order(&format!("{} {nth}", SCENES[nth % SCENES.len()]));
    let request = client().post(server.url("/v1/jobs")).header("idempotency-key", format!("order-{nth}"));
    let job: Value = request.json(&body).send().await.unwrap().json().await.unwrap();
    job["id"].as_str().unwrap_or_else(|| panic!("refused: {job}")).to_owned()
}

/// The bucket has what the record says, and its manifest the same; how these files are called there.
fn assert_stored(job: &Value, bucket: &BTreeMap<String, Vec<u8>>) -> [String; 2] {
    let file = &job["files"][0];
    let location = location(file);
    let manifest = format!("{}.json", location.strip_suffix(".mp4").unwrap());
    let content = &bucket[&location];
    assert_eq!(file["bytes"], content.len(), "{job:#}");
    assert_eq!(file["sha256"], hex::encode(Sha256::digest(content)), "{job:#}");
    let told: Value = serde_json::from_slice(&bucket[&manifest]).unwrap();
    assert_eq!(told["job_id"], job["id"], "{told:#}");
    for what in ["location", "bytes", "sha256"] {
        assert_eq!(told["files"][0][what], file[what], "{what}: {told:#}");
    }
    [location, manifest]
}

/// Where the bucket has a file.
fn location(file: &Value) -> String {
    format!("team/{}", file["location"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_on_one_database_and_one_bucket_die_stop_and_restart_and_every_job_is_stored_once() {
    let fleet = Fleet::set().await;
    let [one, mut two, three] = [fleet.serve(0).await, fleet.serve(1).await, fleet.serve(2).await];
    let mut orders = Orders::default();
    orders.more(28, &[&one, &two, &three]).await;
    // A call that a kill cuts short may be held for a person; `instances.rs` has that.
    for id in &orders.0 {
        three.until(id, |job| !matches!(job["phase"].as_str(), Some("queued" | "sending"))).await;
    }
    let mut open = 0;
    for id in &orders.0 {
        open += usize::from(!has_ended(&three.get(&format!("/v1/jobs/{id}")).await));
    }
    three.kill();
    assert!(open > 0, "it was killed too late to prove anything");
    orders.more(8, &[&one, &two]).await;
    two.terminate();
    ended_well(&mut two).await;
    orders.again(&one).await;
    let two = fleet.serve(1).await;
    let mut servers = [one, two, fleet.serve(2).await];
    for nth in 0..servers.len() {
        let [next, last] = [1, 2].map(|turns| (nth + turns) % servers.len());
        orders.more(6, &[&servers[nth], &servers[next], &servers[last]]).await;
        servers[nth].terminate();
        orders.more(2, &[&servers[next], &servers[last]]).await;
        ended_well(&mut servers[nth]).await;
        servers[nth] = fleet.serve(nth).await;
    }

    let mut jobs = Vec::new();
    for (nth, id) in orders.0.iter().enumerate() {
        let job = servers[nth % servers.len()].until(id, has_ended).await;
        let charged = charges(&fleet.sandbox.ledger(), id);
        assert_eq!((&job["status"], charged), (&"succeeded".into(), 1), "{job:#}");
        jobs.push(job);
    }
    let creates = fleet.sandbox.ledger().creates;
    assert_eq!(creates.len(), jobs.len(), "one job a call: {creates:#?}");
    assert!(creates.iter().all(|call| call.accepted && call.count == 1), "{creates:#?}");
    let ended = servers[0].get("/v1/events?types=job.succeeded&limit=250").await;
    let ended: Vec<_> =
        ended["data"].as_array().unwrap().iter().map(|event| event["job_id"].as_str().unwrap()).collect();
    assert_eq!(
        (ended.len(), BTreeSet::from_iter(ended).len()),
        (jobs.len(), jobs.len()),
        "each came to its end once"
    );

    let bucket = fleet.files().await;
    let stored: BTreeSet<_> = jobs.iter().flat_map(|job| assert_stored(job, &bucket)).collect();
    assert_eq!(bucket.keys().cloned().collect::<BTreeSet<_>>(), stored, "nothing else lies there");
    for job in &jobs {
        let file = &job["files"][0];
        let path =
            format!("/v1/jobs/{}/files/{}", job["id"].as_str().unwrap(), file["name"].as_str().unwrap());
        let content = &bucket[&location(file)];
        for (server, (_, serve)) in servers.iter().zip(SERVERS) {
            let answer = client().get(server.url(&path)).send().await.unwrap();
            let redirected = answer.url().as_str() != server.url(&path);
            assert_eq!(redirected, serve == "redirect", "{}", answer.url());
            assert!(answer.bytes().await.unwrap() == *content, "{path}");
        }
    }
}
