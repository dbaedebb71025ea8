//! Everything that a store holds, as lines of JSON that any store can write and read.
//!
//! Each line is `{"kind":…,"schema":1,"value":…}`. The first is the header; the last is the trailer, with the number of
//! lines of each kind and the SHA-256 of all lines before it, so that an export that was cut off or changed is noticed.
//! What follows from the rest is left out: the due index, claims, counts by phase.
//!
//! An export holds the secrets that the store keeps: treat it as one.

mod lines;

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};

pub use self::lines::{Reader, TransferError, Writer};
use super::{CallbackRecord, LogEntry, SinkRecord};
use crate::lifecycle::{CallbackId, Delivery, DeliveryId, Job, JobId, Millis, Reservation};

/// Number of the format; a higher one was written by a newer version.
pub const SCHEMA: u16 = 1;

/// How far numbering is lifted when numbers beyond the newest that is known may have been given: more than any number of
/// events between a backup and its use.
pub const LIFT: u64 = 1 << 32;

/// A store that was put back from a backup, and can be started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Jobs that were queued or being sent, and are held now.
    pub held: u64,
    /// The number after which events are numbered.
    pub events_after: u64,
}

/// A store that was made of an export.
#[derive(Clone, Debug)]
pub struct Imported {
    /// What the export says of itself.
    pub header: Header,
    /// Jobs in it.
    pub jobs: u64,
    /// Jobs that are held, since they may have been sent after the export was made.
    pub held: u64,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "value", rename_all = "snake_case")]
pub enum Entry {
    /// The first line.
    Header(Header),
    /// Where the logs stand.
    Log(LogHead),
    /// A value that is kept for ever; a secret.
    Kept(Kept),
    /// Credits booked on a day.
    Booked(Reservation),
    /// An entry of the event log; they come in the order of their numbers, and before the jobs.
    Event(LogEntry),
    /// A job.
    Job(Box<JobEntry>),
    /// The request of a job.
    Request(Request),
    /// An entry of the inbound log; they come in the order of their ids.
    Callback(Box<Callback>),
    /// A callback that was seen for a job without a record.
    Stray(Stray),
    /// A debt to a sink.
    Delivery(Box<Delivery>),
    /// What is sent for one.
    Body(Body),
    /// What is remembered of a sink.
    Sink(SinkRecord),
    /// An idempotency key.
    IdempotencyKey(Idempotency),
    /// A damaged value, as it is.
    Damaged(Damaged),
    /// The last line.
    Trailer(Trailer),
}

impl Entry {
    /// Its kind, as it is written.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Header(_) => "header",
            Self::Log(_) => "log",
            Self::Kept(_) => "kept",
            Self::Booked(_) => "booked",
            Self::Event(_) => "event",
            Self::Job(_) => "job",
            Self::Request(_) => "request",
            Self::Callback(_) => "callback",
            Self::Stray(_) => "stray",
            Self::Delivery(_) => "delivery",
            Self::Body(_) => "body",
            Self::Sink(_) => "sink",
            Self::IdempotencyKey(_) => "idempotency_key",
            Self::Damaged(_) => "damaged",
            Self::Trailer(_) => "trailer",
        }
    }
}

/// What the lines are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Version of reelhook that wrote them.
    pub version: String,
    /// When.
    pub at: Millis,
    /// The source is sealed once the trailer is written: its jobs move. Otherwise this is a copy, and what it does not
    /// know to be sent may have been.
    pub moved: bool,
}

/// Where the logs stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogHead {
    /// Number of the newest event.
    pub newest: u64,
    /// The last time that something durable named.
    pub clock: Option<Millis>,
    /// Id of the newest entry of the inbound log.
    pub heard: Option<CallbackId>,
    /// Number of the newest event that was removed after its time.
    #[serde(default)]
    pub swept: u64,
    /// Jobs that were forgotten after their time: what they cost stays booked.
    #[serde(default)]
    pub forgotten: u64,
}

/// A value that is kept for ever.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its name.
    pub name: String,
    /// The value.
    pub secret: Content,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A job and what only the store knows of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobEntry {
    /// The record.
    pub job: Job,
    /// Numbers of its events, rising; the newest 1024.
    pub events: Vec<u64>,
    /// Deliveries that were seen: the first eight bytes of the SHA-256 of the delivery id after its length (eight bytes,
    /// big-endian), as a number.
    pub seen: Vec<u64>,
    /// Its task is its own; jobs that follow another up share that one's.
    pub owns_task: bool,
}

/// The request of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Whose.
    pub job_id: JobId,
    /// JSON, byte for byte.
    pub document: Content,
}

/// An entry of the inbound log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Callback {
    /// The entry.
    pub record: CallbackRecord,
    /// The body; empty where it was not kept.
    pub body: Content,
}

/// A callback that was seen for a job without a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stray {
    /// The job in the URL.
    pub job_id: JobId,
    /// As in [`JobEntry::seen`].
    pub delivery: u64,
    /// Length of what is kept of its body.
    #[serde(default)]
    pub bytes: u64,
}

/// What is sent for a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// Which.
    pub delivery_id: DeliveryId,
    /// Byte for byte.
    pub body: Content,
}

/// An idempotency key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idempotency {
    /// The first sixteen bytes of the SHA-256 of owner and key, each after its length (eight bytes, big-endian).
    #[serde(with = "hex::serde")]
    pub hash: [u8; 16],
    /// SHA-256 of the request that it came with.
    #[serde(with = "hex::serde")]
    pub fingerprint: [u8; 32],
    /// The job that it made.
    pub job_id: JobId,
}

/// A damaged value, as it is: nobody can read it, and a job that had it is not made twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damaged {
    /// The job whose record it was, if it was one.
    pub job_id: Option<JobId>,
    /// The key that it had in its store.
    #[serde(with = "hex::serde")]
    pub key: Vec<u8>,
    /// The value and its pieces.
    pub parts: Vec<Content>,
}

/// By what a whole export is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trailer {
    /// Lines by kind, header included.
    pub counts: BTreeMap<String, u64>,
    /// Of all bytes before this line, hexadecimal.
    pub sha256: String,
}

/// Bytes: as text where they are text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// UTF-8.
    Text(String),
    /// Anything else, in Base64.
    Base64(String),
}

impl From<&[u8]> for Content {
    fn from(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Base64(BASE64_STANDARD.encode(bytes)),
        }
    }
}

impl Content {
    /// The bytes; none when it is not Base64 after all.
    #[must_use]
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Text(text) => Some(text.as_bytes().to_vec()),
            Self::Base64(text) => BASE64_STANDARD.decode(text).ok(),
        }
    }
}
