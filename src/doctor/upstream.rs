//! Whether the provider can be reached, takes our key, and has our time. Asks for a task that does not exist, which is free.

use std::time::Duration;

use super::{Check, span};
use crate::{
    config,
    outbound::upstream::{Probed, Upstream},
    provider::reply::TaskAnswer,
};

const KEY: &str = "api_key";
const CLOCK: &str = "clock";
/// A task of this name is nobody's.
const NO_TASK: &str = "reelhook-doctor-asks-for-no-task";
/// Signatures are refused beyond it, ours and the provider's.
const MOST_SKEW: Duration = Duration::from_secs(300);
const SOME_SKEW: Duration = Duration::from_secs(30);

/// The key, then the clock.
pub(super) async fn check(upstream: &Upstream, settings: &config::Upstream) -> Vec<Check> {
    let probed = upstream.probe(NO_TASK).await;
    let answered = probed.is_ok();
    let mut checks = vec![key(probed, settings)];
    checks.extend(answered.then(|| time(upstream.skew())));
    checks
}

fn key(probed: Result<Probed, String>, settings: &config::Upstream) -> Check {
    let host = settings.base_url.host_str().unwrap_or_default();
    let probed = match probed {
        Ok(probed) => probed,
        Err(why) => {
            let fix = "check [upstream] base_url, and that this machine's network and firewall let it out";
            return Check::failed(KEY, format!("{host} does not answer: {why}"), fix);
        }
    };
    let status = probed.status;
    match probed.answer {
        TaskAnswer::BadKey { message } => refused(settings, host, &message),
        TaskAnswer::NotFound if !probed.is_json => Check::warning(
            KEY,
            format!("{host} answers {status}, but not as an API does: the key was not judged"),
            "check [upstream] base_url and task_path",
        ),
        TaskAnswer::NotFound | TaskAnswer::Known(_) => Check::ok(
            KEY,
            format!("{host} knows the key: it looked for a task that does not exist ({status})"),
        ),
        TaskAnswer::NoCredits { message } => Check::warning(
            KEY,
            format!("{host} takes the key, but the account is out of credits: {message}"),
            "buy credits; jobs stay queued until then",
        ),
        TaskAnswer::Busy { .. } => Check::warning(
            KEY,
            format!("{host} answers {status}: too many requests just now, so the key was not judged"),
            "ask again; if it stays so, lower [upstream] requests_per_minute",
        ),
        TaskAnswer::Nothing { why } => nothing(host, &why, probed.location),
    }
}

fn refused(settings: &config::Upstream, host: &str, message: &str) -> Check {
    let (detail, fix) = match settings.api_key {
        None => {
            (format!("{host} wants a key, and none is configured: {message}"), "set [upstream] api_key_file")
        }
        Some(_) => (
            format!("{host} refuses the key: {message}"),
            "put a valid key where [upstream] api_key comes from (`reelhook config show --origin`), then reload",
        ),
    };
    Check::failed(KEY, detail, fix)
}

fn nothing(host: &str, why: &str, location: Option<String>) -> Check {
    match location {
        Some(location) => Check::failed(
            KEY,
            format!("{host} redirects to {location}, where the key is never sent"),
            "set [upstream] base_url to the address that it redirects to, if that is the provider's",
        ),
        None => Check::warning(
            KEY,
            format!("the key was not judged: {why}"),
            "ask again; if it stays so, check [upstream] base_url and task_path",
        ),
    }
}

fn time(skew: Option<i64>) -> Check {
    let Some(skew) = skew else {
        let fix = "compare this machine's clock with another source";
        return Check::warning(CLOCK, "the provider does not tell the time", fix);
    };
    let (off, side) =
        (Duration::from_millis(skew.unsigned_abs()), if skew > 0 { "behind" } else { "ahead of" });
    let fix = "let this machine's clock be set by NTP (`timedatectl`): signatures that are 5 minutes off are refused";
    let detail = format!("this machine's clock is {} {side} the provider's", span(off));
    match off {
        off if off > MOST_SKEW => Check::failed(CLOCK, detail, fix),
        off if off > SOME_SKEW => Check::warning(CLOCK, detail, fix),
        _ => Check::ok(CLOCK, "this machine's clock and the provider's agree"),
    }
}
