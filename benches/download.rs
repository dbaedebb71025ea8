//! Eight parallel downloads of 64 MiB, hashed and synced, against `curl -o` of the same files at the same time.
//!
//! `cargo bench --bench download` prints MiB/s of both and their ratio, for several rounds in turn. Both write to the
//! folder that `TMPDIR` names.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use reelhook::{
    config,
    outbound::{
        archive::Archive,
        download::{Downloader, Order},
        egress::Guard,
    },
};
use tokio_util::sync::CancellationToken;

#[path = "../tests/support/video.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod video;

const FILES: usize = 8;
const MIB: usize = 64;
const ROUNDS: usize = 5;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime starts");
    let host = serve(video::mp4(MIB << 20));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut ratios = Vec::new();
    for round in 1..=ROUNDS {
        let curl = rate(|| curl(host, folder.path()));
        let ours = rate(|| runtime.block_on(fetch(host, &folder.path().join(format!("archive-{round}")))));
        println!("round {round}: curl {curl:.0} MiB/s, reelhook {ours:.0} MiB/s, ratio {:.2}", ours / curl);
        ratios.push(ours / curl);
    }
    ratios.sort_by(f64::total_cmp);
    println!("median ratio {:.2}", ratios[ROUNDS / 2]);
}

/// MiB per second of one run.
fn rate(run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    (FILES * MIB) as f64 / start.elapsed().as_secs_f64()
}

fn curl(host: SocketAddr, folder: &Path) {
    let children: Vec<_> = (0..FILES)
        .map(|n| {
            let target = folder.join(format!("curl-{n}"));
            let mut command = Command::new("curl");
            command.arg("-s").arg("-o").arg(target).arg(format!("http://{host}/{n}")).stdout(Stdio::null());
            command.spawn().expect("curl is installed")
        })
        .collect();
    for mut child in children {
        assert!(child.wait().expect("curl ends").success());
    }
}

async fn fetch(host: SocketAddr, root: &Path) {
    let settings =
        config::Storage { root: root.to_owned(), key_template: "{job_id}".to_owned(), min_free: 0 };
    let archive = Arc::new(Archive::open(&settings).await.expect("the archive opens"));
    let guard = Guard::new(vec!["127.0.0.0/8".parse().expect("a network")]);
    let downloader = Arc::new(Downloader::new(archive, guard, limits()).expect("a client"));
    let running: Vec<_> = (0..FILES)
        .map(|n| {
            let downloader = Arc::clone(&downloader);
            let (job_id, url) = (format!("job_{n}"), format!("http://{host}/{n}"));
            let order = Order { key: job_id.clone(), job_id, index: 0, url };
            tokio::spawn(async move { downloader.fetch(&order, &|_, _| {}, &CancellationToken::new()).await })
        })
        .collect();
    for download in running {
        download.await.expect("no panic").expect("the file is stored");
    }
}

fn limits() -> config::Download {
    config::Download {
        concurrency: FILES,
        stall_timeout: Duration::from_secs(30),
        max_size: 2 << 30,
        attempts: 1,
        backoff: Duration::from_secs(2),
        max_backoff: Duration::from_secs(2),
        max_redirects: 0,
        verify_container: true,
        give_up_after: Duration::from_secs(60),
    }
}

/// A host that gives the same file to everyone, a thread a connection.
fn serve(body: Bytes) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let body = body.clone();
            thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                    line.clear();
                }
                let head =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                let stream = reader.get_mut();
                stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body))
            });
        }
    });
    address
}
