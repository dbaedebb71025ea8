//! What every store must do, and what the embedded one does besides.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod conformance;
#[path = "../support/memory/mod.rs"]
mod disk;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "postgres")]
#[path = "../support/postgres.rs"]
mod server;
mod sled;
mod support;
