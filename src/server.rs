//! Everything put together: opens the store and the archive, binds both listeners, starts the lanes. Tests start it
//! the same way.

mod reload;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actix_web::dev::ServerHandle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

use self::reload::Replaceable;
use crate::{
    app::{Addresses, App, AppError},
    clock::Clock,
    config::{self, Backup, Config},
    doctor::Doctor,
    inbound::{self, Certificates, Context, Feed, Keys, Limits, TlsError},
    keys::KeyFileError,
    lifecycle::{Millis, Policy},
    live::Live,
    outbound::{
        archive::{self, Archive, ArchiveError},
        deliver::{Sinks, SinksError},
        download::Downloader,
        egress::Guard,
        upstream::Upstream,
    },
    runner::{Calls, Retainer, Running},
    store::{
        Store, StoreError,
        sled::{
            self, SledStore,
            backup::{Status, Target},
        },
        transfer::Restored,
    },
    telemetry,
};

/// Why the server does not start. Nothing was sent to anybody.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener cannot be bound.
    #[error("cannot listen on {address} ({section}): {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// The configuration's name for it.
        section: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The place of the backup.
    #[error("the backup's place ([store] backup) cannot be used: {0}")]
    Backup(io::Error),
    /// The core.
    #[error(transparent)]
    App(#[from] AppError),
    /// The API keys.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// A client of ours cannot be set up.
    #[error("the HTTP client cannot be set up: {0}")]
    Client(#[from] reqwest::Error),
    /// The sinks.
    #[error(transparent)]
    Sinks(#[from] SinksError),
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Anything else of the system.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// How long a change of a disk stays unsaid at most.
const DISK_WATCH: Duration = Duration::from_secs(5);

/// A running server.
pub struct Server {
    api: SocketAddr,
    callback: SocketAddr,
    app: Arc<App>,
    store: Arc<dyn Store>,
    lanes: Running,
    replaceable: Replaceable,
    streams: CancellationToken,
    listeners: Vec<(ServerHandle, JoinHandle<io::Result<()>>)>,
}

impl Server {
    /// Starts a server; when this returns, both listeners answer and the lanes work.
    /// Callbacks are asked for at `config.callback.public_url`.
    ///
    /// # Errors
    /// Whatever keeps it from starting.
    pub async fn start(config: Config, clock: Clock, listeners: Listeners) -> Result<Self, StartError> {
        // Before anything counts.
        telemetry::recorder();
        let instance = config.server.instance.clone();
        let config = Arc::new(config);
        let Listeners { api, callback } = listeners;
        let (api_address, callback_address) = (api.local_addr()?, callback.local_addr()?);
        let external_url = match &config.server.external_url {
            Some(url) => url.clone(),
            None => own_url(api_address, &config.server)?,
        };
        let addresses = Addresses { public_url: config.callback.public_url.clone(), external_url };
        let archive = Arc::new(Archive::open(&config.storage).await?);
        let (store, backup) = open_store(Arc::clone(&config), &clock).await?;
        let app = App::new(Arc::clone(&config), Arc::clone(&store), clock, addresses).await?;
        let app = Arc::new(app);
        let guard = Guard::new(config.egress.allow.clone());
        let secret = app.delivery_secret().await?;
        let sinks = Live::new(Sinks::new(&config, &secret, guard.clone(), app.clock().clone())?);
        let downloader = Downloader::new(Arc::clone(&archive), guard.clone(), config.download.clone())?;
        let upstream = Live::new(Upstream::new(&config.upstream, app.clock().clone())?);
        let (sinks, downloader, upstream) = (Arc::new(sinks), Arc::new(downloader), Arc::new(upstream));
        let streams = CancellationToken::new();
        let ready = Arc::new(AtomicBool::new(false));
        let keys = Arc::new(Live::new(Keys::load(&config)?));
        let retainer = Arc::new(Retainer::new(Arc::clone(&app), Arc::clone(&archive)));
        let certificates = Arc::new(Certificates::open(&config)?);
        let doctor =
            Doctor::new(Arc::clone(&app), Arc::clone(&archive), Arc::clone(&upstream), Arc::clone(&sinks));
        let context = Arc::new(Context {
            app: Arc::clone(&app),
            archive: Arc::clone(&archive),
            backup,
            guard: guard.clone(),
            sinks: Arc::clone(&sinks),
            retainer: Arc::clone(&retainer),
            keys: Arc::clone(&keys),
            limits: Limits::new(&config.callback),
            certificates: Arc::clone(&certificates),
            doctor,
            feed: Feed::start(Arc::clone(&app), streams.clone()),
            stop: streams.clone(),
            ready: Arc::clone(&ready),
        });
        let servers =
            [inbound::serve_api(api, Arc::clone(&context))?, inbound::serve_callbacks(callback, context)?];
        // Last: a server that does not start has sent nothing to anybody.
        let lanes = Running::start(
            Arc::clone(&app),
            Calls {
                upstream: Arc::clone(&upstream),
                downloader: Arc::clone(&downloader),
                archive: Arc::clone(&archive),
                sinks: Arc::clone(&sinks),
                retainer,
            },
        );
        let replaceable = Replaceable { upstream, downloader, sinks, guard, keys, certificates };
        tokio::spawn(watch_disks(Arc::clone(&store), Arc::clone(&archive), streams.clone()));
        tokio::spawn(watch_bucket(archive, streams.clone()));
        let listeners = servers.map(|server| (server.handle(), tokio::spawn(server))).into();
        ready.store(true, Ordering::Release);
        metrics::gauge!("reelhook_instance_info", "instance" => instance.clone()).set(1.0);
        tracing::info!(instance, api = %api_address, callback = %callback_address, "reelhook is ready");
        let (api, callback) = (api_address, callback_address);
        Ok(Self { api, callback, app, store, lanes, replaceable, streams, listeners })
    }

    /// Where the API listens.
    #[must_use]
    pub const fn api(&self) -> SocketAddr {
        self.api
    }

    /// Where callbacks are taken.
    #[must_use]
    pub const fn callback(&self) -> SocketAddr {
        self.callback
    }

    /// The certificates of the listeners, to be read again when their files have changed.
    #[must_use]
    pub fn certificates(&self) -> &Certificates {
        &self.replaceable.certificates
    }

    /// The core.
    #[must_use]
    pub const fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// Ends orderly: claims nothing more, lets running work reach a safe point within `[server] shutdown_grace`, goes
    /// on taking callbacks until then, and closes the store last.
    pub async fn stop(self) {
        tracing::info!("stopping: no new work is begun");
        self.streams.cancel();
        self.lanes.drain(self.app.config().server.shutdown_grace).await;
        for (handle, server) in self.listeners {
            handle.stop(true).await;
            if let Err(error) = server.await.map_err(io::Error::other).flatten() {
                tracing::warn!(%error, "a listener did not end well");
            }
        }
        self.store.close().await;
        tracing::info!("stopped");
    }
}

/// The sockets of a server, bound before anything else: a port in use costs nothing then.
#[derive(Debug)]
pub struct Listeners {
    api: TcpListener,
    callback: TcpListener,
}

impl Listeners {
    /// Binds what the configuration asks for.
    ///
    /// # Errors
    /// [`StartError::Listen`].
    pub fn bind(config: &Config) -> Result<Self, StartError> {
        Ok(Self {
            api: listen(config.server.listen, "[server] listen")?,
            callback: listen(config.callback.listen, "[callback] listen")?,
        })
    }

    /// Where callbacks will be taken.
    ///
    /// # Errors
    /// The system's.
    pub fn callback(&self) -> io::Result<SocketAddr> {
        self.callback.local_addr()
    }
}

/// The limits that jobs go by under a configuration.
#[must_use]
pub fn policy(config: &Config) -> Policy {
    crate::app::policy(config)
}

/// Makes a store that was put back from a backup safe to start with: what it does not know to be sent is held, since it
/// may have been sent after the backup was made.
///
/// # Errors
/// The store's, among them that there is none.
pub async fn hold_restored(config: &Config, clock: &Clock) -> Result<Restored, StartError> {
    let restored = restored(config, clock).await?;
    let Restored { held, events_after } = restored;
    tracing::warn!(
        held,
        events_after,
        "the store comes from a backup: the jobs that it has as queued or being sent may have been sent since and are held, \
         each for a person to decide; do not start with --restored again, or new jobs are held as well"
    );
    Ok(restored)
}

async fn restored(config: &Config, clock: &Clock) -> Result<Restored, StartError> {
    let policy = policy(config);
    #[cfg(feature = "postgres")]
    if let Some(database) = &config.database {
        return Ok(crate::store::postgres::restored(database, &policy).await?);
    }
    let (store, now) = (config.store.clone(), Millis(clock.now_ms()));
    let held = tokio::task::spawn_blocking(move || sled::restored(&store, now, &policy)).await;
    Ok(held.map_err(io::Error::other)??)
}

/// The place that a backup is kept in. A folder is made where it is missing, if `make` says so.
///
/// # Errors
/// [`StartError::Backup`]: the place is out of reach, or a client of its cloud cannot be set up.
pub fn backup_target(backup: &Backup, make: bool) -> Result<Target, StartError> {
    let target = match backup {
        Backup::Folder(path) if make => Target::folder(path),
        Backup::Folder(path) => Target::existing_folder(path),
        Backup::Bucket(bucket) => archive::open_bucket(bucket).map(Target::bucket).map_err(io::Error::other),
    };
    target.map_err(StartError::Backup)
}

/// Opens the store that the configuration names, with its backup if it has one; a database's clock is then the one to go by.
async fn open_store(
    config: Arc<Config>,
    clock: &Clock,
) -> Result<(Arc<dyn Store>, Option<Arc<Status>>), StartError> {
    #[cfg(feature = "postgres")]
    if let Some(database) = &config.database {
        let every = Duration::from_secs(60) / config.upstream.requests_per_minute;
        let store = crate::store::postgres::PostgresStore::open(database, clock.clone(), every).await?;
        return Ok((Arc::new(store), None));
    }
    let (policy, now) = (Arc::new(policy(&config)), Millis(clock.now_ms()));
    // Where blocking is allowed.
    let opened = tokio::task::spawn_blocking(move || {
        let Some(backup) = &config.backup else { return Ok(SledStore::open(&config.store, now, &policy)?) };
        let target = backup_target(backup, true)?;
        Ok::<_, StartError>(SledStore::open_with_backup(&config.store, target, now, &policy)?)
    });
    let store = opened.await.map_err(io::Error::other)??;
    let backup = store.backup();
    Ok((Arc::new(store), backup))
}

/// Looks at the disks while nobody has work for them: whoever looks first logs a change.
async fn watch_disks(store: Arc<dyn Store>, archive: Arc<Archive>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(DISK_WATCH)).await.is_some() {
        let _reports = (store.disk(), archive.disk());
    }
}

/// Looks at the archive's bucket, where it is one, now and then: what is told of it is what was seen last.
async fn watch_bucket(archive: Arc<Archive>, stop: CancellationToken) {
    while archive.bucket().is_some() {
        // Whoever looks logs a change.
        let _ready = archive.ensure_ready().await;
        if stop.run_until_cancelled(tokio::time::sleep(DISK_WATCH)).await.is_none() {
            break;
        }
    }
}

fn listen(address: SocketAddr, section: &'static str) -> Result<TcpListener, StartError> {
    inbound::listen(address).map_err(|source| StartError::Listen { address, section, source })
}

/// The address that the API listens on, as a URL; a wildcard is reached by loopback.
fn own_url(mut address: SocketAddr, settings: &config::Server) -> io::Result<Url> {
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let scheme = if settings.tls.is_some() { "https" } else { "http" };
    Url::parse(&format!("{scheme}://{address}{}", settings.base_path)).map_err(io::Error::other)
}
