//! What the upstream says, and what is made of it. No network, no clock.
#![allow(clippy::unwrap_used, reason = "a helper of a test may panic as the test may")]

mod provider {
    mod models;
    mod pointers;
    mod replies;
    mod request;
    mod schemes;
    mod signature;
    mod token;
}
