//! Reading the members of a body and the parameters of a query: every mistake is named, none is passed over.

use std::str::FromStr;

use actix_web::{HttpRequest, web::Query};
use serde_json::{Map, Value};

use super::problem::Problem;
use crate::provider::models::FieldError;

/// Alike enough to ask "did you mean".
const ALIKE: f64 = 0.8;

/// The members of a JSON body.
pub(super) struct Members {
    members: Map<String, Value>,
    wrong: Vec<FieldError>,
}

impl Members {
    /// Takes a body apart; a member that is not `known` is a mistake. `hint` is said of those that resemble none.
    pub(super) fn of(body: Value, known: &[&str], hint: &str) -> Result<Self, Problem> {
        let Value::Object(mut members) = body else {
            return Err(Problem::invalid_at("", "wrong_type", "the body must be a JSON object"));
        };
        let mut wrong = Vec::new();
        members.retain(|name, _| {
            let is_known = known.contains(&name.as_str());
            if !is_known {
                let detail = format!(
                    "there is no member `{name}`{}",
                    did_you_mean(name, known).unwrap_or(hint.to_owned())
                );
                wrong.push(FieldError { pointer: pointer(name), code: "unknown_member", detail });
            }
            is_known
        });
        members.retain(|_, value| !value.is_null());
        Ok(Self { members, wrong })
    }

    /// Notes a mistake.
    pub(super) fn wrong(&mut self, name: &str, code: &'static str, detail: impl Into<String>) {
        self.wrong.push(FieldError { pointer: pointer(name), code, detail: detail.into() });
    }

    /// Notes a mistake at a place within a member.
    pub(super) fn wrong_at(&mut self, pointer: String, code: &'static str, detail: impl Into<String>) {
        self.wrong.push(FieldError { pointer, code, detail: detail.into() });
    }

