//! The command line from outside: what is on which stream, which requests it makes, how it exits.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod downloads;
mod errors;
mod fake;
mod jobs;
mod local;
mod probes;
mod submits;
mod verify;
