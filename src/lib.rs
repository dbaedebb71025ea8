//! reelhook
pub mod app;
pub mod clock;
pub mod config;
pub mod dashboard;
pub mod inbound;
pub mod keys;
pub mod lifecycle;
pub mod outbound;
pub mod provider;
pub mod runner;
pub mod sandbox;
pub mod server;
pub mod store;
pub mod telemetry;
