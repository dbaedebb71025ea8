//! Budgets that are nearly used up: said once a day or month, over restarts and instances.

use std::sync::{Mutex, PoisonError};

use serde_json::json;
use tracing::warn;

use super::{App, AppError, view::time};
use crate::{
    lifecycle::{EventKind, Millis},
    store::Exceeded,
};

/// Said at so many percent of a limit.
const STEPS: [u64; 2] = [80, 100];

/// What this process knows to be said on a day, in percent of each limit, so that it need not ask the store each time.
#[derive(Debug, Default)]
pub(super) struct Said(Mutex<[(i32, u64); 2]>);

impl Said {
    fn percent(&self, period: usize, day: i32) -> u64 {
        let (of, percent) = self.0.lock().unwrap_or_else(PoisonError::into_inner)[period];
        if of == day { percent } else { 0 }
    }

    fn note(&self, period: usize, day: i32, percent: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)[period] = (day, percent);
    }
}

/// The limit of a day or month.
struct Window {
    name: &'static str,
    /// So much of a time, as it is written, names the day or month.
    length: usize,
    limit: u64,
}

impl App {
    /// Looks at the budgets after something was booked, or was refused for one. Where there is nothing to say, nothing is
    /// read.
    pub(super) async fn mind_budgets(&self, refused: Option<Exceeded>) {
        let (budget, now) = (self.config().budget, self.now());
        let windows = [
            Window { name: "daily", length: 10, limit: budget.daily_credits },
            Window { name: "monthly", length: 7, limit: budget.monthly_credits },
        ];
        let is_open = |(period, window): &(usize, &Window)| {
            window.limit > 0 && self.said.percent(*period, now.day()) < STEPS[1]
        };
        let mut open = windows.iter().enumerate().filter(is_open).peekable();
        if open.peek().is_none() {
            return;
        }
        let booked = match self.store.booked(now).await {
            Ok(booked) => [booked.day, booked.month],
            Err(error) => return warn!(%error, "nobody knows how much of a budget is booked"),
        };
        for (period, window) in open {
            let refused = refused.is_some_and(|refused| refused.period == window.name);
            if let Err(error) = self.mind_budget(period, window, booked[period], refused, now).await {
                warn!(%error, period = window.name, "that a budget is nearly used up could not be said");
            }
        }
    }

    async fn mind_budget(
        &self,
        period: usize,
        &Window { name, length, limit }: &Window,
        booked: u64,
        refused: bool,
        now: Millis,
    ) -> Result<(), AppError> {
        let percent = match booked.saturating_mul(100) / limit {
            // What is left is too little for what is asked for. Far below, it was one job that asked for too much.
            percent if refused && percent >= STEPS[0] => 100,
            percent => percent,
        };
        let Some(step) = STEPS.into_iter().rfind(|step| percent >= *step) else { return Ok(()) };
        if self.said.percent(period, now.day()) >= step {
            return Ok(());
        }
        let data = json!({ "period": name, "percent": step, "booked": booked, "limit": limit });
        let called = &time(now)[..length];
        let (event, owed) = self.about_no_job(EventKind::BudgetThreshold, data)?;
        if self.store.log_once(&format!("budget:{name}:{called}:{step}"), event, owed).await? {
            warn!(period = name, percent = step, booked, limit, "much of a budget is booked");
        }
        self.said.note(period, now.day(), step);
        Ok(())
    }
}
