//! Every file in `fixtures/replies` is one shape of one reply, with all that must be read from it.

use std::{fs, time::Duration};

use proptest::prelude::*;
use reelhook::provider::reply::{
    Class, Malformed, Mapping, RefusalKind, Report, SubmitAnswer, TaskAnswer, read_callback, read_submit,
    read_task, scrub,
};
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fixture {
    #[serde(rename = "what")]
    _what: String,
    kind: Kind,
    status: u16,
    retry_after_s: Option<u64>,
    ours: Option<String>,
    #[serde(default)]
    mapping: Told,
    body: Option<Box<RawValue>>,
    raw: Option<String>,
    expect: Value,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Submit,
    Task,
    Callback,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Told {
    task_id: Vec<String>,
    status: Vec<String>,
    video_url: Vec<String>,
    error_message: Vec<String>,
    succeeded_words: Vec<String>,
    failed_words: Vec<String>,
    pending_words: Vec<String>,
}

impl Fixture {
    fn read(&self) -> Value {
        let body = self.raw.as_deref().or(self.body.as_ref().map(|raw| raw.get())).unwrap().as_bytes();
        let retry_after = self.retry_after_s.map(Duration::from_secs);
        let mapping = Mapping {
            task_id: self.mapping.task_id.clone(),
            status: self.mapping.status.clone(),
            video_url: self.mapping.video_url.clone(),
            error_message: self.mapping.error_message.clone(),
            succeeded_words: self.mapping.succeeded_words.clone(),
            failed_words: self.mapping.failed_words.clone(),
            pending_words: self.mapping.pending_words.clone(),
            ..Mapping::default()
        };
        match self.kind {
            Kind::Submit => submit(read_submit(self.status, retry_after, body, &mapping)),
            Kind::Task => task(read_task(self.status, retry_after, body, self.ours.as_deref(), &mapping)),
            Kind::Callback => match read_callback(body, &mapping) {
                Err(Malformed::NotJson(_)) => json!({"malformed": "not_json"}),
                Err(Malformed::NoObject) => json!({"malformed": "no_object"}),
                Ok(note) => {
                    let whole = note.report();
                    assert_eq!(note.task_id(), whole.task_id.as_deref());
                    assert_eq!(note.word(), whole.word.as_deref());
                    said([("note", report(whole)), ("challenge", json!(note.challenge()))])
                }
            },
        }
    }
}

fn submit(answer: SubmitAnswer) -> Value {
    match answer {
        SubmitAnswer::Accepted { task_id } => json!({ "accepted": task_id }),
        SubmitAnswer::Unknown { without_id, why } => {
            assert!(!why.is_empty());
            json!({"unknown": true, "without_id": without_id})
        }
        SubmitAnswer::Refused(refusal) => said([
            ("refused", json!(kind(refusal.kind))),
            ("status", json!(refusal.status)),
            ("message", json!(refusal.message)),
            ("retry_after_s", json!(refusal.retry_after.map(|after| after.as_secs()))),
        ]),
    }
}

fn kind(kind: RefusalKind) -> &'static str {
    match kind {
        RefusalKind::Rejected => "rejected",
        RefusalKind::ContentPolicy => "content_policy",
        RefusalKind::BadKey => "bad_key",
        RefusalKind::NoCredits => "no_credits",
        RefusalKind::Busy => "busy",
    }
}

fn task(answer: TaskAnswer) -> Value {
    match answer {
        TaskAnswer::Known(known) => json!({ "known": report(known) }),
        TaskAnswer::NotFound => json!("not_found"),
        TaskAnswer::BadKey { message } => json!({ "bad_key": message }),
        TaskAnswer::NoCredits { message } => json!({ "no_credits": message }),
        TaskAnswer::Busy { retry_after } => json!({"busy": retry_after.map(|after| after.as_secs())}),
        TaskAnswer::Nothing { .. } => json!("nothing"),
    }
}

