//! What every answer of the API listener gets: its request id, the headers that keep browsers safe, and problems in
//! their final form.

use actix_web::{
    Error, HttpMessage,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::header::{self, HeaderMap, HeaderName, HeaderValue},
    middleware::Next,
    web::Data,
};
use tracing_actix_web::{RequestId, RootSpanBuilder};

use super::{Context, dropin, kinds, problem::Problem, trace};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Wraps every request.
pub(super) async fn finish(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let id = request.extensions().get::<RequestId>().map(ToString::to_string).unwrap_or_default();
    // Behind a proxy it is the proxy that knows.
    let is_tls =
        request.app_data::<Data<Context>>().is_some_and(|context| context.certificates.api.is_some());
    let for_upstream = dropin::serves(request.request());
    let mut span = trace::begin(&request);
    let mut answer = next.call(request).await?.map_into_boxed_body();
    if let Some(problem) = answer.response().error().map(problem) {
        if problem.is_ours() {
            tracing::warn!(request_id = id, %problem, "a request failed");
        }
        let response = if for_upstream { problem.upstream_response(&id) } else { problem.response(&id) };
        answer = answer.into_response(response);
    }
    trace::end(&mut span, answer.status());
    let headers = answer.headers_mut();
    if let Ok(id) = HeaderValue::try_from(id) {
        headers.insert(REQUEST_ID, id);
    }
    protect(headers);
    if is_tls {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    Ok(answer)
}

/// Also what the server's own machinery finds wrong is told as a problem.
fn problem(error: &Error) -> Problem {
    if let Some(problem) = error.as_error::<Problem>() {
        return problem.clone();
    }
    let status = error.as_response_error().status_code();
    if status.is_client_error() {
        Problem::invalid_at("", "malformed", error.to_string())
    } else {
        Problem::new(&kinds::INTERNAL, "the server made a mistake; its log says more")
    }
}

/// Nothing here is to be sniffed, framed, cached, or read by another origin; what a handler set itself stays.
pub(super) fn protect(headers: &mut HeaderMap) {
    const DEFAULTS: [(HeaderName, &str); 6] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CROSS_ORIGIN_RESOURCE_POLICY, "same-origin"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    ];
    for (name, value) in DEFAULTS {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}

/// The span of a request. Only the route's template, never the target: a link in it would be a secret in a log.
pub(super) struct Span;

impl RootSpanBuilder for Span {
    fn on_request_start(request: &ServiceRequest) -> tracing::Span {
        let id = request.extensions().get::<RequestId>().map(ToString::to_string);
        let route = request.match_pattern();
        tracing::info_span!(
            "request",
            method = %request.method(),
            route = route.as_deref().unwrap_or("none"),
            request_id = id,
        )
    }

    fn on_request_end<B: MessageBody>(span: tracing::Span, outcome: &Result<ServiceResponse<B>, Error>) {
        let status = match outcome {
            Ok(answer) => answer.status(),
            Err(error) => error.as_response_error().status_code(),
        };
        // Of the line, not of the span: to add a field to one writes all its others anew.
        tracing::debug!(parent: &span, status = status.as_u16(), "request answered");
    }
}
