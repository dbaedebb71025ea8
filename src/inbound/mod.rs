//! Who calls us: the API and its pages on one listener, the provider's callbacks on the other.
//!
//! [`routes`] is the table of everything that can be asked, with the right that it needs. A handler reads a request,
//! calls the app, and shows what came of it; it decides nothing about a job.

mod auth;
mod body;
mod callback;
mod callbacks;
mod conditional;
mod decisions;
mod deliveries;
mod doctor;
mod dropin;
mod events;
mod feed;
mod fields;
mod files;
mod finish;
mod health;
mod jobs;
mod kinds;
mod limits;
mod metrics;
mod notify;
mod openapi;
mod pages;
mod problem;
mod retention;
mod routes;
mod serve;
mod sinks;
mod sse;
mod stats;
mod stream;
mod tls;
mod trace;
mod view;
mod wait;

use std::{
    io,
    net::TcpListener,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use actix_web::{App as HttpApp, dev::Server, middleware::from_fn, web};
use tokio_util::sync::CancellationToken;
use tracing_actix_web::TracingLogger;

pub use auth::Keys;
pub use callback::callback;
pub use feed::Feed;
pub use limits::Limits;
pub use routes::api;
pub use serve::listen;
pub use tls::{Certificates, TlsError};

use crate::{
    app::App,
    doctor::Doctor,
    live::Live,
    outbound::{archive::Archive, deliver::Sinks, egress::Guard},
    runner::Retainer,
    store::sled::backup,
};

/// What every request can reach.
pub struct Context {
    /// The core.
    pub app: Arc<App>,
    /// Where the videos are.
    pub archive: Arc<Archive>,
    /// How the backup of the store does; none without one.
    pub backup: Option<Arc<backup::Status>>,
    /// Which URLs of jobs may be called.
    pub guard: Guard,
    /// Who is told.
    pub sinks: Arc<Live<Sinks>>,
    /// Who forgets what is past its time.
    pub retainer: Arc<Retainer>,
    /// Who may do what.
    pub keys: Arc<Live<Keys>>,
    /// How often strangers may call back.
    pub limits: Limits,
    /// With which the listeners show who they are.
    pub certificates: Arc<Certificates>,
    /// Who looks whether all is well.
    pub doctor: Doctor,
    /// The event log, read once for all who follow it.
    pub feed: Feed,
    /// Cancelled when the process is about to stop: streams and waits end, new jobs are refused.
    pub stop: CancellationToken,
    /// The store is open and both listeners serve.
    pub ready: Arc<AtomicBool>,
}

/// How long a connection may bear that nothing can be written to it, beyond what an answer may take by design.
const SLACK: Duration = Duration::from_secs(5);

/// Serves the API and the pages on `listener` until the server is stopped.
///
/// # Errors
/// The listener cannot be used.
pub fn serve_api(listener: TcpListener, context: Arc<Context>) -> io::Result<Server> {
    let config = context.app.config();
    let silence = config.api.max_wait.max(stream::HEARTBEAT) + SLACK;
    let base_path = config.server.base_path.trim_end_matches('/').to_owned();
    let tls = context.certificates.api.as_ref().map(|pair| pair.acceptor()).transpose()?;
    let grace = config.server.shutdown_grace;
    serve::serve(listener, grace, silence, serve::MAX_CONNECTIONS, tls, move || {
        HttpApp::new()
            .app_data(web::Data::from(Arc::clone(&context)))
            .wrap(from_fn(finish::finish))
            .wrap(TracingLogger::<finish::Span>::new())
            .default_service(web::to(problem::no_such_route))
            .service(web::scope(&base_path).configure(api))
    })
}

/// Serves the provider's callbacks on `listener` until the server is stopped.
///
/// # Errors
/// The listener cannot be used.
pub fn serve_callbacks(listener: TcpListener, context: Arc<Context>) -> io::Result<Server> {
    let grace = context.app.config().server.shutdown_grace;
    let tls = context.certificates.callback.as_ref().map(|pair| pair.acceptor()).transpose()?;
    // No middleware: this is the hot path, and its URLs must not reach a log.
    let silence = body::DEADLINE + SLACK;
    serve::serve(listener, grace, silence, serve::MAX_CONNECTIONS, tls, move || {
        HttpApp::new().app_data(web::Data::from(Arc::clone(&context))).configure(callback)
    })
}

impl Context {
    /// What stands before every path in a browser's or client's address, without a slash at its end.
    fn base_path(&self) -> &str {
        self.app.external_url().path().trim_end_matches('/')
    }
}
