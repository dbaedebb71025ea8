//! Verifying who sent a callback.
//!
//! Everything is reckoned over the raw bytes and compared in constant time. The scheme is configured, never detected:
//! the header names of different senders collide. Each scheme is one row of the table in `claim`: what a request claims,
//! as the bytes that were signed and the signatures that came with them.

mod claim;
mod key;
mod sign;

use std::{fmt, str::FromStr};

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use claim::Claim;
use key::Key;

pub use key::{BadSecret, check_secret};
pub use sign::{Message, sign};

/// A signature older or younger than this many seconds is a replay.
const TOLERANCE_S: u64 = 300;
const DELIVERY_ID_MAX: usize = 128;
/// While a secret is changed there are two; a list without end would be work without end.
const SIGNATURES_MAX: usize = 16;

/// How the provider signs its callbacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    /// Not at all: the token in the URL alone.
    #[default]
    None,
    /// Standard Webhooks 1.0.0: `v1` (HMAC-SHA256, `whsec_` secrets) and `v1a` (Ed25519, `whpk_` keys); also under the
    /// header names of Svix.
    StandardWebhooks,
    /// HMAC-SHA256 in base64 over `taskId.timestamp`. The body is not covered.
    Kie,
    /// HMAC-SHA256 in hex over `timestamp.body`, each in a header of its own.
    TimestampedBody,
    /// The same in one header, `t=…,v1=…`.
    Stripe,
    /// HMAC-SHA256 in hex over the body alone.
    Body,
    /// The secret itself in a header. The body is not covered.
    SharedSecret,
    /// Ed25519 in hex over request id, user id, timestamp and the body's SHA-256.
    Fal,
}

impl Scheme {
    /// Every scheme.
    pub const ALL: [Self; 8] = [
        Self::None,
        Self::StandardWebhooks,
        Self::Kie,
        Self::TimestampedBody,
        Self::Stripe,
        Self::Body,
        Self::SharedSecret,
        Self::Fal,
    ];

    /// Whether a verified signature proves the body, so that it may be trusted without asking.
    pub fn covers_body(self) -> bool {
        !matches!(self, Self::None | Self::Kie | Self::SharedSecret)
    }

    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::StandardWebhooks => "standard-webhooks",
            Self::Kie => "kie",
            Self::TimestampedBody => "timestamped-body",
            Self::Stripe => "stripe",
            Self::Body => "body",
            Self::SharedSecret => "shared-secret",
            Self::Fal => "fal",
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
#[error("unknown signature scheme `{name}`: one of {}", Scheme::ALL.map(|scheme| format!("`{scheme}`")).join(", "))]
pub struct UnknownScheme {
    name: String,
}

impl FromStr for Scheme {
    type Err = UnknownScheme;

    fn from_str(name: &str) -> Result<Self, UnknownScheme> {
        let found = Self::ALL.into_iter().find(|scheme| scheme.name() == name);
        found.ok_or_else(|| UnknownScheme { name: name.to_owned() })
    }
}

/// A scheme, and where this provider puts its parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Format {
    /// What is signed, and how.
    pub scheme: Scheme,
    /// Header of the signature, in lower case. `None`: the scheme's own, which [`Scheme::Body`] and
    /// [`Scheme::SharedSecret`] do not have. Only for them, [`Scheme::TimestampedBody`] and [`Scheme::Stripe`].
    pub header: Option<String>,
    /// Header of the time of [`Scheme::TimestampedBody`], in lower case. `None`: `x-webhook-timestamp`.
    pub timestamp_header: Option<String>,
    /// What stands before the signature of [`Scheme::TimestampedBody`], [`Scheme::Body`] and [`Scheme::SharedSecret`].
    /// `None`: `sha256=` or nothing, and nothing for a shared secret.
    pub prefix: Option<String>,
}

impl Format {
    /// The header that the signature stands in, in lower case; `None` where the configuration has to name it.
    pub fn signature_header(&self) -> Option<&str> {
        let own = match self.scheme {
            Scheme::StandardWebhooks => return Some("webhook-signature"),
            Scheme::Kie => return Some("x-webhook-signature"),
            Scheme::Fal => return Some("x-fal-webhook-signature"),
            Scheme::TimestampedBody => Some("x-webhook-signature"),
            Scheme::Stripe => Some("stripe-signature"),
            Scheme::None | Scheme::Body | Scheme::SharedSecret => None,
        };
        self.header.as_deref().or(own)
    }

    fn time_header(&self) -> &str {
        self.timestamp_header.as_deref().unwrap_or("x-webhook-timestamp")
    }
}

impl From<Scheme> for Format {
    fn from(scheme: Scheme) -> Self {
        Self { scheme, ..Self::default() }
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
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forged {
    /// A header of the scheme is missing or empty.
    #[error("the header {0} is missing")]
    MissingHeader(String),
    /// The scheme's header is not configured.
    #[error("the configuration names no header for the signature")]
    NoHeader,
    /// The scheme signs the id of a task, and the body names none.
    #[error("the body names no task, which is what this provider signs")]
    NoTask,
    /// Not a count of seconds.
    #[error("the timestamp is not a Unix time in seconds")]
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

/// Verifies the raw bytes of a callback. Any of the secrets may match, so that they can be rotated; unusable ones match
/// nothing. `header` looks a header up by its lower-case name.
///
/// # Errors
/// A header is missing or unreadable, the time is more than 300 s off, or nothing matches.
pub fn verify<'a>(
    format: &Format,
    secrets: &[SecretString],
    header: impl Fn(&str) -> Option<String>,
    body: &'a [u8],
    now_unix_s: i64,
) -> Result<Verified<'a>, Forged> {
    let scheme = format.scheme;
    if let Some(claim) = Claim::read(format, &header, body)? {
        if let Some(timestamp) = &claim.timestamp {
            let signed_at: i64 = timestamp.parse().map_err(|_| Forged::BadTimestamp)?;
            if signed_at.abs_diff(now_unix_s) > TOLERANCE_S {
                return Err(Forged::Stale);
            }
        }
        let keys: Vec<Key> =
            secrets.iter().filter_map(|secret| Key::read(scheme, secret).ok()).flatten().collect();
        if keys.is_empty() {
            return Err(Forged::NoSecret);
        }
        if !keys.iter().any(|key| key.fits(&claim)) {
            return Err(Forged::NoMatch);
        }
    }
    Ok(Verified { body, scheme })
}

/// By what the sender lets a repeated callback be known, 1 to 128 bytes; `None`: by the hash of its body. Under a
/// signature only an id that is signed counts, since a replay could carry any other. `header` looks a header up by its
/// lower-case name.
pub fn delivery_id(scheme: Scheme, header: impl Fn(&str) -> Option<String>) -> Option<String> {
    let usable = |id: &String| (1..=DELIVERY_ID_MAX).contains(&id.len());
    match scheme {
        Scheme::None => {
            ["webhook-id", "svix-id", "x-webhook-id"].into_iter().filter_map(&header).find(usable)
        }
        Scheme::StandardWebhooks => header(&format!("{}-id", claim::standard_prefix(&header))).filter(usable),
        _ => None,
    }
}
