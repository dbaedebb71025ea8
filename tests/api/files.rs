//! Stored files: whole, in ranges, under conditions, and by signed link.

use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::problems::refused;
use crate::support::World;

struct Stored {
    world: World,
    path: String,
    link: String,
    content: Vec<u8>,
    sha256: String,
}

async fn stored() -> Stored {
    let world = World::start().await;
    let id = world.submit("a lock").await;
    let job = world.ended(&id).await;
    let file = &job["files"][0];
    let content = std::fs::read(world.config.storage.root.join(file["location"].as_str().unwrap())).unwrap();
    let path = format!("/v1/jobs/{id}/files/{}", file["name"].as_str().unwrap());
    let (link, sha256) =
        (file["url"].as_str().unwrap().to_owned(), file["sha256"].as_str().unwrap().to_owned());
    Stored { world, path, link, content, sha256 }
}

impl Stored {
    fn get(&self) -> RequestBuilder {
        self.world.http.get(self.world.url(&self.path))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_comes_whole_with_the_headers_that_keep_it_a_video() {
    let file = stored().await;
    for (request, embeds) in [(file.get(), "same-origin"), (file.world.http.get(&file.link), "cross-origin")]
    {
        let answer = request.send().await.unwrap();
        let headers = answer.headers().clone();
        let header = |name: &str| headers[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), "video/mp4");
        assert_eq!(header("etag"), format!("\"{}\"", file.sha256));
        assert_eq!(header("accept-ranges"), "bytes");
        assert_eq!(header("content-length"), file.content.len().to_string());
        assert_eq!(header("content-security-policy"), "sandbox; default-src 'none'; media-src 'self'");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("cross-origin-resource-policy"), embeds);
        assert!(header("content-disposition").starts_with("inline; filename="), "{headers:?}");
        let body = answer.bytes().await.unwrap();
        assert_eq!(hex::encode(Sha256::digest(&body)), file.sha256);
    }
    let saved = file.get().query(&[("download", "1")]).send().await.unwrap();
    assert!(saved.headers()["content-disposition"].to_str().unwrap().starts_with("attachment; filename="));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_are_answered_by_the_book() {
    let file = stored().await;
    let size = file.content.len();
    let etag = format!("\"{}\"", file.sha256);
    let (last, past) = (size - 1, size + 9);
    for (range, expected) in [
        ("bytes=0-9".to_owned(), Some((0, 9))),
        ("bytes=5-5".to_owned(), Some((5, 5))),
        ("bytes=10-".to_owned(), Some((10, last))),
        ("bytes=-7".to_owned(), Some((size - 7, last))),
        (format!("bytes=0-{past}"), Some((0, last))),
        (format!("bytes=-{past}"), Some((0, last))),
        (format!("bytes={last}-{last}"), Some((last, last))),
        // Several ranges and what is not understood: the whole file.
        ("bytes=0-1,5-6".to_owned(), None),
        ("chapters=1-2".to_owned(), None),
        ("bytes=x-y".to_owned(), None),
    ] {
        for if_range in [None, Some(&etag)] {
            let mut request = file.get().header("range", &range);
            if let Some(etag) = if_range {
                request = request.header("if-range", etag);
            }
            let answer = request.send().await.unwrap();
            let status = answer.status().as_u16();
            let content_range =
                answer.headers().get("content-range").map(|value| value.to_str().unwrap().to_owned());
            let body = answer.bytes().await.unwrap();
            match expected {
                Some((first, last)) => {
                    assert_eq!(
                        (status, content_range),
                        (206, Some(format!("bytes {first}-{last}/{size}"))),
                        "{range}"
                    );
                    assert!(body == file.content[first..=last], "{range}");
                }
                None => {
                    assert_eq!((status, content_range), (200, None), "{range}");
                    assert!(body == file.content, "{range}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_beyond_the_end_is_refused_with_the_size() {
    let file = stored().await;
    let size = file.content.len();
    for range in [format!("bytes={size}-"), format!("bytes={size}-{}", size + 5), "bytes=-0".to_owned()] {
        let answer = file.get().header("range", &range).send().await.unwrap();
        assert_eq!(answer.headers()["content-range"], format!("bytes */{size}"), "{range}");
        refused(file.get().header("range", &range), 416, "range-not-satisfiable").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conditions_spare_what_the_caller_has_and_never_mix_two_files() {
    let file = stored().await;
    let etag = format!("\"{}\"", file.sha256);
    for known in [etag.clone(), format!("W/{etag}"), format!("\"other\", {etag}"), "*".to_owned()] {
        assert_eq!(file.get().header("if-none-match", &known).send().await.unwrap().status(), 304, "{known}");
    }
    assert_eq!(file.get().header("if-none-match", "\"other\"").send().await.unwrap().status(), 200);
    for other in ["\"other\"".to_owned(), format!("W/{etag}"), "Sun, 22 Nov 2026 00:00:00 GMT".to_owned()] {
        let answer = file.get().header("range", "bytes=0-3").header("if-range", &other).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{other}: the whole, as part of another file would not fit");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_request_tells_the_same_and_sends_nothing() {
    let file = stored().await;
    for (url, range, status, length) in [
        (file.world.url(&file.path), None, 200, file.content.len()),
        (file.link.clone(), None, 200, file.content.len()),
        (file.link.clone(), Some("bytes=0-9"), 206, 10),
    ] {
        let mut request = file.world.http.request(Method::HEAD, url);
        if let Some(range) = range {
            request = request.header("range", range);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status);
        assert_eq!(answer.headers()["content-length"], length.to_string());
        assert!(answer.bytes().await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_leads_to_a_file_of_the_job_or_nowhere() {
    let file = stored().await;
    let base = file.path.rsplit_once('/').unwrap().0;
    let manifest = file.path.rsplit_once('/').unwrap().1.replace(".mp4", ".json");
    std::fs::write(file.world.config.storage.root.join("secret.mp4"), "secret").unwrap();
    for name in
        [&manifest, "secret.mp4", "..%2fsecret.mp4", "%2e%2e%2f%2e%2e%2fsecret.mp4", "%00", ".reelhook", "x"]
    {
        refused(file.world.http.get(file.world.url(&format!("{base}/{name}"))), 404, "not-found").await;
    }
    let id = base.split('/').nth(3).unwrap();
    let manifest = file.world.get(&format!("/v1/jobs/{id}/manifest")).await;
    assert_eq!(
        (&manifest["job_id"], &manifest["files"][0]["sha256"]),
        (&id.into(), &file.sha256.as_str().into())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_opens_its_own_file_until_it_expires_and_nothing_else() {
    let file = stored().await;
    let other = file.world.submit("another").await;
    let other: Value = file.world.ended(&other).await;
    let url: url::Url = file.link.parse().unwrap();
    let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    let (exp, sig) = (pairs[0].1.clone(), pairs[1].1.clone());
    let with = |exp: &str, sig: &str| {
        let mut url = url.clone();
        url.query_pairs_mut().clear().append_pair("exp", exp).append_pair("sig", sig);
        file.world.http.get(url)
    };
    assert_eq!(with(&exp, &sig).send().await.unwrap().status(), 200);
    let flipped = sig.chars().rev().collect::<String>();
    let later = (exp.parse::<i64>().unwrap() + 1).to_string();
    for (exp, sig) in [
        (later.as_str(), sig.as_str()),
        (&exp, &flipped),
        (&exp, ""),
        (&exp, &sig.to_uppercase()),
        ("", &sig),
        ("x", &sig),
    ] {
        refused(with(exp, sig), 403, "forbidden").await;
    }
    let foreign: url::Url = other["files"][0]["url"].as_str().unwrap().parse().unwrap();
    let mixed = format!("http://{}{}?{}", file.world.server().api(), foreign.path(), url.query().unwrap());
    refused(file.world.http.get(mixed), 403, "forbidden").await;
    for id in ["x", "job_00000000000000000000000000000000"] {
        let url = file.world.url(&format!("/media/{id}/x.mp4?exp={exp}&sig={sig}"));
        refused(file.world.http.get(url), 403, "forbidden").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_has_expired_is_refused() {
    let world = World::with(|config| config.server.link_ttl = std::time::Duration::ZERO).await;
    let id = world.submit("a lock").await;
    let job = world.ended(&id).await;
    refused(world.http.get(job["files"][0]["url"].as_str().unwrap()), 403, "forbidden").await;
}
