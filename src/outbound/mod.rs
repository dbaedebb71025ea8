//! Whom we call: the provider, the file hosts, the archive that keeps what they give us, and the sinks that hear of it.

pub mod archive;
pub mod deliver;
pub mod download;
pub mod egress;
pub mod manifest;
pub mod outside;
mod retry_after;
pub mod upstream;
