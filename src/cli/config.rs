//! `reelhook config`: makes, checks and shows the configuration.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use reelhook::{
    config::{self, LoadOptions, Loaded, Origin, Problem},
    keys::KeyFile,
};
use serde_json::{Map, Value, json};

use super::{
    exit::{Exit, Failure},
    output::Output,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
    /// Configuration file
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Write a configuration file with every key, its default and what it means
    Init {
        /// Where to; `-` is stdout
        #[arg(default_value = "reelhook.toml")]
        path: PathBuf,
    },
    /// Say everything that is wrong with the configuration
    Check,
    /// Print the JSON Schema of the configuration file
    Schema,
    /// Show the configuration in force
    Show {
        /// And where each value comes from
        #[arg(long)]
        origin: bool,
    },
}

pub(crate) fn run(args: Args, output: &Output) -> Result<(), Failure> {
    match args.command {
        Command::Init { path } => init(&path, output),
        Command::Check => check(args.config, output),
        Command::Schema => output.document(&config::json_schema()),
        Command::Show { origin } => show(&load(args.config)?, origin, output),
    }
}

/// The configuration in force, or one line with all of its problems.
pub(crate) fn load(path: Option<PathBuf>) -> Result<Loaded, Failure> {
    load_with(&options(path))
}

/// The same, with flags.
pub(crate) fn load_with(options: &LoadOptions) -> Result<Loaded, Failure> {
    config::load(options).map_err(|error| {
        let problems: Vec<String> = error.problems.iter().map(Problem::to_string).collect();
        Failure::usage(format!("the configuration cannot be used: {}", problems.join(" · ")))
    })
}

fn options(path: Option<PathBuf>) -> LoadOptions {
    LoadOptions { path, ..LoadOptions::from_process() }
}

fn init(path: &Path, output: &Output) -> Result<(), Failure> {
    if path == Path::new("-") {
        return output.raw(config::EXAMPLE);
    }
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| file.write_all(config::EXAMPLE.as_bytes()).and_then(|()| file.sync_all()));
    match written {
        Ok(()) if output.is_json() => output.document(&json!({ "file": path })),
        Ok(()) => output.line(&path.to_string_lossy()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let detail = format!("{} is there already and was not touched", path.display());
            Err(Failure::new(Exit::Conflict, detail))
        }
        Err(error) => Err(Failure::usage(format!("cannot write {}: {error}", path.display()))),
    }
}

fn check(path: Option<PathBuf>, output: &Output) -> Result<(), Failure> {
    let (problems, warnings) = match config::load(&options(path)) {
        Ok(loaded) => (Vec::new(), warnings(&loaded)),
        Err(error) => (error.problems, Vec::new()),
    };
    if output.is_json() {
        let list = |problems: &[Problem]| problems.iter().map(document).collect::<Value>();
        let ok = problems.is_empty();
        output.document(&json!({ "ok": ok, "problems": list(&problems), "warnings": list(&warnings) }))?;
    } else {
        for problem in &problems {
            let default = problem.default().map(|default| format!("; the default is {default}"));
            output.line(&format!("problem: {problem}{}", default.unwrap_or_default()))?;
        }
        for warning in &warnings {
            output.line(&format!("warning: {warning}"))?;
        }
        if problems.is_empty() && warnings.is_empty() {
            output.line("the configuration is good")?;
        }
    }
    match problems.len() {
        0 => Ok(()),
        1 => Err(Failure::usage("the configuration has a problem")),
        count => Err(Failure::usage(format!("the configuration has {count} problems"))),
    }
}

/// What deserves a look: of the configuration itself, and of the key file that it names.
pub(crate) fn warnings(loaded: &Loaded) -> Vec<Problem> {
    let mut warnings = loaded.warnings.clone();
    let auth = &loaded.config.auth;
    let (Some(path), None) = (&auth.keys_file, &auth.bootstrap_admin_key) else { return warnings };
    let message = match KeyFile::load_or_empty(path) {
        Ok(file) if !file.keys().is_empty() => return warnings,
        Ok(_) => format!(
            "{} holds no key, so nobody can use the API: `reelhook keys create` makes one",
            path.display()
        ),
        Err(error) => error.to_string(),
    };
    let key = "auth.keys_file";
    warnings.push(Problem { key: key.to_owned(), origin: loaded.origin(key).clone(), message });
    warnings
}

fn document(problem: &Problem) -> Value {
    let (file, line) = match &problem.origin {
        Origin::File { path, line } => (Some(path), Some(line)),
        _ => (None, None),
    };
    json!({
        "key": problem.key,
        "origin": problem.origin.to_string(),
        "file": file,
        "line": line,
        "message": problem.message,
        "default": problem.default(),
    })
}

fn show(loaded: &Loaded, origin: bool, output: &Output) -> Result<(), Failure> {
    if !output.is_json() {
        return output.raw(&loaded.show(origin));
    }
    let table: toml::Table = loaded.show(false).parse().map_err(|error| {
        Failure::new(Exit::Failure, format!("the configuration cannot be shown: {error}"))
    })?;
    let values = json!(table);
    if !origin {
        return output.document(&values);
    }
    let mut rows = Map::new();
    with_origins("", &values, loaded, &mut rows);
    output.document(&Value::Object(rows))
}

/// `{"server.listen": {"value": …, "origin": …}}`: flat, since a value is what has an origin.
fn with_origins(path: &str, value: &Value, loaded: &Loaded, rows: &mut Map<String, Value>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                with_origins(&path, value, loaded, rows);
            }
        }
        value => {
            let origin = loaded.origin(path).to_string();
            rows.insert(path.to_owned(), json!({ "value": value, "origin": origin }));
        }
    }
}
