//! Unguessable tokens: the callback URL's, and the signature of a media link.

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

const SECRET_MIN: usize = 16;

/// Characters of a token.
pub const TOKEN_LENGTH: usize = 64;

/// What a token opens. It is part of what is signed, so a token made for one purpose never opens the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The path of a callback URL. Subject: the job id.
    Callback,
    /// The signature of a media link. Subject: job, file name and expiry.
    Media,
    /// The answer to a ping of the callback listener. Subject: what the ping asked.
    Ping,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Callback => b"reelhook callback v1\0",
            Self::Media => b"reelhook media v1\0",
            Self::Ping => b"reelhook ping v1\0",
        }
    }
}

/// Mints and checks tokens for one purpose. The first secret mints, all of them check.
#[derive(Clone, Debug)]
pub struct Tokens {
    purpose: Purpose,
    secrets: Vec<SecretString>,
}

/// No secret, or one that could be guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeakSecret {
    /// There is nothing to sign with.
    #[error("no secret: at least one is needed to make tokens")]
    Missing,
    /// Too few bytes.
    #[error("a secret is too short: {SECRET_MIN} bytes at least")]
    Short,
}

impl Tokens {
    /// `secrets` newest first, 16 bytes or more each.
    ///
    /// # Errors
    /// No secret at all, or one that is too short.
    pub fn new(purpose: Purpose, secrets: Vec<SecretString>) -> Result<Self, WeakSecret> {
        if secrets.is_empty() {
            return Err(WeakSecret::Missing);
        }
        if secrets.iter().any(|secret| secret.expose_secret().len() < SECRET_MIN) {
            return Err(WeakSecret::Short);
        }
        Ok(Self { purpose, secrets })
    }

    /// The token of a subject: HMAC-SHA256 as 64 lower-case hex digits.
    pub fn mint(&self, subject: &str) -> String {
        self.macs(subject).next().map(|mac| hex::encode(mac.finalize().into_bytes())).unwrap_or_default()
    }

    /// Whether `token` was minted for `subject` and this purpose, by any of the secrets. In constant time.
    pub fn check(&self, subject: &str, token: &str) -> bool {
        let mut claimed = [0; 32];
        // Lower case only: one token has one spelling.
        let well_formed = token.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !well_formed || hex::decode_to_slice(token, &mut claimed).is_err() {
            return false;
        }
        self.macs(subject).fold(false, |found, mac| mac.verify_slice(&claimed).is_ok() | found)
    }

    fn macs(&self, subject: &str) -> impl Iterator<Item = Hmac<Sha256>> {
        self.secrets.iter().filter_map(move |secret| {
            let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()).ok()?;
            mac.update(self.purpose.label());
            mac.update(subject.as_bytes());
            Some(mac)
        })
    }
}
