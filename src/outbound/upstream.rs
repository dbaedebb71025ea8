//! The provider's API: one call that costs money, and one that asks.
//!
//! Two clients, since a connection that was used before may silently send a request twice: the create call always
//! opens its own. Neither repeats, follows redirects, or takes a proxy from the environment; what is to be tried
//! again is decided by the record of the job, where it is counted.

use std::{
    sync::atomic::{AtomicI64, Ordering::Relaxed},
    time::{Duration, Instant, UNIX_EPOCH},
};

use bytes::{Bytes, BytesMut};
use metrics::{counter, histogram};
use reqwest::{
    Client, Method, RequestBuilder, Response,
    header::{DATE, HeaderMap, LOCATION},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::Url;

use super::{outside, retry_after::retry_after};
use crate::{
    clock::Clock,
    config,
    provider::{
        reply::{self, SubmitAnswer, TaskAnswer},
        request,
    },
};

/// More of an answer than this is not read; then it counts as unreadable.
const MAX_ANSWER: usize = 1024 * 1024;

/// Bytes of the shortest key that is taken for a secret where an answer has the same bytes.
const MIN_KEY: usize = 12;

/// What became of a create call, and the raw answer, if there was one.
#[derive(Debug)]
pub enum Submitted {
    /// Provably nothing reached the upstream: it was never connected to.
    NotSent(String),
    /// It answered.
    Answered(SubmitAnswer, String),
    /// It may have been taken: it was sent, and no answer came back.
    Silence(String),
}

/// What the task route said of a task that does not exist.
#[derive(Debug)]
pub struct Probed {
    /// The HTTP status.
    pub status: u16,
    /// What it means.
    pub answer: TaskAnswer,
    /// Whether the body is JSON, as an API's is.
    pub is_json: bool,
    /// Where it redirects to, if it does. Nothing was sent there.
    pub location: Option<String>,
}

/// The provider.
pub struct Upstream {
    submits: Client,
    asks: Client,
    api_key: Option<SecretString>,
    create_url: Url,
    settings: config::Upstream,
    clock: Clock,
    /// Milliseconds; [`UNTOLD`] before the first.
    skew: AtomicI64,
}

/// No answer carried a time yet.
const UNTOLD: i64 = i64::MIN;

impl Upstream {
    /// Sets up the clients; calls nobody.
    ///
    /// # Errors
    /// The TLS library's.
    pub fn new(settings: &config::Upstream, clock: Clock) -> Result<Self, reqwest::Error> {
        let client = || {
            Client::builder()
                .retry(reqwest::retry::never())
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .referer(false)
                .connect_timeout(settings.connect_timeout)
        };
        Ok(Self {
            submits: client()
                .http1_only()
                .pool_max_idle_per_host(0)
                .timeout(settings.submit_timeout)
                .build()?,
            asks: client().timeout(settings.ask_timeout).build()?,
            api_key: settings.api_key.clone(),
            create_url: request::create_url(&settings.base_url, &settings.submit_path),
            settings: settings.clone(),
            clock,
            skew: AtomicI64::new(UNTOLD),
        })
    }

    /// Sends a create call, once. `key` goes along as `Idempotency-Key`, for an upstream that honours it.
    pub async fn submit(&self, body: &Value, key: &str) -> Submitted {
        let call = self
            .submits
            .request(Method::POST, self.create_url.clone())
            .header("idempotency-key", key)
            .json(body);
        let answer = match timed("submit", self.signed(call).send()).await {
            Ok(response) => self.read(response).await,
            Err(error) if error.is_connect() => {
                count("submit", "not_sent");
                return Submitted::NotSent(describe(&error));
            }
            Err(error) => Err(error),
        };
        match answer {
            Ok(Answer { status, retry_after, body }) => {
                count("submit", code(status));
                let body = self.without_key(body);
                let read = reply::read_submit(status, retry_after, &body, &self.settings.mapping);
                Submitted::Answered(read, reply::scrub(&body, &[]))
            }
            Err(error) => {
                count("submit", "silence");
                Submitted::Silence(describe(&error))
            }
        }
    }

    /// Asks what became of a task.
    pub async fn ask(&self, task: &str) -> (TaskAnswer, Option<String>) {
        let url = request::task_url(&self.settings.base_url, &self.settings.task_path, task);
        let answer = match timed("ask", self.signed(self.asks.get(url)).send()).await {
            Ok(response) => self.read(response).await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(Answer { status, retry_after, body }) => {
                count("ask", code(status));
                let body = self.without_key(body);
                let read = reply::read_task(status, retry_after, &body, Some(task), &self.settings.mapping);
                (read, Some(reply::scrub(&body, &[])))
            }
            Err(error) => {
                count("ask", "silence");
                (TaskAnswer::Nothing { why: describe(&error) }, None)
            }
        }
    }

    /// Asks for a task that does not exist, which costs nothing, to learn whether the key is taken.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn probe(&self, task: &str) -> Result<Probed, String> {
        let url = request::task_url(&self.settings.base_url, &self.settings.task_path, task);
        let response = self.signed(self.asks.get(url)).send().await.map_err(outside::describe)?;
        let location =
            response.headers().get(LOCATION).and_then(|target| target.to_str().ok()).map(str::to_owned);
        let Answer { status, retry_after, body } = self.read(response).await.map_err(outside::describe)?;
        let body = self.without_key(body);
        let answer = reply::read_task(status, retry_after, &body, Some(task), &self.settings.mapping);
        let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok();
        Ok(Probed { status, answer, is_json, location: location.filter(|_| (300..400).contains(&status)) })
    }

    /// By how many milliseconds the provider's clock was ahead of ours at its latest answer, to half a second; none
    /// before the first that told the time.
    #[must_use]
    pub fn skew(&self) -> Option<i64> {
        Some(self.skew.load(Relaxed)).filter(|skew| *skew != UNTOLD)
    }

    async fn read(&self, response: Response) -> Result<Answer, reqwest::Error> {
        if let Some(date) = date_ms(response.headers()) {
            // Whole seconds, cut: half a second more is right on average.
            self.skew.store(date + 500 - self.clock.now_ms(), Relaxed);
        }
        read(response).await
    }

    fn signed(&self, call: RequestBuilder) -> RequestBuilder {
        match &self.api_key {
            Some(key) => call.bearer_auth(key.expose_secret()),
            None => call,
        }
    }

    /// An upstream that quotes our key must not bring it into a record or a log. A word that was given for a key, as to
    /// the sandbox, is no secret and may be in any link.
    fn without_key(&self, body: Bytes) -> Bytes {
        let key = self.api_key.as_ref().map_or("", |key| key.expose_secret());
        if key.len() < MIN_KEY || !contains(&body, key.as_bytes()) {
            return body;
        }
        String::from_utf8_lossy(&body).replace(key, "[redacted]").into()
    }
}

