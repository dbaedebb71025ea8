//! Reading a body: bounded in size and in time, and only as it is.

use std::{future::Future, pin::Pin, time::Duration};

use actix_web::{
    FromRequest, HttpRequest,
    dev::Payload,
    http::header::{self, HeaderMap},
    web::{self, Bytes, BytesMut},
};
use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::{Context, kinds, problem::Problem};

/// A body must be complete within this, however steadily it trickles.
pub(super) const DEADLINE: Duration = Duration::from_secs(3);

/// A body that is too large by no more than this is let past before it is refused. Whoever is still sending may take an
/// answer that comes meanwhile, and the end of the connection after it, for a fault of the connection: proxies make it a 502.
const PAST: usize = 1 << 20;

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// It is compressed, so its size is not what it claims.
    #[error("the body has a Content-Encoding; send it as it is")]
    Encoded,
    /// It has more bytes than this.
    #[error("the body is larger than {0} bytes; nothing was created or spent")]
    TooLarge(usize),
    /// It was not complete in time.
    #[error("the body was not complete within {} s", DEADLINE.as_secs())]
    Slow,
    /// The connection broke, or the body is not what its head says.
    #[error("the body broke off")]
    Broken,
}

/// Reads a whole body of at most `limit` bytes.
pub(super) async fn read(headers: &HeaderMap, payload: &mut Payload, limit: usize) -> Result<Bytes, Fault> {
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(Fault::Encoded);
    }
    let declared =
        headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > limit.saturating_add(PAST)) {
        return Err(Fault::TooLarge(limit));
    }
    let until = Instant::now() + DEADLINE;
    let read = timeout_at(until, collect(payload, limit)).await.unwrap_or(Err(Fault::Slow));
    if let Err(Fault::TooLarge(_)) = read {
        timeout_at(until, let_past(payload)).await.ok();
    }
    read
}

async fn let_past(payload: &mut Payload) {
    let mut past = 0;
    while let Some(Ok(chunk)) = payload.next().await {
        past += chunk.len();
        if past > PAST {
            break;
        }
    }
}

async fn collect(payload: &mut Payload, limit: usize) -> Result<Bytes, Fault> {
    let mut body = Bytes::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| Fault::Broken)?;
        if body.len() + chunk.len() > limit {
            return Err(Fault::TooLarge(limit));
        }
        // A body that comes in one piece is not copied.
        if body.is_empty() {
            body = chunk;
        } else {
            let mut joined = BytesMut::from(body);
            joined.extend_from_slice(&chunk);
            body = joined.freeze();
        }
    }
    Ok(body)
}

/// The body of a request, as JSON.
pub(super) struct Json(pub(super) Value);

impl FromRequest for Json {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, mut payload) = (request.clone(), payload.take());
        Box::pin(async move {
            require_json(request.headers())?;
            let context = request.app_data::<web::Data<Context>>();
            let limit = context.map_or(0, |context| context.app.config().server.body_limit);
            let bytes = read(request.headers(), &mut payload, limit).await?;
            serde_json::from_slice(&bytes).map(Self).map_err(|error| Problem::not_json(&error))
        })
    }
}

/// Refuses a content type that a form of a foreign web page could send.
pub(super) fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let stated = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = stated.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence == "application/json" {
        return Ok(());
    }
    Err(Problem::new(
        &kinds::UNSUPPORTED_MEDIA_TYPE,
        "the Content-Type must be application/json, without a body too; nothing was created or spent: \
         with curl, -H 'content-type: application/json' -d '{}'",
    ))
}
