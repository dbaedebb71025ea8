//! `reelhook jobs get` and `watch`.

use std::time::Duration;

use crate::cli::{
    client::{Client, Connection},
    document,
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
    document::show(&snapshot.document, output)
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
        document::show(&last.document, output)?;
    }
    last.job.outcome()
}
