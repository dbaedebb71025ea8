//! What a configuration may be, what it is worth when several places set it, and what is said when it is wrong.

#![allow(clippy::unwrap_used, reason = "a helper of tests may panic as a test may")]

use std::fs;

use reelhook::config::{self, ConfigError, LoadOptions, Loaded};
use tempfile::TempDir;

mod any_input;
mod defaults;
mod layers;
mod otel;
mod reload;
mod schema;
mod secrets;
mod sinks;
mod storage;
mod values;

/// A working directory, an environment and flags of a test's own.
struct Setup {
    dir: TempDir,
    options: LoadOptions,
}

impl Setup {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let options = LoadOptions {
            cwd: dir.path().to_owned(),
            system_file: dir.path().join("etc.toml"),
            ..LoadOptions::default()
        };
        Self { dir, options }
    }

    fn with(text: &str) -> Self {
        Self::new().file("reelhook.toml", text)
    }

    fn file(self, name: &str, text: &str) -> Self {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn private(self, name: &str, text: &str) -> Self {
        let setup = self.file(name, text);
        setup.mode(name, 0o600)
    }

    fn mode(self, name: &str, mode: u32) -> Self {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(self.dir.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.options.env.push((name.to_owned(), value.to_owned()));
        self
    }

    fn flag(mut self, key: &str, value: &str) -> Self {
        self.options.overrides.push((key.to_owned(), value.to_owned()));
        self
    }

    fn credential(self, name: &str, text: &str) -> Self {
        let folder = self.dir.path().join("credentials");
        self.file(&format!("credentials/{name}"), text).env("CREDENTIALS_DIRECTORY", folder.to_str().unwrap())
    }

    fn try_load(&self) -> Result<Loaded, ConfigError> {
        config::load(&self.options)
    }

    #[track_caller]
    fn load(&self) -> Loaded {
        self.try_load().unwrap_or_else(|error| panic!("{error}"))
    }

    /// What is said when loading fails, one problem a line.
    #[track_caller]
    fn problems(&self) -> Vec<String> {
        let error = self.try_load().expect_err("must not load");
        error.problems.iter().map(ToString::to_string).collect()
    }

    #[track_caller]
    fn only_problem(&self) -> String {
        let problems = self.problems();
        assert_eq!(problems.len(), 1, "{problems:#?}");
        problems.into_iter().next().unwrap()
    }

    #[track_caller]
    fn warnings(&self) -> Vec<String> {
        self.load().warnings.iter().map(ToString::to_string).collect()
    }
}
