//! Money is named before it is spent, and somebody has to agree.

use std::io::{self, BufRead, IsTerminal as _, Write as _};

use serde::Deserialize;
use serde_json::Value;

use super::{
    exit::{Exit, Failure},
    output::Output,
};

/// What a job would cost.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Estimate {
    estimated_credits: u64,
    estimated_usd: f64,
    /// Whether the charge is known to the credit.
    #[serde(default)]
    exact: bool,
    basis: Option<String>,
}

impl Estimate {
    /// Reads the server's answer to a question for the price.
    pub(crate) fn read(document: &Value) -> Result<Self, Failure> {
        Self::deserialize(&document["cost"]).map_err(|error| {
            let detail =
                format!("the server named no price that this version reads ({error}); nothing was spent");
            Failure::new(Exit::Failure, detail)
        })
    }

    /// `300 credits ($3.00)`, and how that was reckoned.
    pub(crate) fn describe(&self) -> String {
        let about = if self.exact { "" } else { "about " };
        let basis = self.basis.as_ref().map(|basis| format!(": {basis}")).unwrap_or_default();
        format!("{about}{}{basis}", self.price())
    }

    /// `300 credits ($3.00)`.
    pub(crate) fn price(&self) -> String {
        format!("{} credits (${:.2})", self.estimated_credits, self.estimated_usd)
    }

    pub(crate) fn credits(&self) -> u64 {
        self.estimated_credits
    }

    /// All of them together.
    pub(crate) fn total<'a>(estimates: impl Iterator<Item = &'a Self>) -> Self {
        let nothing = Self { estimated_credits: 0, estimated_usd: 0.0, exact: true, basis: None };
        estimates.fold(nothing, |sum, one| Self {
            estimated_credits: sum.estimated_credits.saturating_add(one.estimated_credits),
            estimated_usd: sum.estimated_usd + one.estimated_usd,
            exact: sum.exact && one.exact,
            basis: None,
        })
    }

    /// Announces the spend of one job, and returns once somebody agreed to it.
    pub(crate) fn agree(&self, output: &Output, agreed: bool, flags: &str) -> Result<(), Failure> {
        agree(output, &self.describe(), &self.price(), agreed, flags)
    }
}

/// Announces `what` is spent, and returns once somebody agreed to it: beforehand by a flag, or now at the terminal.
///
/// `flags` names the flags that agree.
pub(crate) fn agree(
    output: &Output,
    what: &str,
    price: &str,
    agreed: bool,
    flags: &str,
) -> Result<(), Failure> {
    output.note(&format!("this will spend {what}"));
    if agreed {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let detail =
            format!("nobody is at a terminal to agree to {price}; agree with {flags}; nothing was spent");
        return Err(Failure::usage(detail));
    }
    drop(write!(io::stderr(), "go on? [y/N] "));
    if is_yes(&mut io::stdin().lock()) {
        Ok(())
    } else {
        Err(Failure::new(Exit::Failure, "not agreed; nothing was submitted and nothing was spent"))
    }
}

fn is_yes(input: &mut impl BufRead) -> bool {
    let mut answer = String::new();
    input.read_line(&mut answer).is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_plain_yes_agrees() {
        for (typed, agreed) in
            [("y\n", true), ("YES\n", true), ("\n", false), ("", false), ("yeah\n", false), ("n\n", false)]
        {
            assert_eq!(is_yes(&mut typed.as_bytes()), agreed, "{typed:?}");
        }
    }

    #[test]
    fn a_price_is_told_in_credits_and_dollars_and_whether_it_is_certain() {
        let exact = json!({ "cost": { "estimated_credits": 300, "estimated_usd": 3.0, "exact": true, "basis": "60 credits/s × 5 s" } });
        let guess = json!({ "cost": { "estimated_credits": 24, "estimated_usd": 0.24, "exact": false } });
        assert_eq!(Estimate::read(&exact).unwrap().describe(), "300 credits ($3.00): 60 credits/s × 5 s");
        assert_eq!(Estimate::read(&guess).unwrap().describe(), "about 24 credits ($0.24)");
        assert!(Estimate::read(&json!({})).is_err());
        let both = [Estimate::read(&exact).unwrap(), Estimate::read(&guess).unwrap()];
        assert_eq!(Estimate::total(both.iter()).describe(), "about 324 credits ($3.24)");
    }
}
