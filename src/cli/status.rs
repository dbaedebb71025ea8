//! `reelhook status`: whether the server is well, and what it has been doing.

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    client::{Client, Connection},
    exit::{Exit, Failure},
    output::Output,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How far back the figures go
    #[arg(long, value_name = "SPAN", default_value = "24h")]
    window: String,
}

pub(crate) async fn run(args: Args, connection: &Connection, output: &Output) -> Result<(), Failure> {
    let client = Client::new(connection)?;
    let probe = client.request(Method::GET, &["readyz"]).query(&[("verbose", "")]);
    let (ready, health) = client.probe(probe).await?;
    let window = client.request(Method::GET, &["v1", "stats"]).query(&[("window", &args.window)]);
    let stats = client.json(window).await?.document;
    if output.is_json() {
        output.document(&json!({ "ready": ready, "health": health, "stats": stats }))?;
    } else {
        output.line(if ready { "ready" } else { "not ready" })?;
        if let Some(why) = health["checks"]["upstream"]["why"].as_str() {
            output.note(&format!("submitting is paused, jobs stay queued; the upstream says: {why}"));
        }
        let mut rows = Vec::new();
        flatten("health", &health, &mut rows);
        flatten("stats", &stats, &mut rows);
        output.rows(["what", "value"], rows)?;
    }
    if ready { Ok(()) } else { Err(Failure::new(Exit::Failure, "the server is not ready")) }
}

/// One row a value, named by its path.
fn flatten(path: &str, value: &Value, rows: &mut Vec<[String; 2]>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                flatten(&format!("{path}.{name}"), value, rows);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                flatten(&format!("{path}.{index}"), value, rows);
            }
        }
        Value::String(text) => rows.push([path.to_owned(), text.clone()]),
        Value::Null => {}
        value => rows.push([path.to_owned(), value.to_string()]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_becomes_a_row_named_by_its_path() {
        let mut rows = Vec::new();
        flatten("stats", &json!({ "jobs": { "held": 1 }, "lag": ["1s", null] }), &mut rows);
        assert_eq!(rows, [["stats.jobs.held", "1"], ["stats.lag.0", "1s"]].map(|row| row.map(str::to_owned)));
    }
}
