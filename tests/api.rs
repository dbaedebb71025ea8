//! The API over real sockets, with a real store: who gets in, what is answered, and with which headers.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

mod api {
    mod access;
    mod dropin;
    mod events;
    mod files;
    mod headers;
    mod jobs;
    mod problems;
    mod sse;
    mod streams;
}
