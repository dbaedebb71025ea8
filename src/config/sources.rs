//! The layers above the defaults: file, environment, flags.

use std::{
    io,
    path::{Path, PathBuf},
};

use toml::Value;

use super::{
    load::LoadOptions,
    report::{Origin, Problem},
    schema::{self, Key, SINKS, Schema},
};

const PREFIX: &str = "REELHOOK_";
/// Names the file instead of setting a key.
const FILE_VARIABLE: &str = "REELHOOK_CONFIG";
/// For the commands that talk to a server; they set no key either.
const CLIENT_VARIABLES: [&str; 2] = ["REELHOOK_SERVER", "REELHOOK_API_KEY"];

/// A known key that some layer sets to a value of the right type.
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// Everything that is set, lowest precedence first.
#[derive(Default)]
pub(super) struct Layers {
    pub(super) entries: Vec<Entry>,
    pub(super) problems: Vec<Problem>,
    /// Nothing is known of what the file sets, so nothing can be said of what the layers add up to.
    pub(super) file_is_unread: bool,
}

impl Layers {
    pub(super) fn read(options: &LoadOptions) -> Self {
        let mut layers = Self::default();
        layers.file(options);
        layers.environment(options);
        for (name, text) in &options.overrides {
            match Schema::get().find(name) {
                Some(key) => layers.text(key, text, Origin::Flag),
                None => layers.unknown(name, Origin::Flag),
            }
        }
        layers
    }

    /// A file that was named must be there; of the usual places the first that exists counts.
    fn file(&mut self, options: &LoadOptions) {
        let by_variable = || options.variable(FILE_VARIABLE).map(PathBuf::from);
        let named = match options.path.clone() {
            Some(path) => Some((path, Origin::Flag)),
            None => by_variable().map(|path| (path, Origin::Env(FILE_VARIABLE.to_owned()))),
        };
        let usual = || {
            [PathBuf::from("reelhook.toml"), options.system_file.clone()].map(|path| (path, Origin::Default))
        };
        let candidates = named.map_or_else(|| usual().into(), |named| vec![named]);
        for (path, whence) in candidates {
            match std::fs::read_to_string(options.cwd.join(&path)) {
                Ok(text) => return self.toml(&path, &text),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if whence != Origin::Default {
                        return self.unread(whence, format!("there is no file {}", path.display()));
                    }
                }
                Err(error) => {
                    return self.unread(whence, format!("{} cannot be read: {error}", path.display()));
                }
            }
        }
    }

    fn unread(&mut self, origin: Origin, message: String) {
        self.file_is_unread = true;
        self.problem("", origin, message);
    }

    fn toml(&mut self, path: &Path, text: &str) {
        let origin = |line| Origin::File { path: path.to_owned(), line };
        let leaves = match schema::leaves(text) {
            Ok(leaves) => leaves,
            Err(errors) => {
                for error in errors {
                    self.unread(origin(error.line), format!("is not TOML: {}", error.message));
                }
                return;
            }
        };
        for leaf in leaves {
            let section = Schema::get().is_section(&leaf.name);
            match Schema::get().find(&leaf.name) {
                Some(key) if key.kind.fits(&leaf.value) => {
                    self.entries.push(Entry { key, value: leaf.value, origin: origin(leaf.line) });
                }
                Some(key) => self.mistyped(&key, origin(leaf.line)),
                None if leaf.name.starts_with(SINKS) => self.not_of_a_sink(&leaf.name, origin(leaf.line)),
                None if section && leaf.value.is_table() => {}
                None if section => {
                    let message = format!("is a section: write [{}] and its keys below", leaf.name);
                    self.problem(&leaf.name, origin(leaf.line), message);
                }
                None => self.unknown(&leaf.name, origin(leaf.line)),
            }
        }
    }

    fn environment(&mut self, options: &LoadOptions) {
        for (variable, text) in &options.env {
            let of_ours = variable == FILE_VARIABLE || CLIENT_VARIABLES.contains(&variable.as_str());
            if !variable.starts_with(PREFIX) || of_ours {
                continue;
            }
            let origin = Origin::Env(variable.clone());
            let sink = self.sink_of(variable);
            let of_sink = sink.iter().flat_map(|sink| Schema::get().of_sink(sink));
            let known: Vec<Key> = Schema::get().fixed().cloned().chain(of_sink).collect();
            match known.iter().find(|key| key.variable() == *variable) {
                Some(key) => self.text(key.clone(), text, origin),
                None => {
                    let known = known.iter().map(Key::variable);
                    let hint = closest(variable, known.chain([FILE_VARIABLE.to_owned()]));
                    self.problem("", origin, format!("there is no such variable{}", did_you_mean(hint)));
                }
            }
        }
    }

    /// The sink that a variable is about: the one of that name in the file, where `-` and `_` differ, or a new one.
    fn sink_of(&self, variable: &str) -> Option<String> {
        let (name, _) = variable.strip_prefix("REELHOOK_SINKS__")?.split_once("__")?;
        let name = name.to_lowercase();
        let in_file = self.entries.iter().filter_map(|entry| Some(schema::sink_key(&entry.key.name)?.0));
        let meant = in_file.into_iter().find(|known| known.replace('-', "_") == name).map(str::to_owned);
        meant.or_else(|| schema::is_sink_name(&name).then_some(name))
    }

    fn text(&mut self, key: Key, text: &str, origin: Origin) {
        match key.kind.parse(text) {
            Some(value) => self.entries.push(Entry { key, value, origin }),
            None => self.mistyped(&key, origin),
        }
    }

    fn mistyped(&mut self, key: &Key, origin: Origin) {
        self.problem(&key.name, origin, format!("must be {}", key.kind.wanted()));
    }

    /// Something in `[sinks]` that is no known key of a sink.
    fn not_of_a_sink(&mut self, name: &str, origin: Origin) {
        let message = match schema::sink_key(name) {
            None => "is not a sink: write [sinks.NAME] and below it at least its `type`".to_owned(),
            Some((sink, _)) if !schema::is_sink_name(sink) => {
                "the name of a sink is up to 32 of a-z, 0-9, `-` and `_`".to_owned()
            }
            Some((sink, _)) => {
                let hint = closest(name, Schema::get().of_sink(sink).map(|key| key.name));
                format!("a sink has no such key{}", did_you_mean(hint))
            }
        };
        self.problem(name, origin, message);
    }

    fn unknown(&mut self, name: &str, origin: Origin) {
        let known = || schema::keys().map(str::to_owned);
        let last = |name: &str| name.rsplit('.').next().map(str::to_owned);
        let hint = closest(name, known()).or_else(|| known().find(|key| last(key) == last(name)));
        self.problem(name, origin, format!("there is no such key{}", did_you_mean(hint)));
    }

    fn problem(&mut self, key: &str, origin: Origin, message: String) {
        self.problems.push(Problem { key: key.to_owned(), origin, message });
    }
}

/// The most similar name, if one is similar enough to be what was meant.
pub(super) fn closest(name: &str, known: impl Iterator<Item = String>) -> Option<String> {
    known
        .map(|known| (strsim::normalized_damerau_levenshtein(name, &known), known))
        .filter(|(similarity, _)| *similarity >= 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

pub(super) fn did_you_mean(name: Option<String>) -> String {
    name.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}
