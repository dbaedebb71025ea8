//! What the team's own app hears, over real sockets: each event once in effect, whatever fails on the way.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, dev::ServerHandle, http::StatusCode, web};
use reelhook::{
    config::{Config, Format, Sink, Target},
    lifecycle::EventKind,
};
use reqwest::header::HeaderMap;
use secrecy::SecretString;
use serde_json::{Value, json};
use support::{PATIENCE, World, order};

const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// `webhook-id` and body.
type Told = (String, Vec<u8>);

/// The team's app: it notes what it is told, and answers as a test has it.
struct Receiver {
    url: String,
    told: Arc<Mutex<Vec<Told>>>,
    status: Arc<AtomicU16>,
    changed: Arc<tokio::sync::Notify>,
    server: ServerHandle,
}

impl Receiver {
    async fn start() -> Self {
        let (told, status) = (Arc::<Mutex<Vec<_>>>::default(), Arc::new(AtomicU16::new(200)));
        let changed = Arc::<tokio::sync::Notify>::default();
        let shared = (Arc::clone(&told), Arc::clone(&status), Arc::clone(&changed));
        let server = HttpServer::new(move || {
            let shared = shared.clone();
            App::new().default_service(web::to(move |request: HttpRequest, body: web::Bytes| {
                let (told, status, changed) = shared.clone();
                async move {
                    let headers: HeaderMap = request
                        .headers()
                        .iter()
                        .map(|(name, value)| {
                            let name =
                                reqwest::header::HeaderName::from_bytes(name.as_str().as_bytes()).unwrap();
                            (name, reqwest::header::HeaderValue::from_bytes(value.as_bytes()).unwrap())
                        })
                        .collect();
                    let verified = standardwebhooks::Webhook::new(SECRET).unwrap().verify(&body, &headers);
                    verified.unwrap_or_else(|error| panic!("{error}: {headers:?}"));
                    let id = headers["webhook-id"].to_str().unwrap().to_owned();
                    told.lock().unwrap().push((id, body.to_vec()));
                    changed.notify_one();
                    HttpResponse::new(StatusCode::from_u16(status.load(Ordering::SeqCst)).unwrap())
                }
            }))
        })
        .workers(1)
        .bind("127.0.0.1:0")
        .unwrap();
        let url = format!("http://{}/hooks", server.addrs()[0]);
        let server = server.run();
        let handle = server.handle();
        tokio::spawn(server);
        Self { url, told, status, changed, server: handle }
    }

    fn answers(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap().clone()
    }

    /// What was told, once it is so much.
    async fn heard(&self, times: usize) -> Vec<Told> {
        let enough = async {
            while self.told().len() < times {
                self.changed.notified().await;
            }
        };
        tokio::time::timeout(PATIENCE, enough).await.unwrap_or_else(|_| panic!("{:?}", self.told().len()));
        self.told()
    }

    fn sink(&self) -> Sink {
        Sink {
            target: Target::Webhook {
                url: self.url.parse().unwrap(),
                secrets: vec![SecretString::from(SECRET)],
                headers: HeaderMap::new(),
            },
            events: vec![EventKind::Succeeded, EventKind::Failed],
            format: Format::Standard,
            timeout: Duration::from_secs(5),
            concurrency: 4,
        }
    }
}

fn told_by(receiver: &Receiver) -> impl FnOnce(&mut Config) {
    let sink = receiver.sink();
    move |config| {
        config.sinks = BTreeMap::from([("app".to_owned(), sink)]);
        config.delivery.schedule = vec![Duration::ZERO; 3];
        config.delivery.secret = Some(SecretString::from(SECRET));
    }
}

