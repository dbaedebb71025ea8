//! Headers that the operator adds to requests of ours: each a line, and a secret.

use std::path::PathBuf;

use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use super::check::Checker;

/// Headers that a request sets itself, beside all that begin with `webhook-`.
const OURS: [HeaderName; 6] = [
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::HOST,
    header::USER_AGENT,
];

/// The headers of a list or its file; none when one of them has a problem.
pub(super) fn read(
    c: &mut Checker<'_>,
    key: &str,
    typed: &Option<Vec<SecretString>>,
    file: &Option<PathBuf>,
) -> Option<HeaderMap> {
    let lines = c.secrets(key, typed, file);
    let mut headers = HeaderMap::new();
    for line in &lines {
        match header(line.expose_secret()) {
            Ok((name, value)) => {
                headers.append(name, value);
            }
            Err(message) => return c.reject(key, message),
        }
    }
    Some(headers)
}

/// One header of `Name: value`. The value is a secret, so no message repeats the text.
fn header(line: &str) -> Result<(HeaderName, HeaderValue), &'static str> {
    let (name, value) = line.split_once(':').ok_or("holds what is no header: write \"Name: value\"")?;
    let name: HeaderName = name.trim().parse().map_err(|_| "holds a name that no header can have")?;
    if OURS.contains(&name) || name.as_str().starts_with("webhook-") {
        return Err("holds a header that the delivery sets itself: remove it");
    }
    let mut value: HeaderValue = value
        .trim()
        .parse()
        .map_err(|_| "holds a value that no header can have: printable ASCII is wanted")?;
    value.set_sensitive(true);
    Ok((name, value))
}
