//! `reelhook dev`: server and sandbox provider in one process.

use std::{net::SocketAddr, path::PathBuf};

use super::{
    exit::{Exit, Failure},
    output::Output,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Submit a job and show it through
    #[arg(long)]
    demo: bool,
    /// End after the demonstration
    #[arg(long, requires = "demo")]
    exit: bool,
    /// The provider works so many times faster than real time
    #[arg(long, default_value_t = 20.0)]
    speed: f64,
    /// Folder for state and videos
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Where the API listens
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Where callbacks are received
    #[arg(long, value_name = "ADDRESS")]
    callback_listen: Option<SocketAddr>,
}

pub(crate) async fn run(args: Args, _output: &Output) -> Result<(), Failure> {
    Err(Failure::new(Exit::Failure, format!("not built in this branch: {args:?}")))
}
