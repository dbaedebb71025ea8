//! reelhook
#![allow(missing_docs)]
pub mod clock;
pub mod config;
pub mod provider;
pub mod sandbox;
pub mod outbound;
pub mod telemetry;
