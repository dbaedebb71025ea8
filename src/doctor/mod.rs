//! Whether what a server needs does what it should: active checks, each with its verdict and its remedy.
//!
//! They are made by the server itself where one runs, since what counts is what *it* can write to and reach; nothing is
//! spent and nothing is left behind. Without a server, [`offline`] makes those that need none.

mod archive;
mod callback;
pub mod offline;
mod sinks;
mod store;
mod upstream;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};

pub use sinks::{Tested, test};

use crate::{
    app::App,
    lifecycle::Millis,
    live::Live,
    outbound::{archive::Archive, deliver::Sinks, upstream::Upstream},
};

/// No check waits longer for the one that it asks, but for those whose time-out the configuration sets.
const PATIENCE: Duration = Duration::from_secs(15);

/// How something does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should.
    Ok,
    /// The server works; this deserves a look.
    Warning,
    /// Something that was configured does not work.
    Failed,
}

impl Verdict {
    /// Its name in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What: `store`, `public_url`, `sink app` …
    pub name: String,
    /// How it does.
    pub verdict: Verdict,
    /// What was seen, in a sentence. Never holds a secret.
    pub detail: String,
    /// What to do; none where all is well.
    pub fix: Option<String>,
}

impl Check {
    /// All is well.
    pub fn ok(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { name: name.into(), verdict: Verdict::Ok, detail: detail.into(), fix: None }
    }

    /// It deserves a look.
    pub fn warning(name: impl Into<String>, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        let (name, detail, fix) = (name.into(), detail.into(), Some(fix.into()));
        Self { name, verdict: Verdict::Warning, detail, fix }
    }

    /// It does not work.
    pub fn failed(name: impl Into<String>, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { verdict: Verdict::Failed, ..Self::warning(name, detail, fix) }
    }
}

/// What an examination came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// When it ended.
    pub at: Millis,
    /// Every check, in a fixed order.
    pub checks: Vec<Check>,
}

impl Report {
    /// How many checks have this verdict.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.checks.iter().filter(|check| check.verdict == verdict).count()
    }
}

/// Examines a running server.
pub struct Doctor {
    app: Arc<App>,
    archive: Arc<Archive>,
    upstream: Arc<Live<Upstream>>,
    sinks: Arc<Live<Sinks>>,
    last: Mutex<Option<Report>>,
}

impl Doctor {
    /// Examines nothing yet.
    pub fn new(
        app: Arc<App>,
        archive: Arc<Archive>,
        upstream: Arc<Live<Upstream>>,
        sinks: Arc<Live<Sinks>>,
    ) -> Self {
        Self { app, archive, upstream, sinks, last: Mutex::default() }
    }

    /// Makes every check, all at the same time. Takes as long as the slowest.
    pub async fn examine(&self) -> Report {
        let app = &self.app;
        let (config, upstream, sinks) = (app.config(), self.upstream.get(), self.sinks.get());
        let (store, archive, room, upstream, public_url, sinks) = tokio::join!(
            store::check(app.store()),
            archive::check(self.archive.probe()),
            archive::room(&self.archive, app.store()),
            upstream::check(&upstream, &config.upstream),
            callback::check(app),
            sinks::check(app, &sinks),
        );
        let checks = [vec![store, archive, room], upstream, vec![public_url], sinks].concat();
        let report = Report { at: app.now(), checks };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(report.clone());
        report
    }

    /// What the latest examination came to, if there was one since the start.
    #[must_use]
    pub fn last(&self) -> Option<Report> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The provider's clock against ours, as its latest answer told; see [`Upstream::skew`].
    #[must_use]
    pub fn clock_skew(&self) -> Option<i64> {
        self.upstream.get().skew()
    }
}

/// A span for people: `0.4 s`, `12 min`.
fn span(length: Duration) -> String {
    match length.as_secs() {
        0..=119 => format!("{:.1} s", length.as_secs_f64()),
        seconds @ 120..=7_199 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3_600),
    }
}
