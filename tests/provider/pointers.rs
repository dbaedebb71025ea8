//! Each pointer that the reader promises, alone in a body made for it.

use reelhook::provider::reply::{Class, Mapping, Report, read_callback};
use serde_json::{Map, Value, json};

const LINK: &str = "https://cdn.example.com/v/a.mp4";

/// The smallest body in which `pointer` leads to `value`; `*` and digits are the first element of an array.
fn body(pointer: &str, value: Value) -> Value {
    pointer.split('/').skip(1).collect::<Vec<_>>().into_iter().rev().fold(value, |inner, segment| {
        match segment {
            "*" | "0" => Value::Array(vec![inner]),
            key => Value::Object(Map::from_iter([(key.to_owned(), inner)])),
        }
    })
}

fn read(body: &Value) -> Report {
    read_callback(body.to_string().as_bytes(), &Mapping::default()).unwrap().report()
}

fn each(pointers: &str, test: impl Fn(&str)) {
    pointers.split_whitespace().for_each(test);
}

#[test]
fn a_task_id_is_found_at_every_pointer() {
    each(
        "/data/task_id /data/taskId /data/id /task_id /taskId /id /data/0/id /data/task/id /payload/task/task_id \
         /task/task_id /output/task_id /result/task_id /taskNo /generation_id /data/request_id /request_id",
        |pointer| {
            assert_eq!(read(&body(pointer, json!("t-1"))).task_id.as_deref(), Some("t-1"), "{pointer}");
            assert_eq!(read(&body(pointer, json!(7))).task_id.as_deref(), Some("7"), "{pointer}");
            for nothing in [json!(null), json!(""), json!({}), json!(true)] {
                assert_eq!(read(&body(pointer, nothing)).task_id, None, "{pointer}");
            }
        },
    );
}

#[test]
fn a_status_is_found_at_every_pointer() {
    each(
        "/data/status /data/task_status /data/state /status /task_status /state /data/0/status /payload/task/status \
         /task/status /data/task/status /output/task_status /data/type /type /event /event_type",
        |pointer| {
            let report = read(&body(pointer, json!("FAILED")));
            assert_eq!(
                (report.class, report.word.as_deref()),
                (Some(Class::Failed), Some("FAILED")),
                "{pointer}"
            );
            assert_eq!(read(&body(pointer, json!({"a": 1}))).class, None, "{pointer}");
            assert_eq!(read(&body(pointer, json!(200))).class, None, "{pointer}");
        },
    );
    each("/data/successFlag /successFlag", |pointer| {
        assert_eq!(read(&body(pointer, json!(2))).class, Some(Class::Failed), "{pointer}");
    });
    each("/type /event /event_type", |pointer| {
        assert_eq!(read(&body(pointer, json!("a.b.done"))).class, Some(Class::Succeeded), "{pointer}");
    });
}

const WITH_DATA: &str = "/data/output/video_url /data/video_url /data/output/video /data/output/video/url \
    /data/output/url /data/output/urls/* /data/output/* /data/output/*/url /data/response/* \
    /data/response/resultUrls/* /data/resultUrls/* /data/result/video_url /data/result/videos/*/url \
    /data/result/videos/*/url/* /data/result/urls/* /data/result/* /data/result /data/results/* /data/results/*/url \
    /data/task_result/videos/*/url /data/outputs/* /data/outputs/*/url /data/files/*/file_url /data/videos/*/url \
    /data/videos/*/video_url /data/creations/*/url /data/works/*/resource/resource \
    /data/output/works/*/resource/resource /data/content/video_url /data/url";

/// Without an extension, so that only the pointer itself can find it.
const BARE_LINK: &str = "https://cdn.example.com/v?id=1";

