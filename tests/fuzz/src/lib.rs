//! What the fuzz targets share: a server whose routes are called in this process, without a socket between, and inputs
//! that a person can read and write.

use std::{
    net::TcpListener,
    rc::Rc,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use actix_web::{
    App,
    body::{self, MessageBody},
    http::header::{HeaderMap, HeaderName, HeaderValue},
    rt,
    test::{TestRequest, init_service, try_call_service},
    web::{Bytes, Data, ServiceConfig},
};
use futures_util::future::LocalBoxFuture;
use reelhook::{
    clock::Clock,
    config::Config,
    doctor::Doctor,
    inbound::{Context, Feed, Keys, Limits},
    live::Live,
    outbound::{archive::Archive, deliver::Sinks, egress::Guard, upstream::Upstream},
    runner::Retainer,
    sandbox::{self, Options, Sandbox},
    server::{Listeners, Server},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// How many times faster than in life the sandbox works.
const SPEED: f64 = 200.0;

/// An answer as a whole.
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

type Call = Box<dyn Fn(TestRequest) -> LocalBoxFuture<'static, Answer>>;

/// A server with its sandbox, and the routes of one of its listeners.
pub struct House {
    here: rt::Runtime,
    call: Call,
    server: Server,
    _background: tokio::runtime::Runtime,
    _sandbox: Sandbox,
    _dir: TempDir,
}

impl House {
    /// Starts a server that `adjust` configures; `routes` are the ones that [`ask`](Self::ask) reaches.
    pub fn new(adjust: impl FnOnce(&mut Config), routes: fn(&mut ServiceConfig)) -> Self {
        let background = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let background = background.expect("a runtime");
        let dir = tempfile::tempdir().expect("a folder");
        let (server, sandbox, context) = background.block_on(start(&dir, adjust));
        let here = rt::Runtime::new().expect("a runtime");
        let app = App::new().app_data(Data::from(Arc::new(context))).configure(routes);
        let app = Rc::new(here.block_on(init_service(app)));
        let call: Call = Box::new(move |request| {
            let app = Rc::clone(&app);
            Box::pin(async move {
                match try_call_service(&*app, request.to_request()).await {
                    Ok(answer) => whole(answer.into_parts().1).await,
                    Err(error) => whole(error.as_response_error().error_response()).await,
                }
            })
        });
        Self { here, call, server, _background: background, _sandbox: sandbox, _dir: dir }
    }

    /// The server.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Asks for this, on this machine's own behalf.
    pub fn ask(&self, request: TestRequest) -> Answer {
        self.here.block_on((self.call)(request.insert_header(("host", "localhost"))))
    }

    /// Asks for this and reads the JSON that comes.
    pub fn json(&self, request: TestRequest) -> Value {
        serde_json::from_slice(&self.ask(request).body).expect("JSON")
    }

    /// Submits a job; its id. Only where the API's routes are.
    pub fn submit(&self) -> String {
        let order = json!({ "input": { "model": "kling-3", "prompt": "a bell", "duration": 3 } });
        let job = self.json(TestRequest::post().uri("/v1/jobs").set_json(order));
        job["id"].as_str().unwrap_or_else(|| panic!("refused: {job}")).to_owned()
    }
}

async fn start(dir: &TempDir, adjust: impl FnOnce(&mut Config)) -> (Server, Sandbox, Context) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let sandbox = sandbox::start(listener, Options { speed: SPEED, seed: 7 }).await.expect("a sandbox");
    let mut config = Config::for_dev(dir.path(), &sandbox.url(), SPEED);
    config.server.listen = ([127, 0, 0, 1], 0).into();
    config.callback.listen = ([127, 0, 0, 1], 0).into();
    (config.storage.min_free, config.store.min_free) = (0, 0);
    config.server.shutdown_grace = Duration::from_secs(1);
    adjust(&mut config);
    let listeners = Listeners::bind(&config).expect("ports");
    let archive = Arc::new(Archive::open(&config.storage).await.expect("an archive"));
    let keys = Keys::load(&config).expect("no keys");
    let server = Server::start(config, Clock::system(), listeners).await.expect("a server");
    let stop = CancellationToken::new();
    let app = Arc::clone(server.app());
    let (config, clock) = (app.config(), app.clock().clone());
    let guard = Guard::new(config.egress.allow.clone());
    let secret = app.delivery_secret().await.expect("a secret");
    let sinks = Sinks::new(&config, &secret, guard.clone(), clock.clone()).expect("sinks");
    let upstream = Upstream::new(&config.upstream, clock).expect("a client");
    let (sinks, upstream) = (Arc::new(Live::new(sinks)), Arc::new(Live::new(upstream)));
    let context = Context {
        app: Arc::clone(&app),
        archive: Arc::clone(&archive),
        backup: None,
        retainer: Arc::new(Retainer::new(Arc::clone(&app), Arc::clone(&archive))),
        doctor: Doctor::new(app, archive, upstream, Arc::clone(&sinks)),
        sinks,
        keys: Arc::new(Live::new(keys)),
        guard,
        // Every input is a callback, and what is asked about is not how many there may be.
        limits: Limits::new(&reelhook::config::Callback {
            rate_limit_per_minute: u32::MAX,
            miss_limit_per_minute: u32::MAX,
            ..config.callback.clone()
        }),
        certificates: Arc::default(),
        feed: Feed::start(Arc::clone(server.app()), stop.clone()),
        stop,
        ready: Arc::new(AtomicBool::new(true)),
    };
    (server, sandbox, context)
}

async fn whole<B: MessageBody>(answer: actix_web::HttpResponse<B>) -> Answer {
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let body = body::to_bytes(answer.into_body()).await;
    let Ok(body) = body else { panic!("the answer with status {status} broke off") };
    Answer { status, headers, body }
}

/// An input that is written like a request: a line, headers, an empty line, a body.
pub struct Written<'a> {
    /// The first line.
    pub line: &'a str,
    /// The headers that can be headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What follows the empty line.
    pub body: &'a [u8],
}

impl<'a> Written<'a> {
    /// Reads an input; `replace` is applied to the header lines. None if the head is not text.
    pub fn read(input: &'a [u8], replace: impl Fn(&str) -> String) -> Option<Self> {
        let end = input.windows(2).position(|two| two == b"\n\n");
        let (head, body) = end.map_or((input, &[][..]), |at| (&input[..at], &input[at + 2..]));
        let mut lines = std::str::from_utf8(head).ok()?.split('\n');
        let line = lines.next()?;
        let header = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            Some((name.parse().ok()?, HeaderValue::from_str(&replace(value)).ok()?))
        };
        Some(Self { line, headers: lines.filter_map(header).collect(), body })
    }

    /// A request with these headers and this body.
    pub fn request(&self) -> TestRequest {
        let request = TestRequest::default().set_payload(self.body.to_vec());
        self.headers.iter().fold(request, |request, header| request.append_header(header.clone()))
    }
}
