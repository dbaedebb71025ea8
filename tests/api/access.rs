//! Who gets in: keys with scopes, and this machine alone where there is no key.

use std::{collections::BTreeSet, path::Path};

use jiff::Timestamp;
use reelhook::keys::{KeyFile, Scope};
use reqwest::{RequestBuilder, header};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::problems::refused;
use crate::support::{World, order};

const BOOTSTRAP: &str = "a bootstrap key of some length";

fn key(file: &Path, name: &str, scopes: &[Scope]) -> String {
    let scopes: BTreeSet<Scope> = scopes.iter().copied().collect();
    KeyFile::create(file, name, scopes, Timestamp::now(), None).unwrap().expose_secret().to_owned()
}

/// A world with a bootstrap key and a key file that is yet to be made.
async fn locked(dir: &tempfile::TempDir) -> World {
    let file = dir.path().join("keys");
    World::idle(|config| {
        config.auth.bootstrap_admin_key = Some(BOOTSTRAP.to_owned().into());
        config.auth.keys_file = Some(file);
        config.api.rate_limit_per_minute = 1_000;
    })
    .await
}

async fn status(request: RequestBuilder) -> u16 {
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn every_route_but_the_open_ones_asks_for_a_key_and_its_scope() {
    let dir = tempfile::tempdir().unwrap();
    let world = locked(&dir).await;
    let file = dir.path().join("keys");
    let scopes = [Scope::Submit, Scope::Read, Scope::Operate, Scope::Admin];
    let keys = scopes.map(|scope| (scope, key(&file, &scope.to_string(), &[scope])));
    let document: Value =
        world.http.get(world.url("/openapi.json")).send().await.unwrap().json().await.unwrap();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in
            methods.as_object().unwrap().iter().filter(|(name, _)| *name != "parameters")
        {
            let url =
                world.url(&path.replace("{name}", "x").replace("{slug}", "internal").replace("{id}", "x"));
            let request =
                || world.http.request(method.to_uppercase().parse().unwrap(), &url).json(&json!({}));
            let Some(wanted) = operation["security"][0]["key"][0].as_str() else {
                assert_ne!(status(request()).await, 401, "{path}");
                continue;
            };
            assert_eq!(status(request()).await, 401, "{method} {path}");
            assert_eq!(status(request().bearer_auth("nonsense")).await, 401, "{method} {path}");
            for (scope, key) in &keys {
                let may = *scope == Scope::Admin || scope.to_string() == wanted;
                let found = status(request().bearer_auth(key)).await;
                assert_eq!(found != 403, may, "{method} {path} with {scope}: {found}");
            }
            assert!(![401, 403].contains(&status(request().bearer_auth(BOOTSTRAP)).await), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_key_is_taken_from_the_moment_it_is_made_until_it_is_revoked() {
    let dir = tempfile::tempdir().unwrap();
    let world = locked(&dir).await;
    let file = dir.path().join("keys");
    let list = |key: &str| world.http.get(world.url("/v1/jobs")).bearer_auth(key);
    let made = key(&file, "team", &[Scope::Read]);
    assert_eq!(status(list(&made)).await, 200);
    KeyFile::revoke(&file, "team").unwrap();
    refused(list(&made), 401, "unauthenticated").await;
}

#[tokio::test]
async fn keys_that_follow_each_other_at_once_are_never_mistaken() {
    let dir = tempfile::tempdir().unwrap();
    let world = locked(&dir).await;
    let file = dir.path().join("keys");
    let list = |key: &str| world.http.get(world.url("/v1/models")).bearer_auth(key);
    // The file has the same length each time, and the clock of the disk is coarse.
    for _ in 0..20 {
        let made = key(&file, "team", &[Scope::Read]);
        assert_eq!(status(list(&made)).await, 200);
        KeyFile::revoke(&file, "team").unwrap();
        let next = key(&file, "team", &[Scope::Read]);
        assert_eq!((status(list(&made)).await, status(list(&next)).await), (401, 200));
        KeyFile::revoke(&file, "team").unwrap();
    }
    std::fs::remove_file(&file).unwrap();
    refused(list("rhk_none"), 401, "unauthenticated").await;
}

#[tokio::test]
async fn a_key_that_has_expired_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let world = locked(&dir).await;
    let file = dir.path().join("keys");
    let with = |name: &str, expires: &str| {
        let scopes = [Scope::Read].into();
        let expires_at = Some(expires.parse().unwrap());
        KeyFile::create(&file, name, scopes, Timestamp::UNIX_EPOCH, expires_at).unwrap()
    };
    let (past, future) = (with("past", "2001-01-01T00:00:00Z"), with("future", "2999-01-01T00:00:00Z"));
    let list = |key: &str| world.http.get(world.url("/v1/models")).bearer_auth(key);
    refused(list(past.expose_secret()), 401, "unauthenticated").await;
    assert_eq!(status(list(future.expose_secret())).await, 200);
}

#[tokio::test]
async fn a_key_file_that_breaks_locks_nobody_out() {
    let dir = tempfile::tempdir().unwrap();
    let world = locked(&dir).await;
    let file = dir.path().join("keys");
    let made = key(&file, "team", &[Scope::Read]);
    let list = || world.http.get(world.url("/v1/jobs")).bearer_auth(&made);
    assert_eq!(status(list()).await, 200);
    std::fs::write(&file, "half a fi").unwrap();
    assert_eq!(status(list()).await, 200);
}

#[tokio::test]
async fn a_key_that_asks_too_often_is_told_when_to_come_back_and_others_are_not_hindered() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys");
    let (busy, calm) = (key(&file, "busy", &[Scope::Read]), key(&file, "calm", &[Scope::Read]));
    let world = World::with(|config| {
        config.auth.keys_file = Some(file);
        config.api.rate_limit_per_minute = 5;
    })
    .await;
    let list = |key: &str| world.http.get(world.url("/v1/models")).bearer_auth(key);
    for _ in 0..5 {
        assert_eq!(status(list(&busy)).await, 200);
    }
    let answer = list(&busy).send().await.unwrap();
    let seconds: u64 = answer.headers()[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!((1..=13).contains(&seconds), "{seconds}");
    refused(list(&busy), 429, "rate-limited").await;
    assert_eq!(status(list(&calm)).await, 200);
}

#[tokio::test]
async fn a_page_takes_the_key_as_a_password_and_the_api_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let world = locked(&dir).await;
    let answer = world.http.get(world.url("/")).send().await.unwrap();
    assert!(answer.headers()[header::WWW_AUTHENTICATE].to_str().unwrap().starts_with("Basic "));
    assert_eq!(status(world.http.get(world.url("/")).basic_auth("anybody", Some(BOOTSTRAP))).await, 200);
    assert_eq!(status(world.http.get(world.url("/")).basic_auth(BOOTSTRAP, Some("x"))).await, 401);
    assert_eq!(
        status(world.http.get(world.url("/v1/jobs")).basic_auth("anybody", Some(BOOTSTRAP))).await,
        401
    );
}

#[tokio::test]
async fn an_idempotency_key_belongs_to_the_api_key_that_sent_it() {
    let dir = tempfile::tempdir().unwrap();
    let world = locked(&dir).await;
    let file = dir.path().join("keys");
    let mut ids = Vec::new();
    for owner in ["one", "two"]
        .map(|name| key(&file, name, &[Scope::Submit]))
        .iter()
        .map(String::as_str)
        .chain([BOOTSTRAP])
    {
        let post = world.http.post(world.url("/v1/jobs")).bearer_auth(owner).header("idempotency-key", "k");
        let job: Value = post.json(&order("x")).send().await.unwrap().json().await.unwrap();
        ids.push(job["id"].as_str().unwrap().to_owned());
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3);
}

#[tokio::test]
async fn without_keys_a_foreign_page_in_this_machines_browser_gets_nothing() {
    let world = World::start().await;
    let address = world.server().api();
    let get = || world.http.get(world.url("/v1/jobs"));
    for host in [
        "evil.example",
        "evil.example:8484",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "0.0.0.0",
        "user@localhost",
        "",
    ] {
        assert!([400, 403].contains(&status(get().header("host", host)).await), "{host}");
    }
    for host in ["localhost", "LOCALHOST:1", "127.0.0.1", "127.8.8.8:80", "[::1]:8484"] {
        assert_eq!(status(get().header("host", host)).await, 200, "{host}");
    }
    for origin in
        ["https://evil.example", "null", "http://localhost:1", &format!("http://{address}.evil.example")]
    {
        refused(get().header("origin", origin), 403, "forbidden").await;
    }
    assert_eq!(status(get().header("origin", format!("http://{address}"))).await, 200);
    let id = world.submit("x").await;
    let cancel = || world.http.post(world.url(&format!("/v1/jobs/{id}/cancel")));
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        refused(cancel().header("content-type", kind), 415, "unsupported-media-type").await;
    }
    let problem = refused(cancel(), 415, "unsupported-media-type").await;
    assert!(problem["detail"].as_str().unwrap().contains("-d '{}'"), "{problem}");
    refused(cancel().json(&json!({})).header("origin", "https://evil.example"), 403, "forbidden").await;
}

#[tokio::test]
async fn without_keys_nobody_gets_in_by_a_proxy_on_this_machine() {
    let world = World::idle(|_| {}).await;
    let get = |path: &str| world.http.get(world.url(path));
    for (name, value) in [
        ("Forwarded", "for=203.0.113.7"),
        ("X-Forwarded-For", "203.0.113.7"),
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-Forwarded-Host", "localhost"),
        ("X-Real-IP", "203.0.113.9"),
        ("Via", "1.1 proxy"),
        ("x-forwarded-for", ""),
    ] {
        let problem = refused(get("/v1/jobs").header(name, value), 403, "forbidden").await;
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(&name.to_lowercase()) && detail.contains("set a key"), "{detail}");
        let create = world.http.post(world.url("/v1/jobs")).json(&order("x")).header(name, value);
        refused(create, 403, "forbidden").await;
        assert_eq!(status(get("/").header(name, value)).await, 403, "nor the pages");
        assert_eq!(status(get("/livez").header(name, value)).await, 200, "a probe is open to anybody");
    }
    assert_eq!(world.get("/v1/jobs").await["data"], json!([]));
}

