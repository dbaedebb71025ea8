//! An examination on request: whether what the server needs does what it should.

use actix_web::{HttpResponse, web::Data};
use serde_json::json;

use super::{Context, view::time};
use crate::doctor::Verdict;

/// `POST /v1/doctor`: answers when the slowest check has ended, well or not.
pub(super) async fn examine(context: Data<Context>) -> HttpResponse {
    let report = context.doctor.examine().await;
    let ok = report.count(Verdict::Failed) == 0;
    HttpResponse::Ok().json(json!({ "ok": ok, "at": time(report.at), "checks": report.checks }))
}
