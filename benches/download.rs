//! Eight files of 64 MiB at once, through a running server into its archive (claimed, hashed, checked, synced,
//! renamed, recorded), against `curl -o` of the same files from the same host. `cargo bench --bench download`

mod support;

#[path = "../tests/support/video.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "made for tests; used in part")]
mod video;

use std::{
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use bytes::Bytes;
use serde_json::Value;
use support::{preflight, seed, server::Site, turns};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufStream},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};

const FILES: usize = 8;
const SIZE: usize = 64 << 20;
const ROUNDS: usize = 3;

fn main() -> anyhow::Result<()> {
    preflight(4 << 30)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_io().build()?;
    let links = host(&runtime, video::mp4(SIZE))?;
    let compared = turns::compare(ROUNDS, || curl(&links), |_| reelhook(&links))?;
    let megabytes = (FILES * SIZE) as f64 / 1e6;
    println!("curl -o, {FILES} at once     {:>8.0} MB/s", megabytes * compared.yardstick);
    println!(
        "reelhook, {FILES} at once    {:>8.0} MB/s   ratio {:.3}",
        megabytes * compared.measured,
        compared.ratio
    );
    Ok(())
}

/// Serves `file` under as many links as there are files.
fn host(runtime: &Runtime, file: Bytes) -> anyhow::Result<Vec<String>> {
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, file.clone()));
        }
    });
    Ok((0..FILES).map(|number| format!("http://{address}/{number}.mp4")).collect())
}

/// Answers each request on a connection with the file, or with the rest of it.
async fn serve(stream: TcpStream, file: Bytes) -> std::io::Result<()> {
    let mut stream = BufStream::new(stream);
    loop {
        let (mut line, mut from) = (String::new(), None);
        loop {
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            if line == "\r\n" {
                break;
            }
            let range = line.to_ascii_lowercase();
            let range =
                range.strip_prefix("range: bytes=").and_then(|range| range.split('-').next()?.parse().ok());
            from = from.or(range).filter(|from| *from < file.len());
        }
        let (status, start) = from.map_or(("200 OK", 0), |from| ("206 Partial Content", from));
        let (last, length) = (file.len() - 1, file.len());
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: video/mp4\r\nETag: \"one\"\r\nAccept-Ranges: bytes\r\n\
             Content-Range: bytes {start}-{last}/{length}\r\nContent-Length: {}\r\n\r\n",
            length - start
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&file[start..]).await?;
        stream.flush().await?;
    }
}

/// All files by one curl each; sets per second.
fn curl(links: &[String]) -> anyhow::Result<f64> {
    rustix::fs::sync();
    let folder = tempfile::TempDir::new_in(env!("CARGO_TARGET_TMPDIR"))?;
    let begun = Instant::now();
    let start = |(number, link): (usize, &String)| {
        let file = folder.path().join(format!("{number}.mp4"));
        Command::new("curl").args(["--silent", "--fail", "--noproxy", "*", "-o"]).arg(file).arg(link).spawn()
    };
    let curls = links.iter().enumerate().map(start).collect::<Result<Vec<Child>, _>>()?;
    for mut curl in curls {
        anyhow::ensure!(curl.wait()?.success(), "curl failed");
    }
    Ok(1.0 / begun.elapsed().as_secs_f64())
}

/// All files by a server that finds the jobs due when it starts; sets per second, from the first claim to the last
/// durable record.
fn reelhook(links: &[String]) -> anyhow::Result<f64> {
    let site = Site::new(&format!("[download]\nconcurrency = {FILES}\n"))?;
    seed::fetching(&site, links)?;
    rustix::fs::sync();
    let _server = site.start()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let times = |kind: &str| -> anyhow::Result<Vec<i64>> {
        let url = format!("http://{}/v1/events?limit=250&types={kind}", site.api);
        let client = reqwest::Client::builder().no_proxy().build()?;
        let page: Value = runtime.block_on(async { client.get(url).send().await?.json().await })?;
        let events = page["data"].as_array().context("no list of events")?;
        let time = |event: &Value| {
            let text = event["time"].as_str().context("an event without a time")?;
            Ok(text.parse::<jiff::Timestamp>()?.as_millisecond())
        };
        events.iter().map(time).collect()
    };
    let begun = Instant::now();
    let stored = loop {
        let stored = times("job.succeeded")?;
        if stored.len() == links.len() {
            break stored;
        }
        anyhow::ensure!(begun.elapsed() < Duration::from_secs(120), "the files were not stored in time");
        thread::sleep(Duration::from_millis(100));
    };
    let started = times("job.download_started")?;
    let (first, last) = started.iter().min().zip(stored.iter().max()).context("nothing was fetched")?;
    Ok(1e3 / (last - first) as f64)
}
