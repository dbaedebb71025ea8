//! How many durable acknowledgements of callbacks, and durable creations of jobs, a second: each as a share of what
//! the same server answers to a POST that does nothing, under the same load generator. `cargo bench --bench intake`

mod support;

use support::{
    load::{self, Rate, post},
    preflight, seed,
    server::Site,
    turns,
};

const ROUNDS: usize = 5;
/// Requests in one turn.
const TURN: usize = 20_000;
const WARM_UP: usize = 5_000;
const CREATE: &str = r#"{"input":{"model":"kling-3","prompt":"A paper boat drifts down a rain-washed street at dusk, the camera follows close above the water, warm light from shop windows","mode":"std","duration":5,"aspect_ratio":"16:9","sound":true},"tags":["campaign-7"],"metadata":{"order":"20261102-17"}}"#;

fn main() -> anyhow::Result<()> {
    preflight(4 << 30)?;
    println!("{:<34} {:>9} {:>9} {:>7} {:>9} {:>9}", "", "no-op/s", "durable/s", "ratio", "p50 ms", "p99 ms");
    intake(64)?;
    intake(256)?;
    create(256)
}

fn intake(connections: usize) -> anyhow::Result<()> {
    let site = Site::new("")?;
    let jobs = seed::awaiting(&site, WARM_UP + ROUNDS * TURN)?;
    let calls = jobs.iter().enumerate().map(|(number, id)| {
        let body = seed::callback_body(number, if number % 2 == 0 { "SUCCESS" } else { "success" });
        Ok(post(site.callback, &site.callback_path(*id)?, &body))
    });
    let calls = calls.collect::<anyhow::Result<Vec<_>>>()?;
    let (warm_up, calls) = calls.split_at(WARM_UP);
    let _server = site.start()?;
    let send =
        |calls: &[Vec<u8>]| load::send(site.callback, connections, 200, calls.iter().map(Vec::as_slice));
    send(warm_up)?;
    let turn = |round: usize| send(&calls[round * TURN..(round + 1) * TURN]);
    report(&format!("intake, {connections} connections"), &site, connections, turn)
}

fn create(connections: usize) -> anyhow::Result<()> {
    let site = Site::new("")?;
    let _server = site.start()?;
    let call = post(site.api, "/v1/jobs", CREATE);
    let send = |count| load::send(site.api, connections, 202, std::iter::repeat_n(call.as_slice(), count));
    send(WARM_UP)?;
    report(&format!("create, {connections} connections"), &site, connections, |_| send(TURN))
}

fn report(
    name: &str,
    site: &Site,
    connections: usize,
    mut turn: impl FnMut(usize) -> anyhow::Result<Rate>,
) -> anyhow::Result<()> {
    // The same request, body and all, to a route that does nothing with it.
    let ping = post(site.callback, "/cb/ping", &seed::callback_body(0, "SUCCESS"));
    let no_op = || {
        let calls = std::iter::repeat_n(ping.as_slice(), 2 * TURN);
        Ok(load::send(site.callback, connections, 200, calls)?.per_second)
    };
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    let compared = turns::compare(ROUNDS, no_op, |round| {
        let rate = turn(round)?;
        p50.push(rate.p50.as_secs_f64() * 1e3);
        p99.push(rate.p99.as_secs_f64() * 1e3);
        Ok(rate.per_second)
    })?;
    let (p50, p99) = (turns::median(p50), turns::median(p99));
    let turns::Compared { yardstick, measured, ratio } = compared;
    println!("{name:<34} {yardstick:>9.0} {measured:>9.0} {ratio:>7.3} {p50:>9.1} {p99:>9.1}");
    Ok(())
}
