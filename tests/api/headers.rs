//! The headers that keep browsers safe, over every route and method, well or ill.

use reqwest::{Method, Response};
use serde_json::Value;

use crate::support::World;

fn check(answer: &Response, what: &str) {
    let headers = answer.headers();
    let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap());
    assert_eq!(header("x-content-type-options"), Some("nosniff"), "{what}");
    assert_eq!(header("referrer-policy"), Some("no-referrer"), "{what}");
    assert_eq!(header("cross-origin-resource-policy"), Some("same-origin"), "{what}");
    assert_eq!(header("x-frame-options"), Some("DENY"), "{what}");
    assert!(
        header("content-security-policy").is_some_and(|policy| policy.contains("default-src 'none'")),
        "{what}"
    );
    assert!(header("cache-control").is_some(), "{what}");
    assert_eq!(header("server"), None, "{what}");
    assert_eq!(header("access-control-allow-origin"), None, "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_and_method_answers_with_the_protective_headers_and_a_request_id() {
    let world = World::start().await;
    let id = world.submit("a gate").await;
    let job = world.ended(&id).await;
    let name = job["files"][0]["name"].as_str().unwrap();
    let document: Value = world.get("/openapi.json").await;
    let mut paths: Vec<String> = document["paths"].as_object().unwrap().keys().cloned().collect();
    paths.extend(["/nowhere", "/v1/jobs/none", "/assets/style.css"].map(str::to_owned));
    let mut ids = std::collections::BTreeSet::new();
    for path in paths {
        let filled = path
            .replace("{id}", &id)
            .replace("{job_id}", &id)
            .replace("{name}", name)
            .replace("{slug}", "internal");
        for method in [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS]
        {
            let answer = world.http.request(method.clone(), world.url(&filled)).send().await.unwrap();
            let what = format!("{method} {path} {}", answer.status());
            check(&answer, &what);
            assert!(answer.status() != 500, "{what}");
            let id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
            assert!(ids.insert(id), "{what}: a request id came twice");
        }
    }
}

#[tokio::test]
async fn the_callback_listener_answers_with_the_protective_headers_too() {
    let world = World::start().await;
    for (method, path) in [
        (Method::GET, "/cb/ping"),
        (Method::POST, "/cb/ping"),
        (Method::POST, "/cb/job_1/x"),
        (Method::GET, "/"),
    ] {
        let answer = world.http.request(method.clone(), world.callback_url(path)).send().await.unwrap();
        check(&answer, &format!("{method} {path}"));
        assert_eq!(answer.headers()["cache-control"], "no-store");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_allows_its_own_styles_and_media_and_no_script_of_anybody() {
    let world = World::start().await;
    let id = world.submit("a mill").await;
    world.ended(&id).await;
    for path in ["/".to_owned(), format!("/jobs/{id}")] {
        let answer = world.http.get(world.url(&path)).send().await.unwrap();
        let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
        let page = answer.text().await.unwrap();
        assert!(!page.contains("<script") && !page.contains("style=") && !page.contains("onload"), "{page}");
        for link in
            page.split(['"']).filter(|text| text.starts_with("/assets/") || text.starts_with("/media/"))
        {
            let answer = world
                .http
                .get(world.url(&link.replace("&#38;", "&").replace("&amp;", "&")))
                .send()
                .await
                .unwrap();
            assert_eq!(answer.status(), 200, "{link}");
        }
    }
}
