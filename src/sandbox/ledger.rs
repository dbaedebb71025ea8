//! What the provider saw: the evidence that a test judges a client by.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Everything that happened since the sandbox started, in order. Served as JSON at `GET /sandbox/ledger`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// The sum of `credits` over all create calls.
    pub charged_credits: u64,
    /// Every create call, refused ones too.
    pub creates: Vec<Create>,
    /// How often the task route was asked after each id, known or not.
    pub asks: BTreeMap<String, u32>,
    /// Every callback, once it was answered or given up.
    pub callbacks: Vec<Callback>,
    /// Every GET and HEAD of a file, also of files that do not exist.
    pub downloads: Vec<Download>,
}

/// One call of `POST /api/v1/videos/generations`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Create {
    /// From 1, over all create calls.
    pub ordinal: u64,
    /// From 1, over the create calls of the same job: same `Idempotency-Key` or, without one, same body.
    pub count: u32,
    /// The header, if it was sent. The sandbox does not honour it: every accepted call is charged.
    pub idempotency_key: Option<String>,
    /// Empty when the body could not be read.
    pub model: String,
    /// Empty when the body could not be read.
    pub prompt: String,
    /// Whether a task was made, and paid.
    pub accepted: bool,
    /// The task that was made.
    pub task_id: Option<String>,
    /// What was charged; 0 when refused.
    pub credits: u32,
    /// The HTTP status of the answer; none when the answer never comes.
    pub status: Option<u16>,
}

/// One callback.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Callback {
    /// The task on whose behalf it was sent.
    pub task_id: String,
    /// What it said.
    pub kind: CallbackKind,
    /// Where it was sent to.
    pub url: String,
    /// SHA-256 of its body, hexadecimal.
    pub sha256: String,
    /// The HTTP status of the answer; none when there was no answer.
    pub status: Option<u16>,
    /// Why there was no answer.
    pub error: Option<String>,
}

/// What a callback said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallbackKind {
    /// Still running.
    Progress,
    /// A success that the task route denies.
    Lying,
    /// A success sent to a URL with its last segment altered.
    ForgedUrl,
    /// A success of another task, sent to the right URL.
    ForgedBody,
    /// The end of the task, success or failure.
    Completed,
}

/// One GET or HEAD of a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Download {
    /// The task that the path names.
    pub task_id: String,
    /// `GET` or `HEAD`.
    pub method: String,
    /// The `Range` header, if sent.
    pub range: Option<String>,
    /// The `If-Range` header, if sent.
    pub if_range: Option<String>,
    /// Whether an `Authorization` header was sent. It never should be: the key is the API's, not the file host's.
    pub authorization: bool,
    /// The HTTP status of the answer.
    pub status: u16,
}
