//! Whom we call.
