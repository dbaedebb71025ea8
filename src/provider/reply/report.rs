//! The fields of a report, each read from the first place that has it.

use std::ptr;

use super::{
    Class, Report,
    body::Body,
    links, pointers,
    tree::Tree,
    words::{classify, classify_flag, code_is_policy, word_is_policy},
};

const ERROR_MAX_CHARS: usize = 2000;

pub(super) struct Status<'a> {
    pub(super) word: &'a str,
    pub(super) class: Class,
    pub(super) known: bool,
}

pub(super) fn report(body: &Body<'_>) -> Report {
    let status = status(body);
    let told = status.as_ref().map(|status| status.class);
    let urls = links::videos(body, told);
    let class = told.or((!urls.is_empty()).then_some(Class::Succeeded));
    Report {
        class,
        word: status.as_ref().map(|status| status.word.to_owned()),
        known_word: status.as_ref().is_none_or(|status| status.known),
        task_id: body.task_id().map(str::to_owned),
        urls,
        error: error(body, class),
        content_policy: has_policy_code(body) || status.is_some_and(|status| word_is_policy(status.word)),
        progress: first_number(body, pointers::PROGRESS).map(|percent| percent.clamp(0.0, 100.0) as u8),
        credits: first_number(body, pointers::CREDITS)
            .filter(|credits| *credits >= 0.0)
            .map(|c| c.ceil() as u64),
    }
}

pub(super) fn status<'a>(body: &Body<'a>) -> Option<Status<'a>> {
    let mapping = body.mapping;
    let known = |word| classify(word, mapping).map(|class| Status { word, class, known: true });
    let unknown = |word| Status { word, class: Class::Running, known: false };
    let event = || body.values(pointers::EVENT.iter().copied()).filter_map(|(_, tree)| tree.text());
    if body.envelope
        && let Some(status) = event().find_map(|event| known(suffix(event)))
    {
        return Some(status);
    }
    for (pointer, tree) in body.field(&mapping.status, pointers::STATUS) {
        let Some(word) = tree.scalar() else { continue };
        if pointer.ends_with("/successFlag") {
            let class = classify_flag(word);
            return Some(Status { word, class: class.unwrap_or(Class::Running), known: class.is_some() });
        }
        if let Some(status) = known(word) {
            return Some(status);
        }
        if !pointer.ends_with("/type") && !is_http_status(word) {
            return Some(unknown(word));
        }
    }
    // An unknown word without a dot is the kind of message, not a state.
    let read = |event: &'a str| known(suffix(event)).or(event.contains('.').then(|| unknown(suffix(event))));
    event().find_map(read)
}

fn suffix(event: &str) -> &str {
    event.rsplit('.').next().unwrap_or(event)
}

fn is_http_status(word: &str) -> bool {
    word.parse().is_ok_and(|number: u16| (100..600).contains(&number))
}

fn error(body: &Body<'_>, class: Option<Class>) -> Option<String> {
    let of_the_call = body.root.child("message");
    let mut found: Vec<_> = body.field(&body.mapping.error_message, pointers::ERROR_TEXT).collect();
    found.retain(|(_, tree)| !of_the_call.is_some_and(|message| ptr::eq(message, *tree)));
    if class == Some(Class::Failed) {
        found.extend(body.values(pointers::ERROR_TEXT_IF_FAILED.iter().copied()));
    }
    let mut texts = found.into_iter().filter_map(|(_, tree)| tree.text());
    // "success" is about the call, whatever became of the task.
    texts.find(|text| classify(text, body.mapping) != Some(Class::Succeeded)).map(shortened)
}

pub(super) fn shortened(words: &str) -> String {
    words.chars().take(ERROR_MAX_CHARS).collect()
}

/// Whether an error code or type says that the content was refused.
pub(super) fn has_policy_code(body: &Body<'_>) -> bool {
    let codes = body.values(pointers::ERROR_CODE.iter().copied());
    codes.filter_map(|(_, tree)| tree.text()).any(code_is_policy)
}

/// A number, also written as `"45"` or `"45%"`.
fn first_number(body: &Body<'_>, pointers: &'static [&'static str]) -> Option<f64> {
    let number = |tree: &Tree| tree.scalar()?.trim_end_matches('%').trim().parse().ok();
    let mut numbers = body.values(pointers.iter().copied()).filter_map(|(_, tree)| number(tree));
    numbers.find(|number: &f64| number.is_finite())
}
