//! The lines of a file of jobs, and the key by which each is known.

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

/// As the server has it.
const LONGEST_KEY: usize = 255;

/// One job of the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    /// From 1, as editors count.
    pub(super) number: usize,
    /// Its `Idempotency-Key`.
    pub(super) key: String,
    /// The body of `POST /v1/jobs`.
    pub(super) body: Value,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) number: usize,
    pub(super) why: String,
}

/// What the command line adds to each line that does not say otherwise.
#[derive(Debug, Default)]
pub(super) struct Common {
    pub(super) tags: Vec<String>,
    pub(super) metadata: Map<String, Value>,
}

/// Reads a file of jobs. A line is the body of `POST /v1/jobs` or the bare input, with a `key` of its own if it likes;
/// empty lines are passed over.
///
/// Without a `key`, a line is known by its text, by how often the same text came before, and by `batch`: the file can
/// grow and be sorted anew, and every line that was there keeps its key.
pub(super) fn read(text: &str, batch: &str, common: &Common) -> (Vec<Line>, Vec<Broken>) {
    let (mut lines, mut broken) = (Vec::new(), Vec::new());
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let mut keys: HashMap<String, usize> = HashMap::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let rows = text.lines().enumerate().map(|(index, row)| (index + 1, row.trim()));
    for (number, row) in rows.filter(|(_, row)| !row.is_empty()) {
        let before = seen.entry(row).or_default();
        let own = key(batch, row, *before);
        *before += 1;
        let read =
            line(number, row, own, common).and_then(|line| match keys.insert(line.key.clone(), number) {
                Some(first) => Err(format!("its key `{}` is that of line {first} too", line.key)),
                None => Ok(line),
            });
        match read {
            Ok(line) => lines.push(line),
            Err(why) => broken.push(Broken { number, why }),
        }
    }
    (lines, broken)
}

fn line(number: usize, row: &str, own_key: String, common: &Common) -> Result<Line, String> {
    let mut fields: Map<String, Value> =
        serde_json::from_str(row).map_err(|error| format!("not a JSON object: {error}"))?;
    let key = match fields.remove("key") {
        None => own_key,
        Some(Value::String(key)) if is_key(&key) => key,
        Some(_) => return Err(format!("`key` must be text of 1 to {LONGEST_KEY} visible characters")),
    };
    let mut body = if fields.contains_key("input") {
        fields
    } else {
        Map::from_iter([("input".to_owned(), fields.into())])
    };
    if !common.tags.is_empty() {
        let tags = body.entry("tags").or_insert_with(|| json!([]));
        let tags = tags.as_array_mut().ok_or("`tags` must be an array")?;
        tags.extend(common.tags.iter().map(|tag| json!(tag)));
    }
    if !common.metadata.is_empty() {
        let metadata = body.entry("metadata").or_insert_with(|| json!({}));
        let metadata = metadata.as_object_mut().ok_or("`metadata` must be an object")?;
        for (name, value) in &common.metadata {
            metadata.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    Ok(Line { number, key, body: body.into() })
}

fn is_key(text: &str) -> bool {
    (1..=LONGEST_KEY).contains(&text.len())
        && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        && text.trim() == text
}

fn key(batch: &str, row: &str, before: usize) -> String {
    let mut hash = Sha256::new();
    for part in [batch.as_bytes(), row.as_bytes(), before.to_string().as_bytes()] {
        // With their lengths, so that no two triples are the same bytes.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    format!("line-{}", &hex::encode(hash.finalize())[..40])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str, batch: &str) -> Vec<String> {
        let (lines, broken) = read(text, batch, &Common::default());
        assert_eq!(broken, []);
        lines.into_iter().map(|line| line.key).collect()
    }

    #[test]
    fn a_line_is_a_whole_request_or_the_bare_input() {
        let text = "{\"prompt\":\"a fox\",\"key\":\"one\"}\n\n{\"input\":{\"prompt\":\"a kite\"},\"tags\":[\"x\"],\"key\":\"two\"}\n";
        let (lines, broken) = read(text, "", &Common::default());
        assert_eq!(broken, []);
        let expected = [
            Line { number: 1, key: "one".into(), body: json!({ "input": { "prompt": "a fox" } }) },
            Line {
                number: 3,
                key: "two".into(),
                body: json!({ "input": { "prompt": "a kite" }, "tags": ["x"] }),
            },
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_line_keeps_its_key_wherever_it_stands_and_the_same_line_twice_is_two_jobs() {
        let (a, b) = (r#"{"prompt":"a"}"#, r#"{"prompt":"b"}"#);
        let first = keys(&format!("{a}\n{b}\n"), "");
        let second = keys(&format!("{b}\r\n\r\n  {a}\r\n{a}"), "");
        assert_eq!([&first[0], &first[1]], [&second[1], &second[0]]);
        assert!(!first.contains(&second[2]));
        assert_ne!(keys(a, ""), keys(a, "take two"));
    }

    #[test]
    fn keys_do_not_change_between_versions() {
        assert_eq!(keys(r#"{"prompt":"a fox"}"#, ""), ["line-b477885576570ccd9be6c1932bc6684c06848561"]);
    }

    #[test]
    fn every_broken_line_is_named() {
        let text = "{\"prompt\":\n[1]\n{\"key\":7}\n{\"key\":\" a\"}\n{\"key\":\"k\"}\n{\"key\":\"k\"}\n{\"key\":\"\"}";
        let (lines, broken) = read(text, "", &Common::default());
        assert_eq!(lines.len(), 1);
        assert_eq!(broken.iter().map(|line| line.number).collect::<Vec<_>>(), [1, 2, 3, 4, 6, 7]);
        assert!(broken[4].why.contains("line 5"), "{}", broken[4].why);
    }

    #[test]
    fn flags_add_tags_and_the_metadata_that_a_line_lacks() {
        let metadata = Map::from_iter([("a".to_owned(), json!("flag")), ("b".to_owned(), json!("flag"))]);
        let common = Common { tags: vec!["ad".into()], metadata };
        let text = r#"{"input":{},"tags":["x"],"metadata":{"a":"line"}}"#;
        let (lines, _) = read(text, "", &common);
        let expected = json!({ "input": {}, "tags": ["x", "ad"], "metadata": { "a": "line", "b": "flag" } });
        assert_eq!(lines[0].body, expected);
        let (_, broken) = read(r#"{"input":{},"tags":"x"}"#, "", &common);
        assert_eq!(broken.len(), 1);
    }
}
