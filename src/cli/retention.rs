//! `reelhook retention`: what is past its time, and its removal at once instead of with the next hourly round.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    client::{Client, Connection},
    exit::{Exit, Failure},
    output::{self, Output},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only show what a round would remove
    #[arg(long)]
    dry_run: bool,
}

/// What is read of an answer here.
#[derive(Debug, PartialEq, Deserialize, Serialize)]
struct Round {
    data: Vec<Removal>,
    #[serde(default)]
    next_cursor: Option<String>,
    more: bool,
}

#[derive(Debug, PartialEq, Deserialize, Serialize)]
struct Removal {
    kind: String,
    before: Option<String>,
    count: u64,
    bytes: u64,
    oldest: Option<String>,
}

impl Round {
    /// With what the next request did.
    fn and(mut self, next: Self) -> Self {
        for (sum, more) in self.data.iter_mut().zip(next.data) {
            sum.count += more.count;
            sum.bytes += more.bytes;
            sum.oldest = sum.oldest.take().into_iter().chain(more.oldest).min();
        }
        Self { more: next.more, ..self }
    }
}

pub(crate) async fn run(args: Args, connection: &Connection, output: &Output) -> Result<(), Failure> {
    let client = Client::new(connection)?;
    let path = ["v1", "retention"];
    let mut round = if args.dry_run {
        read(client.get(&path).await?.document)?
    } else {
        read(client.post(&path, &json!({})).await?.document)?
    };
    while round.more && !args.dry_run {
        round = round.and(read(client.post(&path, &json!({})).await?.document)?);
    }
    show(&round, output)
}

fn read(document: serde_json::Value) -> Result<Round, Failure> {
    serde_json::from_value(document).map_err(|error| {
        Failure::new(Exit::Failure, format!("the server's answer is not understood: {error}"))
    })
}

fn show(round: &Round, output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.document(&json!(round));
    }
    let rows = round.data.iter().map(|removal| {
        let or_dash = |time: &Option<String>| time.clone().unwrap_or_else(|| "-".to_owned());
        let size = output::bytes(removal.bytes);
        let before = removal.before.clone().unwrap_or_else(|| "for ever".to_owned());
        [removal.kind.clone(), removal.count.to_string(), size, or_dash(&removal.oldest), before]
    });
    output.rows(["KIND", "COUNT", "SIZE", "OLDEST", "KEPT SINCE"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_requests_did_is_told_as_one_round() {
        let round = |count, oldest: &str, more| Round {
            data: vec![Removal {
                kind: "jobs".into(),
                before: None,
                count,
                bytes: 10 * count,
                oldest: Some(oldest.into()),
            }],
            next_cursor: None,
            more,
        };
        assert_eq!(round(2, "2026-02", true).and(round(3, "2026-01", false)), round(5, "2026-01", false));
    }
}
