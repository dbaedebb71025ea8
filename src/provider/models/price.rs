//! What a job will cost.

use serde::Serialize;

/// kling-3's rates in credits per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Pricing {
    /// `mode` std, `sound` false.
    pub std_silent: u32,
    /// `mode` std, `sound` true: what a job costs that says nothing.
    pub std_sound: u32,
    /// `mode` pro, `sound` false.
    pub pro_silent: u32,
    /// `mode` pro, `sound` true.
    pub pro_sound: u32,
}

impl Default for Pricing {
    fn default() -> Self {
        Self { std_silent: 40, std_sound: 60, pro_silent: 54, pro_sound: 80 }
    }
}

/// A price before the fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Estimate {
    /// In credits, rounded up.
    pub credits: u64,
    /// Whether the documented rule gives it to the credit.
    pub exact: bool,
    /// How it was reckoned, such as `60 credits/s × 5 s, std with sound`.
    pub basis: String,
}

impl Estimate {
    /// In US dollars, at about $0.01 a credit.
    pub fn usd(&self) -> f64 {
        usd(self.credits)
    }

    pub(super) fn base(model: &str, credits: u64) -> Self {
        let basis = format!("base price of {model}; the charge may differ with length and size");
        Self { credits, exact: false, basis }
    }
}

/// Credits in US dollars, at about $0.01 a credit.
pub fn usd(credits: u64) -> f64 {
    credits as f64 / 100.0
}

impl Pricing {
    /// `rate × duration`, as documented.
    pub(super) fn seconds(&self, mode: &str, sound: bool, seconds: f64) -> Estimate {
        let (rate, terms) = match (mode, sound) {
            ("pro", false) => (self.pro_silent, "pro silent"),
            ("pro", true) => (self.pro_sound, "pro with sound"),
            (_, false) => (self.std_silent, "std silent"),
            (_, true) => (self.std_sound, "std with sound"),
        };
        let basis = format!("{rate} credits/s × {seconds} s, {terms}");
        Estimate { credits: charge(rate, seconds), exact: true, basis }
    }

    /// Several shots: their summed length, else the job's. How they are charged is not documented, so never exact.
    pub(super) fn shots(&self, mode: &str, sound: bool, shots: Option<f64>, seconds: f64) -> Estimate {
        let estimate = self.seconds(mode, sound, shots.unwrap_or(seconds));
        let basis = format!("{}; how multi_shots is charged is not documented", estimate.basis);
        Estimate { exact: false, basis, ..estimate }
    }
}

/// In whole milliseconds, since 8.05 s × 60 must not become 484 credits by a rounding error.
fn charge(rate: u32, seconds: f64) -> u64 {
    let millis = (seconds * 1000.0).round() as u64;
    let credits = (u128::from(rate) * u128::from(millis)).div_ceil(1000);
    u64::try_from(credits).unwrap_or(u64::MAX)
}
