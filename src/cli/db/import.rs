//! `reelhook db import`: a new store of an export.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

#[cfg(feature = "postgres")]
use reelhook::store::postgres;
use reelhook::{
    config::{self, Config},
    server,
    store::{sled, transfer::Imported},
};
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
    let imported = match &config.database {
        Some(database) => into_database(database, input, config)?,
        None => sled::import(&config.store, input, now(), &server::policy(config)).map_err(failure)?,
    };
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

/// Into a database, which has to be empty as well.
#[cfg(feature = "postgres")]
fn into_database(
    database: &config::Database,
    input: Box<dyn BufRead>,
    config: &Config,
) -> Result<Imported, Failure> {
    let policy = server::policy(config);
    // The lines are read where blocking is allowed.
    let imported = tokio::task::block_in_place(|| {
        tokio::runtime::Handle::current().block_on(postgres::import(database, input, now(), &policy))
    });
    imported.map_err(failure)
}

#[cfg(not(feature = "postgres"))]
fn into_database(_: &config::Database, _: Box<dyn BufRead>, _: &Config) -> Result<Imported, Failure> {
    Err(Failure::usage("this build knows nothing of PostgreSQL".to_owned()))
}