#[tokio::test]
async fn with_keys_a_request_may_come_by_a_proxy() {
    let dir = tempfile::tempdir().unwrap();
    let world = locked(&dir).await;
    for name in ["forwarded", "x-forwarded-for", "x-forwarded-host"] {
        let get = world.http.get(world.url("/v1/jobs")).header(name, "203.0.113.7").bearer_auth(BOOTSTRAP);
        assert_eq!(status(get).await, 200, "{name}");
    }
}

#[tokio::test]
async fn with_keys_the_name_that_the_server_is_reached_by_does_not_matter() {
    let dir = tempfile::tempdir().unwrap();
    let world = locked(&dir).await;
    let get = world.http.get(world.url("/v1/jobs")).header("host", "reelhook.example").bearer_auth(BOOTSTRAP);
    assert_eq!(status(get).await, 200);
}

#[tokio::test]
async fn links_are_made_from_the_configuration_and_never_from_the_host_header() {
    let world =
        World::with(|config| config.server.external_url = Some("https://videos.example/r".parse().unwrap()))
            .await;
    let id = world.submit("a gate").await;
    world.ended(&id).await;
    for host in ["localhost", "127.0.0.9:1", "videos.example"] {
        let get = world.http.get(world.url(&format!("/v1/jobs/{id}"))).header("host", host);
        let job: Value = get.send().await.unwrap().json().await.unwrap();
        let url = job["files"][0]["url"].as_str().unwrap();
        assert!(url.starts_with(&format!("https://videos.example/r/media/{id}/")), "{url}");
    }
}

#[tokio::test]
async fn the_secret_that_signs_by_default_stays_the_same_and_is_fit_to_verify_with() {
    let mut world = World::idle(|_| {}).await;
    let made = world.get("/v1/sinks/secret").await["secret"].as_str().unwrap().to_owned();
    assert!(made.starts_with("whsec_") && standardwebhooks::Webhook::new(&made).is_ok(), "{made}");
    world.stop_server().await;
    world.start_server().await;
    assert_eq!(world.get("/v1/sinks/secret").await["secret"], made.as_str());

    let own = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let world = World::idle(|config| config.delivery.secret = Some(own.to_owned().into())).await;
    assert_eq!(world.get("/v1/sinks/secret").await["secret"], own);
}
