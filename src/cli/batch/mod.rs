//! `reelhook submit --from`: a file of jobs. All of it is checked and priced before anything is sent, and each line
//! carries a key of its own, so that running it again spends nothing.

mod finish;
mod lines;
mod price;
mod report;
mod send;

use std::{fs, io, path::PathBuf, time::Duration};

use futures_util::{StreamExt as _, stream};
use serde_json::{Map, Value};

use self::{
    finish::{Finishing, News},
    lines::{Broken, Common},
    price::Priced,
    report::Report,
    send::Sender,
};
use super::{
    client::Client,
    exit::{Exit, Failure},
    output::Output,
    spend::{self, Estimate},
};

const JOBS: [&str; 2] = ["v1", "jobs"];
const ESTIMATE: [&str; 3] = ["v1", "jobs", "estimate"];
/// Requests under way.
const AT_ONCE: usize = 8;

/// What to do with a file of jobs.
#[derive(Debug)]
pub(crate) struct Order {
    /// The file, `-` for stdin.
    pub(crate) from: PathBuf,
    /// Goes into the keys of lines that have none of their own.
    pub(crate) name: String,
    pub(crate) tags: Vec<String>,
    pub(crate) metadata: Map<String, Value>,
    /// For each job.
    pub(crate) max_credits: Option<u64>,
    pub(crate) max_total_credits: Option<u64>,
    /// How long to wait for the ends of the jobs.
    pub(crate) wait: Option<Duration>,
    /// Where to put their videos.
    pub(crate) folder: Option<PathBuf>,
    pub(crate) dry_run: bool,
    /// The spend is agreed to.
    pub(crate) agreed: bool,
}

pub(crate) async fn run(order: Order, client: &Client, output: &Output) -> Result<(), Failure> {
    if let Some(folder) = &order.folder {
        fs::create_dir_all(folder).map_err(|error| {
            Failure::usage(format!("cannot make the folder {}: {error}", folder.display()))
        })?;
    }
    let priced = order.price(client, output).await?;
    let total = Estimate::total(priced.iter().map(|priced| &priced.estimate));
    if order.dry_run {
        return dry_run(&priced, &total, output);
    }
    order.within_limits(&priced, &total)?;
    if priced.is_empty() {
        output.note("there is no job in the file");
        return Ok(());
    }
    let what = format!(
        "{} at most, for {} jobs; a line that was submitted before costs nothing again",
        total.describe(),
        priced.len()
    );
    spend::agree(output, &what, &total.price(), order.agreed, "--yes, --max-credits or --max-total-credits")?;
    let finishing = match order.wait {
        Some(limit) => Some(Finishing::begin(client, output, limit, order.folder).await?),
        None => None,
    };
    submit(priced, order.max_total_credits, finishing, client, output).await
}

/// Sends all lines and tells of each as it is done.
async fn submit(
    priced: Vec<Priced>,
    limit: Option<u64>,
    mut finishing: Option<Finishing<'_>>,
    client: &Client,
    output: &Output,
) -> Result<(), Failure> {
    let sender = Sender::new(client, output, limit);
    let mut report = Report::new(output, priced.len());
    let mut sending =
        Box::pin(stream::iter(priced).map(|priced| sender.send(priced)).buffer_unordered(AT_ONCE));
    let mut interrupted = Box::pin(tokio::signal::ctrl_c());
    let mut all_sent = false;
    while !all_sent || finishing.as_ref().is_some_and(Finishing::is_waiting) {
        tokio::select! {
            sent = sending.next(), if !all_sent => match sent {
                None => all_sent = true,
                Some(None) => {}
                Some(Some(sent)) => match &mut finishing {
                    Some(finishing) => finishing.sent(sent, &mut report).await?,
                    None => report.sent(sent)?,
                },
            },
            news = Finishing::next(&mut finishing) => match (news?, &mut finishing) {
                (News::TimeIsUp, _) => {
                    sender.stop(Exit::StillRunning, "the wait is over");
                    break;
                }
                (news, Some(finishing)) => finishing.heard(&news, &mut report).await?,
                (_, None) => {}
            },
            _ = &mut interrupted => {
                sender.stop(Exit::StillRunning, "interrupted");
                break;
            }
        }
    }
    if let Some(finishing) = finishing {
        finishing.leave(&mut report)?;
    }
    report.verdict(sender.stopped())
}

impl Order {
    /// Reads, checks and prices the file; every broken line is named, and then nothing is sent.
    async fn price(&self, client: &Client, output: &Output) -> Result<Vec<Priced>, Failure> {
        let text = if self.from.as_os_str() == "-" {
            io::read_to_string(io::stdin())
        } else {
            fs::read_to_string(&self.from)
        };
        let text =
            text.map_err(|error| Failure::usage(format!("cannot read {}: {error}", self.from.display())))?;
        let common = Common { tags: self.tags.clone(), metadata: self.metadata.clone() };
        let (lines, mut broken) = lines::read(&text, &self.name, &common);
        let (priced, refused) = price::price(lines, client, output).await?;
        broken.extend(refused);
        if broken.is_empty() {
            return Ok(priced);
        }
        broken.sort_by_key(|line| line.number);
        for Broken { number, why } in &broken {
            output.note(&format!("line {number}: {why}"));
        }
        let numbers: Vec<String> = broken.iter().map(|line| line.number.to_string()).collect();
        let which = if broken.len() == 1 { "line" } else { "lines" };
        let detail = format!(
            "{which} {} cannot be submitted; nothing was sent and nothing was spent",
            numbers.join(", ")
        );
        Err(Failure::usage(detail))
    }

    fn within_limits(&self, priced: &[Priced], total: &Estimate) -> Result<(), Failure> {
        let budget = |detail: String| {
            Failure::new(Exit::Budget, format!("{detail}; nothing was sent and nothing was spent"))
        };
        if let Some(limit) = self.max_credits
            && let Some(dear) = priced.iter().find(|priced| priced.estimate.credits() > limit)
        {
            let (number, price) = (dear.line.number, dear.estimate.price());
            return Err(budget(format!("line {number} would cost {price}, more than --max-credits {limit}")));
        }
        match self.max_total_credits {
            Some(limit) if total.credits() > limit => Err(budget(format!(
                "the file would cost {}, more than --max-total-credits {limit}",
                total.price()
            ))),
            _ => Ok(()),
        }
    }
}

fn dry_run(priced: &[Priced], total: &Estimate, output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        priced.iter().try_for_each(|priced| output.record(&priced.record()))?;
    } else {
        let rows = priced.iter().map(|priced| [priced.line.number.to_string(), priced.estimate.describe()]);
        output.rows(["LINE", "PRICE"], rows)?;
    }
    output.note(&format!("{} at most, for {} jobs", total.describe(), priced.len()));
    Ok(())
}
