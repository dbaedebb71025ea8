//! A lean load generator: prebuilt requests over kept connections, on one thread, since the server needs the others.

use std::{
    cell::RefCell,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Context;
use futures_util::future::try_join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A request as it goes over the wire.
pub(crate) fn post(address: SocketAddr, path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let head = "Content-Type: application/json\r\nContent-Length";
    format!("POST {path} HTTP/1.1\r\nHost: {address}\r\n{head}: {length}\r\n\r\n{body}").into_bytes()
}

/// What came of a load.
#[derive(Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

/// Sends every request once over `connections` connections, each of which sends one after the other.
///
/// # Errors
/// An answer has another status than `wanted`: such a run measures nothing.
pub(crate) fn send<'a>(
    address: SocketAddr,
    connections: usize,
    wanted: u16,
    requests: impl IntoIterator<Item = &'a [u8]>,
) -> anyhow::Result<Rate> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let open = (0..connections).map(|_| TcpStream::connect(address));
        let streams = try_join_all(open).await?;
        let shared = RefCell::new(requests.into_iter());
        let next = || shared.borrow_mut().next();
        let begun = Instant::now();
        let latencies =
            try_join_all(streams.into_iter().map(|stream| exchange(stream, wanted, next))).await?;
        let took = begun.elapsed();
        let mut latencies: Vec<_> = latencies.into_iter().flatten().collect();
        latencies.sort_unstable();
        let at = |share: f64| latencies.get((latencies.len() as f64 * share) as usize).copied();
        let (p50, p99) = at(0.5).zip(at(0.99)).context("there was nothing to send")?;
        Ok(Rate { per_second: latencies.len() as f64 / took.as_secs_f64(), p50, p99 })
    })
}

async fn exchange<'a>(
    mut stream: TcpStream,
    wanted: u16,
    next: impl Fn() -> Option<&'a [u8]>,
) -> anyhow::Result<Vec<Duration>> {
    stream.set_nodelay(true)?;
    let (mut latencies, mut answer) = (Vec::new(), Vec::with_capacity(16 * 1024));
    while let Some(request) = next() {
        let begun = Instant::now();
        stream.write_all(request).await?;
        answer.clear();
        while !is_complete(&answer) {
            anyhow::ensure!(stream.read_buf(&mut answer).await? > 0, "the server closed the connection");
        }
        latencies.push(begun.elapsed());
        let status = answer.get(9..12).and_then(|status| std::str::from_utf8(status).ok()?.parse().ok());
        anyhow::ensure!(
            status == Some(wanted),
            "{wanted} was expected:\n{}",
            String::from_utf8_lossy(&answer)
        );
    }
    Ok(latencies)
}

/// Whether the head and as many bytes as it promises are there.
pub(crate) fn is_complete(answer: &[u8]) -> bool {
    const NAME: &[u8] = b"\r\ncontent-length: ";
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let head = &answer[..end];
    let length =
        head.windows(NAME.len()).position(|window| window.eq_ignore_ascii_case(NAME)).map_or(0, |at| {
            let digits = head[at + NAME.len()..].iter().take_while(|byte| byte.is_ascii_digit());
            digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'))
        });
    answer.len() >= end + 4 + length
}
