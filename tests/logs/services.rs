//! The secrets to the services beside a server (database, bucket, broker, collector, the URL that a job brings along): each is
//! used, by a server that is a process of its own, and none is in what that logs at its most talkative.

use std::{collections::BTreeSet, fs, net::TcpListener, sync::Arc};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use async_nats::{ConnectOptions, Subscriber, jetstream};
use futures_util::StreamExt as _;
use reelhook::config::Database;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    database,
    nats_server::NatsServer,
    seaweed::{self, Seaweed},
    support::{PATIENCE, client, has_ended, order, stage::Stage},
};

const DATABASE: &str = "canary-database-password-0123456789";
const BUS: &str = "canary-bus-token-0123456789";
const COLLECTOR: &str = "canary-collector-key-0123456789";
const NOTIFY: &str = "canary-notify-secret-0123456789";

/// A collector and a receiver of webhooks: it takes everything, and knows the paths and the keys that came with it.
struct Taker {
    port: u16,
    came: watch::Receiver<BTreeSet<(String, Option<String>)>>,
}

impl Taker {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell, came) = watch::channel(BTreeSet::new());
        let tell = Arc::new(tell);
        let app = move || {
            let tell = Arc::clone(&tell);
            App::new().default_service(web::to(move |request: HttpRequest| {
                let key = request.headers().get("x-api-key").map(|key| key.to_str().unwrap().to_owned());
                tell.send_modify(|came| came.extend([(request.path().to_owned(), key)]));
                async { HttpResponse::Ok().finish() }
            }))
        };
        tokio::spawn(HttpServer::new(app).workers(1).disable_signals().listen(listener).unwrap().run());
        Self { port, came }
    }

    /// Waits until something came to this path, with this key.
    async fn until(&mut self, path: &str, key: Option<&str>) {
        let wanted = (path.to_owned(), key.map(str::to_owned));
        let came = tokio::time::timeout(PATIENCE, self.came.wait_for(|came| came.contains(&wanted)));
        came.await.unwrap_or_else(|_| panic!("nothing came to {path}")).unwrap();
    }
}

/// A database that wants a password.
fn locked(server: &database::Server) -> Database {
    let database = server.database();
    let rules = server.sql(&database, "SHOW hba_file");
    server.sql(&database, &format!("ALTER ROLE postgres PASSWORD '{DATABASE}'"));
    let rule = "host all all 127.0.0.1/32 scram-sha-256";
    server.sql(&database, &format!("COPY (SELECT '{rule}') TO '{rules}'; SELECT pg_reload_conf()"));
    database
}

/// A broker that wants a token, with a stream of what is told, and who listens to it.
async fn bus() -> (NatsServer, Subscriber) {
    let server = NatsServer::with(&["--auth", BUS]);
    let client = ConnectOptions::with_token(BUS.to_owned()).connect(server.url()).await.unwrap();
    let (name, subjects) = ("VIDEOS".to_owned(), vec!["reelhook.>".to_owned()]);
    let stream = jetstream::stream::Config { name, subjects, ..Default::default() };
    let told = client.subscribe("reelhook.>").await.unwrap();
    jetstream::new(client).create_stream(stream).await.unwrap();
    (server, told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_opens_database_bucket_bus_collector_and_a_jobs_own_url_is_never_logged() {
    let (postgres, bucket, mut taker) = (database::Server::start(), Seaweed::start().await, Taker::start());
    let (bus, mut told) = bus().await;
    let there = format!("http://127.0.0.1:{}", taker.port);
    let more = format!(
        r#"
        log = {{ level = "trace", format = "json" }}
        store = {{ url = "{}", password = "{DATABASE}" }}
        storage = {{ url = "s3://{}/team", endpoint = "{}", credentials = "{}", spool = "spool" }}
        otel = {{ endpoint = "{there}", headers = ["x-api-key: {COLLECTOR}"] }}
        [sinks.bus]
        type = "nats"
        server = "{}"
        subject = "reelhook.{{type}}"
        credentials = "{BUS}"
        "#,
        locked(&postgres).url.expose_secret(),
        seaweed::BUCKET,
        bucket.endpoint(),
        seaweed::KEY,
        bus.url()
    );
    let stage = Stage::set(&more).await;
    let mut server = stage.serve().await;

    let mut job = order("a locked harbour");
    job["notify"] = json!([{ "url": format!("{there}/mine"), "secret": NOTIFY }]);
    let job: Value =
        client().post(server.url("/v1/jobs")).json(&job).send().await.unwrap().json().await.unwrap();
    let id = job["id"].as_str().unwrap_or_else(|| panic!("{job}")).to_owned();
    assert_eq!(server.until(&id, has_ended).await["status"], "succeeded");
    taker.until("/mine", None).await;
    let event = tokio::time::timeout(PATIENCE, told.next()).await.expect("the bus is told").unwrap();
    assert_eq!(event.subject.as_str(), "reelhook.job.succeeded");
    server.terminate();
    assert!(server.ended_within(PATIENCE).await.expect("it ends").success());
    taker.until("/v1/traces", Some(COLLECTOR)).await;

    let log = fs::read_to_string(stage.path("log")).unwrap();
    assert!(log.contains(r#""level":"TRACE""#) && log.contains("job succeeded"), "something was logged");
    let (_, bucket_secret) = seaweed::KEY.split_once(':').unwrap();
    for secret in [DATABASE, BUS, COLLECTOR, NOTIFY, bucket_secret] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret}");
    }
}
