//! What the upstream says, and what we say to it: models, requests, replies, signatures, tokens.
//!
//! Pure: no I/O, no clock, no runtime. Bytes and the present time come in as arguments, decisions go out as values.

pub mod models;
pub mod reply;
pub mod request;
pub mod signature;
pub mod signing;
pub mod token;
