//! `[delivery]` and `[sinks.NAME]`: who is told what, and how.

use std::{collections::BTreeMap, time::Duration};

use reqwest::header::HeaderMap;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{
    Delivery, Format, Sink, Target,
    check::Checker,
    file, headers,
    schema::SINKS,
    sources::{closest, did_you_mean},
    value::{DAY, HOUR, MILLISECOND, is_loopback, is_private},
};
use crate::{lifecycle::EventKind, provider::signing::SigningKey};

/// What a sink can be told of: all that happens to jobs, to their callbacks and to budgets.
const EVENTS: [EventKind; 19] = [
    EventKind::Created,
    EventKind::Submitted,
    EventKind::Refused,
    EventKind::Accepted,
    EventKind::Unknown,
    EventKind::Recovered,
    EventKind::Held,
    EventKind::CallbackReceived,
    EventKind::Polled,
    EventKind::Confirmed,
    EventKind::DownloadStarted,
    EventKind::DownloadRetried,
    EventKind::Stored,
    EventKind::Succeeded,
    EventKind::Failed,
    EventKind::Canceled,
    EventKind::CallbackSilent,
    EventKind::CallbackRecovered,
    EventKind::BudgetThreshold,
];
const USUAL: [EventKind; 4] = [EventKind::Succeeded, EventKind::Failed, EventKind::Canceled, EventKind::Held];

pub(super) fn delivery(c: &mut Checker<'_>, f: &file::Delivery) -> Delivery {
    let key = "delivery.schedule";
    if f.schedule.is_empty() || f.schedule.len() > 100 {
        c.problem(key, "must hold 1 to 100 pauses: write [\"0s\", \"5s\", \"5m\"]");
    }
    let schedule = f.schedule.iter().map(|text| c.duration(key, text, Duration::ZERO..=30 * DAY)).collect();
    let secret = c.secret("delivery.secret", &f.secret, &f.secret_file);
    signs(c, "delivery.secret", secret.as_slice());
    Delivery {
        timeout: c.duration("delivery.timeout", &f.timeout, MILLISECOND..=HOUR),
        schedule,
        concurrency: c.integer("delivery.concurrency", f.concurrency, 1..=256),
        disable_after: c.duration("delivery.disable_after", &f.disable_after, Duration::ZERO..=365 * DAY),
        secret,
    }
}

/// The sinks that can be used; each other one has a problem.
pub(super) fn all(
    c: &mut Checker<'_>,
    f: &BTreeMap<String, file::Sink>,
    delivery: &Delivery,
) -> BTreeMap<String, Sink> {
    let mut sinks = BTreeMap::new();
    for (name, typed) in f {
        if let Some(sink) = (Reading { c, name, f: typed }).sink(delivery) {
            sinks.insert(name.clone(), sink);
        }
    }
    sinks
}

/// One sink while it is read.
struct Reading<'a, 'c> {
    c: &'a mut Checker<'c>,
    name: &'a str,
    f: &'a file::Sink,
}

impl Reading<'_, '_> {
    fn key(&self, key: &str) -> String {
        format!("{SINKS}{}.{key}", self.name)
    }

    fn reject<T>(&mut self, key: &str, message: impl Into<String>) -> Option<T> {
        let key = self.key(key);
        self.c.reject(&key, message)
    }

    fn sink(&mut self, delivery: &Delivery) -> Option<Sink> {
        let target = self.target();
        let events = self.events();
        let format = self.format();
        let timeout = match &self.f.timeout {
            Some(text) => self.c.duration(&self.key("timeout"), text, MILLISECOND..=HOUR),
            None => delivery.timeout,
        };
        let concurrency = match self.f.concurrency {
            Some(number) => self.c.integer(&self.key("concurrency"), number, 1..=256),
            None => delivery.concurrency,
        };
        Some(Sink { target: target?, events: events?, format: format?, timeout, concurrency })
    }

    fn target(&mut self) -> Option<Target> {
        let f = self.f;
        let Some(kind) = f.kind.as_deref() else {
            return self.reject("type", "is not set: \"webhook\", \"exec\", \"nats\" or \"stdout\"");
        };
        match kind {
            "webhook" => {
                self.only(kind, &["url", "secret", "secrets", "headers"]);
                let (url, secrets, headers) = (self.url(), self.secrets(), self.headers());
                Some(Target::Webhook { url: url?, secrets, headers: headers? })
            }
            "exec" => {
                self.only(kind, &["command"]);
                let command = f.command.clone().unwrap_or_default();
                if command.first().is_none_or(|program| program.trim().is_empty()) {
                    return self
                        .reject("command", "must name a program: write [\"/usr/local/bin/on-video\"]");
                }
                Some(Target::Exec { command })
            }
            "nats" if !cfg!(feature = "nats") => {
                self.reject("type", "is \"nats\", and this build is without it: build with `--features nats`")
            }
            "nats" => {
                self.only(kind, &["server", "subject", "credentials"]);
                let key = self.key("credentials");
                let credentials = self.c.secret(&key, &f.credentials, &f.credentials_file);
                let (server, subject) = (self.server(), self.subject());
                Some(Target::Nats { server: server?, subject: subject?, credentials })
            }
            "stdout" => {
                self.only(kind, &[]);
                Some(Target::Stdout)
            }
            other => {
                let known = ["webhook", "exec", "nats", "stdout"].map(str::to_owned);
                let hint = did_you_mean(closest(other, known.into_iter()));
                let message = format!("must be \"webhook\", \"exec\", \"nats\" or \"stdout\", not `{other}`");
                self.reject("type", message + &hint)
            }
        }
    }

