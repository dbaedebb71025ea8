//! The upstream's own two routes, in its own shapes: a client that was written for it changes its base URL and key, and
//! gains a job that survives. What it asks is answered from our record and never reaches the upstream.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{HeaderName, HeaderValue},
    web::{Data, Path, ReqData},
};
use serde_json::Value;

use super::{
    Context,
    auth::Caller,
    body::Json,
    jobs::{has_ended, idempotency_key},
    kinds,
    problem::Problem,
    trace,
};
use crate::{
    app::{App, AppError, NewRequest},
    lifecycle::{Job, JobId, Notify, NotifyFormat, TaskId},
    outbound::egress::Guard,
    provider::request::valid_task_id,
};

/// Every path that begins so is the upstream's, and its errors have the upstream's shape.
const PREFIX: &str = "/api/v1/";
const CALLBACK_URL: &str = "callback_url";

/// Whether a request is one that the upstream could have been sent.
pub(super) fn serves(request: &HttpRequest) -> bool {
    let context = request.app_data::<Data<Context>>();
    let config = context.map(|context| context.app.config());
    let base = config.as_ref().map_or("", |config| config.server.base_path.trim_end_matches('/'));
    request.path().strip_prefix(base).is_some_and(|path| path.starts_with(PREFIX))
}

/// `POST /api/v1/videos/generations`: answers once the job is durable.
pub(super) async fn submit(
    request: HttpRequest,
    context: Data<Context>,
    caller: ReqData<Caller>,
    body: Json,
) -> Result<HttpResponse, Problem> {
    let Value::Object(mut input) = body.0 else {
        return Err(Problem::invalid_at("", "wrong_type", "the body must be a JSON object"));
    };
    let notify = match input.remove(CALLBACK_URL) {
        None | Some(Value::Null) => Vec::new(),
        Some(url) => vec![register_callback(&url, &context.guard)?],
    };
    let new = NewRequest {
        input: Value::Object(input),
        verbatim: true,
        notify,
        idempotency_key: idempotency_key(&request)?,
        trace: trace::of(&request),
        ..NewRequest::default()
    };
    let created = context.app.create(new, &caller.owner).await?;
    let mut answer = HttpResponse::Ok().json(context.app.task_shape(&created.job));
    if created.replayed {
        let name = HeaderName::from_static("idempotent-replayed");
        answer.headers_mut().insert(name, HeaderValue::from_static("true"));
    }
    Ok(answer)
}

/// The client's own `callback_url`, to be called in the upstream's shape once the job has ended. The upstream never
/// sees it. What only a look-up can tell, the guard judges before each call.
fn register_callback(url: &Value, guard: &Guard) -> Result<Notify, Problem> {
    let refused = |code, detail| Problem::invalid_at(&format!("/{CALLBACK_URL}"), code, detail);
    let Some(text) = url.as_str() else {
        return Err(refused("wrong_type", format!("{CALLBACK_URL} must be a string: an absolute https URL")));
    };
    let judged = guard.judge(text);
    let judged =
        judged.map_err(|why| refused("denied", format!("{CALLBACK_URL} cannot be called: {why}")))?;
    Ok(Notify { url: judged.url.into(), secret: None, format: NotifyFormat::Upstream })
}

/// `GET /api/v1/tasks/{id}`
pub(super) async fn task(context: Data<Context>, id: Path<String>) -> Result<HttpResponse, Problem> {
    let id = id.into_inner();
    let job = find(&id, &context.app).await?.ok_or_else(|| {
        let detail = format!("there is no task {id:?} here; nothing was asked of the upstream");
        Problem::new(&kinds::JOB_NOT_FOUND, detail)
    })?;
    if has_ended(&job) {
        // What is told as the end must be so after a crash, too.
        context.app.store().barrier().await?;
    }
    let mut shape = context.app.task_shape(&job);
    // The client knows it by this name.
    shape["data"]["task_id"] = id.into();
    Ok(HttpResponse::Ok().json(shape))
}

/// The job of this id; or else the one whose task has it at the upstream, where a client moved here in mid-flight.
async fn find(id: &str, app: &App) -> Result<Option<Job>, AppError> {
    let own = id.parse::<JobId>().ok();
    let id = match own {
        Some(own) => Some(own),
        None if valid_task_id(id) => app.store().by_task(&TaskId(id.to_owned())).await?,
        None => None,
    };
    match id {
        Some(id) => Ok(app.store().load(id).await?),
        None => Ok(None),
    }
}
