//! JSON as it was written: numbers keep their text, since a task id of 20 digits does not survive a float.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// Deeper values are read as `Null`: no known reply goes below 8, and the bound keeps hostile ones cheap.
const DEPTH_MAX: usize = 32;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tree {
    Null,
    Bool(bool),
    /// The number's literal text.
    Number(String),
    Text(String),
    Array(Vec<Tree>),
    /// In the order of the text; of a repeated key the last one counts.
    Object(Vec<(String, Tree)>),
}

impl Tree {
    /// Reads any bytes. Broken UTF-8 and lone surrogates become U+FFFD, so that a mangled prompt hides no task id.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let text = String::from_utf8_lossy(bytes);
        let raw: &RawValue = serde_json::from_str(text.trim_start_matches('\u{feff}'))?;
        read(raw.get(), DEPTH_MAX)
    }

    /// The member of an object or the element of an array, by one segment of a JSON pointer.
    pub(super) fn child(&self, segment: &str) -> Option<&Self> {
        match self {
            Self::Object(entries) => {
                entries.iter().rev().find(|(key, _)| key == segment).map(|(_, value)| value)
            }
            Self::Array(items) => items.get(segment.parse::<usize>().ok()?),
            _ => None,
        }
    }

    /// Every value a JSON pointer leads to; the segment `*` stands for each element of an array.
    pub(super) fn at(&self, pointer: &str) -> Vec<&Self> {
        let mut found = Vec::new();
        self.follow(pointer, &mut found);
        found
    }

    /// A reply is asked for some two hundred pointers, few of which lead anywhere: a miss allocates nothing.
    fn follow<'a>(&'a self, pointer: &str, found: &mut Vec<&'a Self>) {
        let Some(path) = pointer.strip_prefix('/') else {
            found.push(self);
            return;
        };
        match path.find('/').map_or((path, ""), |end| path.split_at(end)) {
            ("*", rest) => self.items().iter().for_each(|item| item.follow(rest, found)),
            (segment, rest) => {
                if let Some(child) = self.child(&unescaped(segment)) {
                    child.follow(rest, found);
                }
            }
        }
    }

    /// The elements of an array; of anything else none.
    pub(super) fn items(&self) -> &[Self] {
        if let Self::Array(items) = self { items } else { &[] }
    }

    pub(super) fn is_object(&self) -> bool {
        matches!(self, Self::Object(_))
    }

    /// A string, trimmed and not empty.
    pub(super) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text.trim()).filter(|text| !text.is_empty()) } else { None }
    }

    /// A string as [`Tree::text`], or a number's literal text.
    pub(super) fn scalar(&self) -> Option<&str> {
        if let Self::Number(literal) = self { Some(literal) } else { self.text() }
    }
}

/// A segment of a pointer as the key that it means.
fn unescaped(segment: &str) -> Cow<'_, str> {
    if segment.contains('~') { segment.replace("~1", "/").replace("~0", "~").into() } else { segment.into() }
}

fn read(json: &str, depth: usize) -> Result<Tree, serde_json::Error> {
    Ok(match json.as_bytes().first() {
        Some(b'{' | b'[') if depth == 0 => Tree::Null,
        Some(b'{') => {
            let Entries(entries) = serde_json::from_str(json)?;
            let entry = |(Lossy(key), raw): (Lossy, &RawValue)| Ok((key, read(raw.get(), depth - 1)?));
            Tree::Object(entries.into_iter().map(entry).collect::<Result<_, serde_json::Error>>()?)
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(json)?;
            Tree::Array(items.into_iter().map(|raw| read(raw.get(), depth - 1)).collect::<Result<_, _>>()?)
        }
        Some(b'"') => {
            let Lossy(text) = serde_json::from_str(json)?;
            Tree::Text(text)
        }
        Some(b't') => Tree::Bool(true),
        Some(b'f') => Tree::Bool(false),
        Some(b'n') | None => Tree::Null,
        Some(_) => Tree::Number(json.to_owned()),
    })
}

/// The members of an object, in order and undecoded.
struct Entries<'a>(Vec<(Lossy, &'a RawValue)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Entries<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// A string read as bytes: that way `serde_json` lets lone surrogates pass.
struct Lossy(String);

impl<'de> Deserialize<'de> for Lossy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Lossy;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Lossy, E> {
                Ok(Lossy(String::from_utf8_lossy(bytes).into_owned()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}
