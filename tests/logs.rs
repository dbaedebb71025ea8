//! Nothing secret reaches the log, however much is logged. One test in its own process: the log is the process's.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{
    io,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use support::{PATIENCE, World, order};
use tracing_subscriber::EnvFilter;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_tokens_links_and_prompts_are_never_logged() {
    let log = Log::default();
    let writer = log.clone();
    // Ours and the server's; the sandbox in this process logs what a provider would know.
    let filter = EnvFilter::new(
        "info,reelhook=trace,actix_web=trace,actix_http=trace,actix_server=trace,reelhook::sandbox=off",
    );
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || writer.clone()).init();
    let key = "canary-bootstrap-key-0123456789";
    let world = World::with(|config| config.auth.bootstrap_admin_key = Some(key.to_owned().into())).await;
    let post =
        |prompt: &str| world.http.post(world.url("/v1/jobs")).bearer_auth(key).json(&order(prompt)).send();
    let mut secrets = vec![key.to_owned(), "canary-prompt".to_owned()];
    for prompt in [
        "canary-prompt",
        "[[fail:no]] canary-prompt",
        "[[forged-callback]] canary-prompt",
        "[[reset:40%]] canary-prompt",
    ] {
        let id =
            post(prompt).await.unwrap().json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned();
        let url = world.url(&format!("/v1/jobs/{id}?wait={}s", PATIENCE.as_secs()));
        let job: Value = world.http.get(url).bearer_auth(key).send().await.unwrap().json().await.unwrap();
        let callback = world.server().app().callback_url(id.parse().unwrap()).unwrap();
        let token = callback.path().rsplit('/').next().unwrap().to_owned();
        world
            .http
            .post(world.callback_url(&format!("/cb/{id}/{}", &token[1..])))
            .json(&json!({}))
            .send()
            .await
            .unwrap();
        secrets.push(token[1..].to_owned());
        if let Some(link) = job["files"][0]["url"].as_str() {
            world.http.get(link).send().await.unwrap();
            world.http.get(format!("{link}0")).send().await.unwrap();
            secrets.push(link.rsplit('=').next().unwrap().to_owned());
        }
    }
    world
        .http
        .get(world.url("/v1/jobs?q=canary-prompt"))
        .bearer_auth("canary-wrong-key")
        .send()
        .await
        .unwrap();
    secrets.push("canary-wrong-key".to_owned());
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("job succeeded") && text.contains("request answered"), "something was logged");
    for secret in secrets {
        let line = text.lines().find(|line| line.contains(&secret));
        assert_eq!(line, None, "{secret}");
    }
}
