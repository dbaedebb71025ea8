//! The file host: real videos, correct ranges, and the ways in which a download breaks.

use std::{
    error::Error,
    io,
    time::{Duration, Instant},
};

use mp4_atom::{Any, Codec, ReadFrom};
use reqwest::Response;

use crate::support::{Bench, eventually, link};

async fn bytes_of(bench: &Bench, url: &str) -> Vec<u8> {
    let answer = bench.get(url).await;
    assert_eq!(answer.status(), 200);
    answer.bytes().await.unwrap().to_vec()
}

fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.headers().get(name).unwrap_or_else(|| panic!("no {name}")).to_str().unwrap()
}

/// What arrives of an answer before it breaks off, and the error that it breaks off with.
async fn broken(mut answer: Response) -> (Vec<u8>, reqwest::Error) {
    let mut received = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => received.extend(chunk),
            Ok(None) => panic!("the answer did not break off"),
            Err(error) => return (received, error),
        }
    }
}

fn is_reset(error: &reqwest::Error) -> bool {
    let mut cause: Option<&dyn Error> = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::ConnectionReset) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[tokio::test]
async fn every_aspect_ratio_has_a_real_mp4_of_that_shape() {
    let bench = Bench::start().await;
    for (ratio, width, height) in [("16:9", 320, 180), ("9:16", 180, 320), ("1:1", 240, 240)] {
        let mut body = bench.body("a cat");
        body["aspect_ratio"] = ratio.into();
        bench.create_call(&body).send().await.unwrap();
        let task_id = bench.ledger().creates.last().unwrap().task_id.clone().unwrap();
        let video = bytes_of(&bench, &link(&bench.end_of(&task_id).await)).await;
        assert!(video.len() < 20_000);
        assert_eq!(infer::get(&video).unwrap().mime_type(), "video/mp4");

        let mut reader = io::Cursor::new(&video);
        let mut atoms = Vec::new();
        while reader.position() < video.len() as u64 {
            atoms.push(Any::read_from(&mut reader).unwrap());
        }
        let position = |wanted: fn(&Any) -> bool| atoms.iter().position(wanted).unwrap();
        let moov = position(|atom| matches!(atom, Any::Moov(_)));
        assert!(moov < position(|atom| matches!(atom, Any::Mdat(_))), "a browser can play before it has all");
        let Any::Moov(moov) = &atoms[moov] else { unreachable!() };
        let Codec::Avc1(codec) = &moov.trak[0].mdia.minf.stbl.stsd.codecs[0] else { panic!("not H.264") };
        assert_eq!((codec.visual.width, codec.visual.height), (width, height));
    }
}

#[tokio::test]
async fn a_file_is_served_with_what_a_resuming_client_needs() {
    let bench = Bench::start().await;
    let url = bench.video_url("a cat").await;
    let head = bench.client.head(&url).send().await.unwrap();
    assert_eq!(head.status(), 200);
    let announced = header(&head, "content-length").to_owned();
    assert!(head.bytes().await.unwrap().is_empty());

    let whole = bench.get(&url).await;
    assert_eq!((header(&whole, "content-type"), header(&whole, "accept-ranges")), ("video/mp4", "bytes"));
    let etag = header(&whole, "etag").to_owned();
    let modified = header(&whole, "last-modified").to_owned();
    let whole = whole.bytes().await.unwrap();
    assert_eq!(announced, whole.len().to_string());

    let changed = ["\"other\"", "W/\"other\"", "Thu, 01 Jan 1970 00:00:00 GMT", "junk"];
    let weak = format!("W/{etag}");
    let if_ranges = [None, Some(etag.as_str()), Some(modified.as_str())];
    for if_range in if_ranges.into_iter().chain(changed.map(Some)).chain([Some(weak.as_str())]) {
        let mut call = bench.client.get(&url).header("Range", "bytes=100-");
        if let Some(value) = if_range {
            call = call.header("If-Range", value);
        }
        let answer = call.send().await.unwrap();
        let (status, start) = if if_ranges.contains(&if_range) { (206, 100) } else { (200, 0) };
        assert_eq!(answer.status(), status, "If-Range: {if_range:?}");
        assert_eq!(answer.bytes().await.unwrap(), whole[start..], "If-Range: {if_range:?}");
    }
    let seen = bench.ledger().downloads;
    assert_eq!(
        (seen[2].range.as_deref(), seen[3].if_range.as_deref()),
        (Some("bytes=100-"), Some(etag.as_str()))
    );
}