struct Answer {
    status: u16,
    retry_after: Option<Duration>,
    body: Bytes,
}

fn contains(body: &[u8], key: &[u8]) -> bool {
    body.windows(key.len()).any(|window| window == key)
}

async fn read(mut response: Response) -> Result<Answer, reqwest::Error> {
    let status = response.status().as_u16();
    let retry_after = retry_after(response.headers());
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER {
            // Cut in the middle it is no JSON any more, so it teaches nothing and claims nothing.
            body.truncate(MAX_ANSWER);
            break;
        }
    }
    Ok(Answer { status, retry_after, body: body.freeze() })
}

/// When the answer was made, by the clock of whoever made it.
fn date_ms(headers: &HeaderMap) -> Option<i64> {
    let date = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    i64::try_from(date.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

/// The error without the URL, whose path names a task, and with its causes, which say what broke.
fn describe(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() { "timed out".to_owned() } else { "failed".to_owned() };
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn count(operation: &'static str, code: &'static str) {
    counter!("reelhook_upstream_requests_total", "operation" => operation, "code" => code).increment(1);
}

/// Waits for a call, and notes how long that took.
async fn timed<T>(operation: &'static str, call: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let answer = call.await;
    histogram!("reelhook_upstream_request_seconds", "operation" => operation).record(begun.elapsed());
    answer
}

/// A status as a label: those that mean something to us by themselves, the others by class.
const fn code(status: u16) -> &'static str {
    match status {
        200 => "200",
        201 => "201",
        202 => "202",
        400 => "400",
        401 => "401",
        402 => "402",
        403 => "403",
        404 => "404",
        409 => "409",
        422 => "422",
        429 => "429",
        500 => "500",
        502 => "502",
        503 => "503",
        504 => "504",
        other => match other / 100 {
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        },
    }
}
