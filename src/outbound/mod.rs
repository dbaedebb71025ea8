//! Whom we call: the provider, the file hosts, and the archive that keeps what they give us.

pub mod archive;
mod container;
pub mod download;
pub mod egress;
pub mod manifest;
pub mod outside;
mod part;
mod resume;
mod shelf;
pub mod upstream;
