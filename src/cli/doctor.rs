//! `reelhook doctor`: whether everything works that the server needs, and what to do where it does not. The server looks
//! itself where one runs; otherwise what needs none is looked at from here.

use std::{path::PathBuf, time::Duration};

use reelhook::{
    config::{self, LoadOptions, Loaded, Origin, Problem},
    doctor::{Check, Verdict, offline},
};
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use super::{
    client::{Client, Connection},
    config::warnings,
    exit::{Exit, Failure},
    output::Output,
};

const CONFIG: &str = "config";
const SERVER: &str = "server";
/// Longer than any check takes: the server waits for its sinks and its provider.
const PATIENCE: Duration = Duration::from_mins(3);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What is read of the server's answer.
#[derive(Deserialize)]
struct Report {
    checks: Vec<Check>,
}

pub(crate) async fn run(args: Args, connection: &Connection, output: &Output) -> Result<(), Failure> {
    let loaded = config::load(&LoadOptions { path: args.config, ..LoadOptions::from_process() });
    let mut checks = match &loaded {
        Ok(loaded) => configuration(loaded),
        Err(error) => error.problems.iter().map(|problem| wrong(problem, Verdict::Failed)).collect(),
    };
    let client = Client::new(connection)?;
    match ask(&client).await {
        Ok(report) => checks.extend(report),
        Err(failure) if failure.exit == Exit::Unreachable => {
            checks.push(Check::warning(
                SERVER,
                format!("none runs at {}: what needs none was looked at from here", client.base()),
                "start `reelhook serve`, or name where it runs with --server",
            ));
            if let Ok(loaded) = &loaded {
                checks.extend(offline::examine(&loaded.config).await);
            }
        }
        Err(failure) => checks.push(Check::failed(
            SERVER,
            format!("it runs at {} and does not look: {failure}", client.base()),
            "give a key with the scope `operate` by --key-file or $REELHOOK_API_KEY",
        )),
    }
    show(&checks, output)
}

async fn ask(client: &Client) -> Result<Vec<Check>, Failure> {
    let request = client.request(Method::POST, &["v1", "doctor"]).json(&json!({}));
    let document = client.json_within(request, PATIENCE).await?.document;
    let report: Report = serde_json::from_value(document).map_err(|error| {
        Failure::new(Exit::Failure, format!("its answer is not one that this version knows: {error}"))
    })?;
    Ok(report.checks)
}

/// The configuration as it is read here; the server's own may come from another environment.
fn configuration(loaded: &Loaded) -> Vec<Check> {
    let set: Vec<(String, Origin)> =
        loaded.set().map(|(key, origin)| (key.to_owned(), origin.clone())).collect();
    let file = set.iter().find_map(|(_, origin)| match origin {
        Origin::File { path, .. } => Some(path.display().to_string()),
        _ => None,
    });
    let in_file = set.iter().filter(|(_, origin)| matches!(origin, Origin::File { .. })).count();
    let by_file = file.map(|file| format!("{in_file} keys are set by {file}"));
    let elsewhere = (set.len() > in_file).then(|| format!("{} elsewhere", set.len() - in_file));
    let said: Vec<String> = by_file.into_iter().chain(elsewhere).collect();
    let said = if said.is_empty() { "every key has its default".to_owned() } else { said.join(", ") };
    let detail = format!("is good: {said}; `reelhook config show --origin` shows which");
    let warnings = warnings(loaded);
    // Each of these has a check of its own, which says more; and the server may have a credential that is not seen here.
    let others = warnings
        .iter()
        .filter(|warning| !["callback.public_url", "upstream.api_key"].contains(&&*warning.key));
    [Check::ok(CONFIG, detail)]
        .into_iter()
        .chain(others.map(|warning| wrong(warning, Verdict::Warning)))
        .collect()
}

fn wrong(problem: &Problem, verdict: Verdict) -> Check {
    let fix = match problem.default() {
        Some(default) => format!("correct it, or leave it out: the default is {default}"),
        None => "correct it; `reelhook config show --origin` tells what is in force".to_owned(),
    };
    Check { verdict, ..Check::failed(CONFIG, problem.to_string(), fix) }
}

fn show(checks: &[Check], output: &Output) -> Result<(), Failure> {
    let failed = checks.iter().filter(|check| check.verdict == Verdict::Failed).count();
    if output.is_json() {
        output.document(&json!({ "ok": failed == 0, "checks": checks }))?;
    } else {
        for Check { name, verdict, detail, fix } in checks {
            output.line(&format!("{:<7}  {name:<10}  {detail}", verdict.as_str()))?;
            if let Some(fix) = fix {
                output.line(&format!("{:21}→ {fix}", ""))?;
            }
        }
    }
    match failed {
        0 => Ok(()),
        1 => Err(Failure::new(Exit::Failure, "a check failed; nothing was spent")),
        count => Err(Failure::new(Exit::Failure, format!("{count} checks failed; nothing was spent"))),
    }
}