#[tokio::test]
async fn ranges_are_answered_with_exactly_their_bytes() {
    let bench = Bench::start().await;
    let url = bench.video_url("a cat").await;
    let whole = bytes_of(&bench, &url).await;
    let length = whole.len();
    for (range, expected) in [
        ("bytes=0-0", 0..1),
        ("bytes=10-19", 10..20),
        ("bytes=10-999999", 10..length),
        ("bytes=-5", length - 5..length),
        ("bytes=-999999", 0..length),
    ] {
        let answer = bench.client.get(&url).header("Range", range).send().await.unwrap();
        assert_eq!(answer.status(), 206, "{range}");
        let shown = format!("bytes {}-{}/{length}", expected.start, expected.end - 1);
        assert_eq!(header(&answer, "content-range"), shown);
        assert_eq!(header(&answer, "content-length"), expected.len().to_string());
        assert_eq!(answer.bytes().await.unwrap(), whole[expected], "{range}");
    }
    for range in ["bytes=0-1,5-6", "bytes=9-5", "lines=1-2", "nonsense"] {
        let answer = bench.client.get(&url).header("Range", range).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.bytes().await.unwrap().len()), (200, length), "{range}");
    }
    for range in [format!("bytes={length}-"), "bytes=-0".to_owned()] {
        let answer = bench.client.get(&url).header("Range", &range).send().await.unwrap();
        assert_eq!(answer.status(), 416, "{range}");
        assert_eq!(header(&answer, "content-range"), format!("bytes */{length}"));
    }
}

#[tokio::test]
async fn only_the_signed_link_opens_a_file() {
    let bench = Bench::start().await;
    let url = bench.video_url("a cat").await;
    let (path, signature) = url.split_once("?sig=").unwrap();
    let other = bench.video_url("a dog").await;
    let foreign = other.split_once("?sig=").unwrap().1;
    assert_ne!(signature, foreign);
    for bad in
        ["", "?sig=", "?sig=0-", "?sig=9-00", &format!("?sig={foreign}"), &format!("?sig={signature}0")]
    {
        assert_eq!(bench.get(&format!("{path}{bad}")).await.status(), 403, "{bad}");
    }
    assert_eq!(bench.get(&url.replace("video.mp4", "other.mp4")).await.status(), 404);
}

#[tokio::test]
async fn a_padded_file_has_exactly_the_size_that_was_asked_for() {
    let bench = Bench::start().await;
    let url = bench.video_url("a cat [[size:3MiB]]").await;
    let whole = bytes_of(&bench, &url).await;
    assert_eq!(whole.len(), 3 << 20);
    assert_eq!(infer::get(&whole).unwrap().mime_type(), "video/mp4");
    let rest = bench.client.get(&url).header("Range", "bytes=1000001-").send().await.unwrap();
    assert_eq!(rest.bytes().await.unwrap(), whole[1_000_001..]);
}

#[tokio::test]
async fn a_missing_file_appears_in_time_and_links_are_fresh_each_time() {
    let bench = Bench::start().await;
    let task_id = bench.task("a cat [[url-404:2]]").await;
    let mut statuses = Vec::new();
    let mut links = Vec::new();
    for _ in 0..3 {
        let url = link(&bench.end_of(&task_id).await);
        statuses.push(bench.get(&url).await.status().as_u16());
        links.push(url);
    }
    assert_eq!(statuses, [404, 404, 200]);
    links.dedup();
    assert_eq!(links.len(), 3);
}

