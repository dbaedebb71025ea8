//! Jobs: making, finding and reading them.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header::ETag},
    web::{Data, Path, ReqData},
};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Context,
    auth::Caller,
    body::Json,
    conditional,
    fields::{Members, Params},
    kinds, notify,
    problem::Problem,
    trace,
    view::{self, List},
    wait,
};
use crate::{
    app::{AppError, Deadline, NewRequest, Until},
    lifecycle::{Job, JobId, Millis, Phase},
    store::JobFilter,
};

const MEMBERS: [&str; 6] = ["input", "tags", "metadata", "notify", "max_credits", "deadline"];
const STATUSES: &str = "queued, running, held, succeeded, failed, canceled";

/// `POST /v1/jobs`
pub(super) async fn create(
    request: HttpRequest,
    context: Data<Context>,
    caller: ReqData<Caller>,
    body: Json,
) -> Result<HttpResponse, Problem> {
    let mut params = Params::of(&request, &["wait"]);
    let patience = wait::wanted(&mut params, &request, &context);
    params.finish()?;
    let mut new = wish(body.0, &context)?;
    new.idempotency_key = idempotency_key(&request)?;
    new.trace = trace::of(&request);
    let created = context.app.create(new, &caller.owner).await?;
    let mut job = created.job;
    if !patience.is_zero() {
        job = wait::wait(job.id, Until::Terminal, patience, &context).await?;
    }
    let status = if has_ended(&job) { StatusCode::OK } else { StatusCode::ACCEPTED };
    view::created(job, created.fresh, created.replayed, status, &context).await
}

/// `POST /v1/jobs/estimate`
pub(super) async fn estimate(context: Data<Context>, body: Json) -> Result<HttpResponse, Problem> {
    let wish = wish(body.0, &context)?;
    let checked = context.app.estimate(&wish.input)?;
    Ok(HttpResponse::Ok().json(json!({
        "model": checked.model,
        "mode": checked.mode,
        "duration_s": checked.duration_s.map(seconds),
        "cost": {
            "estimated_credits": checked.estimate.credits,
            "estimated_usd": checked.estimate.usd(),
            "exact": checked.estimate.exact,
            "basis": checked.estimate.basis,
        },
        "notices": checked.notices,
    })))
}

/// Whole seconds are told as such: `5`, not `5.0`.
fn seconds(length: f64) -> Value {
    if length.fract() == 0.0 && length < 1e9 { json!(length as u64) } else { json!(length) }
}

/// Reads the body of a new job; names the mistakes of its input along with its own.
fn wish(body: Value, context: &Context) -> Result<NewRequest, Problem> {
    let hint = "; the upstream's own members, such as prompt and model, belong into `input`";
    let mut members = Members::of(body, &MEMBERS, hint)?;
    let notify = notify::read(&mut members, &context.guard);
    let new = NewRequest {
        input: members.take("input").unwrap_or_default(),
        verbatim: false,
        tags: members.texts("tags").unwrap_or_default(),
        metadata: members.object("metadata").unwrap_or_default(),
        max_credits: members.number("max_credits"),
        deadline: members.text("deadline").and_then(|text| {
            let deadline = deadline(&text);
            if deadline.is_none() {
                let detail = "deadline must be a time such as 2026-11-30T12:00:00Z, or a span such as 30m";
                members.wrong("deadline", "not_understood", detail);
            }
            deadline
        }),
        notify,
        idempotency_key: None,
        trace: None,
    };
    if let Err(mut wrong) = members.finish() {
        if let Err(AppError::Invalid(more)) = context.app.estimate(&new.input) {
            wrong.extend(more);
        }
        return Err(Problem::invalid(wrong));
    }
    Ok(new)
}

fn deadline(text: &str) -> Option<Deadline> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(Deadline::At(Millis(at.as_millisecond())));
    }
    let span = wait::span(text)?;
    i64::try_from(span.as_millis()).ok().map(Deadline::After)
}

pub(super) fn idempotency_key(request: &HttpRequest) -> Result<Option<String>, Problem> {
    let Some(value) = request.headers().get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().map(str::to_owned);
    key.map(Some).map_err(|_| {
        Problem::invalid_at("Idempotency-Key", "characters", "the key has visible ASCII characters only")
    })
}

pub(super) fn has_ended(job: &Job) -> bool {
    matches!(job.phase, Phase::Settled { .. })
}

/// `GET /v1/jobs`
pub(super) async fn list(request: HttpRequest, context: Data<Context>) -> Result<HttpResponse, Problem> {
    let known =
        ["status", "phase", "model", "tag", "via", "created_after", "created_before", "q", "limit", "cursor"];
    let mut params = Params::of(&request, &known);
    let own = |params: &Params, name| params.text(name).map(str::to_owned);
    let filter = JobFilter {
        status: params.word("status", STATUSES),
        phase: own(&params, "phase"),
        model: own(&params, "model"),
        tag: own(&params, "tag"),
        via: params.word("via", "callback, poll"),
        created_after: instant(&mut params, "created_after"),
        created_before: instant(&mut params, "created_before"),
        q: own(&params, "q"),
    };
    let limit = params.limit();
    let before = cursor(&params)?;
    params.finish()?;
    let page = context.app.store().list(filter, before, limit).await?;
    let next_cursor = page.read_to.filter(|_| page.more).map(|id| JobId::from_bytes(id).to_string());
    let mut data = Vec::with_capacity(page.items.len());
    for job in page.items {
        data.push(view::view(job, &context).await?);
    }
    Ok(HttpResponse::Ok().json(List { data, next_cursor }))
}

fn instant(params: &mut Params, name: &str) -> Option<Millis> {
    let at: Timestamp = params.parse(name, "a time such as 2026-11-30T12:00:00Z")?;
    Some(Millis(at.as_millisecond()))
}

/// The `cursor` of a list: the id of the last entry that was seen.
pub(super) fn cursor<T: std::str::FromStr>(params: &Params) -> Result<Option<T>, Problem> {
    let read = |text: &str| text.parse().map_err(|_| invalid_cursor("cursor"));
    params.text("cursor").map(read).transpose()
}

pub(super) fn invalid_cursor(name: &str) -> Problem {
    Problem::new(
        &kinds::INVALID_CURSOR,
        format!("{name} is not one that this server gave; begin again without it"),
    )
}

/// `GET /v1/jobs/{id}`
pub(super) async fn show(
    request: HttpRequest,
    context: Data<Context>,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let mut params = Params::of(&request, &["wait"]);
    let patience = wait::wanted(&mut params, &request, &context);
    params.finish()?;
    let mut job = context.app.get(job_id(&id)?).await?;
    if !patience.is_zero() {
        let until = match conditional::has(&request, &view::etag(job.revision)) {
            Some(true) => Some(Until::Past(job.revision)),
            Some(false) => None,
            None => Some(Until::Terminal),
        };
        if let Some(until) = until {
            job = wait::wait(job.id, until, patience, &context).await?;
        }
    }
    if conditional::has(&request, &view::etag(job.revision)) == Some(true) {
        return Ok(HttpResponse::NotModified().insert_header(ETag(view::etag(job.revision))).finish());
    }
    view::answer(job, StatusCode::OK, &context).await
}

/// The id of a path. One that cannot be an id is one of no job.
pub(super) fn job_id(text: &str) -> Result<JobId, Problem> {
    text.parse()
        .map_err(|error| Problem::new(&kinds::JOB_NOT_FOUND, format!("{error}, so there is no such job")))
}
