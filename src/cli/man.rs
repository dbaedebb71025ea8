//! `reelhook man`: manual pages, made from what the command line itself says.

use std::{fs, path::PathBuf};

use clap::CommandFactory as _;

use super::{
    Cli,
    exit::{Exit, Failure},
    output::Output,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write the pages of all commands into this folder; without it, the main page goes to stdout
    #[arg(short, long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

pub(crate) fn run(args: Args, output: &Output) -> Result<(), Failure> {
    let Some(folder) = args.output else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command())
            .render(&mut page)
            .map_err(|error| Failure::new(Exit::Failure, format!("cannot make the page: {error}")))?;
        return output.raw(&String::from_utf8_lossy(&page));
    };
    fs::create_dir_all(&folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), &folder))
        .map_err(|error| Failure::usage(format!("cannot write to {}: {error}", folder.display())))?;
    output.note(&format!("the pages are in {0}: man -l {0}/reelhook.1", folder.display()));
    Ok(())
}
