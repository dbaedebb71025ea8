//! The routes: the upstream's own, the file host's, and the ledger.

use std::{sync::Arc, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, HeaderName},
    web,
};

use super::{
    callbacks, files,
    provider::{CreateCall, Provider},
    refusal::Refusal,
    wire::Wire,
};

const BODY_LIMIT: usize = 1024 * 1024;
/// How long a create call whose answer never comes is held, unless the client gives up before.
const SILENCE: Duration = Duration::from_secs(120);

pub(super) fn configure(config: &mut web::ServiceConfig) {
    config
        .app_data(web::PayloadConfig::new(BODY_LIMIT))
        .route("/api/v1/videos/generations", web::post().to(create))
        .route("/api/v1/tasks/{task_id}", web::get().to(ask))
        .route("/sandbox/ledger", web::get().to(ledger))
        .service(
            web::resource("/files/{task}/{name}")
                .route(web::get().to(files::serve))
                .route(web::head().to(files::serve)),
        )
        .default_service(web::to(|| async { Err::<HttpResponse, _>(Refusal::new(404, "Not found")) }));
}

async fn create(
    request: HttpRequest,
    body: web::Bytes,
    provider: web::Data<Arc<Provider>>,
) -> Result<HttpResponse, Refusal> {
    let provider = Arc::clone(&provider);
    let accepted = provider.create(CreateCall {
        authorized: authorize(&request),
        idempotency_key: text(&request, HeaderName::from_static("idempotency-key")),
        body: &body,
        origin: origin(&request),
    })?;
    call_back(&provider, &accepted.task_id).await;
    if accepted.never_answered {
        tokio::time::sleep(SILENCE).await;
        if let Some(wire) = Wire::of(&request) {
            wire.cut();
        }
    }
    Ok(HttpResponse::Ok().json(accepted.answer))
}

/// Awaits the callbacks that are due at once, leaves the others to their time.
async fn call_back(provider: &Arc<Provider>, task_id: &str) {
    let plan = provider.books().tasks.get(task_id).map(callbacks::plan).unwrap_or_default();
    let (at_once, in_time): (Vec<_>, Vec<_>) = plan.into_iter().partition(|planned| planned.after.is_zero());
    let at_once = provider.spawn(callbacks::send_all(Arc::clone(provider), task_id.to_owned(), at_once));
    if at_once.await.is_err() {
        tracing::debug!(task_id, "the sandbox stopped before its early callbacks were answered");
    }
    provider.spawn(callbacks::send_all(Arc::clone(provider), task_id.to_owned(), in_time));
}

async fn ask(
    request: HttpRequest,
    task_id: web::Path<String>,
    provider: web::Data<Arc<Provider>>,
) -> Result<HttpResponse, Refusal> {
    authorize(&request)?;
    Ok(HttpResponse::Ok().json(provider.ask(&task_id)?))
}

async fn ledger(provider: web::Data<Arc<Provider>>) -> HttpResponse {
    HttpResponse::Ok().json(&provider.books().ledger)
}

/// Any key will do, but there has to be one.
fn authorize(request: &HttpRequest) -> Result<(), Refusal> {
    let key = text(request, header::AUTHORIZATION)
        .and_then(|value| value.strip_prefix("Bearer ").map(|key| key.trim().to_owned()));
    match key {
        Some(key) if !key.is_empty() => Ok(()),
        _ => Err(Refusal::new(401, "Invalid API key")),
    }
}

/// A stand-in runs wherever a test needs it, in a container too: its links lead to where the client found it.
fn origin(request: &HttpRequest) -> String {
    let host = text(request, header::HOST).unwrap_or_else(|| request.app_config().local_addr().to_string());
    format!("http://{host}")
}

fn text(request: &HttpRequest, name: HeaderName) -> Option<String> {
    Some(request.headers().get(name)?.to_str().ok()?.to_owned())
}
