//! The pages for people: what is going on, and one job.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, ETag, EntityTag},
    web::{Data, Path},
};

use super::{Context, conditional, jobs::job_id, problem::Problem, view::document};
use crate::{
    dashboard::{self, History, Page},
    store::{DeliveryFilter, EventFilter, JobFilter},
};

/// Scripts of nobody, styles and media of our own.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; \
    connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'";
const NEWEST: usize = 50;
const TIMELINE: usize = 250;

/// `GET /`
pub(super) async fn jobs(context: Data<Context>) -> Result<HttpResponse, Problem> {
    let store = context.app.store();
    let jobs = store.list(JobFilter::default(), None, NEWEST).await?;
    let counts = store.counts().await?;
    let mut rows = Vec::with_capacity(jobs.items.len());
    for job in jobs.items {
        let document = document(job.id, &context).await?;
        rows.push((job, document));
    }
    Ok(html(dashboard::jobs(&page(&context), &rows, jobs.more, &counts)))
}

/// `GET /jobs/{id}`
pub(super) async fn job(context: Data<Context>, id: Path<String>) -> Result<HttpResponse, Problem> {
    let job = context.app.get(job_id(&id)?).await?;
    let document = document(job.id, &context).await?;
    let filter = EventFilter { job: Some(job.id), ..EventFilter::default() };
    let events = context.app.store().events(0, TIMELINE, filter).await?.events;
    let of_job = DeliveryFilter { job: Some(job.id), ..DeliveryFilter::default() };
    let deliveries = context.app.store().deliveries(of_job, None, NEWEST).await?.items;
    let history = History { events, deliveries };
    let link = |name: &str| {
        let url = context.app.media_url(job.id, name);
        // The page's policy lets in what is of its own origin, whichever name it was reached by: so its template asks
        // for downloads, which redirect to no bucket.
        url[url::Position::BeforePath..].to_owned()
    };
    Ok(html(dashboard::job(&page(&context), &job, &document, &history, link)))
}

fn page(context: &Context) -> Page {
    let pause = context.app.pause().map(|pause| pause.why);
    Page { base: context.base_path().to_owned(), now: context.app.now(), pause }
}

/// A page under the policy that suits it.
pub(super) fn html(body: String) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header(("cross-origin-opener-policy", "same-origin"))
        .insert_header(("permissions-policy", "camera=(), microphone=(), geolocation=()"))
        .body(body)
}

/// `GET /assets/{name}`: embedded in the binary.
pub(super) async fn asset(request: HttpRequest, name: Path<String>) -> Result<HttpResponse, Problem> {
    let asset = dashboard::asset(&name).ok_or_else(|| Problem::not_found("there is no such asset"))?;
    let etag = EntityTag::new_strong(asset.hash);
    let mut answer = HttpResponse::Ok();
    if conditional::has(&request, &etag) == Some(true) {
        answer = HttpResponse::NotModified();
    }
    answer.insert_header(ETag(etag)).insert_header((header::CACHE_CONTROL, "no-cache"));
    Ok(answer.content_type(asset.content_type).body(asset.content))
}
