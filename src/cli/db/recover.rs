//! `reelhook db recover`: what can be read of a damaged store, as an export.

use std::path::{Path, PathBuf};

use reelhook::{
    config::Config,
    entropy::Entropy,
    lifecycle::{JobId, TaskId},
    store::sled,
};

use super::{Exit, Failure, Output, Scratch, Target, now};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to, only for its owner to read; `-` is stdout
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    /// A task at the provider for which a job is to be made unless one is found; with the job's id where that is known, so
    /// that its callback URL and its idempotency key stay good
    #[arg(long = "task", value_name = "TASK[=JOB_ID]")]
    tasks: Vec<String>,
    /// File with such tasks, one a line
    #[arg(long, value_name = "FILE")]
    tasks_from: Option<PathBuf>,
    #[command(flatten)]
    scratch: Scratch,
}

pub(super) fn run(args: Args, config: &Config, output: &Output) -> Result<(), Failure> {
    let mut named = args.tasks;
    if let Some(path) = &args.tasks_from {
        named.extend(lines(path)?);
    }
    let tasks = named.iter().map(|task| parse(task)).collect::<Result<Vec<_>, _>>()?;
    let (scratch, model) = (args.scratch.scratch.as_deref(), &config.upstream.default_model);
    let recovered =
        Target::write(&args.file, |out| sled::recover(&config.store, scratch, &tasks, model, now(), out))?;
    if let Some(why) = &recovered.unopened {
        output.note(&format!("the store does not open ({why}): its log was searched for whole records"));
    }
    if recovered.unopened.is_some() && !recovered.counts.contains_key("kept") {
        output.note(
            "the secret of the callback URLs is lost, unless [callback] secrets names it: callbacks of earlier jobs will \
             not be known, and their tasks are asked about instead",
        );
    }
    output.note(&format!(
        "{} jobs were read whole, {} made anew from what is left of them, {} from the tasks that were named",
        recovered.read, recovered.rebuilt, recovered.asked
    ));
    output.note("`reelhook db import` makes a store of this where `[store] url` names an empty folder; keep the old folder");
    Ok(())
}

fn lines(path: &Path) -> Result<Vec<String>, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

fn parse(text: &str) -> Result<(JobId, TaskId), Failure> {
    let (task, id) = text.split_once('=').map_or((text, None), |(task, id)| (task, Some(id)));
    if task.is_empty() || task.chars().count() > 128 {
        return Err(Failure::usage(format!("`{text}`: a task's name has 1 to 128 characters")));
    }
    let id = match id {
        Some(id) => id.parse().map_err(|error| Failure::usage(format!("`{text}`: {error}")))?,
        None => fresh()?,
    };
    Ok((id, TaskId(task.to_owned())))
}

fn fresh() -> Result<JobId, Failure> {
    let unique = Entropy::system().bytes();
    let unique = unique.map_err(|error| Failure::new(Exit::Failure, format!("no id for a job: {error}")))?;
    Ok(JobId::new(now(), &unique))
}
