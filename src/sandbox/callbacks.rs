//! Calling the client back, truthfully or not.
//!
//! A callback is sent once and never again, whatever the answer: what the upstream does is not documented, and a
//! client that copes with no second try copes with any.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use jiff::Timestamp;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use url::Url;

use super::{
    Signing,
    ledger::{Callback, CallbackKind},
    provider::Provider,
    shape::{self, Stage},
    task::Task,
};
use crate::provider::signature::{self, Message};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Documented as needing no webhook: it never calls the completion back.
const SILENT_MODEL: &str = "ltx-2";

/// The client that callbacks are sent with: direct, and a redirect is an answer like any other.
///
/// # Errors
/// When the TLS library cannot be set up.
pub(super) fn client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(ANSWER_TIMEOUT)
        .user_agent(concat!("reelhook-sandbox/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// A callback that is due this long after acceptance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Planned {
    pub(super) after: Duration,
    kind: CallbackKind,
    /// Only for progress.
    percent: u8,
}

/// The callbacks of a task, by time. Those due at once are sent before the create call is answered.
pub(super) fn plan(task: &Task) -> Vec<Planned> {
    let directives = &task.directives;
    let half = task.time / 2;
    let mut plan = Vec::new();
    let mut add = |after, kind, percent| plan.push(Planned { after, kind, percent });
    if directives.early_callback && task.time > Duration::ZERO {
        add(Duration::ZERO, CallbackKind::Progress, 0);
    }
    if directives.progress_callbacks {
        for quarter in 1..=3 {
            add(task.time / 4 * u32::from(quarter), CallbackKind::Progress, quarter * 25);
        }
    }
    if directives.lying_callback {
        add(half, CallbackKind::Lying, 100);
    }
    if directives.forged_callback {
        add(half, CallbackKind::ForgedUrl, 100);
        add(half, CallbackKind::ForgedBody, 100);
    }
    if !directives.no_callback && task.model != SILENT_MODEL {
        add(task.time + directives.late_callback, CallbackKind::Completed, 100);
    }
    plan.sort_by_key(|planned| planned.after);
    plan
}

/// Sends all of `plan`, each when it is due.
pub(super) async fn send_all(provider: Arc<Provider>, task_id: String, plan: Vec<Planned>) {
    for planned in plan {
        let Some(accepted_at) = provider.books().tasks.get(&task_id).map(|task| task.accepted_at) else {
            return;
        };
        tokio::time::sleep_until(accepted_at + planned.after).await;
        send(&provider, &task_id, planned).await;
    }
}

async fn send(provider: &Provider, task_id: &str, planned: Planned) {
    let message = provider.books().tasks.get_mut(task_id).and_then(|task| message(task, planned));
    let Some((url, body, times)) = message else { return };
    let body = body.to_string();
    let signing = provider.books().signing.clone();
    let headers = signing.map(|signing| signed(&signing, task_id, &body)).unwrap_or_default();
    let sha256 = hex::encode(Sha256::digest(&body));
    join_all((0..times).map(|_| async {
        let (status, error) = match provider
            .client
            .post(url.clone())
            .headers(headers.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(body.clone())
            .send()
            .await
        {
            Ok(answer) => (Some(answer.status().as_u16()), None),
            Err(error) => (None, Some(error.without_url().to_string())),
        };
        let (task_id, url, sha256) = (task_id.to_owned(), url.to_string(), sha256.clone());
        let callback = Callback { task_id, kind: planned.kind, url, sha256, status, error };
        provider.books().ledger.callbacks.push(callback);
    }))
    .await;
}

/// The headers that sign a body; none with a secret that the scheme cannot sign with.
fn signed(signing: &Signing, task_id: &str, body: &str) -> HeaderMap {
    let timestamp = Timestamp::now().as_second();
    let message = Message { id: task_id, timestamp, body: body.as_bytes() };
    let headers = signature::sign(&signing.format, &signing.secret, message).unwrap_or_else(|error| {
        tracing::error!(%error, "the sandbox cannot sign: the secret");
        Vec::new()
    });
    let parse = |(name, value): (String, String)| {
        Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?))
    };
    headers.into_iter().filter_map(parse).collect()
}

/// Where to, what, how many times.
fn message(task: &mut Task, planned: Planned) -> Option<(Url, Value, u32)> {
    let now = Instant::now();
    let url = task.callback_url.clone()?;
    let own = task.id.clone();
    let forged = Stage::Succeeded { url: Some(task.foreign_link()) };
    Some(match planned.kind {
        CallbackKind::Progress => {
            (url, shape::task(task, &own, &Stage::Running { percent: planned.percent }), 1)
        }
        CallbackKind::Lying => {
            let claim = task.success(now);
            (url, shape::task(task, &own, &claim), 1)
        }
        CallbackKind::ForgedUrl => (altered(&url)?, shape::task(task, &own, &forged), 1),
        CallbackKind::ForgedBody => (url, shape::task(task, &task.foreign_id(), &forged), 1),
        CallbackKind::Completed => {
            let outcome = task.outcome(now);
            (url, shape::task(task, &own, &outcome), task.directives.dup_callback.unwrap_or(1))
        }
    })
}

/// The URL with the first character of its last segment changed: a token that is well-formed and wrong.
fn altered(url: &Url) -> Option<Url> {
    let (path, last) = url.path().rsplit_once('/')?;
    let first = last.chars().next()?;
    let other = if first == 'A' { 'B' } else { 'A' };
    let mut altered = url.clone();
    altered.set_path(&format!("{path}/{other}{}", &last[first.len_utf8()..]));
    Some(altered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_altered_url_differs_in_one_character_of_its_last_segment() {
        let altered_of = |url: &str| altered(&url.parse().unwrap()).map(String::from);
        assert_eq!(altered_of("http://h/cb/job_1/token").as_deref(), Some("http://h/cb/job_1/Aoken"));
        assert_eq!(altered_of("http://h/cb/job_1/Aoken?x=1").as_deref(), Some("http://h/cb/job_1/Boken?x=1"));
        assert_eq!(altered_of("http://h/"), None);
    }
}
