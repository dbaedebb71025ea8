//! What we send and where.

use proptest::prelude::*;
use reelhook::provider::request::{create_body, create_url, task_url, valid_task_id};
use serde_json::{Map, json};
use url::Url;

fn base(url: &str) -> Url {
    url.parse().unwrap()
}

#[test]
fn the_input_is_sent_as_it_came_with_our_callback_url() {
    let input = Map::from_iter([("model".into(), json!("kling-3")), ("x".into(), json!({"y": [1, null]}))]);
    assert_eq!(create_body(&input, None), json!({"model": "kling-3", "x": {"y": [1, null]}}));
    assert_eq!(
        create_body(&input, Some("https://h.example/cb/1/2")),
        json!({"model": "kling-3", "x": {"y": [1, null]}, "callback_url": "https://h.example/cb/1/2"}),
    );
}

#[test]
fn both_routes_lie_below_the_base() {
    for (root, prefix) in [
        ("https://apiin.one", "https://apiin.one"),
        ("https://apiin.one/", "https://apiin.one"),
        ("http://127.0.0.1:9/mock?x=1#y", "http://127.0.0.1:9/mock"),
        ("http://127.0.0.1:9/mock/", "http://127.0.0.1:9/mock"),
    ] {
        let create = create_url(&base(root), "/api/v1/videos/generations");
        assert_eq!(create.as_str(), format!("{prefix}/api/v1/videos/generations"));
        let ask = task_url(&base(root), "/api/v1/tasks/{task_id}", "n50_x");
        assert_eq!(ask.as_str(), format!("{prefix}/api/v1/tasks/n50_x"));
    }
}

#[test]
fn an_id_may_stand_inside_the_path_or_in_the_query() {
    let root = base("https://apiin.one");
    assert_eq!(task_url(&root, "/t/{task_id}/state", "a:b").as_str(), "https://apiin.one/t/a:b/state");
    assert_eq!(
        task_url(&root, "/t?taskId={task_id}&v=1", "a&b c").as_str(),
        "https://apiin.one/t?taskId=a%26b+c&v=1"
    );
}

#[test]
fn usable_ids_need_no_escaping() {
    for id in ["n50xxxx_ltx2", "task_abc123", "1", "a.b:c~d-e_F", &"x".repeat(128)] {
        assert!(valid_task_id(id), "{id}");
    }
    for id in ["", ".", "..", "a b", "a/b", "a?b", "a#b", "a%2Fb", "é", "a\n", &"x".repeat(129)] {
        assert!(!valid_task_id(id), "{id:?}");
    }
}

proptest! {
    #[test]
    fn no_id_reaches_another_route_or_host(id in ".{1,60}") {
        let url = task_url(&base("https://apiin.one"), "/api/v1/tasks/{task_id}", &id);
        prop_assert_eq!(url.host_str(), Some("apiin.one"));
        prop_assert!(url.path().starts_with("/api/v1/tasks"));
        prop_assert!(url.path_segments().unwrap().count() <= 4);
        prop_assert!(url.query().is_none() && url.fragment().is_none());
    }

    #[test]
    fn a_usable_id_is_its_own_segment(id in "[A-Za-z0-9._:~-]{1,128}") {
        prop_assume!(valid_task_id(&id));
        let url = task_url(&base("https://apiin.one"), "/tasks/{task_id}", &id);
        prop_assert_eq!(url.path(), format!("/tasks/{id}"));
    }
}
