//! The store of the simulations: only one that keeps the contract proves anything.

use std::sync::Arc;

use async_trait::async_trait;
use reelhook::store::Store;

use crate::{
    conformance::{conformance, outbox},
    disk::Disk,
    support::*,
};

#[async_trait]
impl Place for Disk {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(self.start(NOW, &policy()))
    }
}

conformance!(Disk::default());

#[tokio::test]
async fn a_start_after_a_jump_of_the_clock_hastens_deliveries() {
    outbox::a_start_after_a_jump_of_the_clock_hastens_deliveries(&Disk::default()).await;
}
