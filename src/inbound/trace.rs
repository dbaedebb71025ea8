//! Requests to the API in traces: a caller's trace is carried on, and a job that a request creates belongs to it.

use actix_web::{
    HttpMessage, HttpRequest,
    dev::ServiceRequest,
    http::{Method, StatusCode},
};

use crate::spans::{self, Attribute, Span, TRACEPARENT};

/// Of the request that is being answered, for what it creates.
struct Context(String);

/// The span of a request; nothing for probes, pages and what is no route.
pub(super) fn begin(request: &ServiceRequest) -> Option<Span> {
    if !spans::are_recorded() {
        return None;
    }
    let route = request.match_pattern().filter(|route| route.contains("/v1/"))?;
    let known = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ];
    let method = known.iter().find(|known| *known == request.method()).map_or("_OTHER", Method::as_str);
    let parent = request.headers().get(TRACEPARENT).and_then(|value| value.to_str().ok());
    let mut span = Span::request(format!("{method} {route}"), parent);
    span.tell(Attribute::Method, method);
    span.tell(Attribute::Route, route);
    if let Some(context) = span.context() {
        request.extensions_mut().insert(Context(context));
    }
    Some(span)
}

/// Notes how the request was answered.
pub(super) fn end(span: &mut Option<Span>, status: StatusCode) {
    if let Some(span) = span {
        span.count(Attribute::Status, status.as_u16());
        if status.is_server_error() {
            span.fail();
        }
    }
}

/// The trace that a request belongs to, as a W3C `traceparent`.
pub(super) fn of(request: &HttpRequest) -> Option<String> {
    request.extensions().get::<Context>().map(|Context(context)| context.clone())
}
