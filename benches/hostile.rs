//! What a stranger with 5,000 half-open connections to the callback listener costs: the time that a good sender waits,
//! against a server that is left alone, and memory. `cargo bench --bench hostile`

mod support;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use reelhook::lifecycle::JobId;
use support::{
    load::{self, post},
    preflight, seed,
    server::{Process, Site},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};

/// Kept open, at least: one that the server closes is opened again.
const SOCKETS: usize = 5_000;
/// Who keep as many open: whom the server turned out is away for a moment.
const CALLERS: usize = 2 * SOCKETS;
/// Callbacks in one turn, each over a connection of its own, as a provider makes one.
const TURN: usize = 1_000;
const TURNS: usize = 3;
/// Between two bytes of a head that never ends.
const RHYTHM: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> anyhow::Result<()> {
    preflight(1 << 30)?;
    allow_sockets()?;
    let site = Site::new("")?;
    let jobs = seed::awaiting(&site, (2 * TURNS + 1) * TURN)?;
    let mut turns = jobs.chunks(TURN);
    let server = site.start()?;
    let mut turn = || p99(&site, turns.next().context("no jobs are left")?);
    turn()?; // warm
    let alone = (0..TURNS).map(|_| turn()).collect::<anyhow::Result<Vec<_>>>()?;
    let memory = server.memory()?;
    let siege = Siege::lay(site.callback, &server)?;
    let (taken, open) = (server.memory()?.saturating_sub(memory), server.open_files()?);
    let beside = (0..TURNS).map(|_| turn()).collect::<anyhow::Result<Vec<_>>>()?;
    let memory = taken as f64 / 1024.0 / open as f64;
    let opened = siege.opened.load(Ordering::Relaxed);
    println!("p99 of a callback on an idle server            {:>8.1} ms", worst(&alone));
    println!(
        "the same beside {open} half-open connections   {:>8.1} ms   (of {TURNS} turns the worst)",
        worst(&beside)
    );
    println!("connections that were opened in all            {opened:>8}");
    println!("resident memory of a connection                {memory:>8.1} KiB");
    Ok(())
}

fn worst(turns: &[Duration]) -> f64 {
    turns.iter().max().map_or(f64::NAN, |slowest| slowest.as_secs_f64() * 1e3)
}

/// Sends a callback about each job, one after the other.
fn p99(site: &Site, jobs: &[JobId]) -> anyhow::Result<Duration> {
    let mut latencies = jobs.iter().enumerate().map(|(number, id)| {
        let call = post(site.callback, &site.callback_path(*id)?, &seed::callback_body(number, "SUCCESS"));
        let begun = Instant::now();
        load::send(site.callback, 1, 200, [call.as_slice()])?;
        anyhow::Ok(begun.elapsed())
    });
    let mut latencies = latencies.by_ref().collect::<anyhow::Result<Vec<_>>>()?;
    latencies.sort_unstable();
    latencies.get(latencies.len() * 99 / 100).copied().context("there was nothing to send")
}

/// Each side of a connection is an open file of somebody, and one side is ours.
fn allow_sockets() -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let wanted = CALLERS as u64 + 500;
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    anyhow::ensure!(maximum.is_none_or(|most| most >= wanted), "{wanted} open files are wanted: ulimit -Hn");
    Ok(setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })?)
}

/// A thread full of half-open connections; dropping it ends them.
struct Siege {
    /// In all, those that the server closed included.
    opened: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
}

impl Siege {
    /// Returns once the server has all of them.
    fn lay(address: SocketAddr, server: &Process) -> anyhow::Result<Self> {
        let siege = Self { opened: Arc::default(), over: Arc::default() };
        let (opened, over) = (Arc::clone(&siege.opened), Arc::clone(&siege.over));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::spawn(move || {
            for number in 0..CALLERS {
                let opened = Arc::clone(&opened);
                runtime.spawn(async move {
                    loop {
                        // The server ends each of them, and whoever ended is followed by the next.
                        hold(address, number, &opened).await.ok();
                        sleep(Duration::from_millis(10)).await;
                    }
                });
            }
            runtime.block_on(async {
                while !over.load(Ordering::Relaxed) {
                    sleep(Duration::from_millis(50)).await;
                }
            });
        });
        let begun = Instant::now();
        while server.open_files()? < SOCKETS {
            anyhow::ensure!(begun.elapsed() < PATIENCE, "the server has {} files open", server.open_files()?);
            thread::sleep(Duration::from_millis(20));
        }
        Ok(siege)
    }
}

impl Drop for Siege {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// A third says nothing, a third a head by and by, a third promises a body that does not come.
async fn hold(address: SocketAddr, number: usize, opened: &AtomicUsize) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    opened.fetch_add(1, Ordering::Relaxed);
    let head = format!("POST /cb/job_{number}/x HTTP/1.1\r\nHost: {address}\r\n");
    match number % 3 {
        0 => {}
        1 => stream.write_all(head.as_bytes()).await?,
        _ => stream.write_all(format!("{head}Content-Length: 200000\r\n\r\n").as_bytes()).await?,
    }
    let (mut hears, mut speaks) = stream.split();
    let trickle = async {
        loop {
            sleep(RHYTHM).await;
            if !number.is_multiple_of(3) {
                speaks.write_all(b"x").await?;
            }
        }
    };
    let mut answer = Vec::new();
    tokio::select! {
        ended = hears.read_to_end(&mut answer) => ended.map(|_| ()),
        ended = trickle => ended,
    }
}
