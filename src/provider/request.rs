//! What we send: the body of the create call and the addresses of both routes.

use serde_json::{Map, Value};
use url::{Url, form_urlencoded};

const PLACEHOLDER: &str = "{task_id}";
const TASK_ID_MAX: usize = 128;

/// The body of the create call: the caller's input, and our callback URL where one is to be sent.
pub fn create_body(input: &Map<String, Value>, callback_url: Option<&str>) -> Value {
    let mut body = input.clone();
    if let Some(url) = callback_url {
        body.insert("callback_url".into(), url.into());
    }
    Value::Object(body)
}

/// The address of the create call: `path` below `base`, whose own path is kept.
pub fn create_url(base: &Url, path: &str) -> Url {
    task_url(base, path, "")
}

/// The address to ask about a task. `{task_id}` in the template's path becomes one percent-encoded segment (or a part of
/// one), in its query one encoded value; so no id can reach another route or host.
pub fn task_url(base: &Url, path_template: &str, task_id: &str) -> Url {
    let (path, query) =
        path_template.split_once('?').map_or((path_template, None), |(path, query)| (path, Some(query)));
    let mut url = base.clone();
    url.set_fragment(None);
    // Fails only for addresses such as `mailto:`, which are no base; those stay as they are.
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty();
        segments
            .extend(path.trim_start_matches('/').split('/').map(|part| part.replace(PLACEHOLDER, task_id)));
    }
    let encoded: String = form_urlencoded::byte_serialize(task_id.as_bytes()).collect();
    url.set_query(query.map(|query| query.replace(PLACEHOLDER, &encoded)).as_deref());
    url
}

/// Whether a task id is usable: 1 to 128 of the characters that need no escaping in a path, `A-Z a-z 0-9 . _ : ~ -`.
/// `.` and `..` are not, since they would name another route.
pub fn valid_task_id(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:~-".contains(&byte);
    (1..=TASK_ID_MAX).contains(&id.len()) && id.bytes().all(plain) && id != "." && id != ".."
}