/// The job's deliveries, once all of them stand so.
async fn settled(world: &World, job: &str, state: &str) -> Vec<Value> {
    let mut wake = world.server().app().store().wake();
    loop {
        wake.mark_unchanged();
        let page = world.get(&format!("/v1/deliveries?job={job}")).await;
        let all = page["data"].as_array().unwrap_or_else(|| panic!("{page}")).clone();
        if !all.is_empty() && all.iter().all(|delivery| delivery["state"] == state) {
            return all;
        }
        tokio::time::timeout(PATIENCE, wake.changed()).await.unwrap_or_else(|_| panic!("{all:#?}")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_creates_a_job_is_told_at_once_what_is_owed_for_it() {
    let app = Receiver::start().await;
    let told_of_it = told_by(&app);
    let world = World::with(|config| {
        told_of_it(config);
        config.sinks.get_mut("app").unwrap().events = vec![EventKind::Created];
    })
    .await;
    let created = world.post("/v1/jobs", &order("a loom")).await;
    assert_eq!(created["deliveries"], json!({ "total": 1, "succeeded": 0, "pending": 1, "exhausted": 0 }));
    assert_eq!(created["input"]["prompt"], "a loom");
    settled(&world, created["id"].as_str().unwrap(), "succeeded").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_app_is_told_of_a_video_as_the_api_shows_it() {
    let app = Receiver::start().await;
    let world = World::with(told_by(&app)).await;
    let id = world.submit("a kiln").await;
    let (event_id, body) = app.heard(1).await.remove(0);
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["type"], "job.succeeded");
    let delivery = settled(&world, &id, "succeeded").await.remove(0);
    assert_eq!((&delivery["event_id"], &delivery["sink"]), (&json!(event_id), &json!("app")));
    assert_eq!(delivery["tries"][0]["outcome"], "delivered");
    let job = world.get(&format!("/v1/jobs/{id}")).await;
    for member in ["id", "revision", "status", "input", "metadata", "cost", "finished_at", "attempts"] {
        assert_eq!(body["data"]["job"][member], job[member], "{member}");
    }
    assert_eq!(job["deliveries"], json!({ "total": 1, "succeeded": 1, "pending": 0, "exhausted": 0 }));
    let link = body["data"]["job"]["files"][0]["url"].as_str().unwrap();
    assert_eq!(world.http.get(link).send().await.unwrap().status(), 200, "without a key");
    assert_eq!(world.timeline(&id).await.last().unwrap(), "delivery.succeeded");
    let page = world.http.get(world.url(&format!("/jobs/{id}"))).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("Deliveries") && page.contains("app"), "{page}");
    app.server.stop(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_fails_and_comes_back_hears_of_everything_under_the_same_id() {
    let app = Receiver::start().await;
    app.answers(500);
    let mut world = World::with(told_by(&app)).await;
    let id = world.submit("a kiln").await;
    let delivery = settled(&world, &id, "exhausted").await.remove(0);
    assert_eq!((&delivery["attempts"], delivery["tries"].as_array().unwrap().len()), (&json!(3), 3));
    app.answers(200);
    world.stop_server().await;
    world.start_server().await;
    let path = format!("/v1/deliveries/{}/retry", delivery["id"].as_str().unwrap());
    assert_eq!(world.post(&path, &json!({})).await["state"], "pending");
    settled(&world, &id, "succeeded").await;
    let told = app.told();
    assert_eq!(told.len(), 4);
    assert!(told.iter().all(|one| *one == told[0]), "the same id and the same bytes, over a restart");
    app.server.stop(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disabled_sink_says_so_and_is_recovered() {
    let app = Receiver::start().await;
    app.answers(410);
    let world = World::with(told_by(&app)).await;
    let first = world.submit("a kiln").await;
    settled(&world, &first, "exhausted").await;
    let second = world.submit("a wheel").await;
    let left = settled(&world, &second, "exhausted").await.remove(0);
    assert_eq!(left["attempts"], 0);
    assert!(left["why"].as_str().unwrap().contains("disabled"), "{left}");
    let sink = world.get("/v1/sinks").await["data"][0].clone();
    assert!(sink["disabled_at"].is_string() && sink["name"] == "app", "{sink}");
    let event = world.get("/v1/events?types=sink.disabled").await["data"][0].clone();
    assert_eq!((&event["job_id"], &event["revision"]), (&Value::Null, &Value::Null));
    app.answers(200);
    let replayed = world.post("/v1/sinks/app/recover", &json!({ "since": "2020-01-01T00:00:00Z" })).await;
    assert_eq!(replayed["replayed"], 2);
    for job in [first, second] {
        settled(&world, &job, "succeeded").await;
    }
    let metrics = world.http.get(world.url("/metrics")).send().await.unwrap().text().await.unwrap();
    for figure in
        ["reelhook_deliveries_total{sink=\"app\",outcome=\"delivered\"}", "reelhook_deliveries_pending "]
    {
        assert!(metrics.contains(figure), "{figure} in {metrics}");
    }
    app.server.stop(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_of_the_job_is_told_and_its_secret_is_shown_nowhere() {
    let app = Receiver::start().await;
    let world = World::with(|config| config.delivery.schedule = vec![Duration::ZERO]).await;
    let mut body = order("a kiln");
    body["notify"] = json!([{ "url": app.url, "secret": SECRET }]);
    let job = world.post("/v1/jobs", &body).await;
    let id = job["id"].as_str().unwrap_or_else(|| panic!("{job}")).to_owned();
    app.heard(1).await;
    let deliveries = settled(&world, &id, "succeeded").await;
    assert!(deliveries[0]["sink"].as_str().unwrap().starts_with("notify:127.0.0.1"), "{deliveries:?}");
    for shown in
        [json!(deliveries), world.get(&format!("/v1/jobs/{id}")).await, world.get("/v1/events").await]
    {
        assert!(!shown.to_string().contains("MDEyMzQ1"), "{shown}");
    }
    app.server.stop(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_that_may_not_be_called_makes_no_job() {
    let world = World::idle(|config| config.egress.allow.clear()).await;
    let mut body = order("a kiln");
    body["notify"] = json!([
        { "url": "https://app.example.com/hooks" },
        { "url": "http://10.0.0.1/x" },
        { "url": "https://app.example.com", "secret": "whsec_short", "extra": 1 },
        { "secret": SECRET },
    ]);
    let answer = world.http.post(world.url("/v1/jobs")).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 422);
    let problem: Value = answer.json().await.unwrap();
    let pointers: Vec<_> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["pointer"].as_str().unwrap())
        .collect();
    assert!(pointers.contains(&"/notify/1/url") && pointers.contains(&"/notify/3/url"), "{problem:#}");
    assert_eq!(world.get("/v1/jobs").await["data"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_of_a_sink_tells_what_came_of_it() {
    let app = Receiver::start().await;
    let world = World::with(told_by(&app)).await;
    let answer = world.post("/v1/sinks/app/test", &json!({})).await;
    assert_eq!(answer["attempt"]["outcome"], "delivered", "{answer}");
    let told: Value = serde_json::from_slice(&app.told()[0].1).unwrap();
    assert_eq!(told["type"], "ping");
    app.answers(503);
    let answer = world.post("/v1/sinks/app/test", &json!({})).await;
    assert_eq!((&answer["attempt"]["outcome"], &answer["attempt"]["code"]), (&json!("failed"), &json!(503)));
    let unknown = world.http.post(world.url("/v1/sinks/nobody/test")).json(&json!({})).send().await.unwrap();
    assert_eq!(unknown.status(), 404);
    assert_eq!(world.get("/v1/events").await["data"], json!([]), "nothing of it is kept");
    app.server.stop(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_is_told_of_silent_callbacks_and_of_budgets_as_well() {
    let receiver = Receiver::start().await;
    let events = vec![EventKind::CallbackSilent, EventKind::BudgetThreshold];
    let mut world = World::with(|config| {
        config.sinks.insert("app".into(), Sink { events, ..receiver.sink() });
        config.budget.daily_credits = 1_000; // five jobs and a half
    })
    .await;
    for _ in 0..5 {
        let id = world.submit("[[no-callback]] a boat").await;
        world.ended(&id).await;
    }
    for _ in 0..2 {
        assert_eq!(world.post("/v1/jobs", &order("one too many")).await["code"], "budget-exceeded");
        world.stop_server().await;
        world.start_server().await;
    }
    let mut told: Vec<Value> =
        receiver.heard(3).await.iter().map(|(_, body)| serde_json::from_slice(body).unwrap()).collect();
    told.sort_by_key(|body| body["data"]["percent"].as_u64());
    let threshold = |percent: u64, booked: u64| {
        let data = json!({ "period": "daily", "percent": percent, "booked": booked, "limit": 1_000 });
        json!({ "type": "budget.threshold", "data": data })
    };
    let expected =
        [json!({ "type": "callback.silent", "data": {} }), threshold(80, 900), threshold(100, 900)];
    for (body, expected) in told.iter().zip(expected) {
        assert_eq!(json!({ "type": body["type"], "data": body["data"] }), expected);
        assert!(body["timestamp"].is_string() && body.as_object().unwrap().len() == 3, "{body}");
    }
    let log = world.get("/v1/events?types=budget.threshold").await;
    assert_eq!(log["data"].as_array().unwrap().len(), 2, "each once a day: {log}");
    let deliveries = world.get("/v1/deliveries").await;
    let deliveries = deliveries["data"].as_array().unwrap();
    assert!(
        deliveries.len() == 3 && deliveries.iter().all(|owed| owed["job_id"].is_null()),
        "{deliveries:?}"
    );
    world.stop_server().await;
    receiver.server.stop(true).await;
}
