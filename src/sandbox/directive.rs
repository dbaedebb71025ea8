//! Directives: how a prompt asks the sandbox to misbehave.
//!
//! A directive is written `[[name]]` or `[[name:value]]` anywhere in `prompt` (or in a prompt of `multi_prompt`). Any
//! number of them combine; of the same one, the last counts. An unknown name or a value that is not understood is
//! answered with 400 and the list of directives, and nothing is charged.
//!
//! Durations are written `500ms`, `90s`, `5m`, `2h` and divided by the sandbox's speed. Counts are 1 to 1000,
//! and 2 when left out. A task's *time* is 20 s ÷ speed, or what `delay` says.
//!
//! ## The create call
//! | Directive | What the sandbox does |
//! |---|---|
//! | `[[delay:90s]]` | The task takes this time in all, instead of 20 s. |
//! | `[[fail:text]]` | The task ends failed, with this text as its error. It stays charged. |
//! | `[[reject:422]]` | Every create call answers this status (400 to 499, default 422) with the error body; nothing is charged. |
//! | `[[auth:401:2]]` | The first 2 create calls of this job answer 401 (or 403), as with a bad key. |
//! | `[[credits:402:2]]` | The first 2 create calls of this job answer 402: out of credits. |
//! | `[[rate:429:2]]` | The first 2 create calls of this job answer 429 with `Retry-After: 1`. |
//! | `[[busy:503:2]]` | The first 2 create calls of this job answer 503 with `Retry-After: 1` and the error body. |
//! | `[[submit-timeout]]` | The create call is accepted and charged, its answer never comes: the connection stays open and silent until the client gives up, then is cut after 120 s. Everything else, callbacks too, goes its way. |
//!
//! Create calls are of the same job when their `Idempotency-Key` header is equal or, without that header, their bodies
//! are. Several refusals on one prompt follow each other in the order of this table. Refusals charge nothing.
//!
//! ## Callbacks
//! | Directive | What the sandbox does |
//! |---|---|
//! | `[[no-callback]]` | The completion is never called back. Callbacks that other directives add are still sent. |
//! | `[[late-callback:60s]]` | The completion is called back this long (default 60 s) after the task route shows it. |
//! | `[[dup-callback:3]]` | The completion is called back 3 times at once, with the same body. |
//! | `[[early-callback]]` | A callback is sent, and its answer awaited, before the create call is answered. The task is finished by then and this is its completion; with `delay`, it is a progress callback and the task goes on. |
//! | `[[progress-callbacks]]` | Three callbacks say "still running" at 25, 50 and 75 % of the time. |
//! | `[[lying-callback]]` | At half of the time a callback claims success with a link that answers 404, while the task route says "still running" until the task is really finished. |
//! | `[[forged-callback]]` | At half of the time two forgeries claim success with the link of somebody else's file: one to the callback URL with its last segment altered, one to the right URL but naming another task. The ledger shows whether the link was fetched. |
//!
//! ## The task route
//! | Directive | What the sandbox does |
//! |---|---|
//! | `[[shape:kie]]` | All bodies of this task have the shape of another provider: `kie` (`successFlag`, `resultJson` as a string), `kling` (`task_status`, `task_result.videos`), `array` (a list at the root, without an id), `old` (the older documentation page: `id`, `status: "completed"`). |
//! | `[[status:weird]]` | For the first half of its time the task shows this unknown status word (default `weird`). |
//! | `[[no-url]]` | The task succeeds without a link to its video, for ever. |
//! | `[[task-404:3]]` | The first 3 questions after this task answer 404. |
//! | `[[task-500:5]]` | The first 5 questions after this task answer 500 (after those of `task-404`). |
//!
//! ## The file
//! | Directive | What the sandbox does |
//! |---|---|
//! | `[[url-404:2]]` | The first 2 GETs of the file answer 404. The task route gives a fresh link each time it is asked. |
//! | `[[url-expire:5s]]` | A link answers 403 from this long (default 5 s) after it was given. The task route gives a fresh link each time it is asked. |
//! | `[[redirect:2]]` | The link leads to the file over 2 redirects (302). |
//! | `[[redirect-private]]` | The link redirects to `http://169.254.169.254/latest/meta-data/`. |
//! | `[[slow-download:50kB]]` | The file is sent at this many bytes a second (default 50 kB), not scaled by the speed. |
//! | `[[truncate]]` | An answer that starts at the first byte announces all and ends half-way; one to a `Range` further on is whole. So a download finishes only if it resumes. |
//! | `[[reset:40%]]` | The first answer is cut by a TCP reset after this share (1 to 99 %, default 40 %) of its bytes; later ones are whole. |
//! | `[[not-video]]` | The link answers 200, `video/mp4` and an HTML page. |
//! | `[[size:64MiB]]` | The file is padded to exactly this many bytes (64 KiB to just under 4 GiB) and still plays. |

