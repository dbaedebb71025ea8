//! A million callbacks whose tokens are forged or nearly right, over HTTP to a server whose store is closed: one that
//! was accepted, or that only made the server look into the store, would be answered in another way. Counted, not
//! timed. `cargo bench --bench tokens`

mod support;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Context;
use futures_util::{StreamExt, TryStreamExt, stream};
use reelhook::{
    app::App,
    clock::Clock,
    lifecycle::JobId,
    server::{Listeners, Server},
};
use support::{load, preflight, server::Site, setting};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Runtime,
};

const CONNECTIONS: usize = 32;
const BATCH: usize = 50_000;

fn main() -> anyhow::Result<()> {
    preflight(1 << 30)?;
    let count = setting("TOKENS", 1_000_000)?;
    let site = Site::new("")?;
    let runtime = Runtime::new()?;
    let mut config = site.config()?;
    // The limit would answer most of them, and is not what is asked about.
    config.callback.miss_limit_per_minute = 100_000_000;
    let listeners = Listeners::bind(&config)?;
    let server = runtime.block_on(Server::start(config, Clock::system(), listeners))?;
    let (app, address) = (server.app(), server.callback());
    runtime.block_on(app.store().close());
    let probe = JobId::from_bytes([7; 16]);
    anyhow::ensure!(runtime.block_on(app.store().load(probe)).is_err(), "the closed store can be read");
    // What a look into the store is answered, so that none goes unseen.
    let right = request(address, &path(app, probe)?);
    load::send(address, 1, 503, [right.as_slice()]).context("a right token")?;

    let begun = Instant::now();
    let mut sent = 0;
    while sent < count {
        let requests = forged(app, address, sent, BATCH.min(count - sent))?;
        sent += requests.len();
        let refused = stream::iter(&requests).map(|request| refused(address, request));
        runtime.block_on(refused.buffer_unordered(CONNECTIONS).try_collect::<()>())?;
    }
    let took = begun.elapsed().max(Duration::from_millis(1));
    println!(
        "forged and near-miss tokens        {sent:>9}   all answered 404 without the store, in {:.0} s",
        took.as_secs_f64()
    );
    Ok(())
}

/// One connection each, since the server closes those of strangers.
async fn refused(address: SocketAddr, request: &[u8]) -> anyhow::Result<()> {
    let (mut stream, mut answer) = (TcpStream::connect(address).await?, Vec::new());
    stream.write_all(request).await?;
    stream.read_to_end(&mut answer).await?;
    let (sent, answered) = (String::from_utf8_lossy(request), String::from_utf8_lossy(&answer));
    anyhow::ensure!(answered.starts_with("HTTP/1.1 404 "), "{sent} was answered {answered}");
    Ok(())
}

fn request(address: SocketAddr, path: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n\r\n").into_bytes()
}

fn path(app: &App, id: JobId) -> anyhow::Result<String> {
    Ok(app.callback_url(id).context("no public address")?.path().to_owned())
}

/// Requests that open nothing, each for a job of its own and of one of eight kinds in turn.
fn forged(app: &App, address: SocketAddr, first: usize, count: usize) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut random = vec![0; 48 * count];
    getrandom::fill(&mut random)?;
    let random = random.as_chunks::<48>().0;
    let one = |(number, random): (usize, &[u8; 48])| {
        let (id, noise) = random.split_at(16);
        let id = JobId::from_bytes(id.try_into()?);
        let path = path(app, id)?;
        let (job, token) = path.rsplit_once('/').context("no token in the path")?;
        let at = usize::from(noise[0]) % token.len();
        let other = if token.as_bytes()[at] == b'0' { '1' } else { '0' };
        let near = match number % 8 {
            0 => hex::encode(noise),
            1 => format!("{}{other}{}", &token[..at], &token[at + 1..]),
            2 => token[..at].to_owned(),
            3 => format!("{token}{other}"),
            4 => token.to_uppercase(),
            5 => token.chars().rev().collect(),
            6 => format!("{}%30{}", &token[..at], &token[at + 1..]),
            _ => path_of_neighbour(app, random)?,
        };
        // A token may have no letters, or be its own mirror image, or have the digit that replaces another.
        let near = if near == token || near.replace("%30", "0") == token { hex::encode(noise) } else { near };
        Ok(request(address, &format!("{job}/{near}")))
    };
    (first..).zip(random).map(one).collect()
}

/// The token of the job whose id differs in one bit.
fn path_of_neighbour(app: &App, random: &[u8; 48]) -> anyhow::Result<String> {
    let mut id: [u8; 16] = random[..16].try_into()?;
    id[15] ^= 1;
    let path = path(app, JobId::from_bytes(id))?;
    Ok(path.rsplit_once('/').context("no token in the path")?.1.to_owned())
}
