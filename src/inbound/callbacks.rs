//! The log of callbacks that came, with what was made of them.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Path, ReqData},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Serialize;

use super::{
    Context,
    auth::Caller,
    fields::Params,
    jobs::cursor,
    problem::Problem,
    view::{List, time},
};
use crate::{
    lifecycle::{CallbackId, JobId},
    store::{CallbackFilter, CallbackRecord, Verdict},
};

#[derive(Serialize)]
struct CallbackView {
    id: CallbackId,
    job_id: JobId,
    received_at: String,
    verdict: Verdict,
    delivery_id: String,
    bytes: u64,
    sha256: String,
    status: Option<String>,
    task_id: Option<String>,
    detail: Option<String>,
    /// Only one at a time, and only for an admin: it is the provider's word, with links.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    /// Instead of `body` where it is not text.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

impl From<CallbackRecord> for CallbackView {
    fn from(record: CallbackRecord) -> Self {
        Self {
            id: record.id,
            job_id: record.job_id,
            received_at: time(record.received_at),
            verdict: record.verdict,
            delivery_id: record.delivery_id,
            bytes: record.bytes,
            sha256: record.sha256,
            status: record.word,
            task_id: record.task_id,
            detail: record.detail,
            body: None,
            body_base64: None,
        }
    }
}

/// `GET /v1/callbacks`
pub(super) async fn list(request: HttpRequest, context: Data<Context>) -> Result<HttpResponse, Problem> {
    let mut params = Params::of(&request, &["job", "verdict", "limit", "cursor"]);
    let filter = CallbackFilter {
        job: params.parse("job", "the id of a job"),
        verdict: params.word("verdict", "matched, duplicate, late, unmatched, forged, malformed"),
    };
    let limit = params.limit();
    let before = cursor(&params)?;
    params.finish()?;
    let page = context.app.store().callbacks(filter, before, limit).await?;
    let next_cursor = page.read_to.filter(|_| page.more).map(|id| CallbackId::from_bytes(id).to_string());
    let data: Vec<CallbackView> = page.items.into_iter().map(CallbackView::from).collect();
    Ok(HttpResponse::Ok().json(List { data, next_cursor }))
}

/// `GET /v1/callbacks/{id}`
pub(super) async fn show(
    context: Data<Context>,
    caller: ReqData<Caller>,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let absent =
        || Problem::not_found(format!("there is no callback `{}`", id.chars().take(64).collect::<String>()));
    let id: CallbackId = id.parse().map_err(|_| absent())?;
    let (record, body) = context.app.store().callback_body(id).await?.ok_or_else(absent)?;
    let mut view = CallbackView::from(record);
    if caller.is_admin {
        match String::from_utf8(body.into()) {
            Ok(text) => view.body = Some(text),
            Err(error) => view.body_base64 = Some(BASE64_STANDARD.encode(error.as_bytes())),
        }
    }
    Ok(HttpResponse::Ok().json(view))
}
