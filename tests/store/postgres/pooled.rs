//! Through a pooler in transaction mode: nothing that reelhook asks for may depend on the connection. Of the list, the cases
//! in which transactions, locks and settings meet.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use reelhook::store::Store;

use super::Base;
use crate::{conformance::conformance, server::Pooler, support::*};

/// One for all tests of this process; it ends with it.
fn pooler(base: &Base) -> &'static Pooler {
    static POOLER: OnceLock<(Arc<crate::server::Server>, Pooler)> = OnceLock::new();
    &POOLER.get_or_init(|| (Arc::clone(&base.server), Pooler::before(&base.server))).1
}

/// A database of its own, by way of the pooler.
pub(super) struct Pooled(pub(super) Base);

impl Pooled {
    pub(super) fn new() -> Self {
        let base = Base::new();
        let database = pooler(&base).to(&base.database);
        Self(Base { database, ..base })
    }
}

#[async_trait]
impl Place for Pooled {
    async fn open(&self) -> Arc<dyn Store> {
        self.0.instance().await
    }
}

conformance! { Pooled::new();
    what_was_inserted_is_there_after_reopening
    concurrent_inserts_under_one_key_make_one_job
    a_budget_holds_under_concurrent_inserts
    the_queue_limit_holds_under_concurrent_inserts
    of_concurrent_changes_of_one_revision_one_wins
    a_task_belongs_to_one_job
    a_budget_holds_under_concurrent_replacements
    a_job_is_claimed_once_however_many_ask
    no_more_are_sent_than_may_be_in_flight
    callbacks_that_race_are_judged_one_after_the_other
    of_callbacks_for_unknown_jobs_together_no_more_is_kept_than_their_share
    events_are_numbered_without_gap_in_the_order_of_changes
    a_change_wakes_who_registered_before
    a_delivery_is_claimed_once_however_many_ask
    whatever_is_interrupted_every_delivery_is_told_and_ends_once
    nothing_is_taken_on_after_closing
}
