//! `reelhook dev`: server and sandbox provider in one process, on loopback, without key or configuration.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    time::Duration,
};

use reelhook::{
    config::Config,
    lifecycle::{Job, Outcome, Phase},
    sandbox::{self, Options, Sandbox},
    server::{Listeners, Server},
};
use serde_json::{Value, json};
use url::Url;

use super::{
    exit::{Exit, Failure},
    output::Output,
    serve::{failure, log, start, until_told_to_end},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Submit a job and show it through
    #[arg(long)]
    demo: bool,
    /// End after the demonstration
    #[arg(long, requires = "demo")]
    exit: bool,
    /// The provider works so many times faster than real time; 0.01 to 1000000
    #[arg(long, default_value_t = 20.0)]
    speed: f64,
    /// Folder for state and videos
    #[arg(long, value_name = "FOLDER", default_value = "data")]
    data: PathBuf,
    /// Where the API listens; a free port if the usual one is taken
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Where callbacks are received; a free port if the usual one is taken
    #[arg(long, value_name = "ADDRESS")]
    callback_listen: Option<SocketAddr>,
}

/// The demonstration's job takes a second at the usual speed; this is for slow machines.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn run(args: Args, output: &Output) -> Result<(), Failure> {
    let sandbox = provider(args.speed).await?;
    let mut config = Config::for_dev(&args.data, &sandbox.url(), args.speed);
    log(&config)?;
    (config.server.listen, config.callback.listen) = (
        args.listen.unwrap_or_else(|| free_unless(config.server.listen)),
        args.callback_listen.unwrap_or_else(|| free_unless(config.callback.listen)),
    );
    let listeners = Listeners::bind(&config).map_err(failure)?;
    let callback = listeners.callback().map_err(|error| failure(error.into()))?;
    config.callback.public_url = Url::parse(&format!("http://{callback}")).ok();
    let server = start(config, listeners).await?;
    output.note(&format!("dashboard  http://{}/", server.api()));
    output.note(&format!("provider   {} (sandbox: nothing is spent)", sandbox.url()));
    let shown = if args.demo { demonstrate(&server, args.exit, output).await } else { Ok(()) };
    if !args.exit && shown.is_ok() {
        output.note("Ctrl-C ends it");
        until_told_to_end().await?;
    }
    server.stop().await;
    sandbox.stop().await;
    shown
}

async fn provider(speed: f64) -> Result<Sandbox, Failure> {
    let failed =
        |error: std::io::Error| Failure::usage(format!("the sandbox provider does not start: {error}"));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    let options = Options::unlike_any(speed).map_err(failed)?;
    sandbox::start(listener, options).await.map_err(failed)
}

/// The usual address, or one with a free port when it is taken.
fn free_unless(usual: SocketAddr) -> SocketAddr {
    match TcpListener::bind(usual) {
        Ok(_) => usual,
        Err(_) => SocketAddr::new(usual.ip(), 0),
    }
}

/// Submits a job as any client does, over HTTP, and says what became of it.
async fn demonstrate(server: &Server, exit: bool, output: &Output) -> Result<(), Failure> {
    let broken =
        |error: reqwest::Error| Failure::new(Exit::Failure, format!("the demonstration broke off: {error}"));
    let http = reqwest::Client::builder().no_proxy().build().map_err(broken)?;
    let base = format!("http://{}/v1/jobs", server.api());
    let request = json!({
        "input": { "model": "kling-3", "prompt": "a paper boat on a rainy street", "duration": 5 },
        "tags": ["demo"],
    });
    let created: Value =
        http.post(&base).json(&request).send().await.map_err(broken)?.json().await.map_err(broken)?;
    let id = created["id"].as_str().unwrap_or_default().to_owned();
    output.note(&format!(
        "submitted  {id} ({} credits, if it were real)",
        created["cost"]["estimated_credits"]
    ));
    let wait = format!("{base}/{id}?wait={}s", PATIENCE.as_secs());
    let ended: Value = http.get(wait).send().await.map_err(broken)?.json().await.map_err(broken)?;
    let Ok(id) = id.parse() else {
        return Err(Failure::new(Exit::Failure, format!("the demonstration's job was refused: {created}")));
    };
    let job = server.app().get(id).await.map_err(|error| Failure::new(Exit::Failure, error.to_string()))?;
    let Phase::Settled { outcome: Outcome::Stored { .. } } = &job.phase else {
        return Err(Failure::new(
            Exit::JobFailed,
            format!("the demonstration's job did not succeed: {ended}"),
        ));
    };
    report(server, &job, exit, output)
}

fn report(server: &Server, job: &Job, exit: bool, output: &Output) -> Result<(), Failure> {
    let via = job.completed_via.map_or(Value::Null, |via| json!(via));
    output.note(&format!("callbacks  {} received; told of completion by {via}", job.callback.received));
    for file in job.files() {
        let path = server.app().config().storage.root.join(&file.location);
        if output.is_json() {
            output.record(&json!({ "path": path, "sha256": file.sha256, "bytes": file.bytes }))?;
        } else {
            output.line(&format!("{}  {}", file.sha256, path.display()))?;
        }
        output.note(&format!("stored     {} bytes, synced and verified", file.bytes));
        // The link is as long-lived as the server.
        if !exit {
            output.note(&format!("watch      {}", server.app().media_url(job.id, &file.name)));
        }
    }
    Ok(())
}
