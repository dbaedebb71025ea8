//! A stand-in provider that misbehaves on request.
//!
//! It speaks the upstream's API over real HTTP, calls back, and hosts the finished files, real and small MP4s. Without
//! [directives](directive) it behaves: a task takes 20 s ÷ speed, is called back once and can be downloaded with
//! ranges. `GET /sandbox/ledger` tells what it saw and charged, so that a test can prove from outside that nothing was
//! paid twice. Everything is kept in memory for the life of the process.
//!
//! Any non-empty bearer key is accepted. `Idempotency-Key` is not honoured, since the upstream does not promise it.
//! `ltx-2` never calls a completion back, as its documentation allows. The ids of tasks and the bytes of files follow
//! from the seed and the ordinal of the create call: so two runs with the same seed give the same ids, and a client
//! that keeps its records across a restart of the sandbox needs another seed.

mod callbacks;
pub mod directive;
mod files;
mod ledger;
mod provider;
mod refusal;
mod request;
mod routes;
mod shape;
mod task;
mod video;
mod wire;

use std::{io, net::TcpListener, sync::Arc};

use actix_web::{App, HttpServer, dev::ServerHandle, web};
use secrecy::SecretString;
use tokio::{runtime::Handle, task::JoinHandle};
use url::Url;

pub use self::ledger::{Callback, CallbackKind, Create, Download, Ledger};
use self::{provider::Provider, wire::Wire};
use crate::provider::signature::Format;

/// How the sandbox runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Every duration but the rate of a slow download is divided by this; 0.01 to 1,000,000.
    pub speed: f64,
    /// Fixes task ids and file contents.
    pub seed: u64,
}

impl Options {
    /// With a seed that no other run has: whoever keeps records of tasks meets no strange ones under their ids.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn unlike_any(speed: f64) -> io::Result<Self> {
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(io::Error::other)?;
        Ok(Self { speed, seed: u64::from_be_bytes(seed) })
    }
}

/// How callbacks are signed. `Debug` does not show the secret.
#[derive(Clone, Debug)]
pub struct Signing {
    /// The scheme and its names.
    pub format: Format,
    /// What [`signature::sign`](crate::provider::signature::sign) takes.
    pub secret: SecretString,
}

/// A running sandbox. Dropping it leaves it running; [`stop`](Sandbox::stop) ends it.
#[derive(Debug)]
pub struct Sandbox {
    url: Url,
    provider: Arc<Provider>,
    handle: ServerHandle,
    server: JoinHandle<io::Result<()>>,
}

/// Starts a sandbox on `listener`, inside the runtime of the caller.
///
/// # Errors
/// When the speed is out of range, the listener cannot be used or TLS for callbacks cannot be set up.
pub async fn start(listener: TcpListener, options: Options) -> io::Result<Sandbox> {
    if !(0.01..=1e6).contains(&options.speed) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "sandbox speed must be 0.01 to 1000000"));
    }
    let url = Url::parse(&format!("http://{}", listener.local_addr()?)).map_err(io::Error::other)?;
    let client = callbacks::client().map_err(io::Error::other)?;
    let provider = Arc::new(Provider::new(options, client, Handle::current()));
    let data = web::Data::new(Arc::clone(&provider));
    let server = HttpServer::new(move || App::new().app_data(data.clone()).configure(routes::configure))
        .on_connect(Wire::keep)
        .workers(1)
        .disable_signals()
        .listen(listener)?
        .run();
    let handle = server.handle();
    Ok(Sandbox { url, provider, handle, server: tokio::spawn(server) })
}

impl Sandbox {
    /// Where it listens; the `base_url` for a client on the same machine.
    pub fn url(&self) -> Url {
        self.url.clone()
    }

    /// From now on callbacks are signed.
    pub fn sign_by(&self, signing: Signing) {
        self.provider.books().signing = Some(signing);
    }

    /// What it has seen so far.
    pub fn ledger(&self) -> Ledger {
        self.provider.books().ledger.clone()
    }

    /// SHA-256 of the file that a task's links lead to, hexadecimal; none for a task that it does not know.
    pub fn sha256(&self, task_id: &str) -> Option<String> {
        let video = self.provider.books().tasks.get(task_id).map(task::Task::video);
        video.map(|video| video.sha256())
    }

    /// Ends it at once: open connections are cut, callbacks that are due later are never sent.
    pub async fn stop(self) {
        self.provider.stop().await;
        self.handle.stop(false).await;
        if let Err(error) = self.server.await.map_err(io::Error::other).flatten() {
            tracing::warn!(%error, "the sandbox did not end well");
        }
    }
}
