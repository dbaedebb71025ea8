//! What every store must do, and what the embedded one does besides.

mod conformance;
mod sled;
mod support;
