//! Signing as a provider does: the other side of [`verify`](super::verify), for the stand-in provider.

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::Mac;
use secrecy::{ExposeSecret, SecretString};

use super::{BadSecret, Format, Scheme, claim, key::Key};
use crate::provider::signing::mac;

const ED25519_SEED_BYTES: usize = 32;
const PRIVATE_WANTED: &str = "an Ed25519 private key, its seed of 32 bytes in base64 after `whsk_`,";
const HEADER_WANTED: &str = "the name of a header to put the signature in";
/// Whom `fal` says that it calls.
const FAL_USER: &str = "user_1";

/// What is signed.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// By which deliveries are told apart, where the scheme has it.
    pub id: &'a str,
    /// Unix seconds.
    pub timestamp: i64,
    /// The raw bytes.
    pub body: &'a [u8],
}

/// The headers, names in lower case, that a sender with this secret adds. Ed25519 wants the private key, `whsk_` and the
/// base64 of its seed.
///
/// # Errors
/// The secret is not of the form that the scheme signs with, or no header is named.
pub fn sign(
    format: &Format,
    secret: &SecretString,
    message: Message<'_>,
) -> Result<Vec<(String, String)>, BadSecret> {
    let Message { id, body, .. } = message;
    let (scheme, timestamp) = (format.scheme, message.timestamp.to_string());
    let name = || format.signature_header().ok_or(BadSecret(HEADER_WANTED));
    let prefixed =
        |signature: String, usual: &str| format!("{}{signature}", format.prefix.as_deref().unwrap_or(usual));
    let hex = |signed: &[u8]| tag(scheme, secret, signed).map(hex::encode);
    let headers = match scheme {
        Scheme::None => Vec::new(),
        Scheme::StandardWebhooks => {
            let signed = claim::signed_standard(id, &timestamp, body);
            let signature = if is_private(secret) {
                format!("v1a,{}", STANDARD.encode(ed25519(secret, &signed)?))
            } else {
                format!("v1,{}", STANDARD.encode(tag(scheme, secret, &signed)?))
            };
            vec![("webhook-id", id.to_owned()), ("webhook-timestamp", timestamp), (name()?, signature)]
        }
        Scheme::Kie => {
            let signed = claim::signed_kie(&claim::task_id(body).unwrap_or_default(), &timestamp);
            let signature = STANDARD.encode(tag(scheme, secret, &signed)?);
            vec![(format.time_header(), timestamp), (name()?, signature)]
        }
        Scheme::TimestampedBody => {
            let signature = hex(&claim::signed_timestamped(&timestamp, body))?;
            vec![(format.time_header(), timestamp), (name()?, prefixed(signature, "sha256="))]
        }
        Scheme::Stripe => {
            let signature = hex(&claim::signed_timestamped(&timestamp, body))?;
            vec![(name()?, format!("t={timestamp},v1={signature}"))]
        }
        Scheme::Body => vec![(name()?, prefixed(hex(body)?, "sha256="))],
        Scheme::SharedSecret => vec![(name()?, prefixed(secret.expose_secret().trim().to_owned(), ""))],
        Scheme::Fal => {
            let signed = claim::signed_fal(id, FAL_USER, &timestamp, body);
            vec![
                ("x-fal-webhook-request-id", id.to_owned()),
                ("x-fal-webhook-user-id", FAL_USER.to_owned()),
                ("x-fal-webhook-timestamp", timestamp),
                (name()?, hex::encode(ed25519(secret, &signed)?)),
            ]
        }
    };
    Ok(headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn tag(scheme: Scheme, secret: &SecretString, signed: &[u8]) -> Result<Vec<u8>, BadSecret> {
    match Key::read(scheme, secret)?.as_slice() {
        [Key::Shared(key)] => Ok(mac(key.expose_secret(), &[signed]).finalize().into_bytes().to_vec()),
        _ => Err(BadSecret(PRIVATE_WANTED)),
    }
}

fn is_private(secret: &SecretString) -> bool {
    secret.expose_secret().trim().starts_with("whsk_")
}

fn ed25519(secret: &SecretString, signed: &[u8]) -> Result<Vec<u8>, BadSecret> {
    let wanted = BadSecret(PRIVATE_WANTED);
    let seed = secret.expose_secret().trim().strip_prefix("whsk_").ok_or(wanted)?;
    let seed = STANDARD.decode(seed).map_err(|_| wanted)?;
    // Some write the public key behind it.
    let seed = seed.get(..ED25519_SEED_BYTES).ok_or(wanted)?;
    let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| wanted)?;
    Ok(pair.sign(signed).as_ref().to_vec())
}
