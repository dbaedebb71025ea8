//! A real S3 server, SeaweedFS, on free ports, with one bucket. `tests/run` installs it.

#![allow(dead_code, clippy::unwrap_used, reason = "each test binary uses its part; a test may panic")]

#[allow(clippy::duplicate_mod, reason = "most test binaries have it for more than this")]
#[path = "port.rs"]
mod port;

use std::{
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use object_store::{ObjectStore, aws::AmazonS3Builder};
use reelhook::config::{Bucket, Cloud, Serve};
use tempfile::TempDir;
use url::Url;

use port::free_port;

pub(crate) const BUCKET: &str = "videos";
pub(crate) const KEY: &str = "testkey:testsecret";

pub(crate) struct Seaweed {
    process: Option<Child>,
    dir: TempDir,
    /// Of master, volumes, filer and S3, and of gRPC for each.
    ports: [u16; 8],
}

impl Seaweed {
    /// Starts one with the bucket `videos`.
    pub(crate) async fn start() -> Self {
        let mut server = Self::stopped();
        server.up().await;
        let made = reqwest::Client::new()
            .post(format!("http://127.0.0.1:{}/buckets/{BUCKET}/", server.ports[2]))
            .send();
        assert!(made.await.unwrap().status().is_success());
        server
    }

    /// One that has its ports and does not run so far.
    pub(crate) fn stopped() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let identities = r#"{"identities":[{"name":"test","credentials":[{"accessKey":"testkey","secretKey":"testsecret"}],
            "actions":["Admin","Read","List","Tagging","Write"]},
            {"name":"reader","credentials":[{"accessKey":"readkey","secretKey":"readsecret"}],"actions":["Read","List"]}]}"#;
        std::fs::write(dir.path().join("s3.json"), identities).unwrap();
        Self { process: None, dir, ports: [(); 8].map(|()| free_port()) }
    }

    /// Starts it, again with what it had.
    pub(crate) async fn up(&mut self) {
        let [master, volume, filer, s3, grpc @ ..] = self.ports;
        let mut arguments: Vec<String> = [
            "server",
            "-dir=.",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-filer",
            "-s3",
            "-s3.config=s3.json",
        ]
        .map(str::to_owned)
        .into();
        for (name, port, grpc) in [
            ("master", master, grpc[0]),
            ("volume", volume, grpc[1]),
            ("filer", filer, grpc[2]),
            ("s3", s3, grpc[3]),
        ] {
            arguments.push(format!("-{name}.port={port}"));
            arguments.push(format!("-{name}.port.grpc={grpc}"));
        }
        for others in ["iceberg", "lance"] {
            arguments.push(format!("-s3.port.{others}=0"));
        }
        arguments.extend(["-master.volumeSizeLimitMB=64", "-volume.max=20"].map(str::to_owned));
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/target/servers/bin/weed");
        let started = Command::new(program)
            .args(arguments)
            .current_dir(self.dir.path())
            .process_group(0)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.process = Some(started.expect("SeaweedFS is installed: `tests/run` does it"));
        let deadline = Instant::now() + Duration::from_secs(60);
        // The filer begins last; S3 says 403 to who does not sign.
        for url in [self.endpoint().into(), format!("http://127.0.0.1:{filer}/")] {
            while reqwest::get(&url).await.is_err() {
                assert!(Instant::now() < deadline, "SeaweedFS does not start");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Kills it.
    pub(crate) fn down(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub(crate) fn endpoint(&self) -> Url {
        Url::parse(&format!("http://127.0.0.1:{}", self.ports[3])).unwrap()
    }

    /// What a server has to know of it.
    pub(crate) fn settings(&self, serve: Serve) -> Bucket {
        Bucket {
            cloud: Cloud::S3,
            name: BUCKET.to_owned(),
            prefix: "team/one".to_owned(),
            endpoint: Some(self.endpoint()),
            region: None,
            credentials: Some(KEY.into()),
            serve,
        }
    }

    /// The whole bucket, as anybody else sees it.
    pub(crate) fn client(&self) -> impl ObjectStore {
        let (id, secret) = KEY.split_once(':').unwrap();
        AmazonS3Builder::new()
            .with_access_key_id(id)
            .with_secret_access_key(secret)
            .with_bucket_name(BUCKET)
            .with_endpoint(self.endpoint().as_str().trim_end_matches('/'))
            .with_allow_http(true)
            .build()
            .unwrap()
    }
}

impl Drop for Seaweed {
    fn drop(&mut self) {
        self.down();
    }
}
