//! By what stores know things that are too long, or too private, for a key.

use sha2::{Digest, Sha256};

/// The first sixteen bytes of the SHA-256 of `parts`, each after its length.
pub(super) fn of(parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    bytes
}

/// Stands for an idempotency key.
pub(super) fn key(owner: &str, key: &str) -> [u8; 16] {
    of(&[owner.as_bytes(), key.as_bytes()])
}

/// Stands for a delivery among those for one job.
pub(super) fn delivery(delivery_id: &str) -> u64 {
    of(&[delivery_id.as_bytes()]).iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}
