//! JSON as it was written: numbers keep their text, since a task id of 20 digits does not survive a float.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
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
        // Of whole UTF-8, which nearly every reply is, `from_utf8` makes sure ten times as fast.
        let text = std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed);
        let text = text.trim_start_matches('\u{feff}');
        at_once(text).or_else(|_| exactly(text))
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

/// Reads most texts, and fast, since callbacks come in floods. An error may only mean that this text takes
/// [more care](exactly).
fn at_once(text: &str) -> Result<Tree, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_str(text);
    let tree = AtOnce { depth: DEPTH_MAX }.deserialize(&mut json)?;
    json.end().map(|()| tree)
}

/// A value of which nothing is lost by having it decoded on the way.
#[derive(Clone, Copy)]
struct AtOnce {
    depth: usize,
}

impl AtOnce {
    fn deeper(self) -> Self {
        Self { depth: self.depth - 1 }
    }
}

impl<'de> DeserializeSeed<'de> for AtOnce {
    type Value = Tree;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AtOnce {
    type Value = Tree;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value whose text does not matter")
    }

    fn visit_unit<E: Error>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    // Whole numbers are written in one way only; others, which `visit_f64` would get, in many.
    fn visit_u64<E: Error>(self, number: u64) -> Result<Tree, E> {
        Ok(Tree::Number(number.to_string()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Tree, E> {
        Ok(Tree::Number(number.to_string()))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
        if self.depth == 0 {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(Tree::Null);
        }
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self.deeper())? {
            items.push(item);
        }
        Ok(Tree::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        if self.depth == 0 {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(Tree::Null);
        }
        let mut entries = Vec::new();
        while let Some(key) = map.next_key()? {
            entries.push((key, map.next_value_seed(self.deeper())?));
        }
        Ok(Tree::Object(entries))
    }
}

/// Reads every text, level by level: each value is first found and then decoded.
fn exactly(text: &str) -> Result<Tree, serde_json::Error> {
    let raw: &RawValue = serde_json::from_str(text)?;
    read(raw.get(), DEPTH_MAX)
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

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(|number| number.to_string()),
            any::<f64>().prop_map(|number| number.to_string()),
            "-?(0|[1-9][0-9]{0,25})([.][0-9]{1,3})?([eE][+-]?[0-9]{1,2})?",
            "[a-z\u{e9} ]{0,6}".prop_map(|text| format!("\"{text}\"")),
            Just(r#""\ud83d\ude00\n""#.to_owned()),
            Just(r#""a \ud800 lone one""#.to_owned()),
            Just("null".to_owned()),
            Just("true".to_owned()),
            Just("cut off".to_owned()),
        ];
        leaf.prop_recursive(6, 24, 4, |inner| {
            let member = ("[ab]", inner.clone()).prop_map(|(key, value)| format!("\"{key}\" : {value}"));
            prop_oneof![
                vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
                vec(member, 0..4).prop_map(|members| format!("{{{}}}", members.join(","))),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_read_at_once_is_what_is_read_with_care(text in json()) {
            if let Ok(tree) = at_once(&text) {
                prop_assert_eq!(tree, exactly(&text).unwrap());
            }
        }
    }

    #[test]
    fn a_usual_callback_is_read_at_once_and_one_with_a_long_number_keeps_it() {
        let usual =
            r#"{"code":200,"data":{"taskId":"t-1","state":"success","progress":100,"images":[null,true]}}"#;
        assert_eq!(at_once(usual).unwrap(), exactly(usual).unwrap());
        let id = "12345678901234567890123";
        let long = format!(r#"{{"data":{{"taskId":{id}}}}}"#);
        assert!(at_once(&long).is_err());
        assert_eq!(Tree::parse(long.as_bytes()).unwrap().at("/data/taskId"), [&Tree::Number(id.to_owned())]);
    }

    #[test]
    fn what_is_nested_too_deeply_is_null_by_either_way() {
        let deep = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        for levels in [DEPTH_MAX, DEPTH_MAX + 1, DEPTH_MAX + 2, 1_000] {
            assert_eq!(at_once(&deep(levels)).unwrap(), exactly(&deep(levels)).unwrap());
        }
    }
}
