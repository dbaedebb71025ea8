//! reelhook
#![allow(missing_docs)]
pub mod config;
pub mod keys;
pub mod lifecycle;
pub mod outbound;
pub mod provider;
pub mod sandbox;
pub mod store;
