//! `reelhook sinks`: where events go, whether they arrive, and what to send again.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    client::{Client, Connection},
    document::{self, text},
    exit::{Exit, Failure},
    output::Output,
    page::Page,
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
    List,
    /// Send a ping to a sink; exit code 1 if it is not taken. `trigger EVENT --sink NAME` sends a sample job
    Test {
        /// Name of the sink
        name: String,
    },
    /// Print the secret that signs for sinks and `notify` URLs without one of their own
    Secret,
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
        Command::List => list(&client, output).await,
        Command::Test { name } => test(&client, &name, &json!({}), output).await,
        Command::Secret => {
            let document = client.get(&["v1", "sinks", "secret"]).await?.document;
            if output.is_json() {
                output.document(&document)
            } else {
                output.line(&text(&document["secret"]))
            }
        }
        Command::Recover { name, since } => {
            let body = json!({ "since": time::rfc3339(since) });
            let reply = client.post(&["v1", "sinks", &name, "recover"], &body).await?;
            document::show(&reply.document, output)
        }
    }
}

/// Has the server send a test event to a sink, and shows what came of it.
pub(crate) async fn test(client: &Client, name: &str, body: &Value, output: &Output) -> Result<(), Failure> {
    let document = client.post(&["v1", "sinks", name, "test"], body).await?.document;
    let attempt = &document["attempt"];
    if output.is_json() {
        output.document(&document)?;
    } else {
        document::show(attempt, output)?;
    }
    if attempt["outcome"] == "delivered" {
        return Ok(());
    }
    let why = text(&attempt["detail"]);
    Err(Failure::new(
        Exit::Failure,
        format!("`{name}` did not take the test event: {why}; nothing was spent"),
    ))
}

/// What is read of a sink here.
#[derive(Deserialize)]
struct Sink {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    events: Vec<String>,
    failing_since: Option<String>,
    disabled_at: Option<String>,
    why: Option<String>,
}

async fn list(client: &Client, output: &Output) -> Result<(), Failure> {
    let document = client.get(&["v1", "sinks"]).await?.document;
    if output.is_json() {
        return output.document(&document);
    }
    let page: Page<Sink> = Page::read(&document)?;
    let rows = page.data.into_iter().map(|sink| {
        let (state, since) = match (sink.disabled_at, sink.failing_since) {
            (Some(at), _) => ("disabled", at),
            (None, Some(at)) => ("failing", at),
            (None, None) => ("well", String::new()),
        };
        let row = [sink.name, sink.kind, state.to_owned(), since, sink.events.join(",")];
        (row, sink.why.unwrap_or_default())
    });
    output.rows_with(["NAME", "TYPE", "STATE", "SINCE", "EVENTS"], "WHY", rows)
}
