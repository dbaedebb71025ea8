//! The URLs that a job brings along, read and judged before there is a job.

use secrecy::SecretString;
use serde_json::Value;

use super::fields::Members;
use crate::{
    lifecycle::{Notify, NotifyFormat, Secret},
    outbound::egress::Guard,
    provider::signing::SigningKey,
};

/// `notify: [{"url","secret"?}]`; every mistake is noted. What only a look-up can tell, the guard judges before each try.
pub(super) fn read(members: &mut Members, guard: &Guard) -> Vec<Notify> {
    let Some(given) = members.take("notify") else { return Vec::new() };
    let Value::Array(given) = given else {
        members.wrong(
            "notify",
            "wrong_type",
            "notify must be an array of objects with a url and perhaps a secret",
        );
        return Vec::new();
    };
    let mut urls = Vec::new();
    for (at, entry) in given.into_iter().enumerate() {
        match one(entry, guard) {
            Ok(notify) => urls.push(notify),
            Err((member, code, detail)) => members.wrong_at(format!("/notify/{at}{member}"), code, detail),
        }
    }
    urls
}

type Mistake = (String, &'static str, String);

fn one(entry: Value, guard: &Guard) -> Result<Notify, Mistake> {
    let mistake = |member: &str, code, detail: &str| (member.to_owned(), code, detail.to_owned());
    let Value::Object(mut entry) = entry else {
        return Err(mistake("", "wrong_type", "it must be an object with a url and perhaps a secret"));
    };
    let Some(Value::String(url)) = entry.remove("url") else {
        return Err(mistake("/url", "required", "url must be a string"));
    };
    guard.judge(&url).map_err(|denied| ("/url".to_owned(), "denied", denied.to_string()))?;
    let secret = match entry.remove("secret") {
        None | Some(Value::Null) => None,
        Some(Value::String(secret)) => {
            SigningKey::read(&SecretString::from(secret.as_str()))
                .map_err(|bad| ("/secret".to_owned(), "unusable", format!("the secret {bad}")))?;
            Some(Secret::new(secret))
        }
        Some(_) => return Err(mistake("/secret", "wrong_type", "secret must be a string")),
    };
    match entry.keys().next() {
        Some(unknown) => {
            Err((format!("/{unknown}"), "unknown_member", "there are url and secret alone".to_owned()))
        }
        None => Ok(Notify { url, secret, format: NotifyFormat::Standard }),
    }
}
