//! `reelhook db import`: a new store of an export.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use reelhook::{config::Config, server, store::sled};
use serde_json::json;

use super::{Failure, Output, failure, now, place};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What `reelhook db export` or `recover` wrote; `-` is stdin
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
}

pub(super) fn run(args: Args, config: &Config, output: &Output) -> Result<(), Failure> {
    let input: Box<dyn BufRead> = if args.file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        let file = File::open(&args.file)
            .map_err(|error| Failure::usage(format!("cannot read {}: {error}", args.file.display())))?;
        Box::new(BufReader::new(file))
    };
    let imported = sled::import(&config.store, input, now(), &server::policy(config)).map_err(failure)?;
    if imported.held > 0 {
        output.note(&format!(
            "the export is a copy: {} jobs that were queued or being sent are held, for they may have been sent since; \
             decide with `reelhook jobs resolve`",
            imported.held
        ));
    }
    if output.is_json() {
        let place = place(config);
        output.document(&json!({ "store": place, "jobs": imported.jobs, "held": imported.held }))
    } else {
        output.line(&format!("imported {} jobs into {}", imported.jobs, place(config)))
    }
}
