//! What the upstream says. Pure.

pub mod models;
pub mod reply;
pub mod signature;
