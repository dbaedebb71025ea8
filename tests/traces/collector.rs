//! A collector on a real socket that keeps what it is sent, and a sink beside it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex},
};

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer,
    web::{Bytes, Data, post},
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value},
};
use prost::Message as _;
use tokio::sync::watch;

use crate::support::PATIENCE;

#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: String,
    pub(crate) name: String,
    pub(crate) attributes: BTreeMap<String, String>,
}

#[derive(Default)]
struct Kept {
    spans: Vec<Span>,
    resource: BTreeMap<String, String>,
    /// Of the header by which a hosted collector knows its customers.
    keys: BTreeSet<String>,
    /// The traces that the sink was told.
    hooks: Vec<String>,
}

struct Shared {
    kept: Mutex<Kept>,
    came: watch::Sender<()>,
}

pub(crate) struct Collector {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Collector {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { kept: Mutex::default(), came: watch::Sender::new(()) });
        let data = Data::from(Arc::clone(&shared));
        let app = move || {
            App::new()
                .app_data(data.clone())
                .route("/v1/traces", post().to(take))
                .route("/hook", post().to(hook))
        };
        tokio::spawn(HttpServer::new(app).workers(1).disable_signals().listen(listener).unwrap().run());
        Self { address, shared }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    fn kept<T>(&self, look: impl FnOnce(&Kept) -> T) -> T {
        look(&self.shared.kept.lock().unwrap())
    }

    pub(crate) fn spans(&self) -> Vec<Span> {
        self.kept(|kept| kept.spans.clone())
    }

    pub(crate) fn resource(&self) -> BTreeMap<String, String> {
        self.kept(|kept| kept.resource.clone())
    }

    pub(crate) fn keys(&self) -> BTreeSet<String> {
        self.kept(|kept| kept.keys.clone())
    }

    pub(crate) fn hooks(&self) -> Vec<String> {
        self.kept(|kept| kept.hooks.clone())
    }

    /// The spans of a trace, once those of all these names are there.
    pub(crate) async fn until(&self, trace: &str, names: &[&str]) -> Vec<Span> {
        let of_trace =
            |spans: Vec<Span>| spans.into_iter().filter(|span| span.trace == trace).collect::<Vec<_>>();
        let all = |spans: Vec<Span>| {
            let found = of_trace(spans);
            names.iter().all(|name| found.iter().any(|span| span.name == *name)).then_some(found)
        };
        self.until_so(all).await
    }

    /// The first span that is so.
    pub(crate) async fn until_any(&self, so: impl Fn(&Span) -> bool) -> Span {
        self.until_so(|spans| spans.into_iter().find(|span| so(span))).await
    }

    async fn until_so<T>(&self, so: impl Fn(Vec<Span>) -> Option<T>) -> T {
        let mut came = self.shared.came.subscribe();
        loop {
            came.mark_unchanged();
            if let Some(found) = so(self.spans()) {
                return found;
            }
            let waited = tokio::time::timeout(PATIENCE, came.changed()).await;
            waited.unwrap_or_else(|_| panic!("never so: {:#?}", self.spans())).unwrap();
        }
    }
}

async fn take(request: HttpRequest, body: Bytes, shared: Data<Shared>) -> HttpResponse {
    assert_eq!(request.headers().get("content-type").unwrap(), "application/x-protobuf");
    let sent = ExportTraceServiceRequest::decode(body).unwrap();
    let mut kept = shared.kept.lock().unwrap();
    let key = request.headers().get("x-collector-key");
    kept.keys.extend(key.map(|key| key.to_str().unwrap().to_owned()));
    for group in sent.resource_spans {
        kept.resource = attributes(group.resource.unwrap().attributes);
        for span in group.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            assert!(span.end_time_unix_nano >= span.start_time_unix_nano, "{span:?}");
            assert!(span.events.is_empty() && span.links.is_empty(), "{span:?}");
            kept.spans.push(Span {
                trace: hex::encode(span.trace_id),
                id: hex::encode(span.span_id),
                parent: hex::encode(span.parent_span_id),
                name: span.name,
                attributes: attributes(span.attributes),
            });
        }
    }
    drop(kept);
    shared.came.send_replace(());
    HttpResponse::Ok().finish()
}

async fn hook(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    let trace = request.headers().get("traceparent").map(|trace| trace.to_str().unwrap().to_owned());
    shared.kept.lock().unwrap().hooks.push(trace.unwrap_or_default());
    HttpResponse::NoContent().finish()
}

fn attributes(list: Vec<KeyValue>) -> BTreeMap<String, String> {
    list.into_iter().map(|KeyValue { key, value, .. }| (key, text(value))).collect()
}

fn text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(any_value::Value::StringValue(text)) => text,
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}
