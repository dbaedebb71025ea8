//! The same on Azure's own emulator.

use std::{
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use object_store::azure::{MicrosoftAzure, MicrosoftAzureBuilder};
use reelhook::{config::Cloud, outbound::archive::probe_bucket};
use reqwest::{StatusCode, header};
use tempfile::TempDir;
use url::Url;

use super::*;

/// Everybody's, as its documentation has them.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

struct Azurite {
    process: Child,
    _dir: TempDir,
    endpoint: Url,
}

impl Azurite {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = support::free_port();
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/target/servers/node_modules/.bin/azurite-blob");
        let started = Command::new(program)
            .args(["--silent", "--skipApiVersionCheck", "--disableTelemetry", "--blobHost", "127.0.0.1"])
            .args(["--blobPort", &port.to_string(), "--location"])
            .arg(dir.path())
            .process_group(0)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let process = started.expect("Azurite is installed: `tests/run` does it");
        let endpoint = Url::parse(&format!("http://127.0.0.1:{port}/{ACCOUNT}")).unwrap();
        let server = Self { process, _dir: dir, endpoint };
        let deadline = tokio::time::Instant::now() + support::PATIENCE;
        while support::client().get(server.endpoint.clone()).send().await.is_err() {
            assert!(tokio::time::Instant::now() < deadline, "Azurite does not start");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        server.make_container().await;
        server
    }

    /// `Put Container`, signed by hand, since `object_store` makes none.
    async fn make_container(&self) {
        let (date, version) = (httpdate::fmt_http_date(std::time::SystemTime::now()), "2023-11-03");
        let headers = format!("x-ms-date:{date}\nx-ms-version:{version}");
        let signed =
            format!("PUT{}{headers}\n/{ACCOUNT}/{ACCOUNT}/videos\nrestype:container", "\n".repeat(12));
        let mut mac = Hmac::<Sha256>::new_from_slice(&BASE64_STANDARD.decode(KEY).unwrap()).unwrap();
        mac.update(signed.as_bytes());
        let signature = BASE64_STANDARD.encode(mac.finalize().into_bytes());
        let made = support::client()
            .put(format!("{}/videos?restype=container", self.endpoint))
            .header("x-ms-date", date)
            .header("x-ms-version", version)
            .header(header::AUTHORIZATION, format!("SharedKey {ACCOUNT}:{signature}"))
            .send();
        let made = made.await.unwrap();
        assert!(made.status().is_success(), "{}", made.text().await.unwrap());
    }

    fn client(&self) -> MicrosoftAzure {
        MicrosoftAzureBuilder::new()
            .with_account(ACCOUNT)
            .with_access_key(KEY)
            .with_container_name("videos")
            .with_endpoint(self.endpoint.to_string())
            .with_allow_http(true)
            .build()
            .unwrap()
    }

    fn settings(&self, serve: Serve) -> Bucket {
        Bucket {
            cloud: Cloud::Azure,
            name: "videos".to_owned(),
            prefix: "team/one".to_owned(),
            endpoint: Some(self.endpoint.clone()),
            region: None,
            credentials: Some(format!("{ACCOUNT}:{KEY}").into()),
            serve,
        }
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn azure_keeps_and_hands_out_what_s3_does() {
    let server = Azurite::start().await;
    for serve in [Serve::Proxy, Serve::Redirect] {
        probe_bucket(&server.settings(serve)).await.unwrap();
        let world = world(server.settings(serve)).await;
        let id = world.submit(&format!("a fox {LARGE}")).await;
        let job = world.ended(&id).await;
        let store = server.client();
        assert_holds_only(&store, &world.config.storage.root, &job).await;
        let file = &job["files"][0];
        let body = content(&store, &format!("team/one/{}", file["location"].as_str().unwrap())).await;
        let url = world.url(&format!("/v1/jobs/{id}/files/{}", file["name"].as_str().unwrap()));
        let part = support::client().get(&url).header(header::RANGE, "bytes=100-199").send().await.unwrap();
        assert_eq!(part.url().as_str() == url, serve == Serve::Proxy, "{}", part.url());
        assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
        assert!(part.bytes().await.unwrap() == body[100..200]);
        for key in keys(&store).await {
            store.delete(&Key::from(key)).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_container_is_said_to_be_missing() {
    let server = Azurite::start().await;
    let world = world(Bucket { name: "not-there".to_owned(), ..server.settings(Serve::Proxy) }).await;
    let id = world.submit("a fox").await;
    let job = world.until(&id, |job| job["notices"].to_string().contains("there is no bucket")).await;
    assert_eq!(job["phase"], "fetching", "{job:#}");
}
