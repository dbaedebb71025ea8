//! Budgets that are nearly used up: said once a day or month, over restarts and instances.

use std::sync::{Mutex, PoisonError};

use serde_json::json;
use tracing::warn;

use super::{App, AppError, view::time};
use crate::{lifecycle::EventKind, store::Exceeded};

/// Said at so many percent of a limit.
const STEPS: [u64; 2] = [80, 100];

/// What this process knows to be said, by the name of the day and month, so that it need not ask the store each time.
#[derive(Debug, Default)]
pub(super) struct Said(Mutex<[(String, u64); 2]>);

impl Said {
    fn percent(&self, period: usize, window: &str) -> u64 {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said[period].0 == window { said[period].1 } else { 0 }
    }

    fn note(&self, period: usize, window: &str, percent: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)[period] = (window.to_owned(), percent);
    }
}

impl App {
    /// Looks at the budgets after something was booked, or was refused for one.
    pub(super) async fn mind_budgets(&self, refused: Option<Exceeded>) {
        let budget = self.config.get().budget;
        let (day, month) = (time(self.now())[..10].to_owned(), time(self.now())[..7].to_owned());
        let windows = [("daily", day, budget.daily_credits), ("monthly", month, budget.monthly_credits)];
        for (period, (name, window, limit)) in windows.into_iter().enumerate() {
            if limit == 0 || self.said.percent(period, &window) >= 100 {
                continue;
            }
            let refused = refused.filter(|refused| refused.period == name);
            let minded = self.mind_budget(period, name, &window, limit, refused).await;
            if let Err(error) = minded {
                warn!(%error, period = name, "nobody knows how much of a budget is booked");
            }
        }
    }

    async fn mind_budget(
        &self,
        period: usize,
        name: &'static str,
        window: &str,
        limit: u64,
        refused: Option<Exceeded>,
    ) -> Result<(), AppError> {
        let booked = self.store.booked(self.now()).await?;
        let booked = if period == 0 { booked.day } else { booked.month };
        let percent = match booked.saturating_mul(100) / limit {
            // What is left is too little for what is asked for. Far below, it was one job that asked for too much.
            percent if refused.is_some() && percent >= STEPS[0] => 100,
            percent => percent,
        };
        let Some(step) = STEPS.into_iter().rfind(|step| percent >= *step) else { return Ok(()) };
        if self.said.percent(period, window) >= step || !self.is_first(name, window, step).await? {
            self.said.note(period, window, step);
            return Ok(());
        }
        self.said.note(period, window, step);
        warn!(period = name, percent = step, booked, limit, "much of a budget is booked");
        let data = json!({ "period": name, "percent": step, "booked": booked, "limit": limit });
        self.log(EventKind::BudgetThreshold, data).await
    }

    /// Whether nobody said it before: the store keeps the first one's word.
    async fn is_first(&self, name: &str, window: &str, step: u64) -> Result<bool, AppError> {
        let own: [u8; 16] = self.entropy.bytes()?;
        let kept = self.store.keep(&format!("budget:{name}:{window}:{step}"), own.to_vec()).await?;
        Ok(kept == own)
    }
}