    /// Reports what belongs to sinks of another type. `wanted` stands for the files of its secrets too.
    fn only(&mut self, kind: &str, wanted: &[&str]) {
        let f = self.f;
        let set = [
            ("url", f.url.is_some()),
            ("secret", f.secret.is_some()),
            ("secret_file", f.secret_file.is_some()),
            ("secrets", f.secrets.is_some()),
            ("secrets_file", f.secrets_file.is_some()),
            ("headers", f.headers.is_some()),
            ("headers_file", f.headers_file.is_some()),
            ("command", f.command.is_some()),
            ("server", f.server.is_some()),
            ("subject", f.subject.is_some()),
            ("credentials", f.credentials.is_some()),
            ("credentials_file", f.credentials_file.is_some()),
        ];
        for (key, is_set) in set {
            if is_set && !wanted.contains(&key.trim_end_matches("_file")) {
                self.reject::<()>(key, format!("is of no use to a sink of type \"{kind}\": remove it"));
            }
        }
    }

    /// May be http or private, and may hold a query. May also hold a password by mistake, so no message repeats it.
    fn url(&mut self) -> Option<Url> {
        let example = "write \"https://app.example.com/hooks/video\"";
        let Some(text) = &self.f.url else { return self.reject("url", format!("is not set: {example}")) };
        let Ok(url) = Url::parse(text) else { return self.reject("url", format!("is not a URL: {example}")) };
        if !matches!(url.scheme(), "http" | "https") {
            return self.reject("url", format!("must be http or https, not {}", url.scheme()));
        }
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            let message = "must not hold a user, a password or a fragment: credentials belong into `headers`";
            return self.reject("url", message);
        }
        let key = self.key("url");
        if url.scheme() == "http" && !is_loopback(&url) {
            self.c.warn(&key, "is plain http: whoever carries the traffic can read it");
        }
        if is_private(&url) && !is_loopback(&url) {
            self.c.warn(&key, "is an address of a private network");
        }
        Some(url)
    }

    fn secrets(&mut self) -> Vec<SecretString> {
        let f = self.f;
        let (one, several) = (self.key("secret"), self.key("secrets"));
        let secret = self.c.secret(&one, &f.secret, &f.secret_file);
        let secrets = self.c.secrets(&several, &f.secrets, &f.secrets_file);
        if secret.is_some() && !secrets.is_empty() {
            self.c.problem(&several, format!("is set, and so is `{one}`: keep one"));
        }
        signs(self.c, &one, secret.as_slice());
        signs(self.c, &several, &secrets);
        secret.map_or(secrets, |secret| vec![secret])
    }

    fn headers(&mut self) -> Option<HeaderMap> {
        headers::read(self.c, &self.key("headers"), &self.f.headers, &self.f.headers_file)
    }

    fn server(&mut self) -> Option<Url> {
        let Some(text) = &self.f.server else {
            return self.reject("server", "is not set: write \"nats://127.0.0.1:4222\"");
        };
        let url =
            Url::parse(text).ok().filter(|url| matches!(url.scheme(), "nats" | "tls") && url.has_host());
        let Some(url) = url else {
            return self.reject("server", "is not a server: write \"nats://127.0.0.1:4222\" or \"tls://…\"");
        };
        if !url.username().is_empty() || url.password().is_some() {
            return self.reject("server", "must not hold a user or password: they belong into `credentials`");
        }
        Some(url)
    }

    fn subject(&mut self) -> Option<String> {
        let example = "write \"reelhook.{type}\"";
        let Some(subject) = &self.f.subject else {
            return self.reject("subject", format!("is not set: {example}"));
        };
        let filled = subject.replace("{type}", "type");
        let wrong = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '*' | '>' | '{' | '}');
        if filled.contains(wrong) || filled.split('.').any(str::is_empty) {
            let message = "is no subject: words with dots between them, where {type} is all that is replaced";
            return self.reject("subject", format!("`{subject}` {message}: {example}"));
        }
        Some(subject.clone())
    }

    fn events(&mut self) -> Option<Vec<EventKind>> {
        let Some(names) = &self.f.events else { return Some(USUAL.into()) };
        if names.is_empty() {
            return self
                .reject("events", "is empty, so the sink would be told of nothing: remove it, or the sink");
        }
        let mut events = Vec::new();
        for name in names {
            let Some(kind) = EVENTS.into_iter().find(|kind| kind.name() == *name) else {
                let hint = did_you_mean(closest(name, EVENTS.into_iter().map(EventKind::name)));
                return self.reject("events", format!("`{name}` is nothing that happens to a job{hint}"));
            };
            if !events.contains(&kind) {
                events.push(kind);
            }
        }
        Some(events)
    }

    fn format(&mut self) -> Option<Format> {
        match self.f.format.as_deref() {
            None | Some("standard") => Some(Format::Standard),
            Some("cloudevents") => Some(Format::CloudEvents),
            Some(other) => {
                self.reject("format", format!("must be \"standard\" or \"cloudevents\", not `{other}`"))
            }
        }
    }
}

/// Has every secret that is there be a key that can sign.
fn signs(c: &mut Checker<'_>, key: &str, secrets: &[SecretString]) {
    let blank = |secret: &&SecretString| secret.expose_secret().trim().is_empty();
    for secret in secrets.iter().filter(|secret| !blank(secret)) {
        if let Err(error) = SigningKey::read(secret) {
            c.problem(key, error.to_string());
        }
    }
}