use std::{str::FromStr, time::Duration};

use bytesize::ByteSize;
use jiff::SignedDuration;

use super::shape::Shape;

/// One well-formed example of every directive, as shown to whoever misspells one.
pub const EXAMPLES: [&str; 29] = [
    "delay:90s",
    "fail:text",
    "reject:422",
    "auth:401:2",
    "credits:402:2",
    "rate:429:2",
    "busy:503:2",
    "submit-timeout",
    "no-callback",
    "late-callback:60s",
    "dup-callback:3",
    "early-callback",
    "progress-callbacks",
    "lying-callback",
    "forged-callback",
    "shape:kie",
    "status:weird",
    "no-url",
    "task-404:3",
    "task-500:5",
    "url-404:2",
    "url-expire:5s",
    "redirect:2",
    "redirect-private",
    "slow-download:50kB",
    "truncate",
    "reset:40%",
    "not-video",
    "size:64MiB",
];

const DEFAULT_COUNT: u32 = 2;
const MAX_COUNT: u32 = 1000;
/// Keeps every sum of durations far from overflow.
const MAX_DURATION: Duration = Duration::from_hours(24 * 7);
/// More than the largest built-in video with its boxes; what one 32-bit box size can say.
const SIZES: std::ops::RangeInclusive<u64> = 64 * 1024..=u32::MAX as u64;

/// What a prompt asks for. The default asks for nothing: a provider that behaves.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Directives {
    pub(super) delay: Option<Duration>,
    pub(super) fail: Option<String>,
    pub(super) reject: Option<u16>,
    pub(super) auth: Option<Refusals>,
    pub(super) credits: Option<Refusals>,
    pub(super) rate: Option<Refusals>,
    pub(super) busy: Option<Refusals>,
    pub(super) submit_timeout: bool,
    pub(super) no_callback: bool,
    pub(super) late_callback: Duration,
    pub(super) dup_callback: Option<u32>,
    pub(super) early_callback: bool,
    pub(super) progress_callbacks: bool,
    pub(super) lying_callback: bool,
    pub(super) forged_callback: bool,
    pub(super) shape: Shape,
    pub(super) status: Option<String>,
    pub(super) no_url: bool,
    pub(super) task_404: u32,
    pub(super) task_500: u32,
    pub(super) url_404: u32,
    pub(super) url_expire: Option<Duration>,
    pub(super) redirect: u32,
    pub(super) redirect_private: bool,
    pub(super) slow_download: Option<u64>,
    pub(super) truncate: bool,
    pub(super) reset: Option<u8>,
    pub(super) not_video: bool,
    pub(super) size: Option<u64>,
}

/// The first `times` create calls of a job are refused with `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusals {
    pub(super) status: u16,
    pub(super) times: u32,
}

/// Why a prompt's directives cannot be followed; the message is meant for the caller.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum DirectiveError {
    #[error("unknown directive [[{0}]]; known are {known}", known = known())]
    Unknown(String),
    #[error("directive [[{given}]] is not understood; write it like [[{example}]]")]
    Malformed { given: String, example: &'static str },
}

