//! `reelhook listen`: forwards the durable log to an app under development, in order, each event until it is taken.

mod forward;
mod state;

use secrecy::ExposeSecret as _;
use url::Url;

pub(crate) use self::state::State;
use self::{forward::Forwarder, state::Position};
use super::{
    client::{Client, Connection},
    exit::Failure,
    feed::{self, Entry, Filter},
    output::Output,
    webhook::{self, App, Secret},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the app takes webhooks
    #[arg(long, value_name = "URL", value_parser = webhook::address)]
    forward_to: Url,
    /// Only events of these types; several with commas
    #[arg(long, value_name = "TYPE", value_delimiter = ',',
          default_values_t = ["job.succeeded", "job.failed", "job.canceled", "job.held"].map(str::to_owned))]
    events: Vec<String>,
    #[command(flatten)]
    secret: Secret,
    /// Begin after this event; without it, where the last run stopped, and at first with what happens from now on
    #[arg(long, value_name = "SEQ")]
    after: Option<u64>,
    /// Begin with the oldest event that the server has
    #[arg(long, conflicts_with = "after")]
    from_start: bool,
    /// Only print the signing secret
    #[arg(long)]
    print_secret: bool,
}

pub(crate) async fn run(args: Args, connection: &Connection, output: &Output) -> Result<(), Failure> {
    let client = Client::new(connection)?;
    let mut state = State::open(client.base(), &args.forward_to)?;
    let secret = args.secret.read()?.unwrap_or_else(|| state.secret());
    if args.print_secret {
        return output.line(secret.expose_secret());
    }
    let _only_one = state.lock()?;
    let from = if args.from_start { Some(0) } else { args.after };
    begin(&mut state, from, &client, output).await?;
    output.note(&format!("forwarding {} to {}; Ctrl-C ends it", args.events.join(", "), args.forward_to));
    output.note(&format!("signing secret  {}", secret.expose_secret()));
    let app = App::new(args.forward_to, &secret)?;
    let mut forwarder = Forwarder::new(&client, app, state, Filter::of_types(&args.events), output);
    tokio::select! {
        result = forwarder.run() => result,
        _ = tokio::signal::ctrl_c() => forwarder.farewell().await,
    }
}

/// Settles where to begin, durably: what happens from now on is not passed over, even if this run forwards nothing.
async fn begin(
    state: &mut State,
    from: Option<u64>,
    client: &Client,
    output: &Output,
) -> Result<(), Failure> {
    let seq = match (from, state.position()) {
        (Some(seq), _) => seq,
        (None, Some(position)) if is_of_this_log(position, client).await? => return Ok(()),
        (None, Some(_)) => {
            output.note("the server has another log than at the last run: beginning with its oldest event");
            0
        }
        (None, None) => feed::head(client).await?,
    };
    state.advance(Position { seq, event_id: None })
}

/// Whether the event that was forwarded last is still the one at its place, as far as the log goes back.
async fn is_of_this_log(position: &Position, client: &Client) -> Result<bool, Failure> {
    let (Some(id), Some(before)) = (&position.event_id, position.seq.checked_sub(1)) else { return Ok(true) };
    let page = feed::look(client, &Filter::default(), before, 1).await?;
    let there = page.data.first().map(Entry::read).transpose()?;
    Ok(there.is_none_or(|entry| entry.seq != position.seq || entry.id == *id))
}
