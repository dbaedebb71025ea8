//! Values: a checked header before each, and no stored value above [`MAX`], for sled puts longer ones into files
//! that it never syncs. A longer one is cut; its pieces follow under keys of their own, in the same batch.

use sled::IVec;

use super::{keys, source::Source};
use crate::store::StoreError;

/// Longest stored value in bytes.
pub(super) const MAX: usize = 4096;
/// Number of the record format; a higher one was written by a newer version.
pub(super) const SCHEMA: u16 = 1;
/// Layout of the header itself.
const LAYOUT: u8 = 1;
/// Layout, checksum, schema, length of the payload.
pub(super) const HEADER: usize = 1 + 4 + 2 + 8;
/// Longest payload that needs no pieces, in bytes.
pub(super) const SHORT: usize = MAX - HEADER;

/// A value cannot be read.
#[derive(Debug)]
pub(super) enum Fault {
    /// A newer version wrote it.
    Newer(u16),
    /// Its bytes are not what was written.
    Damaged,
    /// The engine failed.
    Engine(sled::Error),
}

impl From<sled::Error> for Fault {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Corruption { .. } => Self::Damaged,
            other => Self::Engine(other),
        }
    }
}

impl Fault {
    /// As the contract says it; `what` names the record.
    pub(super) fn of(self, what: impl FnOnce() -> String) -> StoreError {
        match self {
            Self::Newer(found) => StoreError::Newer { found, known: SCHEMA },
            Self::Damaged => StoreError::Damaged(what()),
            Self::Engine(error) => StoreError::Unavailable(error.to_string()),
        }
    }
}

/// A payload as it is stored: the value under its own key, then its pieces in order.
pub(super) fn cut(payload: &[u8]) -> (Vec<u8>, std::slice::Chunks<'_, u8>) {
    cut_as(SCHEMA, payload)
}

fn cut_as(schema: u16, payload: &[u8]) -> (Vec<u8>, std::slice::Chunks<'_, u8>) {
    let (first, rest) = payload.split_at(payload.len().min(MAX - HEADER));
    let mut value = Vec::with_capacity(HEADER + first.len());
    value.push(LAYOUT);
    value.extend_from_slice(&[0; 4]);
    value.extend_from_slice(&schema.to_be_bytes());
    value.extend_from_slice(&(payload.len() as u64).to_be_bytes());
    let sum = checksum(&value, payload);
    value[1..5].copy_from_slice(&sum.to_be_bytes());
    value.extend_from_slice(first);
    (value, rest.chunks(MAX))
}

fn checksum(header: &[u8], payload: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&header[5..HEADER]);
    sum.update(payload);
    sum.finalize()
}

/// Length of the payload whose header `bytes` begin with, if it needs no pieces.
pub(super) fn length(bytes: &[u8]) -> Option<usize> {
    let header = bytes.first_chunk::<HEADER>().filter(|header| header[0] == LAYOUT)?;
    let length = u64::from_be_bytes(*header.last_chunk()?);
    usize::try_from(length).ok().filter(|length| *length <= SHORT)
}

/// How many pieces follow the value `head`; none when it is not ours.
pub(super) fn pieces(head: &[u8]) -> u64 {
    let length = head.get(7..HEADER).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes);
    // A damaged length must not make anybody walk for ever.
    pieces_of(length).min(1 << 20)
}

fn pieces_of(length: u64) -> u64 {
    length.saturating_sub(SHORT as u64).div_ceil(MAX as u64)
}

/// The payload stored under `key`.
///
/// A reader beside the committer may see the head of one write and pieces of the next: it looks again until
/// the head stands still, so only what is damaged at rest is called damaged.
pub(super) fn read(source: &impl Source, key: &[u8]) -> Result<Option<Payload>, Fault> {
    let mut seen = None;
    loop {
        let Some(head) = source.get(key)? else { return Ok(None) };
        match join(source, key, &head) {
            Err(Fault::Damaged) if pieces(&head) > 0 && seen.as_ref() != Some(&head) => seen = Some(head),
            other => return other.map(Some),
        }
    }
}

