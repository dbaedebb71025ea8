//! The public URL, as a stranger meets it.

use crate::{
    House,
    receiver::{Receiver, Reply},
    says, url,
};

async fn with_front(reply: Reply) -> (House, Receiver) {
    let front = Receiver::start(reply).await;
    let public_url = url(&format!("http://{}", front.address));
    (House::with(|config| config.callback.public_url = Some(public_url)).await, front)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_one_it_is_explained_how_jobs_are_found_done() {
    let house = House::with(|config| config.callback.public_url = None).await;
    let document = house.examined().await;
    says(&crate::check(&document, "public_url"), "warning", &["by asking"], "deploy/proxy");
    assert_eq!(document["ok"], true, "polling is a way to live");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_loses_the_callback_and_its_target_is_advised() {
    let (house, front) =
        with_front(Reply::new("301 Moved Permanently\nLocation: https://hooks.example.com/cb/ping", ""))
            .await;
    let found = house.check("public_url").await;
    says(&found, "failed", &["301", "callbacks are lost"], "public_url to \"https://hooks.example.com\"");
    let asked = front.only();
    assert_eq!(asked.line, "POST /cb/ping HTTP/1.1", "as a callback is");
    let (house, _front) = with_front(Reply::new("308 Permanent Redirect\nLocation: /login", "")).await;
    says(&house.check("public_url").await, "failed", &["308", "/login"], "without a redirect");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_else_is_there_cannot_pass_for_this_server() {
    for (reply, seen) in [
        (Reply::new("200 OK", "{\"ok\":true}"), "not as this server does"),
        (Reply::new("200 OK\nServer: nginx", "<h1>Welcome</h1>"), "nginx"),
        (Reply::new("404 Not Found", ""), "answers 404"),
        (Reply::new("502 Bad Gateway", ""), "does not reach this server"),
        (Reply::new("405 Method Not Allowed", ""), "does not let a POST through"),
        (Reply::new("200 OK", &format!("{{\"proof\":\"{}\"}}", "0".repeat(64))), "another reelhook"),
        (Reply::Close, "cannot be reached"),
    ] {
        let (house, _front) = with_front(reply).await;
        let found = house.check("public_url").await;
        assert!(found.0 == "failed" && found.1.contains(seen) && !found.2.is_empty(), "{seen}: {found:?}");
    }
    let other = House::start().await;
    let its_url = url(&format!("http://{}", other.server.callback()));
    let house = House::with(|config| config.callback.public_url = Some(its_url)).await;
    says(&house.check("public_url").await, "failed", &["another reelhook"], "own address");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_leads_nowhere() {
    let house = House::with(|config| config.callback.public_url = Some(url("http://nobody.invalid"))).await;
    says(&house.check("public_url").await, "failed", &["nobody.invalid", "resolved"], "DNS record");
    let house = House::with(|config| config.callback.public_url = Some(url("http://127.0.0.1:1"))).await;
    says(&house.check("public_url").await, "failed", &["nothing listens there"], "proxy runs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_a_provider_on_the_internet_cannot_reach() {
    let house = House::with(|config| config.upstream.base_url = url("https://provider.invalid")).await;
    says(
        &house.check("public_url").await,
        "failed",
        &["127.0.0.1", "your own network"],
        "that the provider can reach",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_nobody_vouches_for() {
    let front = Receiver::self_signed(Reply::new("200 OK", "{}")).await;
    let public_url = url(&format!("https://localhost:{}", front.address.port()));
    let house = House::with(|config| config.callback.public_url = Some(public_url)).await;
    says(
        &house.check("public_url").await,
        "failed",
        &["certificate is not valid"],
        "authority that everybody trusts",
    );
    assert!(front.received().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proof_answers_the_question_and_opens_nothing() {
    let house = House::start().await;
    let ask = async |challenge: String| -> serde_json::Value {
        let url = format!("http://{}/cb/ping", house.server.callback());
        let body = serde_json::json!({ "challenge": challenge });
        crate::support::client().post(url).json(&body).send().await.unwrap().json().await.unwrap()
    };
    let (one, other) = (ask("one".to_owned()).await, ask("other".to_owned()).await);
    let app = house.server.app();
    let proof = one["proof"].as_str().unwrap();
    assert!(app.is_proof("one", proof) && !app.is_proof("other", proof));
    assert_ne!(one["proof"], other["proof"]);
    // A stranger may ask for the proof of any text: of a job's id it is no token.
    let id = "job_0192f0c1a2b37c4d8e5f60718293a4b5";
    let of_a_job = ask(id.to_owned()).await;
    assert!(!app.token_is_valid(id, of_a_job["proof"].as_str().unwrap()));
    assert_eq!(ask("x".repeat(129)).await["proof"], serde_json::Value::Null);
}
