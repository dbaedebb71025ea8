//! What callers and operators decide about a job: cancel, retry, resolve.

use actix_web::{
    HttpResponse,
    http::StatusCode,
    web::{Data, Path},
};
use serde::Serialize;

use super::{
    Context,
    body::Json,
    fields::Members,
    jobs::job_id,
    problem::Problem,
    view::{self, JobView},
};
use crate::{
    app::Resolution,
    lifecycle::{Outcome, RetryMode, TaskId},
    provider::request::valid_task_id,
};

#[derive(Serialize)]
struct Canceled {
    #[serde(flatten)]
    job: JobView,
    /// The task runs on at the upstream, which has no way to stop it.
    upstream_may_still_charge: bool,
}

/// `POST /v1/jobs/{id}/cancel`
pub(super) async fn cancel(context: Data<Context>, id: Path<String>) -> Result<HttpResponse, Problem> {
    let job = context.app.cancel(job_id(&id)?).await?;
    let may_still_charge = matches!(job.outcome(), Some(Outcome::Canceled { may_still_charge: true, .. }));
    let job = view::view(job, &context).await?;
    Ok(HttpResponse::Ok().json(Canceled { job, upstream_may_still_charge: may_still_charge }))
}

/// `POST /v1/jobs/{id}/retry`
pub(super) async fn retry(
    context: Data<Context>,
    id: Path<String>,
    body: Json,
) -> Result<HttpResponse, Problem> {
    let id = job_id(&id)?;
    let mut members = Members::of(body.0, &["mode"], "")?;
    let modes = [RetryMode::Recheck, RetryMode::Download, RetryMode::Resubmit];
    let chosen = members.choice("mode", &modes.map(RetryMode::as_str));
    members.finish().map_err(Problem::invalid)?;
    let mode = modes.into_iter().find(|mode| chosen == Some(mode.as_str())).unwrap_or(RetryMode::Recheck);
    let created = context.app.retry(id, mode, false).await?;
    view::created(created.job, created.fresh, created.replayed, StatusCode::ACCEPTED, &context).await
}

/// `POST /v1/jobs/{id}/resolve`
pub(super) async fn resolve(
    context: Data<Context>,
    id: Path<String>,
    body: Json,
) -> Result<HttpResponse, Problem> {
    let id = job_id(&id)?;
    let mut members = Members::of(body.0, &["action", "task_id"], "")?;
    let action = members.choice("action", &["attach", "resubmit", "fail"]);
    let task = members.text("task_id");
    match (action, &task) {
        (Some("attach"), task) if !task.as_deref().is_some_and(valid_task_id) => {
            let detail =
                "attach needs the upstream's task_id: 1 to 128 of the characters A-Z a-z 0-9 . _ : ~ -";
            members.wrong("task_id", "required", detail);
        }
        (Some("resubmit" | "fail"), Some(_)) => {
            members.wrong("task_id", "not_allowed", "only attach takes a task_id")
        }
        _ => {}
    }
    members.finish().map_err(Problem::invalid)?;
    let resolution = match (action, task) {
        (Some("attach"), Some(task)) => Resolution::Attach(TaskId(task)),
        (Some("resubmit"), _) => Resolution::Resubmit,
        _ => Resolution::Fail,
    };
    let job = context.app.resolve(id, resolution).await?;
    if job.id == id {
        return view::answer(job, StatusCode::OK, &context).await;
    }
    view::created(job, None, false, StatusCode::ACCEPTED, &context).await
}
