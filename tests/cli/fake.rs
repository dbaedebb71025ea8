//! A server that answers as a test tells it to and remembers what it was asked, and the command that asks.

use std::{
    io,
    net::TcpListener,
    sync::{Arc, Mutex, mpsc},
    thread,
};

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer,
    body::SizedStream,
    dev::ServerHandle,
    http::StatusCode,
    web::{self, Bytes},
};
use assert_cmd::Command;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

pub(crate) const ID: &str = "job_0192f0c1a2b37c4d8e5f60718293a4b5";

/// The command with an empty environment, talking to `server`.
pub(crate) fn reelhook(server: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reelhook"));
    command.env_clear().env("REELHOOK_SERVER", server);
    command
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// `GET /v1/jobs?limit=50`
    pub(crate) line: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Value,
    pub(crate) raw: Vec<u8>,
    /// How many requests had the same method and path before.
    pub(crate) nth: usize,
}

impl Call {
    /// Method and path without the query.
    pub(crate) fn route(&self) -> &str {
        self.line.split('?').next().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What to answer.
pub(crate) enum Answer {
    /// A whole response.
    Whole { status: u16, headers: Vec<(&'static str, String)>, body: Vec<u8> },
    /// Promises `length` bytes, sends these and breaks the connection.
    Broken { length: u64, body: Vec<u8> },
    /// Never.
    Silence,
}

impl Answer {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        let headers = vec![("content-type", "application/json".to_owned())];
        Self::Whole { status, headers, body: body.to_string().into_bytes() }
    }

    pub(crate) fn problem(status: u16, code: &str, detail: &str) -> Self {
        let body = json!({
            "type": format!("/problems/{code}"), "title": code, "status": status, "code": code, "detail": detail,
        });
        Self::json(status, &body)
    }

    /// A stream of server-sent events that ends after these.
    pub(crate) fn stream(messages: &[(&str, Option<u64>, Value)]) -> Self {
        let headers = vec![("content-type", "text/event-stream".to_owned())];
        let text = messages.iter().map(|(name, id, data)| {
            let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
            format!(": heartbeat\n\nevent: {name}\n{id}data: {data}\n\n")
        });
        Self::Whole { status: 200, headers, body: text.collect::<String>().into_bytes() }
    }

    /// A job with its revision as entity tag.
    pub(crate) fn job(status: u16, job: &Value) -> Self {
        let mut answer = Self::json(status, job);
        if let Self::Whole { headers, .. } = &mut answer {
            headers.push(("etag", format!("\"{}\"", job["revision"])));
        }
        answer
    }

    fn response(self) -> Option<HttpResponse> {
        Some(match self {
            Self::Whole { status, headers, body } => {
                let mut response = HttpResponse::build(StatusCode::from_u16(status).unwrap());
                for header in headers {
                    response.append_header(header);
                }
                response.body(body)
            }
            Self::Broken { length, body } => {
                let pieces = [Ok(Bytes::from(body)), Err(io::Error::other("broken on purpose"))];
                // What is not yet flushed when a stream fails is never sent, and only a pause flushes.
                let paused = stream::iter(pieces).then(async |piece| {
                    tokio::task::yield_now().await;
                    piece
                });
                HttpResponse::Ok().body(SizedStream::new(length, Box::pin(paused)))
            }
            Self::Silence => return None,
        })
    }
}

type Script = dyn Fn(&Call) -> Answer + Send + Sync;

/// A running fake; it ends with the test.
pub(crate) struct Fake {
    pub(crate) url: String,
    calls: Arc<Mutex<Vec<Call>>>,
    handle: ServerHandle,
    thread: Option<thread::JoinHandle<io::Result<()>>>,
}

impl Fake {
    pub(crate) fn start(script: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> Self {
        Self::at(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    pub(crate) fn at(
        listener: TcpListener,
        script: impl Fn(&Call) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (calls, script): (Arc<Mutex<Vec<Call>>>, Arc<Script>) = (Arc::default(), Arc::new(script));
        let (seen, (tell, told)) = (Arc::clone(&calls), mpsc::channel());
        let thread = thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let app = move || {
                    let state = web::Data::new((Arc::clone(&seen), Arc::clone(&script)));
                    App::new().app_data(state).default_service(web::to(serve))
                };
                let server =
                    HttpServer::new(app).workers(1).disable_signals().listen(listener).unwrap().run();
                tell.send(server.handle()).unwrap();
                server.await
            })
        });
        Self { url, calls, handle: told.recv().unwrap(), thread: Some(thread) }
    }

    /// The command, talking to this server.
    pub(crate) fn reelhook(&self) -> Command {
        reelhook(&self.url)
    }

    /// Ends it, so that its address is free.
    pub(crate) fn stop(mut self) {
        drop(self.handle.stop(false));
        self.thread.take().unwrap().join().unwrap().unwrap();
    }

    /// What was asked so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    /// Methods and paths that were asked, in their order.
    pub(crate) fn routes(&self) -> Vec<String> {
        self.calls().iter().map(|call| call.route().to_owned()).collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        drop(self.handle.stop(false));
    }
}

type State = web::Data<(Arc<Mutex<Vec<Call>>>, Arc<Script>)>;

async fn serve(request: HttpRequest, body: Bytes, state: State) -> HttpResponse {
    let headers = request.headers().iter();
    let headers =
        headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    let line = format!("{} {}", request.method(), request.uri());
    let (calls, script) = &**state;
    let call = {
        let mut calls = calls.lock().unwrap();
        let (json, raw) = (serde_json::from_slice(&body).unwrap_or_default(), body.to_vec());
        let mut call = Call { line, headers, body: json, raw, nth: 0 };
        call.nth = calls.iter().filter(|earlier| earlier.route() == call.route()).count();
        calls.push(call.clone());
        call
    };
    match script(&call).response() {
        Some(response) => response,
        None => std::future::pending().await,
    }
}

/// A job at a revision.
pub(crate) fn job(revision: u64, status: &str, phase: &str) -> Value {
    json!({
        "id": ID, "revision": revision, "status": status, "phase": phase, "model": "kling-3",
        "input": { "model": "kling-3", "prompt": "a fox" },
        "progress": { "percent": null, "bytes_done": 0, "bytes_total": null },
        "files": [], "error": null, "tags": [], "metadata": {},
        "cost": { "estimated_credits": 300, "estimated_usd": 3.0, "exact": true, "reported_credits": null },
        "created_at": "2026-11-22T18:00:00.000Z",
    })
}

/// The price of that job.
pub(crate) fn estimate() -> Answer {
    Answer::json(
        200,
        &json!({ "model": "kling-3", "cost": {
            "estimated_credits": 300, "estimated_usd": 3.0, "exact": true, "basis": "60 credits/s × 5 s",
        } }),
    )
}

/// An entry of the event log about that job.
pub(crate) fn event(seq: u64, kind: &str) -> Value {
    json!({
        "seq": seq, "id": format!("evt_{seq:032x}"), "type": kind, "time": "2026-11-22T18:00:00.000Z",
        "job_id": ID, "revision": seq, "data": { "attempt": 1, "raw": "{}" },
    })
}
