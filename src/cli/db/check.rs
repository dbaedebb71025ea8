//! `reelhook db check`: holds every rule of the store against all of it.

use reelhook::{
    config::Config,
    store::sled::{self, Report},
};
use serde_json::json;

use super::{Exit, Failure, Output, Scratch, place, store_failure};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    scratch: Scratch,
}

pub(super) fn run(args: Args, config: &Config, output: &Output) -> Result<(), Failure> {
    let report = sled::check(&config.store, args.scratch.scratch.as_deref()).map_err(store_failure)?;
    let found = report.findings.len() as u64 + report.more;
    if output.is_json() {
        let Report { findings, more, notes, counts } = &report;
        let ok = found == 0;
        output.document(
            &json!({ "ok": ok, "findings": findings, "more": more, "notes": notes, "counts": counts }),
        )?;
    } else {
        for finding in &report.findings {
            output.line(&format!("{}: {}; {}", finding.key, finding.what, finding.to_do))?;
        }
        report.notes.iter().for_each(|note| output.note(&format!("note: {note}")));
        if found == 0 {
            let jobs = report.counts.get("jobs").copied().unwrap_or(0);
            let events = report.counts.get("events").copied().unwrap_or(0);
            output.line(&format!("the store is well: {jobs} jobs, {events} events"))?;
        }
    }
    match found {
        0 => Ok(()),
        1 => Err(Failure::new(Exit::Failure, format!("the store at {} breaks a rule", place(config)))),
        _ => {
            let detail = format!("the store at {} breaks {found} rules", place(config));
            Err(Failure::new(Exit::Failure, detail))
        }
    }
}
