//! `reelhook sandbox`: the stand-in provider alone.

use std::net::{SocketAddr, TcpListener};

use reelhook::sandbox::{self, Options};
use serde_json::json;

use super::{
    exit::{Exit, Failure},
    output::Output,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where it listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8486")]
    listen: SocketAddr,
    /// It works so many times faster than real time
    #[arg(long, default_value_t = 20.0)]
    speed: f64,
    /// Fixes task ids and file contents
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<(), Failure> {
    let Args { listen, speed, seed } = args;
    let failed = |error: std::io::Error| {
        Failure::new(Exit::Usage, format!("the sandbox cannot start on {listen} with speed {speed}: {error}"))
    };
    let listener = TcpListener::bind(listen).map_err(failed)?;
    let sandbox = sandbox::start(listener, Options { speed, seed }).await.map_err(failed)?;
    output.note("the sandbox provider takes any API key; use this address as [upstream] base_url:");
    if output.is_json() {
        output.record(&json!({ "url": sandbox.url() }))?;
    } else {
        output.line(sandbox.url().as_str())?;
    }
    let ended = tokio::signal::ctrl_c().await;
    sandbox.stop().await;
    ended.map_err(|error| Failure::new(Exit::Failure, format!("cannot wait for Ctrl-C: {error}")))
}
