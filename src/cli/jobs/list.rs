//! `reelhook jobs list`.

use jiff::Timestamp;
use reqwest::Method;
use serde::Deserialize;

use crate::cli::{
    client::{Client, Connection},
    exit::{Exit, Failure},
    job::{Job, Status},
    output::Output,
    time,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only jobs in this state
    #[arg(long)]
    status: Option<Status>,
    /// Only jobs in this phase
    #[arg(long)]
    phase: Option<String>,
    /// Only jobs of this model
    #[arg(long)]
    model: Option<String>,
    /// Only jobs with this tag
    #[arg(long)]
    tag: Option<String>,
    /// Only jobs that ended `via` callback or poll
    #[arg(long)]
    via: Option<String>,
    /// Only jobs created since: a span before now or a time
    #[arg(long, value_name = "WHEN", value_parser = time::past)]
    created_after: Option<Timestamp>,
    /// Only jobs created until: a span before now or a time
    #[arg(long, value_name = "WHEN", value_parser = time::past)]
    created_before: Option<Timestamp>,
    /// Only jobs that contain this text
    #[arg(short, long = "query", value_name = "TEXT")]
    q: Option<String>,
    /// How many at most
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=250))]
    limit: u16,
    /// Go on where an earlier list ended
    #[arg(long)]
    cursor: Option<String>,
}

#[derive(Deserialize)]
struct Page {
    data: Vec<Job>,
    next_cursor: Option<String>,
}

pub(super) async fn run(args: Args, connection: &Connection, output: &Output) -> Result<(), Failure> {
    let client = Client::new(connection)?;
    let request = client.request(Method::GET, &["v1", "jobs"]).query(&args.query());
    let document = client.json(request).await?.document;
    if output.is_json() {
        return output.document(&document);
    }
    let page: Page = serde_json::from_value(document).map_err(|error| {
        Failure::new(
            Exit::Failure,
            format!("the server's answer is not a list that this version reads: {error}"),
        )
    })?;
    let rows = page.data.into_iter().map(|job| {
        let prompt = job.beginning();
        let row = [
            job.created_at.map(time::rfc3339).unwrap_or_default(),
            job.status.as_str().to_owned(),
            job.phase.clone(),
            job.credits().map(|credits| credits.to_string()).unwrap_or_default(),
            job.model.unwrap_or_default(),
            job.id,
        ];
        (row, prompt)
    });
    let headings = ["CREATED", "STATUS", "PHASE", "CREDITS", "MODEL", "ID"];
    output.rows_with(headings, "PROMPT", rows)?;
    if let Some(cursor) = page.next_cursor {
        output.note(&format!("there are more: --cursor {cursor}"));
    }
    Ok(())
}

impl Args {
    fn query(&self) -> Vec<(&'static str, String)> {
        let text = |value: &Option<String>| value.clone();
        let time = |value: Option<Timestamp>| value.map(time::rfc3339);
        let fields = [
            ("status", self.status.map(|status| status.as_str().to_owned())),
            ("phase", text(&self.phase)),
            ("model", text(&self.model)),
            ("tag", text(&self.tag)),
            ("via", text(&self.via)),
            ("created_after", time(self.created_after)),
            ("created_before", time(self.created_before)),
            ("q", text(&self.q)),
            ("limit", Some(self.limit.to_string())),
            ("cursor", text(&self.cursor)),
        ];
        fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}
