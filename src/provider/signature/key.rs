//! What signatures are held against: secrets and public keys as the configuration has them.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use hmac::Mac;
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{
    Scheme,
    claim::{Claim, Signature},
};
use crate::provider::signing::mac;

const ED25519_KEY_BYTES: usize = 32;

/// A secret that the scheme can neither make nor check a signature with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot be used: {0} is wanted")]
pub struct BadSecret(pub(super) &'static str);

const STANDARD_WANTED: &str =
    "a Standard Webhooks secret, base64 after `whsec_`, or a 32-byte public key in base64 after `whpk_`,";
const TEXT_WANTED: &str = "a secret text";
const FAL_WANTED: &str =
    "an Ed25519 public key as the `x` of a JWK (32 bytes in base64url), or a JWK set in one line,";

pub(super) enum Key {
    Shared(SecretSlice<u8>),
    Ed25519(Vec<u8>),
}

/// RFC 7517, as far as it holds Ed25519 keys (RFC 8037).
#[derive(Deserialize)]
struct KeySet {
    keys: Vec<PublicKey>,
}

/// Keys of other kinds may have no `x`.
#[derive(Deserialize)]
struct PublicKey {
    #[serde(default)]
    crv: String,
    #[serde(default)]
    x: String,
}

impl Key {
    /// The keys of one configured secret: one, but for a set of public keys.
    pub(super) fn read(scheme: Scheme, secret: &SecretString) -> Result<Vec<Self>, BadSecret> {
        let text = secret.expose_secret().trim();
        match scheme {
            Scheme::None => Ok(Vec::new()),
            Scheme::StandardWebhooks => Self::standard(text).ok_or(BadSecret(STANDARD_WANTED)),
            Scheme::Fal => Self::public(text).ok_or(BadSecret(FAL_WANTED)),
            _ if text.is_empty() => Err(BadSecret(TEXT_WANTED)),
            _ => Ok(vec![Self::Shared(text.as_bytes().to_vec().into())]),
        }
    }

    fn standard(text: &str) -> Option<Vec<Self>> {
        let decode = |text: &str| STANDARD.decode(text).ok().filter(|key| !key.is_empty());
        let key = match text.strip_prefix("whpk_") {
            Some(public) => Self::Ed25519(decode(public).filter(|key| key.len() == ED25519_KEY_BYTES)?),
            None => Self::Shared(decode(text.strip_prefix("whsec_").unwrap_or(text))?.into()),
        };
        Some(vec![key])
    }

    fn public(text: &str) -> Option<Vec<Self>> {
        let decode = |x: &str| {
            let key = URL_SAFE_NO_PAD.decode(x.trim_end_matches('=')).ok()?;
            (key.len() == ED25519_KEY_BYTES).then_some(Self::Ed25519(key))
        };
        if !text.starts_with('{') {
            return Some(vec![decode(text)?]);
        }
        let KeySet { keys } = serde_json::from_str(text).ok()?;
        let keys: Vec<Self> =
            keys.iter().filter(|key| key.crv == "Ed25519").filter_map(|key| decode(&key.x)).collect();
        (!keys.is_empty()).then_some(keys)
    }

    /// Whether any of the claim's signatures is this key's. In constant time, as far as the key is secret.
    pub(super) fn fits(&self, claim: &Claim) -> bool {
        let mut signatures = claim.signatures.iter();
        match self {
            Self::Ed25519(key) => {
                let key = UnparsedPublicKey::new(&ED25519, key);
                signatures.any(|signature| {
                    matches!(signature, Signature::Ed25519(bytes) if key.verify(&claim.signed, bytes).is_ok())
                })
            }
            Self::Shared(key) => {
                let tag = mac(key.expose_secret(), &[&claim.signed]);
                signatures.any(|signature| match signature {
                    Signature::Mac(bytes) => tag.clone().verify_slice(bytes).is_ok(),
                    // The hashes, so that the time does not tell the length either.
                    Signature::Secret(text) => {
                        Sha256::digest(text).ct_eq(&Sha256::digest(key.expose_secret())).into()
                    }
                    Signature::Ed25519(_) => false,
                })
            }
        }
    }
}

/// Whether a secret can be used with [`verify`](super::verify) under this scheme; for the check of a configuration.
///
/// # Errors
/// It is empty, or not of the form that the scheme has it in.
pub fn check_secret(scheme: Scheme, secret: &SecretString) -> Result<(), BadSecret> {
    Key::read(scheme, secret).map(|_| ())
}
