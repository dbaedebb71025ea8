//! A build without OpenTelemetry sends nothing.

use std::time::Duration;

use super::InitError;
use crate::config::Otel;

/// There is none.
#[derive(Debug)]
pub(super) enum Provider {}

pub(super) fn start(_: &Otel) -> Result<Provider, InitError> {
    Err(InitError::Traces("this build has no OpenTelemetry; take one with the feature `otel`".to_owned()))
}

pub(super) const fn end(provider: &Provider, _: Duration) -> bool {
    match *provider {}
}
