//! Whom we call: the provider, the file hosts, and the archive that keeps what they give us.

pub mod archive;
pub mod download;
pub mod egress;
pub mod manifest;
pub mod outside;
pub mod upstream;
