//! What is past its time, and a round of forgetting at once.

use std::time::Duration;

use actix_web::{HttpResponse, web::Data};
use serde::Serialize;

use super::{Context, body::Json, fields::Members, kinds, problem::Problem, view::time};
use crate::runner::{Kind, Removal, RetentionError, Round};

/// Longest round within a request.
const AT_MOST: Duration = Duration::from_secs(15);

#[derive(Serialize)]
struct RoundView {
    data: Vec<RemovalView>,
    next_cursor: Option<String>,
    /// There is more than one request does: send it again.
    more: bool,
}

#[derive(Serialize)]
struct RemovalView {
    kind: Kind,
    /// What ended before is past its time; null: it is kept for ever.
    before: Option<String>,
    count: u64,
    bytes: u64,
    oldest: Option<String>,
}

impl From<Round> for RoundView {
    fn from(Round { removals, more }: Round) -> Self {
        let view = |Removal { kind, before, count, bytes, oldest }| RemovalView {
            kind,
            before: before.map(time),
            count,
            bytes,
            oldest: oldest.map(time),
        };
        Self { data: removals.into_iter().map(view).collect(), next_cursor: None, more }
    }
}

/// `GET /v1/retention`: what a round would remove now.
pub(super) async fn preview(context: Data<Context>) -> Result<HttpResponse, Problem> {
    let round = context.retainer.preview().await?;
    Ok(HttpResponse::Ok().json(RoundView::from(round)))
}

/// `POST /v1/retention`: removes it.
pub(super) async fn round(context: Data<Context>, body: Json) -> Result<HttpResponse, Problem> {
    Members::of(body.0, &[], "")?.finish().map_err(Problem::invalid)?;
    let round = context.retainer.round(Some(AT_MOST)).await?;
    Ok(HttpResponse::Ok().json(RoundView::from(round)))
}

impl From<RetentionError> for Problem {
    fn from(error: RetentionError) -> Self {
        match error {
            RetentionError::App(error) => error.into(),
            RetentionError::Store(error) => error.into(),
            RetentionError::Archive(error) => error.into(),
            RetentionError::ClockJumped => Self::new(&kinds::CLOCK_JUMPED, error.to_string()),
        }
    }
}
