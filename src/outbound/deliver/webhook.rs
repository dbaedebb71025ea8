//! A signed POST to a URL, with its headers and its answer.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::{
    Client, Response, StatusCode,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION},
};
use url::Url;

use super::{Message, Outcome, Way, content_type, sign, span};
use crate::{
    clock::Clock,
    config::Format,
    lifecycle::Answer,
    outbound::{
        egress::Guard,
        outside::{self, Outside, OutsideError},
        retry_after::retry_after,
    },
    provider::signing::SigningKey,
};

/// Of an answer no more is read; its status has said all that counts.
const MAX_ANSWER: usize = 4 * 1024;
/// Nor is it waited for any longer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(1);
/// The longest wait that an answer can ask for: the longest pause of the usual schedule.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(24);

/// A URL that gets signed POSTs.
pub(super) struct Webhook {
    road: Road,
    keys: Vec<SigningKey>,
    content_type: HeaderValue,
    timeout: Duration,
    clock: Clock,
}

/// Whose URL it is decides how it is reached.
enum Road {
    /// The operator's: anywhere.
    Named(Named),
    /// A job's: where the address guard lets it.
    OfAJob(String, Outside),
}

/// A URL of the configuration.
pub(super) struct Named {
    pub(super) url: Url,
    pub(super) client: Client,
    /// To add to each request; secrets.
    pub(super) headers: HeaderMap,
}

/// The client for the operator's own URLs. Its resolver admits every address; it is there for its time-out and its
/// errors.
pub(super) fn client() -> Result<Client, reqwest::Error> {
    let everywhere = ["0.0.0.0/0", "::/0"].map(|network| network.parse().expect("a constant network"));
    outside::without_reuse(&Guard::new(everywhere.into()), false)
}

impl Webhook {
    pub(super) fn named(
        named: Named,
        keys: Vec<SigningKey>,
        format: Format,
        timeout: Duration,
        clock: Clock,
    ) -> Self {
        let content_type = HeaderValue::from_static(content_type(format));
        Self { road: Road::Named(named), keys, content_type, timeout, clock }
    }

    pub(super) fn of_a_job(
        url: &str,
        outside: Outside,
        key: SigningKey,
        timeout: Duration,
        clock: Clock,
    ) -> Self {
        let content_type = HeaderValue::from_static(content_type(Format::Standard));
        Self { road: Road::OfAJob(url.to_owned(), outside), keys: vec![key], content_type, timeout, clock }
    }

    async fn post(&self, message: &Message) -> Result<Response, OutsideError> {
        let mut headers = sign::headers(message, &self.keys, self.clock.now_ms().div_euclid(1_000));
        headers.insert(CONTENT_TYPE, self.content_type.clone());
        let body = message.body.clone();
        match &self.road {
            Road::Named(Named { url, client, headers: more }) => {
                headers.extend(more.clone());
                let sent = client.post(url.clone()).headers(headers).body(body).send().await;
                sent.map_err(|error| outside::classify(error, None))
            }
            Road::OfAJob(url, outside) => outside.post(url, headers, body).await,
        }
    }

    async fn exchange(&self, message: &Message) -> Outcome {
        let response = match self.post(message).await {
            Ok(response) => response,
            Err(OutsideError::Denied(denied)) => return Outcome::new(Answer::Refused, denied.to_string()),
            Err(OutsideError::Network(why)) => return Outcome::failed(why),
        };
        let status = response.status();
        let (answer, meaning) = judge(&response);
        let said = self.without_secrets(read(response).await);
        let detail = [status_line(status), meaning, said].into_iter().filter(|part| !part.is_empty());
        let detail = detail.collect::<Vec<_>>().join(": ");
        Outcome { answer, code: Some(status.as_u16().into()), detail }
    }

    /// A receiver that quotes our headers must not bring what they hold into a record or a log.
    fn without_secrets(&self, text: String) -> String {
        let Road::Named(Named { headers, .. }) = &self.road else { return text };
        let secrets =
            headers.values().filter_map(|value| value.to_str().ok()).flat_map(str::split_whitespace);
        // `Bearer` and the like are no secrets, and nothing so short is.
        let secrets = secrets.filter(|secret| secret.len() >= 8);
        secrets.fold(text, |text, secret| text.replace(secret, "[redacted]"))
    }
}

#[async_trait]
impl Way for Webhook {
    async fn hand_over(&self, message: &Message) -> Outcome {
        let exchange = tokio::time::timeout(self.timeout, self.exchange(message));
        exchange.await.unwrap_or_else(|_| {
            let waited = span(self.timeout);
            Outcome::failed(format!("no answer within {waited}; whether it arrived is not known"))
        })
    }
}

/// What the head of an answer means, and what there is to say about it beside its status.
fn judge(response: &Response) -> (Answer, String) {
    let failed = Answer::Failed { retry_after: None };
    match response.status().as_u16() {
        200..=299 => (Answer::Delivered, String::new()),
        300..=399 => (failed, moved(response)),
        410 => (Answer::Gone, "the receiver wants nothing any more".to_owned()),
        429 | 503 => {
            let wait = retry_after(response.headers()).map(|wait| wait.min(MAX_RETRY_AFTER));
            let meaning =
                wait.map(|wait| format!("asks to wait {}", span(Duration::from_secs(wait.as_secs()))));
            let retry_after = wait.and_then(|wait| i64::try_from(wait.as_millis()).ok());
            (Answer::Failed { retry_after }, meaning.unwrap_or_default())
        }
        _ => (failed, String::new()),
    }
}

/// Names the new place of a redirect, and why nothing went there.
fn moved(response: &Response) -> String {
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let target = location.and_then(|location| response.url().join(location).ok());
    let why = "a redirect is not followed, since only the URL that was named may see the event";
    match target {
        Some(target) => {
            let short: String = target.as_str().chars().take(120).collect();
            format!("{why}; if it has moved, name {short} instead")
        }
        None => why.to_owned(),
    }
}

fn status_line(status: StatusCode) -> String {
    format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or_default()).trim_end().to_owned()
}

/// The beginning of an answer's body, with a word on what was not read of it.
async fn read(mut response: Response) -> String {
    let mut body = Vec::new();
    let reading = async {
        while let Ok(Some(chunk)) = response.chunk().await {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ANSWER {
                return Some(format!(
                    "the answer is longer than {} KiB and was not read on",
                    MAX_ANSWER / 1024
                ));
            }
        }
        None
    };
    let unread = tokio::time::timeout(ANSWER_PATIENCE, reading).await.unwrap_or_else(|_| {
        Some(format!("the answer did not end within {} and was not read on", span(ANSWER_PATIENCE)))
    });
    body.truncate(MAX_ANSWER);
    let text = String::from_utf8_lossy(&body);
    let text = text.trim();
    match unread {
        None => text.to_owned(),
        Some(unread) => {
            let short: String = text.chars().take(150).collect();
            if short.is_empty() { unread } else { format!("{unread}: {short}") }
        }
    }
}
