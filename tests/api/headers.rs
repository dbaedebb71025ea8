//! The headers that keep browsers safe, over every route and method, well or ill.

use jiff::Timestamp;
use reelhook::{
    keys::{KeyFile, Scope},
    provider::signature::Scheme,
};
use reqwest::{Method, RequestBuilder, Response};
use secrecy::ExposeSecret as _;
use serde_json::Value;

use crate::support::{World, order};

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

/// Sends it, and holds the answer against the status and the headers.
async fn answered(request: RequestBuilder, status: u16) {
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), status, "{answer:?}");
    check(&answer, &format!("{status}"));
    assert_eq!(answer.headers()["cache-control"], "no-store", "{status}");
}

#[tokio::test]
async fn a_refusal_has_the_protective_headers_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys");
    let key = KeyFile::create(&file, "app", [Scope::Submit].into(), Timestamp::now(), None).unwrap();
    let world = World::idle(|config| {
        config.auth.keys_file = Some(file);
        config.api.rate_limit_per_minute = 2;
    })
    .await;
    let with = |path: &str| world.http.get(world.url(path)).bearer_auth(key.expose_secret());
    let post = || world.http.post(world.url("/v1/jobs")).bearer_auth(key.expose_secret());
    answered(world.http.get(world.url("/v1/jobs")), 401).await;
    answered(with("/v1/jobs"), 403).await;
    answered(post().json(&"x".repeat(world.config.server.body_limit)), 413).await;
    answered(post().body("{}"), 415).await;
    answered(post().json(&order("x")), 429).await;
}

#[tokio::test]
async fn the_callback_listener_answers_with_the_protective_headers_too() {
    let world = World::idle(|config| {
        config.callback.signature = Scheme::Kie.into();
        config.callback.signature_secrets = vec!["a secret".into()];
        config.callback.miss_limit_per_minute = 6;
    })
    .await;
    let id = world.submit("a bell").await.parse().unwrap();
    let path = world.server().app().callback_url(id).unwrap().path().to_owned();
    let to = |method: Method, path: &str| world.http.request(method, world.callback_url(path));
    for method in [Method::GET, Method::POST] {
        answered(to(method, "/cb/ping"), 200).await;
    }
    answered(to(Method::POST, &path).body("{}"), 401).await;
    answered(to(Method::POST, &path).body("x".repeat(world.config.callback.body_limit + 1)), 413).await;
    answered(to(Method::POST, &path).header("content-encoding", "gzip").body("x"), 415).await;
    for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS] {
        answered(to(method, &path), 404).await;
    }
    answered(to(Method::POST, "/cb/job_1/x"), 404).await;
    answered(to(Method::GET, "/"), 429).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_allows_its_own_styles_and_media_and_no_script_of_anybody() {
    let world = World::start().await;
    let id = world.submit("a mill").await;
    world.ended(&id).await;
    for path in ["/".to_owned(), format!("/jobs/{id}")] {
        let answer = world.http.get(world.url(&path)).send().await.unwrap();
        let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
        for directive in [
            "default-src 'none'",
            "script-src 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "require-trusted-types-for 'script'",
        ] {
            assert!(policy.split("; ").any(|part| part.trim() == directive), "{directive}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.headers()["cross-origin-opener-policy"], "same-origin");
        assert_eq!(answer.headers()["permissions-policy"], "camera=(), microphone=(), geolocation=()");
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
