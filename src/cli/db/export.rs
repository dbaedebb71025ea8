//! `reelhook db export`: everything in the store, as NDJSON.

use std::path::PathBuf;

use reelhook::{config::Config, store::sled};

use super::{Exit, Failure, Output, Scratch, Target, now};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to, only for its owner to read; `-` is stdout
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    /// Seal the store: no server starts on it again, and the import goes on where it stopped
    #[arg(long = "move")]
    moved: bool,
    #[command(flatten)]
    scratch: Scratch,
}

pub(super) fn run(args: Args, config: &Config, output: &Output) -> Result<(), Failure> {
    let scratch = args.scratch.scratch.as_deref();
    let exported =
        Target::write(&args.file, |out| sled::export(&config.store, scratch, args.moved, now(), out))?;
    let count = |kind: &str| exported.counts.get(kind).copied().unwrap_or(0);
    output.note(&format!(
        "exported {} jobs, {} events, {} callbacks; the export holds the store's secrets",
        count("job"),
        count("event"),
        count("callback")
    ));
    if args.moved {
        output.note("the store is sealed: `reelhook serve` refuses it from now on");
    }
    match exported.damaged {
        0 => Ok(()),
        damaged => {
            let detail = format!(
                "the export is whole, and {damaged} values in it are damaged and kept as they are; `reelhook db recover` \
                 makes jobs anew where their records are lost"
            );
            Err(Failure::new(Exit::Failure, detail))
        }
    }
}
