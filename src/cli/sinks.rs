//! `reelhook sinks`: where events go, whether they arrive, and what to send again.

use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    client::{Client, Connection},
    document::{self, text},
    exit::{Exit, Failure},
    output::Output,
    page::{Page, Range},
    time,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List sinks
    List {
        #[command(flatten)]
        range: Range,
    },
    /// Send a sample event to a sink; exit code 1 if it is not taken
    Test {
        /// Name of the sink
        name: String,
    },
    /// Enable a sink again and deliver once more what it did not take
    Recover {
        /// Name of the sink
        name: String,
        /// What was owed since: a span before now or a time
        #[arg(long, value_name = "WHEN", value_parser = time::past)]
        since: Timestamp,
    },
}

pub(crate) async fn run(args: Args, connection: &Connection, output: &Output) -> Result<(), Failure> {
    let client = Client::new(connection)?;
    match args.command {
        Command::List { range } => list(&range, &client, output).await,
        Command::Test { name } => test(&client, &name, &json!({}), output).await,
        Command::Recover { name, since } => {
            let body = json!({ "since": time::rfc3339(since) });
            let reply = client.post(&["v1", "sinks", &name, "recover"], &body).await?;
            document::show(&reply.document, output)
        }
    }
}

/// Has the server send a sample event to a sink, and shows what came of it.
pub(crate) async fn test(client: &Client, name: &str, body: &Value, output: &Output) -> Result<(), Failure> {
    let document = client.post(&["v1", "sinks", name, "test"], body).await?.document;
    document::show(&document, output)?;
    match document["delivered"].as_bool() {
        Some(false) => {
            let why = text(&document["detail"]);
            Err(Failure::new(Exit::Failure, format!("`{name}` did not take the sample event: {why}")))
        }
        _ => Ok(()),
    }
}

async fn list(range: &Range, client: &Client, output: &Output) -> Result<(), Failure> {
    let request = client.request(Method::GET, &["v1", "sinks"]).query(&range.query().collect::<Vec<_>>());
    let document = client.json(request).await?.document;
    if output.is_json() {
        return output.document(&document);
    }
    let page: Page<Value> = Page::read(&document)?;
    let rows = page.data.iter().map(|sink| {
        let events = sink["events"].as_array().into_iter().flatten().map(text).collect::<Vec<_>>();
        ["name", "type", "state", "target"]
            .map(|field| text(&sink[field]))
            .into_iter()
            .chain([events.join(",")])
    });
    let rows = rows.map(|mut cells| std::array::from_fn(|_| cells.next().unwrap_or_default()));
    output.rows(["NAME", "TYPE", "STATE", "TARGET", "EVENTS"], rows)?;
    if let Some(cursor) = page.next_cursor {
        output.note(&format!("there are more: --cursor {cursor}"));
    }
    Ok(())
}
