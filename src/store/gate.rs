//! What instances that share a store keep together.

use async_trait::async_trait;

use super::StoreError;
use crate::lifecycle::{Duty, Millis};

/// What instances that share a store keep together towards the upstream: the pace of calls, and the pause while it refuses
/// the account. [`Store::claim`] decides by it, atomically; this tells when a claim is worth the question.
#[async_trait]
pub trait Gate: Send + Sync {
    /// Returns when a call of this duty may be made as far as is known here, with fewer than `in_flight` jobs in flight.
    async fn admitted(&self, duty: Duty, in_flight: u64) -> Result<(), StoreError>;

    /// The upstream took a job: a pause is over.
    async fn accepted(&self, now: Millis) -> Result<(), StoreError>;

    /// The upstream refused the account: nothing is submitted for `first_wait` milliseconds, then one job a time, ever
    /// more slowly, probes whether that is over.
    async fn refused(&self, why: &str, now: Millis, first_wait: i64) -> Result<(), StoreError>;

    /// Why nothing is submitted, if so.
    fn pause(&self) -> Option<Pause>;

    /// When any instance's job was accepted last, as far as is known.
    fn last_accepted(&self) -> Option<Millis>;
}

/// Why no create calls are made at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// The upstream's words.
    pub why: String,
    /// Refusals in a row.
    pub refusals: u32,
}