/// The payload whose head was read already.
pub(super) fn join(source: &impl Source, key: &[u8], head: &IVec) -> Result<Payload, Fault> {
    if head.len() < HEADER || head[0] != LAYOUT {
        return Err(Fault::Damaged);
    }
    let following = pieces(head);
    let payload = if following == 0 {
        Payload::Short(head.clone())
    } else {
        let mut whole = head[HEADER..].to_vec();
        for number in 0..following {
            whole.extend_from_slice(&source.get(&keys::piece(key, number))?.ok_or(Fault::Damaged)?);
        }
        Payload::Long(whole)
    };
    if head[1..5] != checksum(head, &payload).to_be_bytes() {
        return Err(Fault::Damaged);
    }
    match u16::from_be_bytes([head[5], head[6]]) {
        schema if schema > SCHEMA => Err(Fault::Newer(schema)),
        _ => Ok(payload),
    }
}

/// What was stored, checked.
pub(super) enum Payload {
    /// In one value, header included.
    Short(IVec),
    /// Put together from pieces.
    Long(Vec<u8>),
}

impl Payload {
    /// How many pieces it was put together from, beside the value itself.
    pub(super) fn pieces(&self) -> u64 {
        match self {
            Self::Short(_) => 0,
            Self::Long(whole) => pieces_of(whole.len() as u64),
        }
    }
}

impl std::ops::Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Short(head) => &head[HEADER..],
            Self::Long(whole) => whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    type Shelf = BTreeMap<Vec<u8>, IVec>;

    impl Source for Shelf {
        fn get(&self, key: &[u8]) -> sled::Result<Option<IVec>> {
            Ok(self.get(key).cloned())
        }

        fn scan(&self, _: &[u8], _: &[u8], _: usize) -> sled::Result<Vec<(IVec, IVec)>> {
            Ok(Vec::new())
        }
    }

    fn shelve(schema: u16, payload: &[u8]) -> Shelf {
        let (head, rest) = cut_as(schema, payload);
        let mut shelf = Shelf::from([(b"k".to_vec(), head.into())]);
        shelf.extend(rest.zip(0..).map(|(piece, number)| (keys::piece(b"k", number), piece.into())));
        shelf
    }

    #[test]
    fn a_payload_of_any_length_comes_back_and_no_stored_value_exceeds_the_limit() {
        for length in [0, 1, MAX - HEADER - 1, MAX - HEADER, MAX - HEADER + 1, 2 * MAX, 3 * MAX + 7] {
            let payload: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            let shelf = shelve(SCHEMA, &payload);
            assert!(shelf.values().all(|value| value.len() <= MAX), "{length}");
            assert_eq!(*read(&shelf, b"k").unwrap().unwrap(), *payload, "{length}");
            assert_eq!(shelf.len() as u64, 1 + pieces(&shelf[&b"k".to_vec()]), "{length}");
        }
    }

    #[test]
    fn every_flipped_bit_and_every_missing_piece_is_noticed() {
        let whole = shelve(SCHEMA, &[7; MAX + 10]);
        for (key, value) in &whole {
            let mut without = whole.clone();
            without.remove(key);
            assert!(!matches!(read(&without, b"k"), Ok(Some(_))));
            for bit in (0..value.len() * 8).step_by(5) {
                let mut bytes = value.to_vec();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let mut flipped = whole.clone();
                flipped.insert(key.clone(), bytes.into());
                assert!(matches!(read(&flipped, b"k"), Err(Fault::Damaged)), "bit {bit}");
            }
        }
    }

    #[test]
    fn a_newer_record_is_told_from_a_damaged_one() {
        let newer = shelve(SCHEMA + 1, b"from tomorrow");
        assert!(matches!(read(&newer, b"k"), Err(Fault::Newer(found)) if found == SCHEMA + 1));
    }
}
