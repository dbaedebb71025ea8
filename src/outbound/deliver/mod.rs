//! Telling sinks what became of a job: one try at a time, as often as the outbox asks for one.
//!
//! A sink repeats nothing and remembers nothing. Whatever a try came to is an [`Attempt`], which the outbox writes
//! down and by which it decides; so an event may reach a sink more than once, each time under the same id.

mod exec;
#[cfg(feature = "nats")]
mod nats;
mod sign;
mod stdout;
mod webhook;

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::Client;
use secrecy::SecretString;

use self::{exec::Exec, stdout::Stdout, webhook::Webhook};
use super::{egress::Guard, outside::Outside};
use crate::{
    clock::Clock,
    config::{Config, Format, Sink as Settings, Target},
    lifecycle::{Answer, Attempt, DeliveryId, EventId, EventKind, JobId, Millis},
    provider::signing::{BadKey, SigningKey},
};

/// Characters of [`Attempt::detail`].
const DETAIL_CHARS: usize = 300;

/// An event on its way to one sink.
#[derive(Clone, Debug)]
pub struct Message {
    /// The event, the same for every sink and in every try: what a receiver knows repeats by.
    pub event_id: EventId,
    /// What happened.
    pub kind: EventKind,
    /// When it happened.
    pub time: Millis,
    /// To which job, if it is about one.
    pub job_id: Option<JobId>,
    /// The debt that is paid with this.
    pub delivery_id: DeliveryId,
    /// Which try this is, from 1.
    pub attempt: u32,
    /// The trace that it belongs to, as a W3C `traceparent`.
    pub trace: Option<String>,
    /// The body in the form that the sink wants, the same bytes in every try.
    pub body: Bytes,
}

/// One who is told.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Tries once, within the sink's time-out. A try whose future is dropped may have reached the sink.
    async fn send(&self, message: &Message) -> Attempt;
}

/// Why there are no sinks.
#[derive(Debug, thiserror::Error)]
pub enum SinksError {
    /// The TLS library's reason.
    #[error("the HTTP client of the sinks cannot be set up: {0}")]
    Client(#[from] reqwest::Error),
    /// A secret that the configuration's check would have refused.
    #[error("a secret of the sinks cannot sign: it {0}")]
    Secret(#[from] BadKey),
    /// A configuration for another build.
    #[error("a sink is of type \"nats\", and this build is without it")]
    WithoutNats,
}

/// Everyone who can be told: the sinks of the configuration, and the URLs that jobs bring along.
pub struct Sinks {
    named: HashMap<String, Arc<dyn Sink>>,
    outside: Outside,
    default_key: SigningKey,
    timeout: Duration,
    clock: Clock,
}

impl Sinks {
    /// Sets up every sink; calls nobody. `secret` signs what has none of its own. `guard` decides which of the jobs' own
    /// URLs may be called.
    ///
    /// # Errors
    /// The TLS library's, or a configuration that did not pass its check.
    pub fn new(
        config: &Config,
        secret: &SecretString,
        guard: Guard,
        clock: Clock,
    ) -> Result<Self, SinksError> {
        let default_key = SigningKey::read(secret)?;
        let client = webhook::client()?;
        let mut named = HashMap::new();
        for (name, settings) in &config.sinks {
            named.insert(name.clone(), named_sink(settings, &client, &default_key, &clock)?);
        }
        let outside = Outside::without_reuse(guard)?;
        Ok(Self { named, outside, default_key, timeout: config.delivery.timeout, clock })
    }

    /// The sink of this name in the configuration.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<dyn Sink>> {
        self.named.get(name).cloned()
    }

    /// The URL that a job brought along, called through the address guard: https to a public address, or what
    /// `[egress] allow` names. The body is in the standard form. Without a secret, the default one signs.
    ///
    /// # Errors
    /// The secret cannot sign. A URL that may not be called is the try's affair: [`Answer::Refused`].
    pub fn notify(&self, url: &str, secret: Option<&SecretString>) -> Result<Arc<dyn Sink>, BadKey> {
        let key = secret.map_or_else(|| Ok(self.default_key.clone()), SigningKey::read)?;
        let webhook = Webhook::of_a_job(url, self.outside.clone(), key, self.timeout, self.clock.clone());
        Ok(Arc::new(Clocked { way: webhook, clock: self.clock.clone() }))
    }
}

fn named_sink(
    settings: &Settings,
    client: &Client,
    default_key: &SigningKey,
    clock: &Clock,
) -> Result<Arc<dyn Sink>, SinksError> {
    let Settings { target, format, timeout, .. } = settings;
    Ok(match target {
        Target::Webhook { url, secrets, headers } => {
            let mut keys = secrets.iter().map(SigningKey::read).collect::<Result<Vec<_>, _>>()?;
            if keys.is_empty() {
                keys.push(default_key.clone());
            }
            let webhook =
                webhook::Named { url: url.clone(), client: client.clone(), headers: headers.clone() };
            clocked(clock, Webhook::named(webhook, keys, *format, *timeout, clock.clone()))
        }
        Target::Exec { command } => clocked(clock, Exec::new(command.clone(), *timeout)),
        #[cfg(feature = "nats")]
        Target::Nats { server, subject, credentials } => {
            let address = nats::Address { server: server.clone(), credentials: credentials.clone() };
            clocked(clock, nats::Nats::new(address, subject.clone(), *format, *timeout))
        }
        #[cfg(not(feature = "nats"))]
        Target::Nats { .. } => return Err(SinksError::WithoutNats),
        Target::Stdout => clocked(clock, Stdout::new(std::io::stdout(), *timeout)),
    })
}

fn clocked(clock: &Clock, way: impl Way + 'static) -> Arc<dyn Sink> {
    Arc::new(Clocked { way, clock: clock.clone() })
}

/// How a message is handed over, by one kind of sink.
#[async_trait]
trait Way: Send + Sync {
    async fn hand_over(&self, message: &Message) -> Outcome;
}

/// What a try came to.
struct Outcome {
    answer: Answer,
    /// HTTP status or exit code.
    code: Option<i32>,
    /// Of any length and with any characters.
    detail: String,
}

impl Outcome {
    fn new(answer: Answer, detail: impl Into<String>) -> Self {
        Self { answer, code: None, detail: detail.into() }
    }