fn known() -> String {
    EXAMPLES.map(|example| format!("[[{example}]]")).join(" ")
}

impl FromStr for Directives {
    type Err = DirectiveError;

    fn from_str(prompt: &str) -> Result<Self, DirectiveError> {
        let mut directives = Self::default();
        let mut rest = prompt;
        while let Some((given, after)) = rest.split_once("[[").and_then(|(_, inside)| inside.split_once("]]"))
        {
            let (name, value) = given.split_once(':').unwrap_or((given, ""));
            let Some(example) = EXAMPLES.into_iter().find(|example| example.split(':').next() == Some(name))
            else {
                return Err(DirectiveError::Unknown(given.to_owned()));
            };
            directives
                .set(name, value.trim())
                .ok_or_else(|| DirectiveError::Malformed { given: given.to_owned(), example })?;
            rest = after;
        }
        Ok(directives)
    }
}

impl Directives {
    /// Follows one directive; `None` when its value is not understood.
    fn set(&mut self, name: &str, value: &str) -> Option<()> {
        match name {
            "delay" => self.delay = Some(duration(value)?),
            "fail" => self.fail = Some(or(value, "generation failed").to_owned()),
            "reject" => self.reject = Some(number(or(value, "422"), 400..=499)?),
            "auth" => self.auth = Some(refusals(value, &[401, 403])?),
            "credits" => self.credits = Some(refusals(value, &[402])?),
            "rate" => self.rate = Some(refusals(value, &[429])?),
            "busy" => self.busy = Some(refusals(value, &[503])?),
            "submit-timeout" => self.submit_timeout = flag(value)?,
            "no-callback" => self.no_callback = flag(value)?,
            "late-callback" => self.late_callback = duration(or(value, "60s"))?,
            "dup-callback" => self.dup_callback = Some(count(value)?),
            "early-callback" => self.early_callback = flag(value)?,
            "progress-callbacks" => self.progress_callbacks = flag(value)?,
            "lying-callback" => self.lying_callback = flag(value)?,
            "forged-callback" => self.forged_callback = flag(value)?,
            "shape" => self.shape = value.parse().ok()?,
            "status" => self.status = Some(or(value, "weird").to_owned()),
            "no-url" => self.no_url = flag(value)?,
            "task-404" => self.task_404 = count(value)?,
            "task-500" => self.task_500 = count(value)?,
            "url-404" => self.url_404 = count(value)?,
            "url-expire" => self.url_expire = Some(duration(or(value, "5s"))?),
            "redirect" => self.redirect = count(value)?,
            "redirect-private" => self.redirect_private = flag(value)?,
            "slow-download" => self.slow_download = Some(size(or(value, "50kB")).filter(|rate| *rate > 0)?),
            "truncate" => self.truncate = flag(value)?,
            "reset" => self.reset = Some(number(or(value, "40%").trim_end_matches('%'), 1..=99)?),
            "not-video" => self.not_video = flag(value)?,
            "size" => self.size = Some(size(value).filter(|size| SIZES.contains(size))?),
            _ => return None,
        }
        Some(())
    }

    /// The refusal that the `nth` create call of a job (from 1) meets, in the order of the documentation.
    pub(super) fn refusal(&self, nth: u32) -> Option<u16> {
        let mut refused = 0;
        for refusals in [self.auth, self.credits, self.rate, self.busy].into_iter().flatten() {
            refused += refusals.times;
            if nth <= refused {
                return Some(refusals.status);
            }
        }
        self.reject
    }

    /// The same with every duration divided by `speed`.
    pub(super) fn scaled(mut self, speed: f64) -> Self {
        self.delay = self.delay.map(|delay| delay.div_f64(speed));
        self.late_callback = self.late_callback.div_f64(speed);
        self.url_expire = self.url_expire.map(|life| life.div_f64(speed));
        self
    }

    /// Whether the task route gives a fresh link each time it is asked.
    pub(super) fn fresh_links(&self) -> bool {
        self.url_404 > 0 || self.url_expire.is_some()
    }
}

