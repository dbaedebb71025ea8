//! `reelhook serve`: the server.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    pin::pin,
    time::{Duration, Instant},
};

use reelhook::{
    clock::Clock,
    config::{Config, LoadOptions},
    server::{Listeners, Server, StartError, hold_restored},
    store::StoreError,
    telemetry::{self, Traces},
};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    config::{load_with, warnings},
    exit::{Exit, Failure},
    output::Output,
    process,
    reload::Reloader,
    supervisor::Supervisor,
};

/// For the last traces, also when stopping took all the time that there was.
const LAST_TRACES: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the API listens
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Where callbacks are received
    #[arg(long, value_name = "ADDRESS")]
    callback_listen: Option<SocketAddr>,
    /// The store was put back from a backup: hold what it has as not sent, for it may have been sent since. Of instances that
    /// share a database, the first one to start
    #[arg(long)]
    restored: bool,
}

pub(crate) async fn run(args: Args, _output: &Output) -> Result<(), Failure> {
    process::forbid_core_dumps();
    let flags = [("server.listen", args.listen), ("callback.listen", args.callback_listen)];
    let overrides =
        flags.into_iter().filter_map(|(key, address)| Some((key.to_owned(), address?.to_string()))).collect();
    let options = LoadOptions { path: args.config, overrides, ..LoadOptions::from_process() };
    let loaded = load_with(&options)?;
    log(&loaded.config)?;
    process::raise_open_files();
    let traces =
        Traces::start(loaded.config.otel.as_ref()).map_err(|error| Failure::usage(error.to_string()))?;
    let grace = loaded.config.server.shutdown_grace;
    for warning in warnings(&loaded) {
        tracing::warn!("{warning}");
    }
    let listeners = Listeners::bind(&loaded.config).map_err(failure)?;
    if args.restored {
        hold_restored(&loaded.config, &Clock::system()).await.map_err(failure)?;
    }
    // From here on: the usual answer to this signal is to end.
    let mut hangup = signal(SignalKind::hangup()).map_err(no_signals)?;
    let mut reloader = Reloader::new(options, &loaded);
    let server = start(loaded.config, listeners).await?;
    let supervisor = Supervisor::ready(server.app());
    let mut end = pin!(until_told_to_end());
    loop {
        tokio::select! {
            ended = &mut end => break ended?,
            _ = hangup.recv() => reloader.reload(&server, &supervisor).await,
        }
    }
    supervisor.stopping();
    let begun = Instant::now();
    server.stop().await;
    traces.end(grace.saturating_sub(begun.elapsed()).max(LAST_TRACES)).await;
    Ok(())
}

pub(crate) fn log(config: &Config) -> Result<(), Failure> {
    let instance = config.database.as_ref().map(|database| &*database.instance);
    telemetry::init(&config.log, instance).map_err(|error| Failure::usage(error.to_string()))
}

pub(crate) async fn start(config: Config, listeners: Listeners) -> Result<Server, Failure> {
    Server::start(config, Clock::system(), listeners).await.map_err(failure)
}

pub(crate) fn failure(error: StartError) -> Failure {
    let exit = match &error {
        StartError::Store(StoreError::Locked { .. }) => Exit::StoreLocked,
        StartError::Store(StoreError::Sealed { .. } | StoreError::Restored { .. }) => Exit::Conflict,
        StartError::Listen { .. } | StartError::Keys(_) | StartError::Tls(_) | StartError::Backup(_) => {
            Exit::Usage
        }
        _ => Exit::Failure,
    };
    Failure::new(exit, error.to_string())
}

fn no_signals(error: io::Error) -> Failure {
    Failure::new(Exit::Failure, format!("cannot wait for a signal: {error}"))
}

/// Waits for Ctrl-C or SIGTERM.
pub(crate) async fn until_told_to_end() -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(no_signals),
        _ = terminate.recv() => Ok(()),
    }
}