fn report(report: Report) -> Value {
    let class = report.class.map(|class| match class {
        Class::Queued => "queued",
        Class::Running => "running",
        Class::Succeeded => "succeeded",
        Class::Failed => "failed",
        Class::Cancelled => "cancelled",
    });
    said([
        ("class", json!(class)),
        ("word", json!(report.word)),
        ("known_word", if report.known_word { Value::Null } else { json!(false) }),
        ("task_id", json!(report.task_id)),
        ("urls", json!(report.urls)),
        ("error", json!(report.error)),
        ("content_policy", if report.content_policy { json!(true) } else { Value::Null }),
        ("progress", json!(report.progress)),
        ("credits", json!(report.credits)),
    ])
}

/// Only what was said: no nulls, no empty lists.
fn said<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let nothing = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    let said = fields.into_iter().filter(|(_, value)| !nothing(value));
    said.map(|(key, value)| (key.to_owned(), value)).collect::<Map<_, _>>().into()
}

#[test]
fn every_known_shape_is_read_as_its_fixture_says() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/replies");
    let mut wrong = Vec::new();
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let fixture: Fixture =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let read = fixture.read();
        if read != fixture.expect {
            wrong.push(format!("{}\n  wanted {}\n  read   {read}", path.display(), fixture.expect));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{} of {count} shapes are misread:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count > 120, "only {count} fixtures were found");
}

