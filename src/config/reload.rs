//! What a running server takes over of a configuration that is read again. `config.example.toml` says of which keys; a test
//! holds [`with_fixed`] to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem::discriminant,
    path::Path,
};

use super::{
    Api, Callback, Config, ConfigError, Delivery, Download, Loaded, Log, Server, Sink, Upstream,
    check::Checker,
    relations,
    schema::{Schema, sink_key},
    secrets::Digest,
};

/// What a running server goes by.
#[derive(Debug)]
pub struct InForce {
    config: Config,
    /// By key: the value as it may be shown, and the digest of a secret.
    values: BTreeMap<String, (String, Option<Digest>)>,
}

/// What became of a configuration that was read again.
#[derive(Debug)]
pub struct Reload {
    /// What to go by from now on.
    pub in_force: InForce,
    /// Keys whose new value is in force.
    pub changed: Vec<String>,
    /// Keys whose new value waits for a start.
    pub waiting: Vec<String>,
}

impl InForce {
    /// What a server was started with.
    #[must_use]
    pub fn at_start(loaded: &Loaded) -> Self {
        Self { config: loaded.config.clone(), values: loaded.values() }
    }

    /// The values.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Takes over what can be of `next`; the rest stays as it is.
    ///
    /// # Errors
    /// What can be taken over contradicts what cannot: then nothing is.
    pub fn reload(&self, next: &Loaded) -> Result<Reload, ConfigError> {
        let config = with_fixed(&self.config, next.config.clone());
        let mut checker = Checker::new(Path::new(""), None, next.origins().clone(), Vec::new());
        relations::check(&mut checker, &config);
        if !checker.problems.is_empty() {
            return Err(ConfigError { problems: checker.problems });
        }
        let mut values = next.values();
        let names: BTreeSet<String> = self.values.keys().chain(values.keys()).cloned().collect();
        let (mut changed, mut waiting) = (Vec::new(), Vec::new());
        for name in names {
            let (old, new) = (self.values.get(&name), values.get(&name));
            if old == new {
                continue;
            }
            if is_reloadable(&name, &self.config, &next.config) {
                changed.push(name);
            } else {
                match old.cloned() {
                    Some(old) => values.insert(name.clone(), old),
                    None => values.remove(&name),
                };
                waiting.push(name);
            }
        }
        Ok(Reload { in_force: Self { config, values }, changed, waiting })
    }
}

fn is_reloadable(name: &str, old: &Config, next: &Config) -> bool {
    let same_sink =
        sink_key(name).is_none_or(|(sink, _)| match (old.sinks.get(sink), next.sinks.get(sink)) {
            (Some(old), Some(next)) => is_same_kind(old, next),
            _ => false,
        });
    same_sink && Schema::get().is_reloadable(name)
}

fn is_same_kind(old: &Sink, next: &Sink) -> bool {
    discriminant(&old.target) == discriminant(&next.target)
}

/// `next`, but what only a start can change as it was in `old`.
fn with_fixed(old: &Config, next: Config) -> Config {
    let (server, upstream, callback) = (old.server.clone(), old.upstream.clone(), old.callback.clone());
    Config {
        server: Server { body_limit: next.server.body_limit, ..server },
        auth: next.auth,
        upstream: Upstream {
            api_key: next.upstream.api_key,
            default_model: next.upstream.default_model,
            ask_timeout: next.upstream.ask_timeout,
            max_in_flight: next.upstream.max_in_flight,
            unknown_wait: next.upstream.unknown_wait,
            mapping: next.upstream.mapping,
            ..upstream
        },
        callback: Callback {
            body_limit: next.callback.body_limit,
            signature: next.callback.signature,
            signature_secrets: next.callback.signature_secrets,
            ..callback
        },
        poll: next.poll,
        download: Download {
            concurrency: old.download.concurrency,
            max_redirects: old.download.max_redirects,
            ..next.download
        },
        delivery: Delivery {
            secret: next.delivery.secret,
            disable_after: next.delivery.disable_after,
            ..old.delivery.clone()
        },
        sinks: old
            .sinks
            .iter()
            .map(|(name, sink)| (name.clone(), reached(sink, next.sinks.get(name))))
            .collect(),
        egress: next.egress,
        budget: next.budget,
        pricing: next.pricing,
        api: Api { max_wait: old.api.max_wait, ..next.api },
        log: Log { level: next.log.level, ..old.log.clone() },
        ..old.clone()
    }
}

/// The same sink, reached as is said now.
fn reached(old: &Sink, next: Option<&Sink>) -> Sink {
    match next {
        Some(next) if is_same_kind(old, next) => Sink { target: next.target.clone(), ..old.clone() },
        _ => old.clone(),
    }
}
