//! For whoever watches the process: alive and ready.

use std::sync::atomic::Ordering;

use actix_web::{HttpRequest, HttpResponse, web::Data};
use serde_json::{Value, json};

use super::{Context, fields::Params, problem::Problem};

/// `GET /livez`: the process answers.
pub(super) async fn live() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "alive" }))
}

/// `GET /readyz`: the store is open and both listeners serve. Never depends on anybody outside; `?verbose` tells of them.
pub(super) async fn ready(request: HttpRequest, context: Data<Context>) -> Result<HttpResponse, Problem> {
    let params = Params::of(&request, &["verbose"]);
    let is_verbose = params.flag("verbose");
    params.finish()?;
    let store_is_open = context.app.store().counts().await.is_ok();
    let is_ready = store_is_open && context.ready.load(Ordering::Acquire) && !context.stop.is_cancelled();
    let mut body = json!({ "status": if is_ready { "ready" } else { "not_ready" } });
    if is_verbose {
        body["checks"] = checks(&context, store_is_open);
    }
    let mut answer = if is_ready { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    Ok(answer.json(body))
}

fn checks(context: &Context, store_is_open: bool) -> Value {
    let min_free = context.app.config().storage.min_free;
    let free = context.archive.free_space().ok();
    let pause = context.app.pause();
    json!({
        "upstream": {
            "submitting": pause.is_none(),
            "refusals": pause.as_ref().map_or(0, |pause| pause.refusals),
            "why": pause.map(|pause| pause.why),
        },
        "store": { "open": store_is_open, "roomy": context.app.store().roomy() },
        "stopping": context.stop.is_cancelled(),
        "archive": { "free_bytes": free, "roomy": free.map(|free| free >= min_free) },
        "callbacks": { "expected": context.app.config().callback.public_url.is_some() },
    })
}
