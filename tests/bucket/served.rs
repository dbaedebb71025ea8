//! Handing stored files out: through the server, or by a redirect to the bucket.

use reqwest::{Method, StatusCode, header, redirect};

use super::*;

/// A world with one stored video of several pieces; its job and its bytes.
async fn stored(server: &Seaweed, serve: Serve) -> (World, Value, Vec<u8>) {
    let world = world(server.settings(serve)).await;
    let id = world.submit(&format!("a fox {LARGE}")).await;
    let job = world.ended(&id).await;
    let location = format!("team/one/{}", job["files"][0]["location"].as_str().unwrap());
    let body = content(&server.client(), &location).await;
    (world, job, body)
}

fn path_of(job: &Value) -> String {
    format!("/v1/jobs/{}/files/{}", job["id"].as_str().unwrap(), job["files"][0]["name"].as_str().unwrap())
}

/// The signed link that an unmodified client is given.
async fn media_link(world: &World, job: &Value) -> String {
    let task = world.get(&format!("/api/v1/tasks/{}", job["id"].as_str().unwrap())).await;
    task["data"]["output"]["video_url"].as_str().unwrap_or_else(|| panic!("{task:#}")).to_owned()
}

/// A client that follows no redirect.
fn plain() -> reqwest::Client {
    reqwest::Client::builder().redirect(redirect::Policy::none()).no_proxy().build().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_the_server_a_file_is_whole_or_any_range_of_it() {
    let server = Seaweed::start().await;
    let (world, job, body) = Box::pin(stored(&server, Serve::Proxy)).await;
    for url in [world.url(&path_of(&job)), media_link(&world, &job).await] {
        let whole = plain().get(&url).send().await.unwrap();
        assert_eq!(whole.status(), StatusCode::OK);
        assert!(whole.bytes().await.unwrap() == body);
        let size = body.len();
        for (range, part) in [
            ("bytes=0-0", 0..1),
            ("bytes=5242870-5242889", 5_242_870..5_242_890),
            ("bytes=-7", size - 7..size),
            (&format!("bytes={}-", size - 3), size - 3..size),
        ] {
            let answer = plain().get(&url).header(header::RANGE, range).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT, "{range}");
            assert!(answer.bytes().await.unwrap() == body[part], "{range}");
        }
        let beyond = plain().get(&url).header(header::RANGE, format!("bytes={size}-")).send().await.unwrap();
        assert_eq!(beyond.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    }
    let manifest = world.get(&format!("/v1/jobs/{}/manifest", job["id"].as_str().unwrap())).await;
    assert_eq!(manifest["files"][0]["sha256"], job["files"][0]["sha256"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_redirect_an_unmodified_client_gets_file_and_range_from_the_bucket_without_any_key() {
    let server = Seaweed::start().await;
    let (world, job, body) = Box::pin(stored(&server, Serve::Redirect)).await;
    for url in [world.url(&path_of(&job)), media_link(&world, &job).await] {
        let answer = plain().get(&url).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::TEMPORARY_REDIRECT);
        let location = answer.headers()[header::LOCATION].to_str().unwrap();
        assert!(location.starts_with(server.endpoint().as_str()), "{location}");
        assert!(!location.contains("testsecret"), "{location}");
        // No signature outlives the link that led to it: [server] link_ttl is a day.
        let signed: Vec<(String, String)> =
            url::Url::parse(location).unwrap().query_pairs().into_owned().collect();
        let lives =
            signed.iter().find(|(name, _)| name == "X-Amz-Expires").unwrap().1.parse::<u64>().unwrap();
        assert!((86_000..=86_400).contains(&lives), "{lives}");

        assert!(support::client().get(&url).send().await.unwrap().bytes().await.unwrap() == body);
        let part = support::client().get(&url).header(header::RANGE, "bytes=100-199").send().await.unwrap();
        assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
        assert!(part.bytes().await.unwrap() == body[100..200]);

        // What the bucket would answer otherwise than this server does is left to this server.
        let head = plain().request(Method::HEAD, &url).send().await.unwrap();
        assert_eq!(
            (head.status(), head.headers()[header::CONTENT_LENGTH].to_str().unwrap()),
            (StatusCode::OK, &*body.len().to_string())
        );
        let joint = if url.contains('?') { '&' } else { '?' };
        let kept = plain().get(format!("{url}{joint}download=1")).send().await.unwrap();
        assert!(kept.headers()[header::CONTENT_DISPOSITION].to_str().unwrap().starts_with("attachment"));
        assert!(kept.bytes().await.unwrap() == body);
        let etag = format!("{}", job["files"][0]["sha256"]);
        let same = plain().get(&url).header(header::IF_NONE_MATCH, etag).send().await.unwrap();
        assert_eq!(same.status(), StatusCode::NOT_MODIFIED);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_download_command_needs_no_way_to_the_bucket() {
    let server = Seaweed::start().await;
    let (world, job, body) = Box::pin(stored(&server, Serve::Redirect)).await;
    let target = world.dir.path().join("copy.mp4");
    let (url, id, to) = (world.url(""), job["id"].as_str().unwrap().to_owned(), target.clone());
    let done = tokio::task::spawn_blocking(move || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_reelhook"));
        command.args(["download", &id, "--server", &url, "-o"]).arg(to).output().unwrap()
    });
    let done = done.await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(std::fs::read(target).unwrap() == body);
}