#[test]
fn a_link_is_found_at_every_pointer() {
    each(WITH_DATA, |pointer| {
        for pointer in [pointer, pointer.strip_prefix("/data").unwrap()] {
            let report = read(&body(pointer, json!(BARE_LINK)));
            assert_eq!(report.urls, [BARE_LINK], "{pointer}");
            assert_eq!(report.class, Some(Class::Succeeded), "{pointer}");
        }
    });
    each(
        "/video/url /payload/video/url /payload/videos/*/video_url /assets/video /result_url /result/sample /output",
        |pointer| assert_eq!(read(&body(pointer, json!(BARE_LINK))).urls, [BARE_LINK], "{pointer}"),
    );
    for inner in ["/resultUrls/*", "/videos/*", "/videos/*/url", "/url"] {
        let text = json!(body(inner, json!(BARE_LINK)).to_string());
        assert_eq!(read(&body("/data/resultJson", text.clone())).urls, [BARE_LINK], "{inner}");
        assert_eq!(read(&body("/resultJson", text)).urls, [BARE_LINK], "{inner}");
    }
}

#[test]
fn an_error_is_found_at_every_pointer() {
    each(
        "/data/error_message /data/fail_reason /data/failMsg /data/task_status_msg /data/error/message /data/error \
         /data/message /data/errorMessage /data/fail_message /error/message /error /error_message /fail_reason /failMsg \
         /task_status_msg /failure_reason /failure /payload/task/reason /payload/detail/0/msg /detail /0/fail_message",
        |pointer| {
            assert_eq!(read(&body(pointer, json!("why"))).error.as_deref(), Some("why"), "{pointer}");
        },
    );
    each("/message /msg", |pointer| {
        let mut body = body(pointer, json!("why"));
        assert_eq!(read(&body).error, None, "{pointer}");
        body["status"] = json!("failed");
        assert_eq!(read(&body).error.as_deref(), Some("why"), "{pointer}");
    });
}

#[test]
fn progress_and_credits_are_found_at_every_pointer() {
    each(
        "/data/progress /progress /payload/task/progress_percent /task/progress_percent /data/percentage",
        |pointer| {
            for (written, percent) in
                [(json!(45), 45), (json!("45"), 45), (json!("45%"), 45), (json!(-3), 0), (json!(1e9), 100)]
            {
                assert_eq!(read(&body(pointer, written)).progress, Some(percent), "{pointer}");
            }
            assert_eq!(read(&body(pointer, json!("soon"))).progress, None, "{pointer}");
        },
    );
    each(
        "/data/credits_consumed /data/consumed_credits /data/creditsConsumed /data/credits_used /data/credits \
         /credits_consumed /credits /data/cost/amount_credits /cost/amount_credits /data/meta/usage/consume \
         /data/final_unit_deduction",
        |pointer| {
            for (written, credits) in
                [(json!(300), Some(300)), (json!("12.01"), Some(13)), (json!(-1), None), (json!("x"), None)]
            {
                assert_eq!(read(&body(pointer, written)).credits, credits, "{pointer}");
            }
        },
    );
}

#[test]
fn what_we_sent_is_never_taken_for_a_result() {
    each(
        "/input/video /request/a /request_body/a /requestBody/a /param/a /params/* /config/a /callback_url \
         /callbackUrl /webhook_url /webhookUrl /webhook /task_info/a /urls/get /image /image_url /images/* /cover_url \
         /coverImageUrl /thumbnail /thumbnails/* /first_frame_image /firstFrameUrl /last_frame_image /audio /audio_url",
        |pointer| {
            for below in [pointer.to_owned(), format!("/data{pointer}")] {
                let mut body = body(&below, json!(LINK));
                body["status"] = json!("succeeded");
                assert_eq!(read(&body).urls, Vec::<String>::new(), "{below}");
            }
        },
    );
    let mut elsewhere = body("/data/unheard_of/place", json!(LINK));
    elsewhere["status"] = json!("succeeded");
    assert_eq!(read(&elsewhere).urls, [LINK], "the search itself must work");
}

#[test]
fn a_video_is_searched_for_by_its_extension() {
    for extension in ["mp4", "mov", "webm", "m4v", "MP4"] {
        let link = format!("https://cdn.example.com/a.{extension}?sig=1#t");
        assert_eq!(read(&json!({"status": "done", "x": {"y": [link]}})).urls, [link]);
    }
    for other in
        ["https://cdn.example.com/a.png", "https://cdn.example.com/?f=a.mp4", "a.mp4", "file:///a.mp4"]
    {
        assert_eq!(read(&json!({"status": "done", "x": other})).urls, Vec::<String>::new(), "{other}");
    }
}
