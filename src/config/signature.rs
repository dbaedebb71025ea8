//! `[callback] signature…`: how the provider signs.

use reqwest::header::HeaderName;
use secrecy::SecretString;

use super::{check::Checker, file};
use crate::provider::signature::{Format, Scheme, check_secret};

/// The scheme, and the names that this provider gives its parts.
pub(super) fn format(c: &mut Checker<'_>, f: &file::Callback) -> Format {
    let scheme = f.signature.parse().unwrap_or_else(|_| {
        let known = Scheme::ALL.map(|scheme| format!("\"{scheme}\"")).join(", ");
        c.problem("callback.signature", format!("must be one of {known}, not `{}`", f.signature));
        Scheme::None
    });
    let has_header =
        matches!(scheme, Scheme::TimestampedBody | Scheme::Stripe | Scheme::Body | Scheme::SharedSecret);
    let has_prefix = matches!(scheme, Scheme::TimestampedBody | Scheme::Body | Scheme::SharedSecret);
    let options = [
        ("callback.signature_header", &f.signature_header, has_header),
        (
            "callback.signature_timestamp_header",
            &f.signature_timestamp_header,
            scheme == Scheme::TimestampedBody,
        ),
        ("callback.signature_prefix", &f.signature_prefix, has_prefix),
    ];
    for (key, value, counts) in options {
        if value.is_some() && !counts && !c.is_rejected("callback.signature") {
            c.warn(key, format!("has no effect while callback.signature is \"{scheme}\""));
        }
    }
    let format = Format {
        scheme,
        header: header(c, "callback.signature_header", &f.signature_header),
        timestamp_header: header(c, "callback.signature_timestamp_header", &f.signature_timestamp_header),
        prefix: f.signature_prefix.clone(),
    };
    let key = "callback.signature_header";
    if has_header && format.signature_header().is_none() && !c.is_rejected(key) {
        c.problem(
            key,
            format!("must name a header: providers of the scheme \"{scheme}\" have none in common"),
        );
    }
    format
}

/// In lower case, as requests are searched.
fn header(c: &mut Checker<'_>, key: &str, name: &Option<String>) -> Option<String> {
    match HeaderName::try_from(name.as_ref()?) {
        Ok(name) => Some(name.as_str().to_owned()),
        Err(_) => c.reject(key, "is no name of a header"),
    }
}

/// A secret that verifies nothing would be found out by a callback that is lost.
pub(super) fn secrets(c: &mut Checker<'_>, scheme: Scheme, secrets: &[SecretString]) {
    let key = "callback.signature_secrets";
    for (index, secret) in secrets.iter().enumerate() {
        if let Err(error) = check_secret(scheme, secret)
            && !c.is_rejected(key)
        {
            c.problem(key, format!("holds a secret, number {}, that {error} by \"{scheme}\"", index + 1));
        }
    }
}