fn or<'a>(value: &'a str, default: &'a str) -> &'a str {
    if value.is_empty() { default } else { value }
}

fn flag(value: &str) -> Option<bool> {
    value.is_empty().then_some(true)
}

fn number<T: FromStr + PartialOrd>(value: &str, allowed: std::ops::RangeInclusive<T>) -> Option<T> {
    value.parse().ok().filter(|number| allowed.contains(number))
}

fn count(value: &str) -> Option<u32> {
    if value.is_empty() { Some(DEFAULT_COUNT) } else { number(value, 1..=MAX_COUNT) }
}

fn duration(value: &str) -> Option<Duration> {
    let signed: SignedDuration = value.parse().ok()?;
    Duration::try_from(signed).ok().filter(|duration| *duration <= MAX_DURATION)
}

fn size(value: &str) -> Option<u64> {
    value.parse::<ByteSize>().ok().map(|size| size.as_u64())
}

/// `status:times`, each optional; the first allowed status is the default.
fn refusals(value: &str, allowed: &[u16]) -> Option<Refusals> {
    let (status, times) = value.split_once(':').unwrap_or((value, ""));
    let status = if status.is_empty() { *allowed.first()? } else { status.parse().ok()? };
    allowed.contains(&status).then_some(Refusals { status, times: count(times)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(prompt: &str) -> Result<Directives, DirectiveError> {
        prompt.parse()
    }

    #[test]
    fn a_prompt_without_directives_asks_for_nothing() {
        assert_eq!(parse("a cat [in brackets] [[unfinished"), Ok(Directives::default()));
    }

    #[test]
    fn every_example_is_understood_changes_something_and_is_documented() {
        let table: String =
            include_str!("directive.rs").lines().filter(|line| line.starts_with("//! |")).collect();
        for example in EXAMPLES {
            let directives = parse(&format!("a cat [[{example}]]")).unwrap();
            assert_ne!(directives, Directives::default(), "[[{example}]] changes nothing");
            assert!(table.contains(&format!("| `[[{example}]]` |")), "[[{example}]] is not in the table");
        }
    }

    #[test]
    fn directives_combine_and_values_may_be_left_out() {
        let directives = parse("[[auth]] a cat [[reset]][[delay:90s]] [[fail:no: never]]").unwrap();
        assert_eq!(directives.auth, Some(Refusals { status: 401, times: 2 }));
        assert_eq!(directives.reset, Some(40));
        assert_eq!(directives.delay, Some(Duration::from_secs(90)));
        assert_eq!(directives.fail.as_deref(), Some("no: never"));
    }

    #[test]
    fn an_unknown_directive_is_an_error_that_lists_the_known_ones() {
        let message = parse("a cat [[dealy:90s]]").unwrap_err().to_string();
        assert!(message.starts_with("unknown directive [[dealy:90s]]"), "{message}");
        for example in EXAMPLES {
            assert!(message.contains(&format!("[[{example}]]")), "{example} is missing in: {message}");
        }
    }

    #[test]
    fn a_value_that_is_not_understood_is_an_error_with_an_example() {
        for bad in ["delay", "delay:-1s", "delay:9999h", "reject:500", "auth:402", "rate:429:0", "no-url:yes"]
            .into_iter()
            .chain(["shape:round", "reset:100%", "size:1kB", "slow-download:0B", "redirect:many"])
        {
            let error = parse(&format!("[[{bad}]]")).unwrap_err();
            assert!(matches!(error, DirectiveError::Malformed { .. }), "[[{bad}]] gave {error}");
        }
    }

    #[test]
    fn refusals_follow_each_other_and_then_end() {
        let directives = parse("[[rate:429:1]][[auth:403:2]]").unwrap();
        let statuses: Vec<_> = (1..=4).map(|nth| directives.refusal(nth)).collect();
        assert_eq!(statuses, [Some(403), Some(403), Some(429), None]);
    }
}
