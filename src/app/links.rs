//! Links to stored files that need no key: whoever has one may fetch that file until it expires.

use std::time::Duration;

use url::Url;

use crate::{
    clock::Clock,
    lifecycle::{JobId, Millis},
    provider::token::Tokens,
};

/// Signs links and knows its own again.
#[derive(Clone)]
pub struct Links {
    pub(super) tokens: Tokens,
    pub(super) base: Url,
    pub(super) clock: Clock,
    /// How long a link lives.
    pub(super) ttl: Duration,
}

impl Links {
    /// The same, but for links that live at least so long.
    #[must_use]
    pub fn living(&self, at_least: Duration) -> Self {
        Self { ttl: self.ttl.max(at_least), ..self.clone() }
    }

    /// A link to a stored file.
    #[must_use]
    pub fn media_url(&self, id: JobId, name: &str) -> Url {
        let ttl = i64::try_from(self.ttl.as_secs()).unwrap_or(i64::MAX);
        let expires = self.now().saturating_add(ttl);
        let mut url = extended(&self.base, &["media", &id.to_string(), name]);
        let signature = self.tokens.mint(&subject(id, name, expires));
        url.query_pairs_mut().append_pair("exp", &expires.to_string()).append_pair("sig", &signature);
        url
    }

    pub(super) fn is_valid(&self, id: JobId, name: &str, expires: i64, signature: &str) -> bool {
        self.tokens.check(&subject(id, name, expires), signature) && self.now() < expires
    }

    /// In whole seconds.
    fn now(&self) -> i64 {
        Millis(self.clock.now_ms()).0 / 1_000
    }
}

fn subject(id: JobId, name: &str, expires: i64) -> String {
    format!("{id}/{name}?exp={expires}")
}

pub(super) fn extended(base: &Url, segments: &[&str]) -> Url {
    let mut url = base.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(segments);
    }
    url
}
