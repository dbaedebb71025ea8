//! Figures over a span of time, and the catalogue of models.

use std::{collections::BTreeMap, time::Duration};

use actix_web::{HttpRequest, HttpResponse, web::Data};
use serde::Serialize;

use super::{Context, fields::Params, problem::Problem, view::List, wait};
use crate::{
    lifecycle::{Job, JobId, Millis, Via},
    provider::models::{self, usd},
    store::JobFilter,
};

const DAY: Duration = Duration::from_secs(86_400);
const PAGE: usize = 250;
/// More jobs than this are not looked at; the answer says so.
const MOST: usize = 20_000;

#[derive(Serialize)]
struct Stats {
    window_s: u64,
    /// Only the newest 20,000 jobs of the window were looked at.
    truncated: bool,
    /// Jobs of the window, by status.
    jobs: BTreeMap<String, u64>,
    /// All jobs now, by phase.
    phases: BTreeMap<String, u64>,
    callbacks: Callbacks,
    spend: Spend,
}

#[derive(Default, Serialize)]
struct Callbacks {
    /// Callbacks that were asked for do not come; jobs are asked about as if there were none.
    silent: bool,
    /// Jobs of the window that a callback told us about first.
    completed_via_callback: u64,
    /// Jobs of the window that only our own question told us about.
    completed_via_poll: u64,
    /// Share of the former, 0 to 1.
    share: Option<f64>,
    /// Milliseconds from a job's first callback until the task route confirmed it.
    lag_ms: Lag,
}

#[derive(Default, Serialize)]
struct Lag {
    p50: Option<i64>,
    p95: Option<i64>,
}

#[derive(Default, Serialize)]
struct Spend {
    /// Estimates of the window's jobs, but for those that provably cost nothing.
    estimated_credits: u64,
    estimated_usd: f64,
    /// What the upstream said that it took for them.
    reported_credits: u64,
    /// Booked in this UTC day.
    day_credits: u64,
    /// Booked in this UTC month.
    month_credits: u64,
}

/// `GET /v1/stats?window=24h`
pub(super) async fn stats(request: HttpRequest, context: Data<Context>) -> Result<HttpResponse, Problem> {
    let mut params = Params::of(&request, &["window"]);
    let window = params.read("window", "a span of time such as 24h", wait::span).unwrap_or(DAY);
    params.finish()?;
    let (store, now) = (context.app.store(), context.app.now());
    let span = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
    let (jobs, truncated) = created_after(&context, now.plus(-span)).await?;
    let booked = store.booked(now).await?;
    let mut by_status = BTreeMap::new();
    for job in &jobs {
        *by_status.entry(word(&job.status())).or_insert(0) += 1;
    }
    let mut spend = Spend { day_credits: booked.day, month_credits: booked.month, ..Spend::default() };
    for job in jobs.iter().filter(|job| job.cost.reserved.is_some()) {
        spend.estimated_credits += job.cost.estimated_credits;
        spend.reported_credits += job.cost.reported_credits.unwrap_or(0);
    }
    spend.estimated_usd = usd(spend.estimated_credits);
    Ok(HttpResponse::Ok().json(Stats {
        window_s: window.as_secs(),
        truncated,
        jobs: by_status,
        phases: store.counts().await?.phases,
        callbacks: callbacks(&jobs, context.app.callbacks_are_silent()),
        spend,
    }))
}

async fn created_after(context: &Context, after: Millis) -> Result<(Vec<Job>, bool), Problem> {
    let filter = JobFilter { created_after: Some(after), ..JobFilter::default() };
    let mut jobs: Vec<Job> = Vec::new();
    let mut before = None;
    loop {
        let page = context.app.store().list(filter.clone(), before, PAGE).await?;
        jobs.extend(page.items);
        before = page.read_to.filter(|_| page.more).map(JobId::from_bytes);
        if before.is_none() {
            return Ok((jobs, false));
        }
        if jobs.len() >= MOST {
            return Ok((jobs, true));
        }
    }
}

fn callbacks(jobs: &[Job], silent: bool) -> Callbacks {
    let via = |wanted| jobs.iter().filter(|job| job.completed_via == Some(wanted)).count() as u64;
    let (by_callback, by_poll) = (via(Via::Callback), via(Via::Poll));
    let lag = |job: &Job| Some(job.times.confirmed_at?.since(job.callback.first_at?).max(0));
    let mut lags: Vec<i64> = jobs.iter().filter_map(lag).collect();
    lags.sort_unstable();
    let at =
        |percent: usize| lags.get((lags.len() * percent / 100).min(lags.len().saturating_sub(1))).copied();
    let all = by_callback + by_poll;
    Callbacks {
        silent,
        completed_via_callback: by_callback,
        completed_via_poll: by_poll,
        share: (all > 0).then(|| by_callback as f64 / all as f64),
        lag_ms: Lag { p50: at(50), p95: at(95) },
    }
}

/// The name of a value in the API.
fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

/// `GET /v1/models`
pub(super) async fn models(context: Data<Context>) -> HttpResponse {
    let config = context.app.config();
    let data = models::catalogue(&config.pricing, &config.upstream.mapping);
    HttpResponse::Ok().json(List { data, next_cursor: None })
}
