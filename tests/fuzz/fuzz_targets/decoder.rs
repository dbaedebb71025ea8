//! Whatever the provider or a stranger says is read without a panic, and what is read keeps its promises.
//!
//! Input: a line with a status, our task and a pointer of the operator's, then the body.

#![no_main]

use libfuzzer_sys::fuzz_target;
use reelhook::provider::{
    reply::{Mapping, Report, SubmitAnswer, TaskAnswer, read_callback, read_submit, read_task, scrub},
    request::valid_task_id,
};

fuzz_target!(|input: &[u8]| {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let line = String::from_utf8_lossy(&input[..end]);
    let body = input.get(end + 1..).unwrap_or_default();
    let mut words = line.split(' ');
    let status = words.next().and_then(|word| word.parse().ok()).unwrap_or(200);
    let (ours, pointer) = (words.next(), words.next().unwrap_or("/x").to_owned());
    let told = Mapping {
        task_id: vec![pointer.clone()],
        status: vec![pointer.clone()],
        video_url: vec![pointer.clone()],
        error_message: vec![pointer.clone()],
        succeeded_words: vec![pointer],
        ..Mapping::default()
    };
    for mapping in [&Mapping::default(), &told] {
        if let SubmitAnswer::Accepted { task_id } = read_submit(status, None, body, mapping) {
            assert!(valid_task_id(&task_id), "{task_id:?}");
            assert!((200..300).contains(&status) || status == 409, "{status} accepts nothing");
        }
        if let TaskAnswer::Known(report) = read_task(status, None, body, ours, mapping) {
            keeps_its_promises(&report);
        }
        if let Ok(note) = read_callback(body, mapping) {
            let report = note.report();
            keeps_its_promises(&report);
            assert_eq!(note.task_id(), report.task_id.as_deref());
            assert!(note.challenge().is_none() || report.class.is_none(), "a handshake has no task");
        }
    }
    let kept = scrub(body, &[&line, "secret"]);
    assert!(kept.len() <= 4096 && !kept.contains("secret"));
});

fn keeps_its_promises(report: &Report) {
    assert!(report.task_id.as_deref().is_none_or(valid_task_id));
    assert!(report.urls.len() <= 16);
    for (at, url) in report.urls.iter().enumerate() {
        let scheme = url::Url::parse(url).expect("an absolute URL").scheme().to_owned();
        assert!(matches!(scheme.as_str(), "http" | "https"), "{url}");
        assert!(!report.urls[..at].contains(url), "{url} twice");
    }
    assert!(report.urls.is_empty() || report.class.is_some());
    assert!(report.error.as_ref().is_none_or(|words| words.chars().count() <= 2_000));
    assert!(report.progress.is_none_or(|percent| percent <= 100));
    assert!(report.word.is_some() || report.known_word);
}
