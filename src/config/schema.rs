//! Which keys there are and of what type: read off the example file, so the two cannot differ.

use std::sync::LazyLock;

use bytesize::ByteSize;
use toml::{
    Spanned, Value,
    de::{DeTable, DeValue},
};

use super::value;

/// The documented configuration: every key with its default. Keys without a default are commented out.
pub const EXAMPLE: &str = include_str!("../../config.example.toml");

/// What the lines begin with that name the keys that SIGHUP takes over.
const RELOADABLE: &str = "# ↻ ";

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| Schema::read(EXAMPLE));

/// The type that a key's value must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Integer,
    Number,
    Boolean,
    List,
}

impl Kind {
    pub(super) fn wanted(self) -> &'static str {
        match self {
            Self::Text => "a text in quotes",
            Self::Integer => "a whole number",
            Self::Number => "a number",
            Self::Boolean => "true or false",
            Self::List => "a list of texts",
        }
    }

    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::String(_) => Some(Self::Text),
            Value::Integer(_) => Some(Self::Integer),
            Value::Float(_) => Some(Self::Number),
            Value::Boolean(_) => Some(Self::Boolean),
            Value::Array(items) if items.iter().all(Value::is_str) => Some(Self::List),
            _ => None,
        }
    }

    pub(super) fn fits(self, value: &Value) -> bool {
        Self::of(value) == Some(self) || (self == Self::Number && value.is_integer())
    }

    /// Reads a variable or a flag, where everything is text. Lists are comma separated.
    pub(super) fn parse(self, text: &str) -> Option<Value> {
        match self {
            Self::Text => Some(Value::String(text.to_owned())),
            Self::Integer => text.trim().parse().ok().map(Value::Integer),
            Self::Number => text.trim().parse().ok().map(Value::Float),
            Self::Boolean => text.trim().parse().ok().map(Value::Boolean),
            Self::List => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Some(Value::Array(items.map(|item| Value::String(item.to_owned())).collect()))
            }
        }
    }
}

/// What the names of all keys of sinks begin with; the sink's own name comes next.
pub(super) const SINKS: &str = "sinks.";

/// One key of the configuration with its full name (`poll.interval`).
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// What it means.
    pub(super) about: String,
    /// Its default, or an example where it has none.
    pub(super) value: Value,
    pub(super) has_default: bool,
    /// Whether a running server takes over a change of it.
    pub(super) is_reloadable: bool,
}

impl Key {
    /// The variable that sets this key: `REELHOOK_POLL__INTERVAL`.
    pub(super) fn variable(&self) -> String {
        format!("REELHOOK_{}", self.name.replace('.', "__").replace('-', "_").to_uppercase())
    }

    /// Whether what it holds is a span of time, as its value shows.
    pub(super) fn is_duration(&self) -> bool {
        self.shows(|text| value::duration(text).is_some())
    }

    /// Whether what it holds is a size.
    pub(super) fn is_size(&self) -> bool {
        self.shows(|text| text.parse::<ByteSize>().is_ok())
    }

    fn shows(&self, what: impl Fn(&str) -> bool) -> bool {
        match &self.value {
            Value::String(text) => what(text),
            Value::Array(items) => {
                !items.is_empty() && items.iter().all(|item| item.as_str().is_some_and(&what))
            }
            _ => false,
        }
    }
}

/// All keys, in the order of the example.
pub(super) struct Schema {
    shown: Vec<Key>,
    /// What any sink may have, by the last part of the name: the example's sinks together show all.
    of_sinks: Vec<Key>,
}

impl Schema {
    pub(super) fn get() -> &'static Self {
        &SCHEMA
    }

    fn read(example: &str) -> Self {
        let leaves = leaves(&uncomment(example)).expect("the compiled-in example is TOML");
        let reloadable: Vec<&str> = example
            .lines()
            .filter_map(|line| line.strip_prefix(RELOADABLE))
            .flat_map(str::split_whitespace)
            .collect();
        let lines: Vec<&str> = example.lines().collect();
        let key = |leaf: Leaf| {
            Some(Key {
                kind: Kind::of(&leaf.value)?,
                about: about(&lines[..leaf.line - 1], &leaf.name),
                has_default: !lines[leaf.line - 1].starts_with('#'),
                is_reloadable: reloadable.iter().any(|pattern| covers(pattern, &leaf.name)),
                value: leaf.value,
                name: leaf.name,
            })
        };
        let shown: Vec<Key> = leaves.into_iter().filter_map(key).collect();
        let mut of_sinks: Vec<Key> = Vec::new();
        for key in &shown {
            let Some((_, name)) = sink_key(&key.name) else { continue };
            if of_sinks.iter().all(|known| known.name != name) {
                of_sinks.push(Key { name: name.to_owned(), ..key.clone() });
            }
        }
        Self { shown, of_sinks }
    }

    /// What any sink may have, by the last part of the name.
    pub(super) fn of_sinks(&self) -> impl Iterator<Item = &Key> {
        self.of_sinks.iter()
    }

    /// Whether a running server takes over a change of the key.
    pub(super) fn is_reloadable(&self, name: &str) -> bool {
        self.find(name).is_some_and(|key| key.is_reloadable)
    }

    /// All keys but those of sinks, whose names the operator chooses.
    pub(super) fn fixed(&self) -> impl Iterator<Item = &Key> {
        self.shown.iter().filter(|key| sink_key(&key.name).is_none())
    }

    /// All keys that the sink of this name may have.
    pub(super) fn of_sink(&self, sink: &str) -> impl Iterator<Item = Key> {
        self.of_sinks
            .iter()
            .map(move |key| Key { name: format!("{SINKS}{sink}.{}", key.name), ..key.clone() })
    }

    pub(super) fn find(&self, name: &str) -> Option<Key> {
        match sink_key(name) {
            Some((sink, _)) if !is_sink_name(sink) => None,
            Some((sink, _)) => self.of_sink(sink).find(|key| key.name == name),
            None => self.fixed().find(|key| key.name == name).cloned(),
        }
    }

    pub(super) fn is_section(&self, name: &str) -> bool {
        let within = |key: &Key| key.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
        self.shown.iter().any(within)
    }
}

