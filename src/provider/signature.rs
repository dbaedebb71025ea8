//! Verifying who sent a callback, and signing what we send.
//!
//! Everything is reckoned over the raw bytes and compared in constant time. The scheme is configured, never detected:
//! the header names of different senders collide.

use std::{fmt, str::FromStr};

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// A signature older or younger than this many seconds is a replay.
const TOLERANCE_S: u64 = 300;
const DELIVERY_ID_MAX: usize = 128;
const ED25519_KEY_BYTES: usize = 32;

/// How the provider signs its callbacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    /// Not at all: the token in the URL alone.
    #[default]
    None,
    /// Standard Webhooks 1.0.0: `v1` (HMAC-SHA256, `whsec_` secrets) and `v1a` (Ed25519, `whpk_` keys).
    StandardWebhooks,
}

impl Scheme {
    /// Whether a verified signature proves the body, so that it may be trusted without asking.
    pub fn covers_body(self) -> bool {
        match self {
            Self::None => false,
            Self::StandardWebhooks => true,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::StandardWebhooks => "standard-webhooks",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A name that is no scheme's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown signature scheme `{0}`: one of `none`, `standard-webhooks`")]
pub struct UnknownScheme(String);

impl FromStr for Scheme {
    type Err = UnknownScheme;

    fn from_str(name: &str) -> Result<Self, UnknownScheme> {
        let schemes = [Self::None, Self::StandardWebhooks];
        schemes.into_iter().find(|scheme| scheme.name() == name).ok_or_else(|| UnknownScheme(name.to_owned()))
    }
}

/// A body that passed [`verify`]; there is no other way to have one.
#[derive(Clone, Copy, Debug)]
pub struct Verified<'a> {
    body: &'a [u8],
    scheme: Scheme,
}

impl<'a> Verified<'a> {
    /// The raw bytes.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// Whether the signature proves these bytes, or only that a sender knew the URL.
    pub fn covers_body(&self) -> bool {
        self.scheme.covers_body()
    }
}

/// Why a callback's signature does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forged {
    /// A header of the scheme is missing or empty.
    #[error("the header {0} is missing")]
    MissingHeader(&'static str),
    /// Not a count of seconds.
    #[error("the header webhook-timestamp is not a Unix time in seconds")]
    BadTimestamp,
    /// Too far from the present: a replay, or a clock that is wrong.
    #[error("the signature is more than {TOLERANCE_S} s away from this server's clock")]
    Stale,
    /// No signature of any version fits any secret.
    #[error("no signature matches")]
    NoMatch,
    /// Nothing to verify with.
    #[error("no usable signature secret is configured")]
    NoSecret,
}

/// A secret that no signature can be made or checked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a Standard Webhooks secret: base64 after `whsec_`, or a 32-byte public key in base64 after `whpk_`"
)]
pub struct BadSecret;

enum Key {
    Shared(Vec<u8>),
    Public(Vec<u8>),
}

impl Key {
    fn read(secret: &SecretString) -> Result<Self, BadSecret> {
        let decode = |text: &str| STANDARD.decode(text).ok().filter(|key| !key.is_empty()).ok_or(BadSecret);
        let text = secret.expose_secret().trim();
        match text.strip_prefix("whpk_") {
            Some(public) => decode(public).and_then(|key| match key.len() {
                ED25519_KEY_BYTES => Ok(Self::Public(key)),
                _ => Err(BadSecret),
            }),
            None => Ok(Self::Shared(decode(text.strip_prefix("whsec_").unwrap_or(text))?)),
        }
    }

    /// Whether `signature`, such as `v1,g0hM…`, is this key's for `signed`.
    fn fits(&self, signature: &str, signed: &[u8]) -> bool {
        let Some((version, encoded)) = signature.split_once(',') else { return false };
        let Ok(bytes) = STANDARD.decode(encoded) else { return false };
        match (self, version) {
            (Self::Shared(key), "v1") => mac(key, signed).is_some_and(|mac| mac.verify_slice(&bytes).is_ok()),
            (Self::Public(key), "v1a") => {
                UnparsedPublicKey::new(&ED25519, key).verify(signed, &bytes).is_ok()
            }
            _ => false,
        }
    }
}

