//! What objects of a backup look like: a magic, then frames, each with its length and its checksum. The first frame is a
//! heading in JSON; in a segment each further one is a group of the store, in a snapshot some rows of it.

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use serde::{Deserialize, Serialize};
use sled::IVec;

use super::super::txn::Writes;
use crate::lifecycle::Millis;

const MAGIC: &[u8; 8] = b"reelhook";
/// Number of this format; a higher one was written by a newer version.
pub(super) const FORMAT: u16 = 1;
/// Length and checksum before each frame, in bytes.
const PREFIX: usize = 8;
/// No frame is longer, in bytes: a group closes after 4 MiB and one request more.
const LONGEST: usize = 256 << 20;
/// In place of the length of a value: the key was removed.
const REMOVED: u32 = u32::MAX;

/// What an object says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Heading {
    pub(super) format: u16,
    /// Of the records in it.
    pub(super) schema: u16,
    /// The store that it is of, in hexadecimal.
    pub(super) store: String,
    pub(super) generation: u64,
    pub(super) content: Content,
}

/// Groups by their numbers, and the times at which the first and the last became durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Content {
    Segment { first: u64, last: u64, from: Millis, to: Millis },
    Snapshot { begin: u64 },
}

/// What is written behind a snapshot once it, and every segment up to its `end`, is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) format: u16,
    pub(super) store: String,
    pub(super) generation: u64,
    /// Every group up to this one is in the rows.
    pub(super) begin: u64,
    /// Of those up to this one parts may be: only from here on the rows are a state that the store had.
    pub(super) end: u64,
    /// When the last row was read.
    pub(super) at: Millis,
    pub(super) rows: u64,
    pub(super) bytes: u64,
}

/// A group of the store: everything that one sync made durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) number: u64,
    /// When it was durable.
    pub(super) at: Millis,
    pub(super) writes: Writes,
}

/// An object cannot be read on.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    #[error("it ends in the middle")]
    Torn,
    #[error("its bytes are not what was written")]
    Damaged,
    #[error("it is of format {0}, which is newer: use the version of reelhook that wrote it")]
    Newer(u16),
    #[error(transparent)]
    Unread(#[from] object_store::Error),
}

/// A heading, as an object begins with it.
pub(super) fn heading(heading: &Heading) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    frame(&mut bytes, &json(heading));
    bytes
}

/// What an object says in JSON.
pub(super) fn json(of: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(of).expect("numbers and texts can be written as JSON")
}

/// Appends a frame.
pub(super) fn frame(to: &mut Vec<u8>, payload: &[u8]) {
    // No frame is longer than what a request may write, far below 4 GiB.
    to.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
    to.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
    to.extend_from_slice(payload);
}

impl Group {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.at.0.to_le_bytes());
        for (key, value) in &self.writes {
            row(&mut bytes, key, value.as_deref());
        }
        bytes
    }

    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let number = u64::from_le_bytes(*take(&mut bytes)?);
        let at = Millis(i64::from_le_bytes(*take(&mut bytes)?));
        Some(Self { number, at, writes: rows(bytes)?.into_iter().collect() })
    }
}

/// Appends a key with its value, or without one where it was removed.
pub(super) fn row(to: &mut Vec<u8>, key: &[u8], value: Option<&[u8]>) {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(REMOVED);
    to.extend_from_slice(&length(key).to_le_bytes());
    to.extend_from_slice(key);
    to.extend_from_slice(&value.map_or(REMOVED, length).to_le_bytes());
    to.extend_from_slice(value.unwrap_or_default());
}

/// Every key and value of a frame.
pub(super) fn rows(mut bytes: &[u8]) -> Option<Vec<(IVec, Option<IVec>)>> {
    let mut rows = Vec::new();
    while !bytes.is_empty() {
        let key = u32::from_le_bytes(*take(&mut bytes)?);
        let key = IVec::from(bytes.split_off(..key as usize)?);
        let value = match u32::from_le_bytes(*take(&mut bytes)?) {
            REMOVED => None,
            length => Some(IVec::from(bytes.split_off(..length as usize)?)),
        };
        rows.push((key, value));
    }
    Some(rows)
}

fn take<'a, const N: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(taken)
}

/// Reads an object frame by frame as it comes.
pub(super) struct Frames<S> {
    source: S,
    read: BytesMut,
}

impl<S: Stream<Item = object_store::Result<Bytes>> + Unpin> Frames<S> {
    /// Reads the heading.
    pub(super) async fn begin(source: S) -> Result<(Heading, Self), FrameError> {
        let mut frames = Self { source, read: BytesMut::new() };
        if !frames.have(MAGIC.len()).await? {
            return Err(FrameError::Torn);
        }
        if *frames.read.split_to(MAGIC.len()) != MAGIC[..] {
            return Err(FrameError::Damaged);
        }
        let json = frames.next().await?.ok_or(FrameError::Torn)?;
        let Format { format } = serde_json::from_slice(&json).map_err(|_| FrameError::Damaged)?;
        if format > FORMAT {
            return Err(FrameError::Newer(format));
        }
        let heading = serde_json::from_slice(&json).map_err(|_| FrameError::Damaged)?;
        Ok((heading, frames))
    }

    /// The next frame; none behind the last one.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        if !self.have(PREFIX).await? {
            return if self.read.is_empty() { Ok(None) } else { Err(FrameError::Torn) };
        }
        let word = |at: usize| {
            let word = self.read[at..].first_chunk().copied().unwrap_or_default();
            u32::from_le_bytes(word)
        };
        let (length, sum) = (word(0) as usize, word(4));
        if length > LONGEST {
            return Err(FrameError::Damaged);
        }
        if !self.have(PREFIX + length).await? {
            return Err(FrameError::Torn);
        }
        let frame = self.read.split_to(PREFIX + length).split_off(PREFIX).freeze();
        if crc32fast::hash(&frame) == sum { Ok(Some(frame)) } else { Err(FrameError::Damaged) }
    }

    /// Whether so many bytes are there, after waiting for them.
    async fn have(&mut self, wanted: usize) -> Result<bool, FrameError> {
        while self.read.len() < wanted {
            match self.source.next().await {
                Some(more) => self.read.extend_from_slice(&more?),
                None => return Ok(false),
            }
        }
        Ok(true)
    }
}

/// Of a heading of any version.
#[derive(Deserialize)]
struct Format {
    format: u16,
}
