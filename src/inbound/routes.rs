//! Everything that the API listener can be asked, with the right that it needs. The OpenAPI document lists the same.

use actix_web::{
    FromRequest, Handler, HttpResponse, Responder, Route,
    http::Method,
    middleware::from_fn,
    web::{self, ServiceConfig},
};

use super::{
    auth::{self, Access},
    callbacks, decisions, deliveries, doctor, dropin, events, files, health, jobs, metrics, openapi, pages,
    problem, retention, sinks, stats,
};
use crate::keys::Scope;

/// One method of one path.
pub(super) struct Endpoint {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) access: Access,
    route: Route,
}

pub(super) fn endpoints() -> Vec<Endpoint> {
    use Access::{Key, Open, Page};
    use Scope::{Admin, Operate, Read, Submit};
    vec![
        post("/v1/jobs", Key(Submit), jobs::create),
        get("/v1/jobs", Key(Read), jobs::list),
        post("/v1/jobs/estimate", Key(Submit), jobs::estimate),
        get("/v1/jobs/{id}", Key(Read), jobs::show),
        get("/v1/jobs/{id}/events", Key(Read), events::of_job),
        post("/v1/jobs/{id}/cancel", Key(Operate), decisions::cancel),
        post("/v1/jobs/{id}/retry", Key(Operate), decisions::retry),
        post("/v1/jobs/{id}/resolve", Key(Operate), decisions::resolve),
        get("/v1/jobs/{id}/files/{name}", Key(Read), files::file),
        head("/v1/jobs/{id}/files/{name}", Key(Read), files::file),
        get("/v1/jobs/{id}/manifest", Key(Read), files::manifest),
        get("/v1/events", Key(Read), events::all),
        get("/v1/callbacks", Key(Read), callbacks::list),
        get("/v1/callbacks/{id}", Key(Read), callbacks::show),
        get("/v1/deliveries", Key(Read), deliveries::list),
        get("/v1/deliveries/{id}", Key(Read), deliveries::show),
        post("/v1/deliveries/{id}/retry", Key(Operate), deliveries::retry),
        get("/v1/sinks", Key(Read), sinks::list),
        get("/v1/sinks/secret", Key(Admin), sinks::secret),
        post("/v1/sinks/{name}/test", Key(Operate), sinks::test),
        post("/v1/sinks/{name}/recover", Key(Operate), sinks::recover),
        get("/v1/retention", Key(Operate), retention::preview),
        post("/v1/retention", Key(Admin), retention::round),
        post("/v1/doctor", Key(Operate), doctor::examine),
        get("/v1/stats", Key(Read), stats::stats),
        get("/v1/models", Key(Read), stats::models),
        post("/api/v1/videos/generations", Key(Submit), dropin::submit),
        get("/api/v1/tasks/{id}", Key(Read), dropin::task),
        get("/media/{job_id}/{name}", Open, files::media),
        head("/media/{job_id}/{name}", Open, files::media),
        get("/livez", Open, health::live),
        get("/readyz", Open, health::ready),
        get("/metrics", Open, metrics::metrics),
        get("/openapi.json", Open, openapi::document),
        get("/problems/{slug}", Open, problem::page),
        get("/assets/{name}", Open, pages::asset),
        get("/", Page, pages::jobs),
        get("/jobs/{id}", Page, pages::job),
    ]
}

/// Puts every route into an actix application, whose data must hold a [`Context`](super::Context).
pub fn api(config: &mut ServiceConfig) {
    let mut endpoints = endpoints();
    while let Some(path) = endpoints.first().map(|endpoint| endpoint.path) {
        let (here, others): (Vec<_>, Vec<_>) =
            endpoints.into_iter().partition(|endpoint| endpoint.path == path);
        endpoints = others;
        let allow = here.iter().map(|endpoint| endpoint.method.as_str()).collect::<Vec<_>>().join(", ");
        let refuse = move || {
            let problem = problem::method_not_allowed(&allow);
            async move { Err::<HttpResponse, _>(problem) }
        };
        let resource = here.into_iter().fold(web::resource(path), |resource, endpoint| {
            let access = endpoint.access;
            resource
                .route(endpoint.route.wrap(from_fn(move |request, next| auth::admit(access, request, next))))
        });
        config.service(resource.default_service(web::to(refuse)));
    }
}

fn get<F, Args>(path: &'static str, access: Access, handler: F) -> Endpoint
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    endpoint(Method::GET, path, access, handler)
}

fn head<F, Args>(path: &'static str, access: Access, handler: F) -> Endpoint
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    endpoint(Method::HEAD, path, access, handler)
}

fn post<F, Args>(path: &'static str, access: Access, handler: F) -> Endpoint
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    endpoint(Method::POST, path, access, handler)
}

fn endpoint<F, Args>(method: Method, path: &'static str, access: Access, handler: F) -> Endpoint
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    Endpoint { route: web::method(method.clone()).to(handler), method, path, access }
}
