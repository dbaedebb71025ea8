//! `reelhook serve`: the server.

use std::{io, net::SocketAddr, path::PathBuf, pin::pin};

use reelhook::{
    clock::Clock,
    config::{Config, LoadOptions},
    server::{Listeners, Server, StartError, hold_restored},
    store::StoreError,
    telemetry,
};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    config::{load_with, warnings},
    exit::{Exit, Failure},
    output::Output,
    reload::Reloader,
    supervisor::Supervisor,
};

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
    /// The store was put back from a backup: hold what it has as not sent, for it may have been sent since
    #[arg(long)]
    restored: bool,
}

pub(crate) async fn run(args: Args, _output: &Output) -> Result<(), Failure> {
    let flags = [("server.listen", args.listen), ("callback.listen", args.callback_listen)];
    let overrides =
        flags.into_iter().filter_map(|(key, address)| Some((key.to_owned(), address?.to_string()))).collect();
    let options = LoadOptions { path: args.config, overrides, ..LoadOptions::from_process() };
    let loaded = load_with(&options)?;
    log(&loaded.config)?;
    for warning in warnings(&loaded) {
        tracing::warn!("{warning}");
    }
    let listeners = Listeners::bind(&loaded.config).map_err(failure)?;
    if args.restored {
        refuse_database(&loaded.config)?;
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
    server.stop().await;
    Ok(())
}

/// Instances come and go: nobody knows that all others rest while one of them holds jobs.
fn refuse_database(config: &Config) -> Result<(), Failure> {
    match &config.database {
        None => Ok(()),
        Some(_) => Err(Failure::usage(
            "--restored is for a folder, and [store] url names a database: recover that to its last commit, from a replica or \
             its archived log; from an older backup, what was queued or being sent then would be sent again"
                .to_owned(),
        )),
    }
}

pub(crate) fn log(config: &Config) -> Result<(), Failure> {
    telemetry::init(&config.log).map_err(|error| Failure::usage(error.to_string()))
}

pub(crate) async fn start(config: Config, listeners: Listeners) -> Result<Server, Failure> {
    Server::start(config, Clock::system(), listeners).await.map_err(failure)
}

pub(crate) fn failure(error: StartError) -> Failure {
    let exit = match &error {
        StartError::Store(StoreError::Locked { .. }) => Exit::StoreLocked,
        StartError::Store(StoreError::Sealed { .. }) => Exit::Conflict,
        StartError::Listen { .. } | StartError::Keys(_) => Exit::Usage,
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
