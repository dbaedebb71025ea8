//! What is stored is a video that a browser plays.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
};

use support::World;

/// Plays `video.mp4` beside it to its end and tells the address in its fragment what came of it.
const PAGE: &str = r#"<!doctype html><video id="v" src="video.mp4" muted autoplay></video><script>
const video = document.getElementById("v");
const tell = (what) => { new Image().src = location.hash.slice(1) + encodeURI(what); };
video.onended = () => tell(`played/${video.videoWidth}/${video.videoHeight}`);
video.onerror = () => tell(`error/${video.error.message}`);
</script>"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stored_file_plays_in_a_browser() {
    let world = World::start().await;
    for (aspect, shown) in [("16:9", "wide"), ("9:16", "tall"), ("1:1", "square")] {
        let order = serde_json::json!({
            "input": { "model": "kling-3", "prompt": "a boat", "duration": 3, "aspect_ratio": aspect }
        });
        let id = world.post("/v1/jobs", &order).await["id"].as_str().unwrap().to_owned();
        let job = world.ended(&id).await;
        let file = world.config.storage.root.join(job["files"][0]["location"].as_str().unwrap());
        let folder = tempfile::tempdir().unwrap();
        fs::copy(file, folder.path().join("video.mp4")).unwrap();
        fs::write(folder.path().join("page.html"), PAGE).unwrap();
        let said = told_by_chromium(&folder.path().join("page.html"));
        let size = said.strip_prefix("/played/").unwrap_or_else(|| panic!("{aspect} did not play: {said}"));
        let (width, height) = size.split_once('/').unwrap();
        let (width, height): (u32, u32) = (width.parse().unwrap(), height.parse().unwrap());
        let found = if width > height {
            "wide"
        } else if width < height {
            "tall"
        } else {
            "square"
        };
        assert_eq!(found, shown, "{width}x{height}");
    }
}

/// Opens the page and returns the path that it asks for: what it has to tell.
fn told_by_chromium(page: &Path) -> String {
    let ear = TcpListener::bind("127.0.0.1:0").unwrap();
    let profile = tempfile::tempdir().unwrap();
    let mut chromium = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--mute-audio",
        ])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--autoplay-policy=no-user-gesture-required", "--remote-debugging-port=0"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("file://{}#http://{}/", page.display(), ear.local_addr().unwrap()))
        .stderr(Stdio::null())
        .spawn()
        .expect("chromium is not installed; tests/run installs it");
    let (send, heard) = mpsc::channel();
    thread::spawn(move || {
        let mut request = String::new();
        BufReader::new(ear.accept().unwrap().0).read_line(&mut request).unwrap();
        send.send(request)
    });
    let request = heard.recv_timeout(support::PATIENCE);
    chromium.kill().unwrap();
    chromium.wait().unwrap();
    request.expect("the browser told nothing").split_whitespace().nth(1).unwrap().to_owned()
}