#[test]
fn an_unknown_outcome_says_what_was_seen() {
    let why = |status, body: &[u8]| match read_submit(status, None, body, &Mapping::default()) {
        SubmitAnswer::Unknown { why, .. } => why,
        other => panic!("{status}: {other:?}"),
    };
    assert!(why(307, b"").contains("HTTP 307: a redirect"));
    assert!(why(200, b"<html>").contains("HTTP 200 with a body that is not JSON"));
    assert!(why(500, br#"{"error":{"message":"oops"}}"#).contains("HTTP 500: oops"));
    assert!(why(200, br#"{"code":200,"message":"queued"}"#).contains("without a usable task id: queued"));
}

#[test]
fn every_status_word_has_its_class_however_it_is_spelt() {
    let words = [
        (
            Class::Queued,
            "pending queued queueing queuing in_queue submitted created waiting not_start not_started staged accepted \
             new scheduled starting preparing throttled",
        ),
        (
            Class::Running,
            "processing running in_progress generating dreaming rendering started text first streaming uploading saving",
        ),
        (
            Class::Succeeded,
            "success succeed succeeded completed complete done finish finished ready ok callback_failed",
        ),
        (
            Class::Failed,
            "failed fail failure error errored faulted rejected create_task_failed generate_failed timeout timed_out \
             timedout expired content_moderated request_moderated",
        ),
        (Class::Cancelled, "cancelled canceled cancel aborted deleted revoked"),
    ];
    for (class, words) in words {
        for word in words.split_whitespace() {
            let dashed = word.replace('_', "-");
            let spaced = format!(" {} ", word.replace('_', " ").to_uppercase());
            for spelling in [word.to_owned(), dashed, spaced, format!("TASK_STATUS_{word}")] {
                let body = json!({"id": "t", "status": spelling}).to_string();
                let answer = read_task(200, None, body.as_bytes(), None, &Mapping::default());
                let TaskAnswer::Known(report) = answer else { panic!("{spelling}: {answer:?}") };
                assert_eq!((report.class, report.known_word), (Some(class), true), "{spelling}");
            }
        }
    }
}

#[test]
fn links_are_kept_once_and_sixteen_at_most() {
    let link = |n: usize| format!("https://cdn.example.com/{}.mp4", n % 20);
    let body =
        json!({"id": "t", "status": "done", "output": (0..40).map(link).collect::<Vec<_>>()}).to_string();
    let TaskAnswer::Known(report) = read_task(200, None, body.as_bytes(), None, &Mapping::default()) else {
        panic!("not read")
    };
    assert_eq!(report.urls, (0..16).map(link).collect::<Vec<_>>());
}

#[test]
fn a_long_error_is_cut_at_a_character() {
    let body = json!({"id": "t", "status": "failed", "error": "é".repeat(5000)}).to_string();
    let TaskAnswer::Known(report) = read_task(200, None, body.as_bytes(), None, &Mapping::default()) else {
        panic!("not read")
    };
    assert_eq!(report.error.unwrap(), "é".repeat(2000));
}

#[test]
fn deep_nesting_is_read_without_harm() {
    for depth in [100, 10_000, 1_000_000] {
        let open = "[".repeat(depth);
        let close = "]".repeat(depth);
        let body = format!(r#"{{"task_id": "t", "deep": {open}{close}}}"#);
        let answer = read_submit(200, None, body.as_bytes(), &Mapping::default());
        assert_eq!(answer, SubmitAnswer::Accepted { task_id: "t".into() }, "{depth} deep");
    }
}

#[test]
fn only_models_without_callbacks_do_not_call_back() {
    let mapping = Mapping::default();
    let silent = ["kling-3", "grok-video", "ltx-2", "wan-2-6"].map(|model| !mapping.calls_back(model));
    assert_eq!(silent, [false, false, true, false]);
}

#[test]
fn evidence_holds_no_secret() {
    let body = br#"{"error": "bad key aio_abc and aio_abcdef", "also": "aio_abcdef"}"#;
    let kept = scrub(body, &["aio_abc", "", "aio_abcdef"]);
    assert_eq!(kept, r#"{"error": "bad key [redacted] and [redacted]", "also": "[redacted]"}"#);
}

#[test]
fn evidence_is_text_of_four_kibibytes_at_most() {
    let kept = scrub("é".repeat(5000).as_bytes(), &[]);
    assert_eq!(kept, "é".repeat(2048));
    assert_eq!(scrub(b"a\xffb", &[]), "a\u{fffd}b");
    let secret_on_the_edge = [vec![b'x'; 4090], b"aio_secret".to_vec()].concat();
    assert!(!scrub(&secret_on_the_edge, &["aio_secret"]).contains("aio"));
}

/// JSON with the keys that the reader looks for, in every arrangement.
fn plausible() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(vec![
        "data",
        "task_id",
        "id",
        "status",
        "state",
        "output",
        "result",
        "task",
        "payload",
        "videos",
        "url",
        "video_url",
        "resultJson",
        "code",
        "error",
        "message",
        "type",
        "object",
        "progress",
        "credits",
        "successFlag",
        "0",
        "watermark_url",
        "challenge",
        "request_id",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        prop::sample::select(vec![
            "done",
            "event",
            "a.failed",
            "https://x.example/a.mp4",
            r#"{"url":"http://x"}"#,
            "200"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..6).prop_map(|entries| entries
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect()),
        ]
    })
}

fn read_everything(status: u16, body: &[u8]) {
    let mapping = Mapping::default();
    read_submit(status, None, body, &mapping);
    read_task(status, Some(Duration::ZERO), body, Some("t"), &mapping);
    drop(read_callback(body, &mapping));
    scrub(body, &["secret"]);
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(status in 0_u16..1000, body in prop::collection::vec(any::<u8>(), 0..400)) {
        read_everything(status, &body);
    }

    #[test]
    fn no_json_makes_the_reader_panic(status in 0_u16..1000, body in plausible(), cut in 0_usize..200) {
        let text = body.to_string();
        read_everything(status, text.as_bytes());
        read_everything(200, text.as_bytes());
        read_everything(200, &text.as_bytes()[..cut.min(text.len())]);
    }

    #[test]
    fn a_create_call_answered_by_a_server_error_is_never_a_refusal(status in 500_u16..600, body in plausible()) {
        let answer = read_submit(status, None, body.to_string().as_bytes(), &Mapping::default());
        let is_unknown = matches!(answer, SubmitAnswer::Unknown { .. });
        prop_assert!(is_unknown, "{:?}", answer);
    }

    #[test]
    fn an_accepted_id_is_always_usable(body in plausible()) {
        let answer = read_submit(200, None, body.to_string().as_bytes(), &Mapping::default());
        if let SubmitAnswer::Accepted { task_id } = answer {
            prop_assert!(reelhook::provider::request::valid_task_id(&task_id));
        }
    }

    #[test]
    fn an_integer_of_any_length_is_read_to_the_digit(id in "[1-9][0-9]{0,127}") {
        let answer = read_submit(200, None, format!(r#"{{"data":{{"task_id":{id}}}}}"#).as_bytes(), &Mapping::default());
        prop_assert_eq!(answer, SubmitAnswer::Accepted { task_id: id });
    }
}
