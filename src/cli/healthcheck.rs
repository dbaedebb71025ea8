//! `reelhook healthcheck`: the exit code says whether the server is well. For containers, which have no curl.

use reqwest::Method;

use super::{
    client::{Client, Connection},
    exit::{Exit, Failure},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only whether the process answers, not whether it can take jobs
    #[arg(long)]
    live: bool,
}

pub(crate) async fn run(args: Args, connection: &Connection) -> Result<(), Failure> {
    let client = Client::new(connection)?;
    let probe = if args.live { "livez" } else { "readyz" };
    match client.probe(client.request(Method::GET, &[probe])).await? {
        (true, _) => Ok(()),
        (false, answer) => Err(Failure::new(Exit::Failure, format!("{probe}: {answer}"))),
    }
}
