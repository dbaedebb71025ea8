//! The table of the lifecycle, arm by arm: what each event does to a job in each phase.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by a panic")]

mod asking;
mod callbacks;
mod deliveries;
mod fetching;
mod people;
mod player;
mod submitting;
#[path = "../support/lifecycle.rs"]
mod support;
