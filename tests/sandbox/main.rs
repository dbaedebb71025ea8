//! The sandbox, judged over HTTP as a client sees it: each directive does what its row in the table says.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod callbacks;
mod create;
mod downloads;
mod support;
mod task_route;
