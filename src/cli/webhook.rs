//! An event as a signed webhook to an app under development: Standard Webhooks 1.0.0, as a sink of the server sends it.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use reelhook::provider::signing::SigningKey;
use reqwest::{StatusCode, header};
use secrecy::SecretString;
use serde_json::{Value, json};
use url::Url;

use super::{
    client::{http, root_cause},
    exit::Failure,
};

/// What a sink of the server waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(15);

/// A signing secret given by the caller.
#[derive(Debug, clap::Args)]
pub(crate) struct Secret {
    /// Sign with this secret, read as a sink of the server does, and not with the one that is kept for the URL
    #[arg(long, value_name = "SECRET", conflicts_with = "secret_file")]
    secret: Option<SecretString>,
    /// The same, from a file
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

impl Secret {
    /// The secret, if one was given.
    pub(crate) fn read(self) -> Result<Option<SecretString>, Failure> {
        let secret = match (self.secret, self.secret_file) {
            (Some(secret), _) => secret,
            (None, Some(path)) => fs::read_to_string(&path).map(SecretString::from).map_err(|error| {
                Failure::usage(format!("cannot read the secret file {}: {error}", path.display()))
            })?,
            (None, None) => return Ok(None),
        };
        signing_key(&secret)?;
        Ok(Some(secret))
    }
}

fn signing_key(secret: &SecretString) -> Result<SigningKey, Failure> {
    SigningKey::read(secret).map_err(|error| Failure::usage(format!("--secret: {error}")))
}

/// The address of an app, `http` or `https`.
pub(crate) fn address(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("{error}"))?;
    match (url.scheme(), url.host()) {
        ("http" | "https", Some(_)) => Ok(url),
        _ => Err("an address such as http://127.0.0.1:5000/webhook is wanted".to_owned()),
    }
}

/// The body of a webhook.
pub(crate) fn body(kind: &str, time: &str, data: &Value) -> Value {
    json!({ "type": kind, "timestamp": time, "data": data })
}

/// What an app answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    /// 2xx.
    pub(crate) status: StatusCode,
    pub(crate) took: Duration,
}

/// An app that takes webhooks.
#[derive(Debug)]
pub(crate) struct App {
    http: reqwest::Client,
    url: Url,
    key: SigningKey,
}

impl App {
    /// Connects to nothing yet.
    pub(crate) fn new(url: Url, secret: &SecretString) -> Result<Self, Failure> {
        let key = signing_key(secret)?;
        let http = http(&url, |http| http.timeout(TIMEOUT))?;
        Ok(Self { http, url, key })
    }

    /// Sends an event once. `Err` says why it does not count as taken.
    pub(crate) async fn send(&self, event_id: &str, body: &Value) -> Result<Taken, String> {
        let (now, body) = (Timestamp::now().as_second(), body.to_string());
        let signature = self.key.sign(event_id, now, body.as_bytes());
        let began = Instant::now();
        let request = self
            .http
            .post(self.url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", event_id)
            .header("webhook-timestamp", now)
            .header("webhook-signature", signature)
            .body(body);
        let answer = request.send().await.map_err(|error| match error.is_timeout() {
            true => format!("no answer within {} s", TIMEOUT.as_secs()),
            false => root_cause(&error),
        })?;
        let status = answer.status();
        match answer.headers().get(header::LOCATION) {
            _ if status.is_success() => Ok(Taken { status, took: began.elapsed() }),
            Some(target) if status.is_redirection() => {
                let target = String::from_utf8_lossy(target.as_bytes());
                Err(format!("{status}, and redirects are not followed: use {target}"))
            }
            _ => Err(status.to_string()),
        }
    }
}