fn mac(key: &[u8], signed: &[u8]) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(signed);
    Some(mac)
}

fn signed_bytes(id: &str, timestamp: &str, body: &[u8]) -> Vec<u8> {
    [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat()
}

/// Whether a secret can be used with [`verify`] and [`sign`]; for the check of a configuration.
///
/// # Errors
/// It is empty, not base64, or a public key of the wrong length.
pub fn check_secret(secret: &SecretString) -> Result<(), BadSecret> {
    Key::read(secret).map(|_| ())
}

/// Verifies the raw bytes of a callback. Any of the secrets may match, so that they can be rotated; unusable ones match
/// nothing. `header` looks a header up by its lower-case name.
///
/// # Errors
/// A header is missing or unreadable, the time is more than 300 s off, or nothing matches.
pub fn verify<'a>(
    scheme: Scheme,
    secrets: &[SecretString],
    header: impl Fn(&str) -> Option<String>,
    body: &'a [u8],
    now_unix_s: i64,
) -> Result<Verified<'a>, Forged> {
    match scheme {
        Scheme::None => {}
        Scheme::StandardWebhooks => verify_standard(secrets, header, body, now_unix_s)?,
    }
    Ok(Verified { body, scheme })
}

fn verify_standard(
    secrets: &[SecretString],
    header: impl Fn(&str) -> Option<String>,
    body: &[u8],
    now_unix_s: i64,
) -> Result<(), Forged> {
    let prefix = if header("webhook-signature").is_none() && header("svix-signature").is_some() {
        "svix"
    } else {
        "webhook"
    };
    let read = |part: &str, name| {
        let value = header(&format!("{prefix}-{part}")).filter(|value| !value.is_empty());
        value.ok_or(Forged::MissingHeader(name))
    };
    let id = read("id", "webhook-id")?;
    let timestamp = read("timestamp", "webhook-timestamp")?;
    let signatures = read("signature", "webhook-signature")?;
    let signed_at: i64 = timestamp.parse().map_err(|_| Forged::BadTimestamp)?;
    if signed_at.abs_diff(now_unix_s) > TOLERANCE_S {
        return Err(Forged::Stale);
    }
    let keys: Vec<Key> = secrets.iter().filter_map(|secret| Key::read(secret).ok()).collect();
    if keys.is_empty() {
        return Err(Forged::NoSecret);
    }
    let signed = signed_bytes(&id, &timestamp, body);
    let fits = |signature: &str| keys.iter().any(|key| key.fits(signature, &signed));
    if signatures.split_whitespace().any(fits) { Ok(()) } else { Err(Forged::NoMatch) }
}

/// Signs a body by Standard Webhooks 1.0.0: the value of `webhook-signature`, `v1,<base64>`.
///
/// # Errors
/// The secret is no shared secret: base64, with or without `whsec_` before it.
pub fn sign(secret: &SecretString, id: &str, unix_s: i64, body: &[u8]) -> Result<String, BadSecret> {
    let Key::Shared(key) = Key::read(secret)? else { return Err(BadSecret) };
    let mac = mac(&key, &signed_bytes(id, &unix_s.to_string(), body)).ok_or(BadSecret)?;
    Ok(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

/// By what the sender lets a repeated callback be known: `webhook-id` or `X-Webhook-Id` up to 128 bytes. `header` looks
/// a header up by its lower-case name.
pub fn delivery_id(header: impl Fn(&str) -> Option<String>) -> Option<String> {
    let names = ["webhook-id", "svix-id", "x-webhook-id"];
    let usable = |id: &String| (1..=DELIVERY_ID_MAX).contains(&id.len());
    names.into_iter().filter_map(header).find(usable)
}
