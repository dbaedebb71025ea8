//! Verifying who sent a callback.

/// How the provider signs its callbacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// The token in the URL alone.
    None,
    /// Standard Webhooks 1.0.0.
    StandardWebhooks,
}
