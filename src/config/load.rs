//! From the layers to a checked [`Config`], and back to a text that shows what is in force.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
};

use super::{
    Config,
    check::{self, Checker},
    file::File,
    report::{ConfigError, Origin, Problem},
    schema::{EXAMPLE, Key, Schema},
    secrets::Digest,
    sources::{Entry, Layers},
};

/// What a configuration is loaded from. The environment is handed in, so that tests need none of the process.
#[derive(Clone)]
pub struct LoadOptions {
    /// The file of `--config`. Must exist when given.
    pub path: Option<PathBuf>,
    /// Flags that set keys, as (`server.listen`, text); lists are comma separated.
    pub overrides: Vec<(String, String)>,
    /// Environment variables. Those that begin with `REELHOOK_` must be known;
    /// `CREDENTIALS_DIRECTORY` is where systemd puts credentials.
    pub env: Vec<(String, String)>,
    /// What relative paths are relative to.
    pub cwd: PathBuf,
    /// The file that is read when no other is named or found.
    pub system_file: PathBuf,
}

impl Default for LoadOptions {
    /// No flags, no environment, the working directory of the process.
    fn default() -> Self {
        Self {
            path: None,
            overrides: Vec::new(),
            env: Vec::new(),
            cwd: PathBuf::new(),
            system_file: PathBuf::from("/etc/reelhook/reelhook.toml"),
        }
    }
}

impl LoadOptions {
    /// The environment and working directory of this process, without flags.
    pub fn from_process() -> Self {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        Self {
            env: std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect(),
            cwd: std::env::current_dir().unwrap_or_default(),
            ..Self::default()
        }
    }

    /// A variable's value; one that is set to nothing counts as not set.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        let (_, value) = self.env.iter().find(|(key, _)| key == name)?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }
}

/// A configuration that can be used.
#[derive(Debug)]
pub struct Loaded {
    /// What is in force.
    pub config: Config,
    /// What deserves a look; nothing here keeps the server from starting.
    pub warnings: Vec<Problem>,
    /// Where each key got its value from, unless that is the default.
    origins: BTreeMap<String, Origin>,
    typed: File,
    digests: BTreeMap<String, Digest>,
}

impl Loaded {
    /// Where the value of a key (`server.listen`) came from. A key that nobody set has its default, which may be none.
    pub fn origin(&self, key: &str) -> &Origin {
        self.origins.get(key).unwrap_or(&Origin::Default)
    }

    /// The keys that somebody set, and where.
    pub fn set(&self) -> impl Iterator<Item = (&str, &Origin)> {
        self.origins.iter().map(|(key, origin)| (key.as_str(), origin))
    }

    pub(super) fn origins(&self) -> &BTreeMap<String, Origin> {
        &self.origins
    }

    /// Of each key that has a value: what may be shown of it, and the digest of a secret.
    pub(super) fn values(&self) -> BTreeMap<String, (String, Option<Digest>)> {
        let shown = self.shown().into_iter();
        let mut values: BTreeMap<_, _> = shown.map(|(key, value)| (key, (value, None))).collect();
        for (key, digest) in &self.digests {
            values.entry(key.clone()).or_default().1 = Some(*digest);
        }
        values
    }

    fn shown(&self) -> BTreeMap<String, String> {
        let values = self.table();
        let shown = |key: Key| Some((lookup(&values, &key.name)?.to_string(), key.name));
        self.keys().filter_map(shown).map(|(value, name)| (name, value)).collect()
    }

    fn table(&self) -> toml::Table {
        toml::Table::try_from(&self.typed).expect("texts, numbers and lists of them are TOML")
    }

    fn keys(&self) -> impl Iterator<Item = Key> {
        let schema = Schema::get();
        let of_sinks = self.typed.sinks.keys().flat_map(|sink| schema.of_sink(sink));
        schema.fixed().cloned().chain(of_sinks)
    }

    /// The configuration in force as TOML, secrets as `[redacted]`, with each value's origin as a comment if wanted.
    pub fn show(&self, with_origins: bool) -> String {
        let (values, keys) = (self.table(), self.keys().collect::<Vec<Key>>());
        let (mut text, mut current) = (String::new(), "");
        for key in &keys {
            let (section, name) = key.name.rsplit_once('.').unwrap_or(("", &key.name));
            let value = match (lookup(&values, &key.name), self.origin(&key.name)) {
                (_, Origin::Credential) => "\"[redacted]\"".to_owned(),
                (Some(value), _) => value.to_string(),
                (None, _) => continue,
            };
            if section != current {
                let gap = if text.is_empty() { "" } else { "\n" };
                _ = writeln!(text, "{gap}[{section}]");
                current = section;
            }
            _ = write!(text, "{name} = {value}");
            if with_origins {
                _ = write!(text, "  # {}", self.origin(&key.name));
            }
            text.push('\n');
        }
        text
    }
}

fn lookup<'a>(table: &'a toml::Table, name: &str) -> Option<&'a toml::Value> {
    let (section, key) = name.rsplit_once('.')?;
    let mut parts = section.split('.');
    let first = table.get(parts.next()?)?;
    parts.try_fold(first, |value, part| value.get(part))?.get(key)
}

/// Reads all layers and checks what they add up to.
///
/// # Errors
/// Everything that is wrong, at once: unreadable or malformed files, unknown keys and variables, values of the wrong
/// type or out of range, values that contradict each other.
pub fn load(options: &LoadOptions) -> Result<Loaded, ConfigError> {
    let Layers { entries, mut problems, file_is_unread } = Layers::read(options);
    if file_is_unread {
        return Err(ConfigError { problems });
    }
    let (typed, origins) = match merge(entries) {
        Ok(merged) => merged,
        Err(error) => {
            let message = error.to_string();
            problems.push(Problem { key: String::new(), origin: Origin::Default, message });
            return Err(ConfigError { problems });
        }
    };
    let credentials = options.variable("CREDENTIALS_DIRECTORY").map(Path::new);
    let mut checker = Checker::new(&options.cwd, credentials, origins, problems);
    let config = check::config(&mut checker, &typed);
    if checker.problems.is_empty() {
        let Checker { warnings, origins, digests, .. } = checker;
        Ok(Loaded { config, warnings, origins, typed, digests })
    } else {
        Err(ConfigError { problems: checker.problems })
    }
}

/// Lays the entries over the defaults.
fn merge(entries: Vec<Entry>) -> Result<(File, BTreeMap<String, Origin>), config::ConfigError> {
    let defaults = config::File::from_str(EXAMPLE, config::FileFormat::Toml);
    let mut builder = config::Config::builder().add_source(defaults);
    let mut origins: BTreeMap<String, Origin> = BTreeMap::new();
    for Entry { key, value, origin } in entries {
        let value: config::Value = value.try_into().map_err(|error: toml::de::Error| {
            config::ConfigError::Message(format!("{}: {}", key.name, error.message()))
        })?;
        builder = builder.set_override(&key.name, value)?;
        origins.insert(key.name.clone(), origin);
    }
    Ok((builder.build()?.try_deserialize()?, origins))
}
