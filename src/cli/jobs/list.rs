//! `reelhook jobs list`.

use jiff::Timestamp;
use reqwest::Method;

use crate::cli::{
    client::{Client, Connection},
    exit::Failure,
    job::{Job, Status},
    output::Output,
    page::{Page, Range},
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
    #[command(flatten)]
    range: Range,
}

pub(super) async fn run(args: Args, connection: &Connection, output: &Output) -> Result<(), Failure> {
    let client = Client::new(connection)?;
    let request = client.request(Method::GET, &["v1", "jobs"]).query(&args.query());
    let document = client.json(request).await?.document;
    if output.is_json() {
        return output.document(&document);
    }
    let page: Page<Job> = Page::read(&document)?;
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
        ];
        let given = fields.into_iter().filter_map(|(name, value)| Some((name, value?)));
        given.chain(self.range.query()).collect()
    }
}
