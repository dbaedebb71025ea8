//! Reads the fields of an input and gathers what is wrong with them.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};
use url::Url;

use super::{FieldError, Misspelt};

/// So alike, 0 to 1, are a field and what it was most likely meant to be.
const ALIKE: f64 = 0.75;
/// Undocumented fields that a notice names; who sends more knows it.
const NAMED: usize = 5;
/// Characters of a field's name in a notice.
const NAME_CHARS: usize = 40;

pub(super) struct Fields<'a> {
    body: &'a Map<String, Value>,
    pub(super) errors: Vec<FieldError>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(body: &'a Map<String, Value>) -> Self {
        Self { body, errors: Vec::new() }
    }

    /// The field, unless it is missing or `null`.
    pub(super) fn given(&self, name: &str) -> Option<&'a Value> {
        self.body.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn any_besides(&self, name: &str) -> bool {
        self.body.iter().any(|(key, value)| key != name && !value.is_null())
    }

    /// `name` is a field, or a path below one such as `multi_prompt/0/prompt`.
    pub(super) fn wrong(&mut self, name: &str, code: &'static str, detail: impl Into<String>) {
        self.errors.push(FieldError { pointer: format!("/input/{name}"), code, detail: detail.into() });
    }

    pub(super) fn require(&mut self, name: &str, detail: &str) {
        if self.given(name).is_none() {
            self.wrong(name, "required", detail);
        }
    }

    pub(super) fn text(&mut self, name: &str, max_chars: usize) {
        match self.given(name) {
            None => {}
            Some(Value::String(text)) if text.trim().is_empty() => {
                self.wrong(name, "required", format!("{name} is empty"));
            }
            Some(Value::String(text)) => {
                let chars = text.chars().count();
                if chars > max_chars {
                    self.wrong(
                        name,
                        "too_long",
                        format!("{name} has {chars} characters; at most {max_chars}"),
                    );
                }
            }
            Some(_) => self.wrong(name, "wrong_type", format!("{name} must be a string")),
        }
    }

    pub(super) fn choice(&mut self, name: &str, choices: &[&'static str]) -> Option<&'static str> {
        let value = self.given(name)?;
        let chosen = choices.iter().copied().find(|choice| value.as_str() == Some(choice));
        if chosen.is_none() {
            let code = if value.is_string() { "not_one_of" } else { "wrong_type" };
            self.wrong(name, code, format!("{name} must be one of {}", choices.join(", ")));
        }
        chosen
    }

    pub(super) fn flag(&mut self, name: &str) -> Option<bool> {
        let value = self.given(name)?;
        if !value.is_boolean() {
            self.wrong(name, "wrong_type", format!("{name} must be true or false"));
        }
        value.as_bool()
    }

    pub(super) fn number(&mut self, name: &str, range: RangeInclusive<f64>) -> Option<f64> {
        let value = self.given(name)?;
        let number = value.as_f64();
        let (low, high) = (range.start(), range.end());
        match number {
            None => self.wrong(name, "wrong_type", format!("{name} must be a number from {low} to {high}")),
            Some(number) if !range.contains(&number) => {
                self.wrong(name, "out_of_range", format!("{name} must be from {low} to {high}, not {value}"));
            }
            Some(_) => {}
        }
        number
    }

    pub(super) fn web_address(&mut self, name: &str) {
        let Some(value) = self.given(name) else { return };
        let Some(text) = value.as_str() else {
            return self.wrong(name, "wrong_type", format!("{name} must be a string: an absolute URL"));
        };
        if !Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https")) {
            self.wrong(name, "not_a_url", format!("{name} must be an absolute http or https URL"));
        }
    }

    pub(super) fn list(&mut self, name: &str) -> Option<&'a Vec<Value>> {
        let value = self.given(name)?;
        if !value.is_array() {
            self.wrong(name, "wrong_type", format!("{name} must be an array"));
        }
        value.as_array()
    }

    /// A field that is almost a `documented` one is wrong, unless a notice will do; one names those that are like none.
    pub(super) fn undocumented(
        &mut self,
        model: &str,
        documented: &[&'static str],
        misspelt: Misspelt,
    ) -> Vec<String> {
        let body = self.body;
        let given = body.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name.as_str());
        let (mut notices, mut more) = (Vec::new(), 0);
        for name in given.filter(|name| !documented.contains(name)) {
            if misspelt == Misspelt::Refused
                && let Some(meant) = closest(name, documented)
            {
                let detail = format!("{model} has no field `{name}`; did you mean `{meant}`?");
                self.wrong(&pointer_token(name), "unknown_field", detail);
            } else if notices.len() < NAMED {
                let name: String = name.chars().take(NAME_CHARS).collect();
                notices.push(format!("field `{name}` is not documented for {model}; it is passed through"));
            } else {
                more += 1;
            }
        }
        if more > 0 {
            notices.push(format!("and {more} more fields that are not documented for {model}"));
        }
        notices
    }

    /// Checks `[{prompt, duration}]` and sums the durations in seconds, if every shot has one.
    pub(super) fn shots(&mut self, name: &str) -> Option<f64> {
        let shots = self.list(name)?;
        if shots.is_empty() {
            self.wrong(name, "required", format!("{name} is empty: give at least one {{prompt, duration}}"));
        }
        let mut total = (!shots.is_empty()).then_some(0.0);
        for (index, shot) in shots.iter().enumerate() {
            let at = format!("{name}/{index}");
            if !shot.is_object() {
                self.wrong(&at, "wrong_type", "a shot must be an object {prompt, duration}");
            } else if shot["prompt"].as_str().is_none_or(|prompt| prompt.trim().is_empty()) {
                self.wrong(
                    &format!("{at}/prompt"),
                    "required",
                    "a shot needs a prompt: a string that is not empty",
                );
            }
            let duration = shot.get("duration").filter(|duration| !duration.is_null());
            let seconds = duration.and_then(Value::as_f64).filter(|seconds| *seconds > 0.0);
            if duration.is_some() && seconds.is_none() {
                self.wrong(
                    &format!("{at}/duration"),
                    "out_of_range",
                    "a shot's duration must be a number above 0",
                );
            }
            total = total.zip(seconds).map(|(sum, seconds)| sum + seconds);
        }
        total
    }
}

/// The documented field that `name` was most likely meant to be, if it is alike enough.
fn closest(name: &str, documented: &[&'static str]) -> Option<&'static str> {
    let name = name.to_lowercase();
    documented
        .iter()
        .map(|known| (strsim::normalized_damerau_levenshtein(&name, known), *known))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

/// A member's name as a part of a JSON pointer (RFC 6901).
fn pointer_token(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
