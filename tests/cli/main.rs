//! The command line from outside: what is on which stream, which requests it makes, how it exits.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod batches;
mod deliveries;
mod downloads;
mod errors;
mod events;
mod fake;
mod jobs;
mod listens;
mod local;
mod probes;
mod retention;
mod submits;
#[path = "../support/mod.rs"]
mod support;
mod triggers;
mod verify;
