//! Making due, after a jump of the clock, what only a wrong clock can have put off so far: jobs, then deliveries.
//!
//! It is done in steps, so that no group of the committer grows with the store.

use super::{
    claim::{self, Range},
    keys, outbox,
    txn::Txn,
};
use crate::{
    lifecycle::{Millis, Policy},
    store::StoreError,
};

/// What is left to be looked at.
pub(super) struct Rest {
    /// Parts of the due index, the last one first.
    jobs: Vec<Range>,
    /// Where the index of deliveries that wait is gone on with.
    deliveries: Vec<u8>,
}

/// Everything.
pub(super) fn all(now: Millis, policy: &Policy) -> Rest {
    Rest { jobs: claim::put_off(now, policy.longest_wait()).collect(), deliveries: keys::first_pending() }
}

/// Takes one step; what is left after it.
pub(super) fn step(
    txn: &mut Txn,
    mut rest: Rest,
    now: Millis,
    policy: &Policy,
) -> Result<Option<Rest>, StoreError> {
    if let Some(range) = rest.jobs.pop() {
        rest.jobs.extend(claim::make_due(txn, range, now)?);
        return Ok(Some(rest));
    }
    let next = outbox::hasten(txn, &rest.deliveries, now, &policy.delivery)?;
    Ok(next.map(|deliveries| Rest { deliveries, ..rest }))
}
