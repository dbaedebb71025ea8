//! `reelhook keys`: makes, lists and revokes API keys, in the file that the server reads.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use reelhook::keys::{KeyFile, KeyFileError, Record, Scope};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::{
    config,
    exit::{Exit, Failure},
    output::Output,
    time,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
    /// The key file; without it, `auth.keys_file` of the configuration
    #[arg(long, global = true, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Configuration file
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a key and print it: the only time that it can be seen
    Create(Create),
    /// Show names, scopes and expiry
    List,
    /// Take a key's rights away
    Revoke {
        /// Name of the key
        name: String,
    },
}

#[derive(Debug, clap::Args)]
struct Create {
    /// What the key is called
    #[arg(long)]
    name: String,
    /// What it may do: submit, read, operate, admin; several with commas
    #[arg(long, value_delimiter = ',', required = true, value_parser = scope)]
    scopes: Vec<Scope>,
    /// How long it is good; without it, for ever
    #[arg(long, value_name = "SPAN", value_parser = time::span)]
    expires: Option<Duration>,
}

pub(crate) fn run(args: Args, output: &Output) -> Result<(), Failure> {
    let file = match args.file {
        Some(file) => file,
        None => configured(args.config)?,
    };
    match args.command {
        Command::Create(create) => create.run(&file, output),
        Command::List => list(&file, output),
        Command::Revoke { name } => {
            KeyFile::revoke(&file, &name).map_err(failure)?;
            output.note(&format!("`{name}` is revoked in {}", file.display()));
            Ok(())
        }
    }
}

impl Create {
    fn run(self, file: &Path, output: &Output) -> Result<(), Failure> {
        let now = Timestamp::now();
        let expires_at = self.expires.map(|span| expiry(now, span)).transpose()?;
        let scopes: BTreeSet<Scope> = self.scopes.into_iter().collect();
        let key = KeyFile::create(file, &self.name, scopes.clone(), now, expires_at).map_err(failure)?;
        output
            .note(&format!("this is the only time that the key is shown; {} keeps its hash", file.display()));
        if output.is_json() {
            let expires_at = expires_at.map(time::rfc3339);
            let document = json!({ "name": self.name, "key": key.expose_secret(), "scopes": scopes, "expires_at": expires_at });
            output.document(&document)
        } else {
            output.line(key.expose_secret())
        }
    }
}

fn list(file: &Path, output: &Output) -> Result<(), Failure> {
    let keys = KeyFile::load(file).map_err(failure)?;
    let now = Timestamp::now();
    if output.is_json() {
        return keys.keys().iter().try_for_each(|key| output.record(&record(key, now)));
    }
    let rows = keys.keys().iter().map(|key| {
        let scopes: Vec<String> = key.scopes.iter().map(Scope::to_string).collect();
        let expires = match key.expires_at {
            None => "never".to_owned(),
            Some(end) if key.is_expired(now) => format!("{} (expired)", time::rfc3339(end)),
            Some(end) => time::rfc3339(end),
        };
        [key.name.clone(), scopes.join(","), time::rfc3339(key.created_at), expires]
    });
    output.rows(["NAME", "SCOPES", "CREATED", "EXPIRES"], rows)
}

fn record(key: &Record, now: Timestamp) -> Value {
    json!({
        "name": key.name,
        "scopes": key.scopes,
        "created_at": time::rfc3339(key.created_at),
        "expires_at": key.expires_at.map(time::rfc3339),
        "expired": key.is_expired(now),
    })
}

fn configured(path: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let file = config::load(path)?.config.auth.keys_file;
    file.ok_or_else(|| Failure::usage("no key file is configured: set `auth.keys_file` or give --file"))
}

fn expiry(now: Timestamp, span: Duration) -> Result<Timestamp, Failure> {
    let end = SignedDuration::try_from(span).and_then(|span| now.checked_add(span));
    end.map_err(|_| Failure::usage("--expires is too far away"))
}

fn scope(text: &str) -> Result<Scope, String> {
    [Scope::Submit, Scope::Read, Scope::Operate, Scope::Admin]
        .into_iter()
        .find(|scope| scope.to_string() == text)
        .ok_or_else(|| "submit, read, operate or admin is wanted".to_owned())
}

fn failure(error: KeyFileError) -> Failure {
    let exit = match error {
        KeyFileError::NameTaken(_) => Exit::Conflict,
        KeyFileError::NotFound(_) => Exit::NotFound,
        KeyFileError::Random(_) => Exit::Failure,
        _ => Exit::Usage,
    };
    Failure::new(exit, error.to_string())
}