/// Full names of all keys (`server.listen`), in the order of [`EXAMPLE`]; those of sinks under the names that it gives
/// its sinks.
pub fn keys() -> impl Iterator<Item = &'static str> {
    Schema::get().shown.iter().map(|key| key.name.as_str())
}

/// The sink's name and the key's within it, if the name is one of a sink's keys.
pub(super) fn sink_key(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix(SINKS)?.split_once('.')
}

/// Names of sinks are part of variables, metrics and addresses, so they are plain.
pub(super) fn is_sink_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    (1..=32).contains(&name.len()) && name.bytes().all(plain)
}

/// What the operator is told of a key: the lines of prose above it.
fn about(above: &[&str], name: &str) -> String {
    let mut prose: Vec<&str> =
        above.iter().rev().map_while(|line| line.strip_prefix("# ").filter(|_| !is_setting(line))).collect();
    prose.reverse();
    match name.strip_suffix("_file") {
        Some(of) if prose.is_empty() => {
            format!("A file that holds `{}`.", of.rsplit('.').next().unwrap_or(of))
        }
        _ => prose.join(" "),
    }
}

/// Whether a key is one of those that the example names for it: by itself, by its section, or as the key of any sink. What a
/// secret's file holds counts as the secret.
fn covers(pattern: &str, name: &str) -> bool {
    let name = name.strip_suffix("_file").unwrap_or(name);
    match (pattern.strip_prefix("sinks.*."), sink_key(name)) {
        (Some(pattern), Some((_, name))) => pattern == name,
        _ => name.strip_prefix(pattern).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')),
    }
}

/// Turns `# key = value` and `# [section]` into what they show; prose stays a comment.
pub(super) fn uncomment(example: &str) -> String {
    let text = |line: &str| match line.strip_prefix("# ") {
        Some(setting) if is_setting(line) => setting.to_owned(),
        _ => line.to_owned(),
    };
    example.lines().map(|line| text(line) + "\n").collect()
}

fn is_setting(line: &str) -> bool {
    let Some(text) = line.strip_prefix("# ") else { return false };
    let name = text.split_once(" = ").map_or(text, |(name, _)| name);
    let section = text.starts_with('[') && text.ends_with(']');
    section || name.len() < text.len() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// A value in a TOML text, or an empty table.
pub(super) struct Leaf {
    pub(super) name: String,
    pub(super) value: Value,
    /// Counted from 1.
    pub(super) line: usize,
}

/// What is wrong with a TOML text. Never quotes it: the line may hold a secret.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub(super) message: String,
    pub(super) line: usize,
}

/// All values of a TOML text in the order of the text, or all that is wrong with it.
pub(super) fn leaves(text: &str) -> Result<Vec<Leaf>, Vec<SyntaxError>> {
    let syntax = |error: toml::de::Error| SyntaxError {
        message: error.message().to_owned(),
        line: line_at(text, error.span().map_or(0, |span| span.start)),
    };
    let (spans, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let mut errors: Vec<SyntaxError> = errors.into_iter().map(syntax).collect();
        errors.dedup_by_key(|error| error.line); // what comes of the first of a line says nothing more
        return Err(errors);
    }
    let values: toml::Table = toml::from_str(text).map_err(|error| vec![syntax(error)])?;
    let mut found = Vec::new();
    collect("", spans.get_ref(), &values, &mut found);
    found.sort_by_key(|(start, _, _)| *start);
    let leaf = |(start, name, value)| Leaf { name, value, line: line_at(text, start) };
    Ok(found.into_iter().map(leaf).collect())
}

fn collect(
    section: &str,
    spans: &DeTable<'_>,
    values: &toml::Table,
    found: &mut Vec<(usize, String, Value)>,
) {
    for (key, span) in spans {
        let Some(value) = values.get(key.get_ref().as_ref()) else { continue };
        let name = join(section, key);
        match (span.get_ref(), value) {
            (DeValue::Table(spans), Value::Table(values)) if !values.is_empty() => {
                collect(&name, spans, values, found);
            }
            _ => found.push((key.span().start, name, value.clone())),
        }
    }
}

/// A quoted key keeps its quotes in the name, so that `"server.listen" = …` is not taken for `server.listen`.
fn join(section: &str, key: &Spanned<std::borrow::Cow<'_, str>>) -> String {
    let key = key.get_ref();
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let key = if bare { key.to_string() } else { format!("{key:?}") };
    if section.is_empty() { key } else { format!("{section}.{key}") }
}

fn line_at(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}
