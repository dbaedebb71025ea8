//! What several test binaries share.

pub mod file_server;
pub mod video;
