//! `reelhook deliveries`: what is owed to sinks, what became of it, and another try.

use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use super::{
    client::{Client, Connection},
    document,
    exit::Failure,
    output::Output,
    page::{Page, Range},
};

const DELIVERIES: [&str; 2] = ["v1", "deliveries"];

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List deliveries, newest first
    List(List),
    /// Show a delivery with its attempts
    Get {
        /// Id of the delivery
        id: String,
    },
    /// Deliver once more, now; also what was given up
    Retry {
        /// Id of the delivery
        id: String,
    },
}

#[derive(Debug, clap::Args)]
struct List {
    /// Only deliveries in this state
    #[arg(long)]
    state: Option<State>,
    /// Only deliveries to this sink
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// Only deliveries about this job
    #[arg(long, value_name = "ID")]
    job: Option<String>,
    #[command(flatten)]
    range: Range,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum State {
    Pending,
    Succeeded,
    Exhausted,
}

/// What is read of a delivery here.
#[derive(Deserialize)]
struct Delivery {
    id: String,
    state: String,
    sink: String,
    #[serde(rename = "type")]
    kind: String,
    job_id: Option<String>,
    /// Tries that were begun.
    attempts: u64,
    created_at: String,
    /// None when it is over.
    next_at: Option<String>,
}

pub(crate) async fn run(args: Args, connection: &Connection, output: &Output) -> Result<(), Failure> {
    let client = Client::new(connection)?;
    match args.command {
        Command::List(args) => list(&args, &client, output).await,
        Command::Get { id } => {
            let reply = client.get(&["v1", "deliveries", &id]).await?;
            document::show(&reply.document, output)
        }
        Command::Retry { id } => {
            let reply = client.post(&["v1", "deliveries", &id, "retry"], &json!({})).await?;
            if !output.is_json() {
                output
                    .note(&format!("{id} is due now; `reelhook deliveries get {id}` shows what comes of it"));
            }
            document::show(&reply.document, output)
        }
    }
}

async fn list(args: &List, client: &Client, output: &Output) -> Result<(), Failure> {
    let request = client.request(Method::GET, &DELIVERIES).query(&args.query());
    let document = client.json(request).await?.document;
    if output.is_json() {
        return output.document(&document);
    }
    let page: Page<Delivery> = Page::read(&document)?;
    let rows = page.data.into_iter().map(|delivery| {
        [
            delivery.created_at,
            delivery.state,
            delivery.sink,
            delivery.kind,
            delivery.attempts.to_string(),
            delivery.next_at.unwrap_or_default(),
            delivery.job_id.unwrap_or_default(),
            delivery.id,
        ]
    });
    output.rows(["CREATED", "STATE", "SINK", "EVENT", "TRIES", "NEXT", "JOB", "ID"], rows)?;
    if let Some(cursor) = page.next_cursor {
        output.note(&format!("there are more: --cursor {cursor}"));
    }
    Ok(())
}

impl List {
    fn query(&self) -> Vec<(&'static str, String)> {
        let state = self.state.and_then(|state| clap::ValueEnum::to_possible_value(&state));
        let fields = [
            ("state", state.map(|state| state.get_name().to_owned())),
            ("sink", self.sink.clone()),
            ("job", self.job.clone()),
        ];
        let given = fields.into_iter().filter_map(|(name, value)| Some((name, value?)));
        given.chain(self.range.query()).collect()
    }
}
