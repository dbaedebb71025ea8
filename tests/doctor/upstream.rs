//! The provider: whether it can be reached, takes the key, and has our time.

use jiff::{SignedDuration, Timestamp};
use reelhook::config::Config;

use crate::{
    House,
    receiver::{Receiver, Reply},
    says, url,
};

const UNKNOWN: &str = r#"{"error":{"code":404,"message":"task not found","type":"invalid_request"}}"#;

async fn with_provider(reply: Reply, adjust: impl FnOnce(&mut Config)) -> (House, Receiver) {
    let provider = Receiver::start(reply).await;
    let base = url(&format!("http://{}", provider.address));
    let house = House::with(|config| {
        config.upstream.base_url = base;
        adjust(config);
    })
    .await;
    (house, provider)
}

fn dated(head: &str, ahead: i64, body: &str) -> Reply {
    let at = Timestamp::now() + SignedDuration::from_secs(ahead);
    let date = httpdate::fmt_http_date(at.into());
    Reply::new(&format!("{head}\nDate: {date}\nContent-Type: application/json"), body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_where_one_is_wanted() {
    let house = House::with(|config| config.upstream.api_key = None).await;
    says(&house.check("api_key").await, "failed", &["none is configured"], "api_key_file");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_refused_is_not_repeated() {
    let body = r#"{"error":{"code":401,"message":"Invalid API key aio_wrong-key","type":"auth"}}"#;
    let (house, provider) = with_provider(dated("401 Unauthorized", 0, body), |c| {
        c.upstream.api_key = Some("aio_wrong-key".into())
    })
    .await;
    let document = house.examined().await;
    says(&crate::check(&document, "api_key"), "failed", &["refuses the key", "Invalid API key"], "reload");
    assert!(!document.to_string().contains("aio_wrong-key"), "{document:#}");
    let asked = provider.only();
    assert!(asked.line.starts_with("GET /api/v1/tasks/"), "nothing is created: {}", asked.line);
    assert_eq!(asked.headers["authorization"], "Bearer aio_wrong-key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_known_by_a_task_that_is_not() {
    let (house, _provider) = with_provider(dated("404 Not Found", 0, UNKNOWN), |_| ()).await;
    assert_eq!(house.check("api_key").await.0, "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_without_credits() {
    let body = r#"{"error":{"code":402,"message":"insufficient credits"}}"#;
    let (house, _provider) = with_provider(dated("402 Payment Required", 0, body), |_| ()).await;
    says(&house.check("api_key").await, "warning", &["out of credits"], "buy");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_host_than_the_provider_s() {
    let page = Reply::new("404 Not Found\nContent-Type: text/html", "<html>nginx</html>");
    let (house, _provider) = with_provider(page, |_| ()).await;
    says(&house.check("api_key").await, "warning", &["not as an API"], "task_path");
    let elsewhere = Reply::new("301 Moved Permanently\nLocation: https://other.example/api", "");
    let (house, provider) = with_provider(elsewhere, |_| ()).await;
    says(&house.check("api_key").await, "failed", &["redirects to https://other.example/api"], "base_url");
    assert_eq!(provider.received().len(), 1, "the key goes nowhere else");
    let closed = url("http://127.0.0.1:1");
    let house = House::with(|config| config.upstream.base_url = closed).await;
    let document = house.examined().await;
    says(&crate::check(&document, "api_key"), "failed", &["does not answer", "refused"], "firewall");
    assert!(!document.to_string().contains("\"clock\""), "nobody told the time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_wrong_by_a_little_and_by_much() {
    for (ahead, verdict, side) in [
        (2, "ok", "agree"),
        (120, "warning", "behind"),
        (-120, "warning", "ahead of"),
        (7_200, "failed", "behind"),
    ] {
        let (house, _provider) = with_provider(dated("404 Not Found", ahead, UNKNOWN), |_| ()).await;
        let found = house.check("clock").await;
        assert_eq!(found.0, verdict, "{ahead}: {found:?}");
        assert!(found.1.contains(side), "{ahead}: {found:?}");
    }
    let (house, _provider) = with_provider(Reply::new("404 Not Found", UNKNOWN), |_| ()).await;
    says(&house.check("clock").await, "warning", &["does not tell the time"], "compare");
}
