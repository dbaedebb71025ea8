//! A document of the API for people.

use serde_json::Value;

use super::{exit::Failure, output::Output};

/// A document as it is, or one line a field that has something to say.
pub(crate) fn show(document: &Value, output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.document(document);
    }
    let fields = document.as_object().into_iter().flatten();
    let rows = fields.filter(|(_, value)| !is_empty(value)).flat_map(|(name, value)| {
        // Of several entries each has its own line.
        let entries = value.as_array().map(|items| items.iter().map(text).collect());
        entries.unwrap_or_else(|| vec![text(value)]).into_iter().map(|text| [name.clone(), text])
    });
    output.rows(["FIELD", "VALUE"], rows)
}

/// Text without quotes, nothing for nothing, and JSON for the rest.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}
