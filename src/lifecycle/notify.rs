//! The URLs that a job brings along: who is told of it beside the sinks of the configuration.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{event::EventKind, job::is_default};

/// At most so many for a job.
pub const MAX_NOTIFY: usize = 4;

/// How the lanes of such URLs begin; the names of sinks have no colon.
const LANE: &str = "notify:";

/// A URL to be told how its job ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notify {
    /// Where to.
    pub url: String,
    /// Signs what is sent there; none: the server's own secret does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// The form of the body.
    #[serde(default, skip_serializing_if = "is_default")]
    pub format: NotifyFormat,
}

/// The form of what a job's own URL is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotifyFormat {
    /// As sinks are told.
    #[default]
    Standard,
    /// The upstream's own task, as an existing client expects it in its `callback_url`.
    Upstream,
}

impl Notify {
    /// Whether an event of this kind is owed to it.
    #[must_use]
    pub const fn wants(&self, kind: EventKind) -> bool {
        match self.format {
            NotifyFormat::Standard => kind.is_terminal() || matches!(kind, EventKind::Held),
            NotifyFormat::Upstream => kind.is_terminal(),
        }
    }

    /// Its host has a lane of its own, so that one that hangs keeps nobody else waiting.
    #[must_use]
    pub fn lane(&self) -> String {
        let after_scheme = self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest);
        let authority = after_scheme.split(['/', '?', '#']).next().unwrap_or_default();
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        format!("{LANE}{}", host.chars().take(253).collect::<String>().to_ascii_lowercase())
    }
}

/// Whether a lane is one of jobs' own URLs, and not a sink of the configuration.
#[must_use]
pub fn is_notify_lane(lane: &str) -> bool {
    lane.starts_with(LANE)
}

/// Kept in a record, shown nowhere.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes it out of sight.
    #[must_use]
    pub const fn new(secret: String) -> Self {
        Self(secret)
    }

    /// The secret itself, to sign with.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notify(url: &str, format: NotifyFormat) -> Notify {
        Notify { url: url.into(), secret: Some(Secret::new("hush".into())), format }
    }

    #[test]
    fn a_lane_is_a_host_and_never_the_name_of_a_sink() {
        for (url, lane) in [
            ("https://App.example.com/a?b", "notify:app.example.com"),
            ("http://10.0.0.7:8080/hooks", "notify:10.0.0.7:8080"),
            ("https://u:p@h.example#x", "notify:h.example"),
            ("", "notify:"),
        ] {
            assert_eq!(notify(url, NotifyFormat::Standard).lane(), lane);
            assert!(is_notify_lane(lane));
        }
        assert!(!is_notify_lane("notify"));
    }

    #[test]
    fn a_secret_is_kept_and_not_shown() {
        let kept = notify("https://a.example.com", NotifyFormat::Upstream);
        assert!(!format!("{kept:?}").contains("hush"));
        assert_eq!(serde_json::from_value::<Notify>(serde_json::to_value(&kept).unwrap()).unwrap(), kept);
    }

    #[test]
    fn who_polls_as_the_upstream_taught_it_hears_of_ends_alone() {
        let wants = |format, kind| notify("https://a.example.com", format).wants(kind);
        for kind in [EventKind::Succeeded, EventKind::Failed, EventKind::Canceled] {
            assert!(wants(NotifyFormat::Standard, kind) && wants(NotifyFormat::Upstream, kind));
        }
        assert!(
            wants(NotifyFormat::Standard, EventKind::Held) && !wants(NotifyFormat::Upstream, EventKind::Held)
        );
        assert!(!wants(NotifyFormat::Standard, EventKind::Stored));
    }
}
