//! What a request claims under each scheme: the bytes that were signed, when, and the signatures of them.

use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

use super::{Forged, Format, SIGNATURES_MAX, Scheme};
use crate::provider::reply::{self, Mapping};

/// A signature as it came, decoded.
pub(super) enum Signature {
    /// HMAC-SHA256.
    Mac(Vec<u8>),
    /// Ed25519.
    Ed25519(Vec<u8>),
    /// The secret itself.
    Secret(String),
}

/// To be held against the keys. A signature that cannot be decoded is none.
pub(super) struct Claim {
    /// When it was signed, as it was written; `None` where the scheme signs no time.
    pub(super) timestamp: Option<String>,
    pub(super) signed: Vec<u8>,
    pub(super) signatures: Vec<Signature>,
}

impl Claim {
    /// `None`: the scheme claims nothing.
    pub(super) fn read(
        format: &Format,
        header: &dyn Fn(&str) -> Option<String>,
        body: &[u8],
    ) -> Result<Option<Self>, Forged> {
        let read = |name: &str| {
            let value = header(name).filter(|value| !value.is_empty());
            value.ok_or_else(|| Forged::MissingHeader(name.to_owned()))
        };
        let signature = || read(format.signature_header().ok_or(Forged::NoHeader)?);
        let claim = match format.scheme {
            Scheme::None => return Ok(None),
            Scheme::StandardWebhooks => {
                let prefix = standard_prefix(header);
                let id = read(&format!("{prefix}-id"))?;
                let timestamp = read(&format!("{prefix}-timestamp"))?;
                let list = read(&format!("{prefix}-signature"))?;
                let signed = signed_standard(&id, &timestamp, body);
                let signatures = list.split_whitespace().take(SIGNATURES_MAX).filter_map(versioned).collect();
                Self { timestamp: Some(timestamp), signed, signatures }
            }
            Scheme::Kie => {
                let (timestamp, signature) = (read(format.time_header())?, signature()?);
                let task = task_id(body).ok_or(Forged::NoTask)?;
                let signed = signed_kie(&task, &timestamp);
                let signatures = STANDARD.decode(signature).ok().map(Signature::Mac).into_iter().collect();
                Self { timestamp: Some(timestamp), signed, signatures }
            }
            Scheme::TimestampedBody => {
                let (timestamp, signature) = (read(format.time_header())?, signature()?);
                let signed = signed_timestamped(&timestamp, body);
                let signatures = format.unprefixed(&signature).and_then(hex_mac).into_iter().collect();
                Self { timestamp: Some(timestamp), signed, signatures }
            }
            Scheme::Stripe => stripe(&signature()?, body)?,
            Scheme::Body => {
                let signatures = format.unprefixed(&signature()?).and_then(hex_mac).into_iter().collect();
                Self { timestamp: None, signed: body.to_vec(), signatures }
            }
            Scheme::SharedSecret => {
                let signature = signature()?;
                let secret = format.unprefixed(&signature).map(|secret| Signature::Secret(secret.to_owned()));
                Self { timestamp: None, signed: Vec::new(), signatures: secret.into_iter().collect() }
            }
            Scheme::Fal => {
                let (id, user) = (read("x-fal-webhook-request-id")?, read("x-fal-webhook-user-id")?);
                let (timestamp, signature) = (read("x-fal-webhook-timestamp")?, signature()?);
                let signed = signed_fal(&id, &user, &timestamp, body);
                let signatures = hex::decode(signature).ok().map(Signature::Ed25519).into_iter().collect();
                Self { timestamp: Some(timestamp), signed, signatures }
            }
        };
        Ok(Some(claim))
    }
}

impl Format {
    /// The signature without what stands before it; `None`: something else does.
    fn unprefixed<'a>(&self, signature: &'a str) -> Option<&'a str> {
        match (&self.prefix, self.scheme) {
            (Some(prefix), _) => signature.strip_prefix(prefix.as_str()),
            (None, Scheme::SharedSecret) => Some(signature),
            (None, _) => Some(signature.strip_prefix("sha256=").unwrap_or(signature)),
        }
    }
}

/// What the header names of Standard Webhooks begin with: Svix keeps its own older ones.
pub(super) fn standard_prefix(header: &dyn Fn(&str) -> Option<String>) -> &'static str {
    let older = header("webhook-signature").is_none() && header("svix-signature").is_some();
    if older { "svix" } else { "webhook" }
}

/// One of `v1,<base64>` and `v1a,<base64>`.
fn versioned(signature: &str) -> Option<Signature> {
    let (version, encoded) = signature.split_once(',')?;
    let bytes = STANDARD.decode(encoded).ok()?;
    match version {
        "v1" => Some(Signature::Mac(bytes)),
        "v1a" => Some(Signature::Ed25519(bytes)),
        _ => None,
    }
}

/// `t=…,v1=…[,v1=…]`; other members count for nothing.
fn stripe(header: &str, body: &[u8]) -> Result<Claim, Forged> {
    let members = || header.split(',').filter_map(|member| member.trim().split_once('='));
    let (_, timestamp) = members().find(|(name, _)| *name == "t").ok_or(Forged::BadTimestamp)?;
    let signatures = members().filter(|(name, _)| *name == "v1").take(SIGNATURES_MAX);
    let signatures = signatures.filter_map(|(_, signature)| hex_mac(signature)).collect();
    Ok(Claim {
        timestamp: Some(timestamp.to_owned()),
        signed: signed_timestamped(timestamp, body),
        signatures,
    })
}

fn hex_mac(signature: &str) -> Option<Signature> {
    hex::decode(signature).ok().map(Signature::Mac)
}

/// The task that a body names, read as the callback itself will be.
pub(super) fn task_id(body: &[u8]) -> Option<String> {
    let mapping = Mapping::default();
    let note = reply::read_callback(body, &mapping).ok()?;
    note.task_id().map(str::to_owned)
}

pub(super) fn signed_standard(id: &str, timestamp: &str, body: &[u8]) -> Vec<u8> {
    [id.as_bytes(), timestamp.as_bytes(), body].join(&b'.')
}

pub(super) fn signed_kie(task_id: &str, timestamp: &str) -> Vec<u8> {
    format!("{task_id}.{timestamp}").into_bytes()
}

pub(super) fn signed_timestamped(timestamp: &str, body: &[u8]) -> Vec<u8> {
    [timestamp.as_bytes(), body].join(&b'.')
}

pub(super) fn signed_fal(id: &str, user: &str, timestamp: &str, body: &[u8]) -> Vec<u8> {
    let digest = hex::encode(Sha256::digest(body));
    [id, user, timestamp, digest.as_str()].join("\n").into_bytes()
}
