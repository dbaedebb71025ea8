//! What clients cost that follow the event log and for whom nothing happens: memory and processor time, and intake beside
//! them as a share of intake without. `cargo bench --bench streams`

mod support;

use std::{
    cell::RefCell,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use reelhook::lifecycle::JobId;
use support::{
    load::{self, post},
    preflight, seed,
    server::{Process, Site},
    turns,
};

const CLIENTS: usize = 500;
/// How long they are watched doing nothing: two heartbeats.
const IDLE: Duration = Duration::from_secs(30);
const ROUNDS: usize = 5;
/// Callbacks in one turn.
const TURN: usize = 10_000;
const WARM_UP: usize = 5_000;
const CONNECTIONS: usize = 64;

fn main() -> anyhow::Result<()> {
    preflight(4 << 30)?;
    let site = Site::new("")?;
    let jobs = seed::awaiting(&site, CLIENTS + WARM_UP + (2 * ROUNDS + 1) * TURN)?;
    let (quiet, called) = jobs.split_at(CLIENTS);
    let server = site.start()?;
    let mut calls = calls(&site, called)?.into_iter();
    let mut intake = |count: usize| {
        let calls: Vec<_> = calls.by_ref().take(count).collect();
        Ok(load::send(site.callback, CONNECTIONS, 200, calls.iter().map(Vec::as_slice))?.per_second)
    };
    intake(WARM_UP)?;
    idle(&site, &server, quiet)?;
    let intake = RefCell::new(intake);
    let alone = || {
        await_departure(&server)?;
        intake.borrow_mut()(TURN)
    };
    let beside = |_| {
        let _clients = follow(site.api, quiet)?;
        intake.borrow_mut()(TURN)
    };
    let turns::Compared { yardstick, measured, ratio } = turns::compare(ROUNDS, alone, beside)?;
    println!("intake, {CONNECTIONS} connections              {yardstick:>9.0} /s");
    println!("the same beside {CLIENTS} clients         {measured:>9.0} /s   ratio {ratio:.3}");
    Ok(())
}

/// A callback about each job.
fn calls(site: &Site, jobs: &[JobId]) -> anyhow::Result<Vec<Vec<u8>>> {
    let call = |(number, id): (usize, &JobId)| {
        let body = seed::callback_body(number, "SUCCESS");
        Ok(post(site.callback, &site.callback_path(*id)?, &body))
    };
    jobs.iter().enumerate().map(call).collect()
}

fn idle(site: &Site, server: &Process, jobs: &[JobId]) -> anyhow::Result<()> {
    let (memory, before) = (server.memory()?, server.processor_time()?);
    thread::sleep(IDLE);
    let alone = server.processor_time()? - before;
    let _clients = follow(site.api, jobs)?;
    let before = server.processor_time()?;
    thread::sleep(IDLE);
    let beside = server.processor_time()? - before;
    let taken = server.memory()?.saturating_sub(memory) as f64 / 1e3;
    let share = |time: Duration| time.as_secs_f64() / IDLE.as_secs_f64() * 100.0;
    println!("memory of an idle client            {:>9.1} kB", taken / CLIENTS as f64);
    println!("processor time without clients      {:>9.2} % of a core", share(alone));
    println!("processor time with {CLIENTS} idle clients {:>9.2} % of a core", share(beside));
    Ok(())
}

/// Connects clients, and waits until each follows: every other one a job of its own, the rest what does not happen.
fn follow(api: SocketAddr, jobs: &[JobId]) -> anyhow::Result<Vec<TcpStream>> {
    let client = |(number, id): (usize, &JobId)| {
        let path = match number % 2 {
            0 => format!("/v1/jobs/{id}/events?after=0"),
            _ => "/v1/events?types=job.held".to_owned(),
        };
        let mut stream = TcpStream::connect(api)?;
        let head = format!("GET {path} HTTP/1.1\r\nHost: {api}\r\nAccept: text/event-stream\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        let (mut text, mut chunk) = (Vec::new(), [0; 4096]);
        // The first heartbeat says that it has caught up.
        while !text.windows(9).any(|window| window == b"heartbeat") {
            let read = stream.read(&mut chunk)?;
            anyhow::ensure!(read > 0, "the stream ended: {}", String::from_utf8_lossy(&text));
            text.extend_from_slice(&chunk[..read]);
        }
        Ok(stream)
    };
    jobs.iter().enumerate().map(client).collect()
}

/// Waits until the server has noticed that all clients are gone.
fn await_departure(server: &Process) -> anyhow::Result<()> {
    while server.open_files()? >= CLIENTS {
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
