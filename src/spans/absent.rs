//! A build without OpenTelemetry records nothing.

use std::{borrow::Cow, time::SystemTime};

pub(super) const fn has_begun() -> bool {
    false
}

/// There is none.
#[derive(Debug)]
pub(super) enum Recording {}

impl Recording {
    pub(super) fn server(_: Cow<'static, str>, _: Option<&str>, _: SystemTime, _: bool) -> Option<Self> {
        None
    }

    pub(super) fn client(_: Cow<'static, str>, _: &str, _: SystemTime) -> Option<Self> {
        None
    }

    pub(super) fn text(&mut self, _: &'static str, _: String) {
        match *self {}
    }

    pub(super) fn number(&mut self, _: &'static str, _: i64) {
        match *self {}
    }

    pub(super) fn fail(&mut self) {
        match *self {}
    }

    pub(super) fn context(&self) -> String {
        match *self {}
    }
}
