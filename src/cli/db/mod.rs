//! `reelhook db`: looks after the store while no server has it. The only commands that touch it.

mod check;
mod export;
mod import;
mod recover;
mod restore;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use reelhook::{
    clock::Clock,
    config::{Config, LoadOptions},
    lifecycle::Millis,
    store::{StoreError, transfer::TransferError},
};

use super::{
    config,
    exit::{Exit, Failure},
    output::Output,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
    /// Configuration file; its `[store] url` names the store
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Hold every rule of the store against all of it; changes nothing
    Check(check::Args),
    /// Write everything in the store as NDJSON, secrets included
    Export(export::Args),
    /// Make a new store of an export
    Import(import::Args),
    /// Write what can be read of a damaged store as an export, with jobs made anew where records are lost
    Recover(recover::Args),
    /// Make a new store of the continuous backup
    Restore(restore::Args),
}

/// Where the copy is made that is read in place of the store.
#[derive(Debug, clap::Args)]
struct Scratch {
    /// Folder for the copy that is read: as much space as the store takes; without it, beside the store
    #[arg(long, value_name = "FOLDER")]
    scratch: Option<PathBuf>,
}

pub(crate) fn run(args: Args, output: &Output) -> Result<(), Failure> {
    let overrides = match &args.command {
        Command::Restore(args) => args.overrides(),
        _ => Vec::new(),
    };
    let options = LoadOptions { path: args.config, overrides, ..LoadOptions::from_process() };
    let config = config::load_with(&options)?.config;
    if !matches!(args.command, Command::Import(_)) {
        needs_folder(&config)?;
    }
    match args.command {
        Command::Check(args) => check::run(args, &config, output),
        Command::Export(args) => export::run(args, &config, output),
        Command::Import(args) => import::run(args, &config, output),
        Command::Recover(args) => recover::run(args, &config, output),
        Command::Restore(_) => restore::run(&config, output),
    }
}

fn now() -> Millis {
    Millis(Clock::system().now_ms())
}

fn store_failure(error: StoreError) -> Failure {
    let exit = match &error {
        StoreError::Locked { .. } => Exit::StoreLocked,
        StoreError::Missing { .. } => Exit::NotFound,
        StoreError::NotEmpty { .. } | StoreError::Sealed { .. } | StoreError::Restored { .. } => {
            Exit::Conflict
        }
        _ => Exit::Failure,
    };
    Failure::new(exit, error.to_string())
}

fn failure(error: TransferError) -> Failure {
    match error {
        TransferError::Store(error) => store_failure(error),
        other => Failure::new(Exit::Failure, other.to_string()),
    }
}

/// Where an export goes: a file that only its owner may read, or stdout.
struct Target {
    path: Option<PathBuf>,
}

impl Target {
    /// Writes with `write`. A file is durable afterwards; one that is not whole is removed.
    fn write<T>(
        path: &Path,
        write: impl FnOnce(&mut (dyn Write + Send)) -> Result<T, TransferError>,
    ) -> Result<T, Failure> {
        let target = Self { path: (path != Path::new("-")).then(|| path.to_owned()) };
        let Some(path) = &target.path else {
            return write(&mut BufWriter::new(io::stdout())).map_err(failure);
        };
        let file = create(path)?;
        let mut out = BufWriter::new(file);
        let written = write(&mut out).and_then(|written| {
            out.flush()?;
            out.get_ref().sync_all()?;
            Ok(written)
        });
        written.map_err(|error| {
            // What is left is no export, and would only be in the way of the next one.
            drop(fs::remove_file(path));
            failure(error)
        })
    }
}

fn create(path: &Path) -> Result<File, Failure> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            let detail = format!("{} is there already and was not touched", path.display());
            Failure::new(Exit::Conflict, detail)
        }
        _ => Failure::usage(format!("cannot write {}: {error}", path.display())),
    })
}

/// The configured store, for messages.
fn place(config: &Config) -> String {
    match &config.database {
        Some(_) => "the database that [store] url names".to_owned(),
        None => config.store.path.display().to_string(),
    }
}

/// What looks at files has none to look at in a database.
fn needs_folder(config: &Config) -> Result<(), Failure> {
    match &config.database {
        None => Ok(()),
        Some(_) => Err(Failure::usage(
            "[store] url names a database: its own tools look after it (pg_dump, pg_basebackup, pg_amcheck), and its CHECKs \
             hold the rules of every record"
                .to_owned(),
        )),
    }
}
