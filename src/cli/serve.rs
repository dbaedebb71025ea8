//! `reelhook serve`: the server.

use std::{net::SocketAddr, path::PathBuf};

use super::{
    exit::{Exit, Failure},
    output::Output,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the API listens
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
}

pub(crate) async fn run(args: Args, _output: &Output) -> Result<(), Failure> {
    Err(Failure::new(Exit::Failure, format!("not built in this branch: {args:?}")))
}
