//! `reelhook trigger`: a sample event, marked as a test, to an app under development or to a sink. Nothing is spent.

use jiff::Timestamp;
use reelhook::{
    app::sample,
    lifecycle::{EventId, EventKind, JobId, Millis},
};
use serde_json::json;
use url::Url;
use uuid::Uuid;

use super::{
    client::{Client, Connection},
    exit::{Exit, Failure},
    listen::State,
    output::Output,
    sinks, time,
    webhook::{self, App, Secret},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Type of the event, such as job.succeeded
    #[arg(value_parser = kind)]
    event: EventKind,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    secret: Secret,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// Send it from here to an app, signed with the secret that `listen` has for this URL
    #[arg(long, value_name = "URL", value_parser = webhook::address)]
    forward_to: Option<Url>,
    /// Have the server send it to this sink
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
}

pub(crate) async fn run(args: Args, connection: &Connection, output: &Output) -> Result<(), Failure> {
    let client = Client::new(connection)?;
    let kind = args.event.name();
    let url = match (args.target.forward_to, args.target.sink) {
        (Some(url), _) => url,
        (None, Some(sink)) => return sinks::test(&client, &sink, &json!({ "type": kind }), output).await,
        (None, None) => return Err(Failure::usage("name --forward-to or --sink")),
    };
    let secret = match args.secret.read()? {
        Some(secret) => secret,
        None => State::open(client.base(), &url)?.secret(),
    };
    let now = Timestamp::now();
    let (id, job) = (unique(EventId::from_bytes), unique(JobId::from_bytes));
    let data = sample(args.event, job, Millis(now.as_millisecond()), client.base());
    let body = webhook::body(&kind, &time::rfc3339(now), &data);
    let target = url.to_string();
    let taken = App::new(url, &secret)?.send(&id.to_string(), &body).await.map_err(|why| {
        Failure::new(
            Exit::Failure,
            format!("{target} did not take the sample event: {why}; nothing was spent"),
        )
    })?;
    if output.is_json() {
        let (status, ms) = (taken.status.as_u16(), taken.took.as_millis() as u64);
        return output.document(&json!({ "id": id, "type": kind, "status": status, "ms": ms, "body": body }));
    }
    let ms = taken.took.as_millis();
    output.rows(
        ["STATUS", "TYPE", "ID", "TIME"],
        [[taken.status.as_u16().to_string(), kind, id.to_string(), format!("{ms} ms")]],
    )
}

fn unique<T>(id: fn([u8; 16]) -> T) -> T {
    id(Uuid::now_v7().into_bytes())
}

fn kind(text: &str) -> Result<EventKind, String> {
    serde_json::from_value(text.into())
        .map_err(|_| "the type of an event is wanted, such as job.succeeded, job.failed, job.held".to_owned())
}