    /// The member as it is.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.members.remove(name)
    }

    fn typed<T>(&mut self, name: &str, what: &str, read: impl FnOnce(Value) -> Option<T>) -> Option<T> {
        let value = read(self.take(name)?);
        if value.is_none() {
            self.wrong(name, "wrong_type", format!("{name} must be {what}"));
        }
        value
    }

    /// A string.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        self.typed(name, "a string", |value| match value {
            Value::String(text) => Some(text),
            _ => None,
        })
    }

    /// A string that must be there and be one of these.
    pub(super) fn choice(&mut self, name: &str, choices: &[&'static str]) -> Option<&'static str> {
        let before = self.wrong.len();
        let given = self.text(name);
        let chosen = given.as_deref().and_then(|given| choices.iter().find(|choice| **choice == given));
        if chosen.is_none() && self.wrong.len() == before {
            self.wrong(name, "not_one_of", format!("{name} must be one of {}", choices.join(", ")));
        }
        chosen.copied()
    }

    /// A whole number from 0.
    pub(super) fn number(&mut self, name: &str) -> Option<u64> {
        self.typed(name, "a whole number from 0", |value| value.as_u64())
    }

    /// An array of strings.
    pub(super) fn texts(&mut self, name: &str) -> Option<Vec<String>> {
        self.typed(name, "an array of strings", |value| serde_json::from_value(value).ok())
    }

    /// An object.
    pub(super) fn object(&mut self, name: &str) -> Option<Map<String, Value>> {
        self.typed(name, "an object", |value| serde_json::from_value(value).ok())
    }

    /// Every mistake, if there is one.
    pub(super) fn finish(self) -> Result<(), Vec<FieldError>> {
        if self.wrong.is_empty() { Ok(()) } else { Err(self.wrong) }
    }
}

/// The parameters of a query.
pub(super) struct Params {
    given: Vec<(String, String)>,
    wrong: Vec<FieldError>,
}

impl Params {
    /// Takes the query apart; a parameter that is not `known` is a mistake.
    pub(super) fn of(request: &HttpRequest, known: &[&str]) -> Self {
        let given = Query::<Vec<(String, String)>>::from_query(request.query_string()).map(Query::into_inner);
        let mut params = Self { given: given.unwrap_or_default(), wrong: Vec::new() };
        let unknown = params.given.iter().filter(|(name, _)| !known.contains(&name.as_str()));
        params.wrong = unknown
            .map(|(name, _)| {
                let hint = did_you_mean(name, known).unwrap_or_default();
                FieldError {
                    pointer: format!("?{name}"),
                    code: "unknown_parameter",
                    detail: format!("there is no parameter `{name}`{hint}"),
                }
            })
            .collect();
        params
    }

    /// The parameter as it was typed; an empty one counts as not given.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let found = self.given.iter().find(|(given, _)| given == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Whether the parameter is there, with any value but `0` and `false`.
    pub(super) fn flag(&self, name: &str) -> bool {
        let found = self.given.iter().find(|(given, _)| given == name);
        found.is_some_and(|(_, value)| !matches!(value.as_str(), "0" | "false"))
    }

    /// The parameter, read by `read`; `what` says what it must be.
    pub(super) fn read<T>(
        &mut self,
        name: &str,
        what: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let given = self.text(name)?;
        let value = read(given);
        if value.is_none() {
            let detail = format!("{name} must be {what}");
            self.wrong.push(FieldError { pointer: format!("?{name}"), code: "not_understood", detail });
        }
        value
    }

    /// The parameter, read by its type's own reading.
    pub(super) fn parse<T: FromStr>(&mut self, name: &str, what: &str) -> Option<T> {
        self.read(name, what, |text| text.parse().ok())
    }

    /// One of the words of an enumeration.
    pub(super) fn word<T: serde::de::DeserializeOwned>(&mut self, name: &str, words: &str) -> Option<T> {
        self.read(name, &format!("one of {words}"), |text| serde_json::from_value(text.into()).ok())
    }

    /// How many entries a list may have: 1 to 250, 50 unless told.
    pub(super) fn limit(&mut self) -> usize {
        const DEFAULT: usize = 50;
        self.read("limit", "1 to 250", |text| text.parse().ok().filter(|n| (1..=250).contains(n)))
            .unwrap_or(DEFAULT)
    }

    /// Every mistake, if there is one.
    pub(super) fn finish(self) -> Result<(), Problem> {
        if self.wrong.is_empty() { Ok(()) } else { Err(Problem::invalid(self.wrong)) }
    }
}

/// RFC 6901.
fn pointer(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

fn did_you_mean(name: &str, known: &[&str]) -> Option<String> {
    let likeness = |known: &&str| strsim::jaro_winkler(&name.to_lowercase(), known);
    let best = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) >= ALIKE).then(|| format!("; did you mean `{best}`?"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn query(query: &str) -> HttpRequest {
        actix_web::test::TestRequest::with_uri(&format!("/x?{query}")).to_http_request()
    }

    #[test]
    fn every_wrong_member_is_named_with_its_pointer_and_a_hint() {
        let body = json!({ "tag": 1, "a/b": 2, "number": "5", "kind": "c" });
        let mut members = Members::of(body, &["tags", "number", "kind"], "; see the manual").unwrap();
        assert_eq!(members.number("number"), None);
        assert_eq!(members.choice("kind", &["a", "b"]), None);
        let wrong = members.finish().unwrap_err();
        let said: Vec<_> = wrong.iter().map(|error| (error.pointer.as_str(), error.code)).collect();
        let unknown = "unknown_member";
        let expected =
            [("/a~1b", unknown), ("/tag", unknown), ("/number", "wrong_type"), ("/kind", "not_one_of")];
        assert_eq!(said, expected);
        assert!(wrong[1].detail.contains("did you mean `tags`"), "{}", wrong[1].detail);
        assert!(wrong[0].detail.contains("see the manual"), "{}", wrong[0].detail);
    }

    #[test]
    fn a_null_member_counts_as_not_given() {
        let mut members = Members::of(json!({ "tags": null }), &["tags"], "").unwrap();
        assert_eq!(members.texts("tags"), None);
        assert!(members.finish().is_ok());
    }

    #[test]
    fn a_limit_is_1_to_250_and_50_unless_told() {
        for (given, read) in [
            ("", Some(50)),
            ("limit=1", Some(1)),
            ("limit=250", Some(250)),
            ("limit=251", None),
            ("limit=0", None),
            ("limit=x", None),
        ] {
            let mut params = Params::of(&query(given), &["limit"]);
            let limit = params.limit();
            assert_eq!(params.finish().is_ok().then_some(limit), read, "{given}");
        }
    }

    #[test]
    fn an_unknown_parameter_is_a_mistake_and_never_passed_over() {
        let params = Params::of(&query("state=held"), &["status", "limit"]);
        assert!(params.finish().is_err());
    }
}
