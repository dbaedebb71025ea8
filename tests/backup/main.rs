//! The continuous backup of the embedded store, and the way back from it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[cfg(feature = "s3")]
mod bucket;
mod drill;
mod objects;
mod place;
mod restores;
mod running;
#[cfg(feature = "s3")]
#[path = "../support/seaweed.rs"]
mod seaweed;
#[path = "../support/mod.rs"]
mod server;
#[path = "../store/support.rs"]
#[allow(dead_code, reason = "the tests of the store need all of it")]
mod support;
