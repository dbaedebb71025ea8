//! The vocabulary: status words, and the codes and phrases that matter for money.

use super::Mapping;

/// What a status word means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Accepted, not begun.
    Queued,
    /// Under way; also every word that nobody told us of.
    Running,
    /// Done.
    Succeeded,
    /// Over, without a video.
    Failed,
    /// Called off.
    Cancelled,
}

const QUEUED: &str = "pending queued queueing queuing in_queue submitted created waiting not_start not_started staged \
    accepted new scheduled starting preparing throttled";
const RUNNING: &str = "processing running in_progress generating dreaming rendering started text first streaming \
    uploading saving";
/// `callback_failed`: the video was made, only the sender's callback did not arrive.
const SUCCEEDED: &str =
    "success succeed succeeded completed complete done finish finished ready ok callback_failed";
const FAILED: &str = "failed fail failure error errored faulted rejected create_task_failed generate_failed timeout \
    timed_out timedout expired content_moderated request_moderated";
const CANCELLED: &str = "cancelled canceled cancel aborted deleted revoked";

/// The class of a status word, the operator's words first; `None` for a word that nobody told us of.
pub(super) fn classify(word: &str, mapping: &Mapping) -> Option<Class> {
    let word = normal(word);
    let told = [
        (&mapping.succeeded_words, Class::Succeeded),
        (&mapping.failed_words, Class::Failed),
        (&mapping.pending_words, Class::Running),
    ];
    let built_in = [
        (QUEUED, Class::Queued),
        (RUNNING, Class::Running),
        (SUCCEEDED, Class::Succeeded),
        (FAILED, Class::Failed),
        (CANCELLED, Class::Cancelled),
    ];
    let told = told.into_iter().find(|(words, _)| words.iter().any(|known| normal(known) == word));
    told.map(|(_, class)| class).or_else(|| {
        let known =
            built_in.into_iter().find(|(words, _)| words.split_whitespace().any(|known| known == word));
        known.map(|(_, class)| class)
    })
}

/// The class of a `successFlag`.
pub(super) fn classify_flag(flag: &str) -> Option<Class> {
    match flag {
        "0" => Some(Class::Running),
        "1" | "4" => Some(Class::Succeeded),
        "2" | "3" => Some(Class::Failed),
        _ => None,
    }
}

fn normal(word: &str) -> String {
    let word = word.trim().to_lowercase().replace(['-', ' '], "_");
    word.strip_prefix("task_status_").map(str::to_owned).unwrap_or(word)
}

/// Whether a status word means that the content was refused.
pub(super) fn word_is_policy(word: &str) -> bool {
    matches!(normal(word).as_str(), "content_moderated" | "request_moderated")
}

/// Whether an error's code or type means that the content was refused. Never asked of free text, which may quote the
/// prompt.
pub(super) fn code_is_policy(code: &str) -> bool {
    const MARKS: [&str; 8] = [
        "moderat",
        "contentpolicy",
        "contentfilter",
        "policyviolation",
        "safety",
        "nsfw",
        "sensitive",
        "datainspection",
    ];
    let code = squeezed(code);
    MARKS.iter().any(|mark| code.contains(mark))
}

/// Whether an error's words mean that the account, not this job, is out of funds.
pub(super) fn is_about_funds(words: &str) -> bool {
    const MARKS: [&str; 15] = [
        "insufficientcredit",
        "insufficientbalance",
        "insufficientquota",
        "insufficientfund",
        "creditsinsufficient",
        "creditsareinsufficient",
        "balanceinsufficient",
        "notenoughcredit",
        "notenoughbalance",
        "creditsnotenough",
        "balancenotenough",
        "outofcredit",
        "arrear",
        "overdue",
        "accountsuspended",
    ];
    let words = squeezed(words);
    MARKS.iter().any(|mark| words.contains(mark))
}

/// Lower-case letters and digits alone: `Insufficient-Credits` and `insufficient credits` alike.
pub(super) fn squeezed(text: &str) -> String {
    text.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}
