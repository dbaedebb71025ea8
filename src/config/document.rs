//! The JSON Schema of the configuration, for editors and for whoever writes it by program.

use serde_json::{Value, json};

use super::schema::{Key, Kind, Schema};

/// As `500ms`, `2h 30m`, `PT5M`, `0`.
const DURATION: &str = r"^\s*(0|[Pp][0-9A-Za-z.]+|([0-9]+([.,][0-9]+)?\s*[A-Za-zµ]+\s*)+)$";
/// As `512KiB`, `2 GB`, `1048576`.
const SIZE: &str = r"^\s*[0-9]+(\.[0-9]+)?\s*([kKmMgGtTpPeE]?[iI]?[bB]?)\s*$";

/// The JSON Schema (draft 2020-12) of a configuration file: every key with what it means, its default, and whether SIGHUP
/// takes over a change of it (`x-reloadable`). What must be in a range, or fit another key, `reelhook config check` knows.
#[must_use]
pub fn json_schema() -> Value {
    let schema = Schema::get();
    let mut root = section("The configuration of reelhook.");
    for key in schema.fixed() {
        place(&mut root, &key.name, property(key));
    }
    let mut sink = section("One who is told what became of a job.");
    for key in schema.of_sinks() {
        place(&mut sink, &key.name, property(key));
    }
    sink["required"] = json!(["type"]);
    root["properties"]["sinks"] = json!({
        "type": "object",
        "description": "Who is told what became of a job, each under a name of yours.",
        "propertyNames": { "pattern": "^[a-z0-9_-]{1,32}$" },
        "additionalProperties": sink,
    });
    root["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    root["title"] = "reelhook.toml".into();
    root
}

fn section(about: &str) -> Value {
    json!({ "type": "object", "description": about, "additionalProperties": false, "properties": {} })
}

/// Puts a property where its full name says, with the sections on the way.
fn place(root: &mut Value, name: &str, property: Value) {
    match name.split_once('.') {
        None => root["properties"][name] = property,
        Some((head, rest)) => {
            let within = &mut root["properties"][head];
            if within.is_null() {
                *within = section(&format!("[{head}]"));
            }
            place(within, rest, property);
        }
    }
}

fn property(key: &Key) -> Value {
    let mut property = match key.kind {
        Kind::Text => text(key),
        Kind::Integer => json!({ "type": "integer" }),
        Kind::Number => json!({ "type": "number" }),
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::List => json!({ "type": "array", "items": text(key) }),
    };
    property["description"] = key.about.clone().into();
    match key.has_default {
        true => property["default"] = json!(key.value),
        false => property["examples"] = json!([key.value]),
    }
    property["x-reloadable"] = key.is_reloadable.into();
    property
}

fn text(key: &Key) -> Value {
    if key.is_duration() {
        json!({ "type": "string", "pattern": DURATION })
    } else if key.is_size() {
        json!({ "type": "string", "pattern": SIZE })
    } else {
        json!({ "type": "string" })
    }
}
