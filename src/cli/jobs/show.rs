//! `reelhook jobs get` and `watch`.

use std::time::Duration;

use serde_json::Value;

use crate::cli::{
    client::{Client, Connection},
    exit::Failure,
    follow::follow,
    job::Snapshot,
    output::Output,
    progress::Progress,
    time,
};

#[derive(Debug, clap::Args)]
pub(super) struct Get {
    /// Id of the job
    id: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct Watch {
    /// Id of the job
    id: String,
    /// Stop watching after so long; without it, at the end of the job
    #[arg(long, value_name = "SPAN", value_parser = time::span)]
    timeout: Option<Duration>,
}

pub(super) async fn get(args: Get, connection: &Connection, output: &Output) -> Result<(), Failure> {
    let snapshot = Snapshot::get(&Client::new(connection)?, &args.id).await?;
    show(&snapshot, output)
}

pub(super) async fn watch(args: Watch, connection: &Connection, output: &Output) -> Result<(), Failure> {
    let client = Client::new(connection)?;
    let snapshot = Snapshot::get(&client, &args.id).await?;
    let mut progress = Progress::new(output);
    let last = follow(&client, snapshot, args.timeout, &mut progress, |snapshot| {
        if output.is_json() {
            output.record(&snapshot.document)?;
        }
        Ok(!output.is_closed())
    })
    .await?;
    drop(progress);
    if output.is_closed() {
        return Ok(());
    }
    if !output.is_json() {
        show(&last, output)?;
    }
    last.job.outcome()
}

/// A job as a document, or one line a field that has something to say.
fn show(snapshot: &Snapshot, output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.document(&snapshot.document);
    }
    let fields = snapshot.document.as_object().into_iter().flatten();
    let rows = fields.filter(|(_, value)| !is_empty(value)).flat_map(|(name, value)| {
        // Of several sentences each has its own line.
        let texts = value.as_array().filter(|items| items.iter().all(Value::is_string));
        let texts = texts.map_or_else(|| vec![text(value)], |items| items.iter().map(text).collect());
        texts.into_iter().map(|text| [name.clone(), text])
    });
    output.rows(["FIELD", "VALUE"], rows)
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}
