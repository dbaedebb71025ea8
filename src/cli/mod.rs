//! The commands, one file each. They talk to the server over HTTP and never open its store,
//! but for [`db`], which looks after a store that no server has open.
//!
//! stdout carries data only; prompts, progress and errors go to stderr. How a command ended is its exit code.

mod batch;
mod client;
mod completions;
mod config;
mod db;
mod deliveries;
mod dev;
mod doctor;
mod document;
mod download;
mod events;
mod exit;
mod feed;
mod follow;
mod healthcheck;
mod job;
mod jobs;
mod keys;
mod listen;
mod man;
mod openapi;
mod output;
mod page;
mod process;
mod progress;
mod reload;
mod retention;
mod sandbox;
mod serve;
mod sinks;
mod spend;
mod status;
mod submit;
mod supervisor;
mod time;
mod trigger;
mod verify;
mod webhook;

use std::process::ExitCode;

use clap::Parser;

use self::{client::Connection, exit::Failure, output::Output};

const EXIT_CODES: &str = "\
Exit codes: 0 well · 1 failure found · 2 usage or configuration · 3 job failed or canceled · 4 authorization · \
5 not found · 6 conflict · 7 still running · 8 budget · 9 server unreachable · 10 job held · \
11 download or checksum · 12 store locked";

/// Webhook callback receiver for asynchronous AI video: no paid job lost, none paid for twice.
#[derive(Debug, Parser)]
#[command(name = "reelhook", version, after_help = EXIT_CODES, propagate_version = false)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// JSON on stdout: one document, or one a line
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run everything here, with a sandbox provider: nothing to configure, nothing is paid
    Dev(dev::Args),
    /// Run the server
    Serve(serve::Args),
    /// Submit a job, or a file of jobs
    Submit(Box<submit::Args>),
    /// List, follow and decide about jobs
    Jobs(jobs::Args),
    /// Copy the video of a job here
    Download(download::Args),
    /// Forward events to an app under development, as signed webhooks
    Listen(listen::Args),
    /// List or follow the event log
    Events(events::Args),
    /// List, show and repeat what is owed to sinks
    Deliveries(deliveries::Args),
    /// List, test and catch up sinks
    Sinks(sinks::Args),
    /// Send a sample event, to an app or a sink; nothing is spent
    Trigger(trigger::Args),
    /// Remove what is past its time now, or show what that would be
    Retention(retention::Args),
    /// Show whether the server is well, and its figures
    Status(status::Args),
    /// Look whether everything works that the server needs, and say what to do; nothing is spent
    Doctor(doctor::Args),
    /// Make, list and revoke API keys
    Keys(keys::Args),
    /// Make, check and show the configuration
    Config(config::Args),
    /// Check, export, import, recover and restore the store while no server runs on it
    Db(db::Args),
    /// Check the signature of a webhook, offline
    Verify(verify::Args),
    /// Run the sandbox provider alone
    Sandbox(sandbox::Args),
    /// Tell by exit code whether the server is well
    Healthcheck(healthcheck::Args),
    /// Print the completions of a shell
    Completions(completions::Args),
    /// Print the API's OpenAPI document
    Openapi,
    /// Print the manual page
    Man(man::Args),
}

/// Runs the command line of this process.
pub(crate) async fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    let output = Output::new(cli.json);
    match run(cli, &output).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            failure.exit.into()
        }
    }
}

async fn run(cli: Cli, output: &Output) -> Result<(), Failure> {
    let connection = &cli.connection;
    match cli.command {
        Command::Dev(args) => dev::run(args, output).await,
        Command::Serve(args) => Box::pin(serve::run(args, output)).await, // as large as all others together
        Command::Submit(args) => submit::run(*args, connection, output).await,
        Command::Jobs(args) => jobs::run(args, connection, output).await,
        Command::Download(args) => download::run(args, connection, output).await,
        Command::Listen(args) => listen::run(args, connection, output).await,
        Command::Events(args) => events::run(args, connection, output).await,
        Command::Deliveries(args) => deliveries::run(args, connection, output).await,
        Command::Sinks(args) => sinks::run(args, connection, output).await,
        Command::Trigger(args) => trigger::run(args, connection, output).await,
        Command::Retention(args) => retention::run(args, connection, output).await,
        Command::Status(args) => status::run(args, connection, output).await,
        Command::Doctor(args) => doctor::run(args, connection, output).await,
        Command::Keys(args) => keys::run(args, output),
        Command::Config(args) => config::run(args, output),
        Command::Db(args) => db::run(args, output),
        Command::Verify(args) => verify::run(args, output),
        Command::Sandbox(args) => sandbox::run(args, output).await,
        Command::Healthcheck(args) => healthcheck::run(args, connection).await,
        Command::Completions(args) => completions::run(args, output),
        Command::Openapi => openapi::run(connection, output).await,
        Command::Man(args) => man::run(args, output),
    }
}

/// Help and version go to stdout and are no error; the rest is told as clap does, or as a problem if JSON was wanted.
fn misused(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && std::env::args_os().any(|argument| argument == "--json") {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        let failure = Failure::usage(first.strip_prefix("error: ").unwrap_or(first));
        Output::new(true).failure(&failure);
        return failure.exit.into();
    }
    // Nothing is left to tell it to when the stream is gone.
    drop(error.print());
    if error.use_stderr() { exit::Exit::Usage.into() } else { ExitCode::SUCCESS }
}