#[tokio::test]
async fn a_link_expires_and_the_task_route_gives_a_fresh_one() {
    let bench = Bench::start().await;
    let task_id = bench.task("a cat [[url-expire:2000s]]").await;
    let first = link(&bench.end_of(&task_id).await);
    let whole = bytes_of(&bench, &first).await;
    eventually("the link expires", || async { (bench.get(&first).await.status() == 403).then_some(()) })
        .await;
    let fresh = link(&bench.end_of(&task_id).await);
    assert_ne!(first, fresh);
    assert_eq!(bytes_of(&bench, &fresh).await, whole);
}

#[tokio::test]
async fn redirects_lead_to_the_file_over_as_many_hops_as_asked() {
    let bench = Bench::start().await;
    let mut url = bench.video_url("a cat [[redirect:2]]").await;
    for _ in 0..2 {
        let answer = bench.get(&url).await;
        assert_eq!(answer.status(), 302);
        url = bench.url(header(&answer, "location"));
    }
    bytes_of(&bench, &url).await;
}

#[tokio::test]
async fn a_private_redirect_leads_to_the_metadata_address() {
    let bench = Bench::start().await;
    let answer = bench.get(&bench.video_url("a cat [[redirect-private]]").await).await;
    assert_eq!(answer.status(), 302);
    assert_eq!(header(&answer, "location"), "http://169.254.169.254/latest/meta-data/");
}

#[tokio::test]
async fn a_page_passes_for_a_video() {
    let bench = Bench::start().await;
    let answer = bench.get(&bench.video_url("a cat [[not-video]]").await).await;
    assert_eq!((answer.status().as_u16(), header(&answer, "content-type")), (200, "video/mp4"));
    assert!(answer.text().await.unwrap().starts_with("<!doctype html>"));
}

#[tokio::test]
async fn a_truncated_download_finishes_by_resuming_and_only_so() {
    let bench = Bench::start().await;
    let url = bench.video_url("a cat [[truncate]][[size:1MiB]]").await;
    for _ in 0..2 {
        let answer = bench.get(&url).await;
        assert_eq!(header(&answer, "content-length"), (1 << 20).to_string());
        let (received, error) = broken(answer).await;
        assert!(!received.is_empty() && received.len() <= 1 << 19, "{}", received.len());
        assert!(!is_reset(&error));
    }
    let (mut received, _) = broken(bench.get(&url).await).await;
    let range = format!("bytes={}-", received.len());
    let rest = bench.client.get(&url).header("Range", range).send().await.unwrap();
    assert_eq!(rest.status(), 206);
    received.extend(rest.bytes().await.unwrap());
    assert_eq!(received.len(), 1 << 20);
}

#[tokio::test]
async fn a_download_is_reset_once() {
    let bench = Bench::start().await;
    for size in ["", "[[size:1MiB]]"] {
        let url = bench.video_url(&format!("a cat [[reset:40%]]{size}")).await;
        let answer = bench.get(&url).await;
        let length = answer.content_length().unwrap();
        let (received, error) = broken(answer).await;
        assert!(received.len() as u64 <= length * 40 / 100);
        assert!(is_reset(&error), "{error:?}");
        let whole = bytes_of(&bench, &url).await;
        assert_eq!(whole.len() as u64, length);
        assert_eq!(whole[..received.len()], received);
    }
}

#[tokio::test]
async fn a_slow_download_takes_at_least_its_time() {
    let bench = Bench::start().await;
    let url = bench.video_url("a cat [[slow-download:10kB]]").await;
    let started = Instant::now();
    let whole = bytes_of(&bench, &url).await;
    assert!(started.elapsed() >= Duration::from_millis(whole.len() as u64 / 10));
}
