//! `reelhook events`: the durable log, a page of it or live.

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::{
    client::{Client, Connection},
    document::text,
    exit::Failure,
    feed::{self, Entry, Filter, Told},
    output::Output,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List events, oldest first
    List(List),
    /// Follow the log; a broken connection is taken up again and nothing is passed over
    Tail(Tail),
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    filter: Filter,
    /// Begin after this event
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    after: u64,
    /// How many at most
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=250))]
    limit: u16,
}

#[derive(Debug, clap::Args)]
struct Tail {
    #[command(flatten)]
    filter: Filter,
    /// Begin after this event; without it, with what happens from now on
    #[arg(long, value_name = "SEQ")]
    after: Option<u64>,
}

pub(crate) async fn run(args: Args, connection: &Connection, output: &Output) -> Result<(), Failure> {
    let client = Client::new(connection)?;
    match args.command {
        Command::List(args) => list(&args, &client, output).await,
        Command::Tail(args) => {
            tokio::select! {
                result = tail(args, &client, output) => result,
                _ = tokio::signal::ctrl_c() => Ok(()),
            }
        }
    }
}

async fn list(args: &List, client: &Client, output: &Output) -> Result<(), Failure> {
    let page = feed::page(client, &args.filter, args.after, args.limit.into()).await?;
    if output.is_json() {
        return output.document(&json!(page));
    }
    let entries = page.data.iter().map(Entry::read).collect::<Result<Vec<_>, _>>()?;
    let rows = entries.iter().map(|entry| (cells(entry), details(&entry.data)));
    output.rows_with(["SEQ", "TIME", "TYPE", "JOB"], "DATA", rows)?;
    if let Some(after) = page.next_cursor {
        output.note(&format!("there are more: --after {after}"));
    }
    Ok(())
}

async fn tail(args: Tail, client: &Client, output: &Output) -> Result<(), Failure> {
    let after = match args.after {
        Some(after) => after,
        None => feed::head(client).await?,
    };
    let mut feed = feed::follow(client, args.filter, after, output);
    while let Some(told) = feed.next().await {
        match told? {
            Told::Event(_, document) if output.is_json() => output.record(&document)?,
            Told::Event(entry, _) => {
                output.row_with([7, 24, 22, 36], cells(&entry), &details(&entry.data))?
            }
            Told::Reset { oldest } => output.note(&format!(
                "what was asked for is not in the server's log (any more); it goes on with event {oldest}"
            )),
            Told::Back => output.note("connected again"),
        }
        if output.is_closed() {
            break;
        }
    }
    Ok(())
}

fn cells(entry: &Entry) -> [String; 4] {
    let job = entry.job_id.clone().unwrap_or_default();
    [entry.seq.to_string(), entry.time.clone(), entry.kind.clone(), job]
}

/// The plain fields, for people: what an upstream said at length is in the JSON.
fn details(data: &Value) -> String {
    let fields = data.as_object().into_iter().flatten();
    let plain = fields.filter(|(name, value)| !value.is_object() && !value.is_array() && *name != "raw");
    plain.map(|(name, value)| format!("{name}={}", text(value))).collect::<Vec<_>>().join(" ")
}
