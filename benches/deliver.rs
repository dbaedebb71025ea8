//! How soon the app hears that a video is stored, and whether a sink that hangs slows one that does not.
//! `cargo bench --bench deliver`

mod support;

#[path = "../tests/support/video.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "made for tests; used in part")]
mod video;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    sync::mpsc::Receiver,
    thread,
    time::{Duration, UNIX_EPOCH},
};

use anyhow::Context;
use bytes::Bytes;
use serde_json::Value;
use support::{
    load::is_complete,
    preflight,
    receiver::{self, Heard},
    seed,
    server::Site,
    turns,
};

const JOBS: usize = 500;
const VIDEO: usize = 64 << 10;
const DELIVERIES: usize = 1_000;
const ROUNDS: usize = 5;
/// Only a broken run waits so long for the next delivery.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> anyhow::Result<()> {
    preflight(4 << 30)?;
    latency()?;
    let turns::Compared { yardstick, measured, ratio } =
        turns::compare(ROUNDS, || told(&["app"]), |_| told(&["app", "hanging"]))?;
    println!("{DELIVERIES} deliveries to one sink           {yardstick:>8.0} ms");
    println!("the same beside a sink that hangs   {measured:>8.0} ms   ratio {ratio:.3}");
    Ok(())
}

/// From the moment that an event says it happened, which is before it is on the disk, until the app has all of it. One
/// job at a time.
fn latency() -> anyhow::Result<()> {
    let (app, heard) = receiver::healthy()?;
    let site = Site::new(&format!("[download]\nconcurrency = 1\n{}", sink("app", app, "job.succeeded")))?;
    let host = host(video::mp4(VIDEO))?;
    let links: Vec<_> = (0..JOBS).map(|number| format!("http://{host}/{number}.mp4")).collect();
    seed::fetching(&site, &links)?;
    let _server = site.start()?;
    let mut waits =
        (0..JOBS).map(|_| waited(&heard.recv_timeout(PATIENCE)?)).collect::<anyhow::Result<Vec<_>>>()?;
    waits.sort_unstable_by(f64::total_cmp);
    let p99 = waits[waits.len() * 99 / 100];
    println!(
        "stored -> webhook received   {:>8.1} ms (median of {JOBS}, p99 {p99:.1})",
        turns::median(waits)
    );
    Ok(())
}

/// Milliseconds between an event and its arrival; an event's time has no fractions of one, so at most one too many.
fn waited(heard: &Heard) -> anyhow::Result<f64> {
    let start = heard.text.windows(4).position(|window| window == b"\r\n\r\n").context("no body")?;
    let event: Value = serde_json::from_slice(&heard.text[start + 4..])?;
    anyhow::ensure!(event["type"] == "job.succeeded", "{event}");
    let happened: jiff::Timestamp =
        event["timestamp"].as_str().context("an event without a time")?.parse()?;
    Ok(heard.time.duration_since(UNIX_EPOCH)?.as_secs_f64() * 1e3 - happened.as_millisecond() as f64)
}

/// Milliseconds from the first delivery to the last of those to `app`, all of which a server finds due when it starts.
fn told(sinks: &[&str]) -> anyhow::Result<f64> {
    let (app, heard) = receiver::healthy()?;
    let site = Site::new(&format!(
        "{}{}",
        sink("app", app, "job.created"),
        sink("hanging", receiver::hanging()?, "job.created")
    ))?;
    seed::owing(&site, DELIVERIES, sinks)?;
    rustix::fs::sync();
    let _server = site.start()?;
    span(&heard)
}

fn span(heard: &Receiver<Heard>) -> anyhow::Result<f64> {
    let first = heard.recv_timeout(PATIENCE)?.at;
    let mut last = first;
    for _ in 1..DELIVERIES {
        last = heard.recv_timeout(PATIENCE)?.at;
    }
    Ok((last - first).as_secs_f64() * 1e3)
}

fn sink(name: &str, address: SocketAddr, event: &str) -> String {
    format!("[sinks.{name}]\ntype = \"webhook\"\nurl = \"http://{address}/hooks\"\nevents = [\"{event}\"]\n")
}

/// Serves a file under every path, to one connection at a time.
fn host(file: Bytes) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        file.len()
    );
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let (mut request, mut chunk) = (Vec::new(), [0; 4096]);
            while !is_complete(&request) {
                match stream.read(&mut chunk) {
                    Ok(read) if read > 0 => request.extend_from_slice(&chunk[..read]),
                    _ => break,
                }
            }
            // A client that is gone will ask again.
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&file)).ok();
        }
    });
    Ok(address)
}
