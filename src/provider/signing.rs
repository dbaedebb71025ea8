//! The keys that sign what we send, by Standard Webhooks 1.0.0 (HMAC-SHA256 over `id.timestamp.body`).

use std::fmt;

use base64::{
    Engine, alphabet,
    engine::{
        DecodePaddingMode,
        general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD},
    },
};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use sha2::Sha256;

/// Fewer bytes can be guessed (Standard Webhooks asks for 192 bits).
const LEAST_BYTES: usize = 24;

/// Some of the libraries take a secret without its padding, so it must not be another secret here.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// How the text of a secret became a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Decoded from base64, with or without `whsec_` before it.
    Base64,
    /// Taken byte for byte.
    Plain,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Base64 => "base64",
            Self::Plain => "plain text",
        })
    }
}

/// Why a text cannot sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// The prefix promises base64.
    #[error("what follows `whsec_` is not base64")]
    NotBase64,
    /// An Ed25519 key.
    #[error(
        "`whsk_` and `whpk_` keys are asymmetric, and what is sent is signed with a shared secret: `whsec_…`"
    )]
    Asymmetric,
    /// A key that can be guessed.
    #[error("has {bytes} bytes read as {form}; {LEAST_BYTES} or more are wanted")]
    Short {
        /// How many it has.
        bytes: usize,
        /// Read in which way.
        form: Form,
    },
}

/// A shared secret, read. `Debug` does not show it.
#[derive(Clone, Debug)]
pub struct SigningKey {
    bytes: SecretSlice<u8>,
    form: Form,
}

impl SigningKey {
    /// Reads a secret as the Standard Webhooks libraries do, so that sender and receiver can be given the same text:
    /// base64, `whsec_` before it or not. A text that is no base64, which those libraries refuse, is taken byte for
    /// byte. Space around it does not count.
    ///
    /// # Errors
    /// It is not what its prefix says, or too short.
    pub fn read(secret: &SecretString) -> Result<Self, BadKey> {
        let text = secret.expose_secret().trim();
        if text.starts_with("whsk_") || text.starts_with("whpk_") {
            return Err(BadKey::Asymmetric);
        }
        let (bytes, form) = match text.strip_prefix("whsec_") {
            Some(encoded) => (LENIENT.decode(encoded).map_err(|_| BadKey::NotBase64)?, Form::Base64),
            None => match LENIENT.decode(text) {
                Ok(bytes) => (bytes, Form::Base64),
                Err(_) => (text.as_bytes().to_vec(), Form::Plain),
            },
        };
        if bytes.len() < LEAST_BYTES {
            return Err(BadKey::Short { bytes: bytes.len(), form });
        }
        Ok(Self { bytes: bytes.into(), form })
    }

    /// The text of a new secret, `whsec_…`, from random bytes.
    #[must_use]
    pub fn text(random: &[u8; 32]) -> SecretString {
        format!("whsec_{}", STANDARD.encode(random)).into()
    }

    /// The same text as a key that was taken byte for byte: what a receiver makes of it that does not decode.
    #[must_use]
    pub fn undecoded(secret: &SecretString) -> Self {
        Self { bytes: secret.expose_secret().trim().as_bytes().to_vec().into(), form: Form::Plain }
    }

    /// How the text was read.
    #[must_use]
    pub const fn form(&self) -> Form {
        self.form
    }

    /// One member of `webhook-signature`: `v1,<base64>`. `timestamp` is in Unix seconds.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mac = self.mac(id, &timestamp.to_string(), body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }

    /// Whether one member of `webhook-signature` is this key's; compared in constant time.
    #[must_use]
    pub fn fits(&self, signature: &str, id: &str, timestamp: &str, body: &[u8]) -> bool {
        let bytes = signature.strip_prefix("v1,").and_then(|encoded| STANDARD.decode(encoded).ok());
        bytes.is_some_and(|bytes| self.mac(id, timestamp, body).verify_slice(&bytes).is_ok())
    }

    fn mac(&self, id: &str, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
        mac(self.bytes.expose_secret(), &[id.as_bytes(), b".", timestamp.as_bytes(), b".", body])
    }
}

/// HMAC-SHA256 of the parts, one after the other; to be finished or verified.
pub(super) fn mac(key: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str) -> Result<Form, BadKey> {
        SigningKey::read(&text.into()).map(|key| key.form())
    }

    #[test]
    fn a_secret_is_base64_with_or_without_its_prefix_and_plain_text_otherwise() {
        let bytes = STANDARD.encode([7; 32]);
        assert_eq!(form(&format!(" whsec_{bytes}\n")), Ok(Form::Base64));
        assert_eq!(form(&bytes), Ok(Form::Base64));
        assert_eq!(form("correct horse battery staple"), Ok(Form::Plain));
        assert_eq!(form(bytes.trim_end_matches('=')), Ok(Form::Base64));
        let same = |text: &str| SigningKey::read(&text.into()).unwrap().sign("evt_1", 1, b"{}");
        assert_eq!(same(&bytes), same(&format!("whsec_{bytes}")));
        assert_eq!(same(&bytes), same(bytes.trim_end_matches('=')));
        assert_eq!(form(SigningKey::text(&[9; 32]).expose_secret()), Ok(Form::Base64));
    }

    #[test]
    fn a_secret_that_cannot_sign_says_why() {
        assert_eq!(form("whsec_not base64 at all, I fear"), Err(BadKey::NotBase64));
        assert_eq!(form("whpk_AAAA"), Err(BadKey::Asymmetric));
        assert_eq!(form("short"), Err(BadKey::Short { bytes: 5, form: Form::Plain }));
        let (bytes, form_read) = (18, Form::Base64);
        assert_eq!(form("abcdefghijklmnopqrstuvwx"), Err(BadKey::Short { bytes, form: form_read }));
    }

    #[test]
    fn a_key_is_not_shown() {
        let key = SigningKey::read(&"correct horse battery staple".into()).unwrap();
        assert!(!format!("{key:?}").contains("horse"));
    }
}
