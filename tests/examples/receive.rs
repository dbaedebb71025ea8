//! Takes reelhook's events and verifies who sent them.

use std::net::TcpListener;

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer,
    web::{Bytes, Data, post},
};
use reqwest::header::{HeaderMap, HeaderValue};
use standardwebhooks::Webhook;

/// Serves until the process ends; each event that verifies goes to `seen`.
pub(crate) async fn serve(listener: TcpListener, secret: &str, seen: fn(String)) -> std::io::Result<()> {
    let webhook = Data::new(Webhook::new(secret).map_err(std::io::Error::other)?);
    let app = move || {
        App::new().app_data(webhook.clone()).app_data(Data::new(seen)).route("/hooks/video", post().to(video))
    };
    HttpServer::new(app).workers(1).disable_signals().listen(listener)?.run().await
}

async fn video(
    request: HttpRequest,
    body: Bytes,
    webhook: Data<Webhook>,
    seen: Data<fn(String)>,
) -> HttpResponse {
    let headers = request.headers().iter().filter_map(|(name, value)| {
        Some((name.as_str().parse().ok()?, HeaderValue::from_bytes(value.as_bytes()).ok()?))
    });
    if webhook.verify(&body, &HeaderMap::from_iter(headers)).is_err() {
        return HttpResponse::Unauthorized().body("the signature does not match");
    }
    // Events come at least once: a webhook-id that was seen before is a repeat. A ping is about no job.
    let event: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let word = |pointer| event.pointer(pointer).and_then(|word| word.as_str());
    if let Some((kind, job)) = word("/type").zip(word("/data/job/id")) {
        seen(format!("{kind} {job}"));
    }
    HttpResponse::NoContent().finish()
}
