//! `reelhook jobs`: what there is, and what a person can do about it.

mod act;
mod list;
mod show;

use super::{client::Connection, exit::Failure, output::Output};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List jobs, newest first
    List(list::Args),
    /// Show a job
    Get(show::Get),
    /// Follow a job to its end
    Watch(show::Watch),
    /// Cancel a job
    Cancel(act::Cancel),
    /// Take a settled or held job up again, as a new job
    Retry(act::Retry),
    /// Decide about a held job
    Resolve(act::Resolve),
}

pub(crate) async fn run(args: Args, connection: &Connection, output: &Output) -> Result<(), Failure> {
    match args.command {
        Command::List(args) => list::run(args, connection, output).await,
        Command::Get(args) => show::get(args, connection, output).await,
        Command::Watch(args) => show::watch(args, connection, output).await,
        Command::Cancel(args) => act::cancel(args, connection, output).await,
        Command::Retry(args) => act::retry(args, connection, output).await,
        Command::Resolve(args) => act::resolve(args, connection, output).await,
    }
}