    /// To be tried again when the schedule says so.
    fn failed(detail: impl Into<String>) -> Self {
        Self::new(Answer::Failed { retry_after: None }, detail)
    }
}

/// A sink whose tries are timed and told in one short line.
struct Clocked<W> {
    way: W,
    clock: Clock,
}

#[async_trait]
impl<W: Way> Sink for Clocked<W> {
    async fn send(&self, message: &Message) -> Attempt {
        let (at, began) = (Millis(self.clock.now_ms()), self.clock.elapsed());
        let Outcome { answer, code, detail } = self.way.hand_over(message).await;
        let took = self.clock.elapsed().saturating_sub(began).as_millis();
        let took = u64::try_from(took).unwrap_or(u64::MAX);
        Attempt { at, took, answer, code, detail: one_line(&detail) }
    }
}

/// The text without line breaks and what else steers a terminal, cut where a record has no more room.
fn one_line(text: &str) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let mut line: String = text.trim().chars().map(printable).take(DETAIL_CHARS + 1).collect();
    if let Some((end, _)) = line.char_indices().nth(DETAIL_CHARS) {
        line.truncate(end);
        line.pop();
        line.push('…');
    }
    line
}

fn content_type(format: Format) -> &'static str {
    match format {
        Format::Standard => "application/json",
        Format::CloudEvents => "application/cloudevents+json",
    }
}

/// `15s`, `1m 30s`.
fn span(duration: Duration) -> String {
    jiff::SignedDuration::try_from(duration)
        .map_or_else(|_| format!("{duration:?}"), |span| format!("{span:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_is_one_line_of_at_most_three_hundred_characters() {
        assert_eq!(one_line(" a\r\nb\u{1b}[2J "), "a  b [2J");
        let long = one_line(&"ü".repeat(1_000));
        assert_eq!((long.chars().count(), long.chars().last()), (300, Some('…')));
        assert_eq!(one_line(&"ü".repeat(300)), "ü".repeat(300));
    }
}
