//! The commands that look after a store, through the binary, on stores that are well and on such that are not.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod check;
mod damage;
#[cfg(feature = "postgres")]
mod over;
mod place;
mod records;
mod seed;
#[cfg(feature = "postgres")]
#[path = "../support/postgres.rs"]
mod server;
#[path = "../store/support.rs"]
#[allow(dead_code, reason = "the tests of the store need all of it")]
mod support;
mod transfer;
