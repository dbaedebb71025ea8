//! Where the video is.

use url::Url;

use super::{Class, body::Body, pointers, tree::Tree, words::squeezed};

const URLS_MAX: usize = 16;
const EXTENSIONS: [&str; 4] = [".mp4", ".mov", ".webm", ".m4v"];

/// What stands below these keys is what we sent, or pictures and sounds: never searched. Squeezed.
const ECHOES: [&str; 9] =
    ["input", "request", "requestbody", "param", "params", "config", "callbackurl", "taskinfo", "urls"];
const ECHO_PREFIXES: [&str; 7] =
    ["webhook", "image", "cover", "thumbnail", "firstframe", "lastframe", "audio"];

/// The URLs of the first place that has any, each once, in order. `class` is what the status word says.
pub(super) fn videos(body: &Body<'_>, class: Option<Class>) -> Vec<String> {
    let mut urls = listed(body);
    let tree = body.outside("").first().copied().unwrap_or(body.task);
    if urls.is_empty() && class == Some(Class::Succeeded) {
        search(tree, "", &|key, url| !is_watermarked(key) && is_video_file(url), &mut urls);
    }
    if urls.is_empty() {
        search(tree, "", &|key, url| is_watermarked(key) && is_web_address(url), &mut urls);
    }
    let mut once = Vec::new();
    for url in urls {
        if once.len() < URLS_MAX && !once.contains(&url) {
            once.push(url);
        }
    }
    once
}

fn listed(body: &Body<'_>) -> Vec<String> {
    let told = || body.mapping.video_url.iter().map(String::as_str);
    let known = || pointers::VIDEO_URL.iter().copied();
    let bare = || known().filter_map(|pointer| pointer.strip_prefix("/data"));
    let elsewhere = pointers::VIDEO_URL_ELSEWHERE.iter().copied();
    let listed = pointers::VIDEO_URL_LISTED.iter().copied();
    let inside = |pointer: &str| urls_at(pointer, body.inside(pointer));
    let outside = |pointer: &str| urls_at(pointer, body.outside(pointer));
    told()
        .map(inside)
        .chain(told().map(outside))
        .chain(listed.map(outside))
        .chain(known().map(inside))
        .chain(known().map(outside))
        .chain(bare().map(outside))
        .chain(elsewhere.map(outside))
        .find(|urls| !urls.is_empty())
        .unwrap_or_default()
}

fn urls_at(pointer: &str, found: Vec<&Tree>) -> Vec<String> {
    let mut urls = Vec::new();
    for tree in found {
        match tree.text() {
            Some(json) if pointer.ends_with("/resultJson") => {
                let Ok(parsed) = Tree::parse(json.as_bytes()) else { continue };
                let within = pointers::VIDEO_URL_IN_RESULT_JSON.iter().map(|at| urls_at(at, parsed.at(at)));
                urls.extend(within.into_iter().find(|urls| !urls.is_empty()).unwrap_or_default());
            }
            _ => collect(tree, &mut urls),
        }
    }
    urls
}

/// A string, an object's `url` if its `type` is absent or a video's, or an array of these.
fn collect(tree: &Tree, urls: &mut Vec<String>) {
    match tree {
        Tree::Text(_) => urls.extend(tree.text().filter(|url| is_web_address(url)).map(str::to_owned)),
        Tree::Array(items) => items.iter().for_each(|item| collect(item, urls)),
        Tree::Object(_) => {
            let kind = tree.child("type").and_then(Tree::text);
            if let Some(url) = tree.child("url").filter(|_| kind.is_none_or(|kind| kind.contains("video"))) {
                collect(url, urls);
            }
        }
        _ => {}
    }
}

/// Walks everything but the echoes for strings that are wanted; an array's strings bear the array's key.
fn search(tree: &Tree, key: &str, wanted: &impl Fn(&str, &str) -> bool, urls: &mut Vec<String>) {
    match tree {
        Tree::Text(_) => urls.extend(tree.text().filter(|text| wanted(key, text)).map(str::to_owned)),
        Tree::Array(items) => items.iter().for_each(|item| search(item, key, wanted, urls)),
        Tree::Object(entries) => {
            for (key, value) in entries {
                let key = squeezed(key);
                if !is_echo(&key) {
                    search(value, &key, wanted, urls);
                }
            }
        }
        _ => {}
    }
}

fn is_echo(key: &str) -> bool {
    ECHOES.contains(&key) || ECHO_PREFIXES.iter().any(|prefix| key.starts_with(prefix))
}

fn is_watermarked(key: &str) -> bool {
    key.starts_with("watermark")
}

fn web_address(text: &str) -> Option<Url> {
    let absolute =
        text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("http")) && text.contains("://");
    Url::parse(text).ok().filter(|url| absolute && matches!(url.scheme(), "http" | "https"))
}

fn is_web_address(text: &str) -> bool {
    web_address(text).is_some()
}

fn is_video_file(text: &str) -> bool {
    let path = web_address(text).map(|url| url.path().to_lowercase()).unwrap_or_default();
    EXTENSIONS.iter().any(|extension| path.ends_with(extension))
}
