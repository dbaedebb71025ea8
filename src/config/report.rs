//! What is wrong with a configuration, and where each value came from.

use std::{fmt, path::PathBuf};

use super::schema::Schema;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The compiled-in example.
    Default,
    /// The configuration file; lines count from 1.
    File {
        /// The file as it was named.
        path: PathBuf,
        /// Line of the key.
        line: usize,
    },
    /// A systemd credential, `$CREDENTIALS_DIRECTORY/<section>.<key>`.
    Credential,
    /// An environment variable, by its name.
    Env(String),
    /// A flag of the command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "file {}:{line}", path.display()),
            Self::Credential => f.write_str("credential"),
            Self::Env(name) => write!(f, "env {name}"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// One thing that is wrong with a configuration, or (as a warning) deserves a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Full name of the key (`server.listen`); empty when the whole file is meant.
    pub key: String,
    /// Where the value came from.
    pub origin: Origin,
    /// What is wrong and what to do. Never contains a secret.
    pub message: String,
}

impl Problem {
    /// What the key is worth where nobody sets it, as TOML; none for a key without a default, or one that does not exist.
    #[must_use]
    pub fn default(&self) -> Option<String> {
        Schema::get().find(&self.key).filter(|key| key.has_default).map(|key| key.value.to_string())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            write!(f, "{}: {}", self.origin, self.message)
        } else {
            write!(f, "{} ({}): {}", self.key, self.origin, self.message)
        }
    }
}

/// The configuration cannot be used. Nothing was started and nothing was spent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the configuration cannot be used:{}", list(problems))]
pub struct ConfigError {
    /// Everything that is wrong, never empty.
    pub problems: Vec<Problem>,
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("\n  {problem}")).collect()
}
