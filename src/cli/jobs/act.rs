//! `reelhook jobs cancel`, `retry` and `resolve`.

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::cli::{
    client::{Client, Connection},
    exit::{Exit, Failure},
    job::Snapshot,
    output::Output,
    spend::Estimate,
};

#[derive(Debug, clap::Args)]
pub(super) struct Cancel {
    /// Id of the job
    id: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct Retry {
    /// Id of the job
    id: String,
    /// How
    #[arg(long)]
    mode: Mode,
    /// Agree to the spend of a resubmit
    #[arg(short, long)]
    yes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Ask the provider again; free
    Recheck,
    /// Fetch the video again; free
    Download,
    /// Submit again; paid
    Resubmit,
}

#[derive(Debug, clap::Args)]
pub(super) struct Resolve {
    /// Id of the job
    id: String,
    /// What to do with it
    #[arg(long)]
    action: Action,
    /// The provider's task, as its own pages show it
    #[arg(long, value_name = "ID", required_if_eq("action", "attach"))]
    task_id: Option<String>,
    /// Agree to the spend of a resubmit
    #[arg(short, long)]
    yes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Action {
    /// The provider took it: this is its task
    Attach,
    /// The provider did not take it: submit again; paid
    Resubmit,
    /// Give it up
    Fail,
}

pub(super) async fn cancel(args: Cancel, connection: &Connection, output: &Output) -> Result<(), Failure> {
    let client = Client::new(connection)?;
    let document = client.post(&["v1", "jobs", &args.id, "cancel"], &json!({})).await?.document;
    if document["upstream_may_still_charge"] == json!(true) {
        output.note("it was sent already: the provider may still charge for it");
    }
    told(document, output)
}

pub(super) async fn retry(args: Retry, connection: &Connection, output: &Output) -> Result<(), Failure> {
    let client = Client::new(connection)?;
    let body = json!({ "mode": name(args.mode) });
    if args.mode == Mode::Resubmit {
        agree(&client, &args.id, args.yes, output).await?;
    }
    act(&client, &args.id, "retry", &body, output).await
}

pub(super) async fn resolve(args: Resolve, connection: &Connection, output: &Output) -> Result<(), Failure> {
    let client = Client::new(connection)?;
    let mut body = json!({ "action": name(args.action) });
    match (args.action, args.task_id) {
        (Action::Attach, Some(task_id)) => body["task_id"] = task_id.into(),
        (_, None) => {}
        (_, Some(_)) => return Err(Failure::usage("--task-id goes with --action attach")),
    }
    if args.action == Action::Resubmit {
        agree(&client, &args.id, args.yes, output).await?;
    }
    act(&client, &args.id, "resolve", &body, output).await
}

/// Prices the job's input once more and has the spend agreed to.
async fn agree(client: &Client, id: &str, yes: bool, output: &Output) -> Result<(), Failure> {
    let job = Snapshot::get(client, id).await?.document;
    let body = json!({ "input": job["input"] });
    let priced = client.post(&["v1", "jobs", "estimate"], &body).await?;
    Estimate::read(&priced.document)?.agree(output, yes, "--yes")
}

async fn act(client: &Client, id: &str, what: &str, body: &Value, output: &Output) -> Result<(), Failure> {
    let answer =
        client.post(&["v1", "jobs", id, what], body).await.map_err(|failure| match failure.exit {
            Exit::Unreachable => {
                failure.and("whether it was done is unknown, the same command again does it only once")
            }
            _ => failure,
        })?;
    told(answer.document, output)
}

/// The job that the server answered with: the same one, or its successor.
fn told(document: Value, output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.document(&document);
    }
    match (document["id"].as_str(), document["status"].as_str()) {
        (Some(id), Some(status)) => output.rows(["ID", "STATUS"], [[id.to_owned(), status.to_owned()]]),
        _ => Ok(()),
    }
}

fn name(choice: impl ValueEnum) -> String {
    choice.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
