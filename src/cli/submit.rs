//! `reelhook submit`: prices a job, says what it will cost, creates it, and follows it if asked to; or a file of jobs.

use std::{fs, io, path::PathBuf, time::Duration};

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    batch::{self, Order},
    client::{Client, Connection, Reply},
    download,
    exit::{Exit, Failure},
    follow::follow,
    job::Snapshot,
    output::Output,
    progress::Progress,
    spend::Estimate,
    time,
};

const DEFAULT_WAIT: Duration = Duration::from_secs(600);
const JOBS: [&str; 2] = ["v1", "jobs"];
const ESTIMATE: [&str; 3] = ["v1", "jobs", "estimate"];

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    input: Input,
    /// Submit the jobs of this file, one a line, or of - for stdin: the body of POST /v1/jobs or the bare input, as JSON.
    /// A line's `key` is its Idempotency-Key; without one it is made from the line's text and --batch, so that running
    /// it again submits and spends nothing twice
    #[arg(long, value_name = "JSONL", conflicts_with_all = ["Input", "deadline", "idempotency_key"])]
    from: Option<PathBuf>,
    /// With --from: another name makes new jobs of the same lines
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    batch: String,
    /// With --from: send nothing if all would cost more; agrees to spend as much
    #[arg(long, value_name = "CREDITS")]
    max_total_credits: Option<u64>,
    /// A label to find the job by; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// A text to keep with the job; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    meta: Vec<(String, String)>,
    /// Refuse the job if it would cost more; agrees to spend as much
    #[arg(long, value_name = "CREDITS")]
    max_credits: Option<u64>,
    /// When to give the job up: a span from now or a time
    #[arg(long, value_name = "WHEN", value_parser = time::future)]
    deadline: Option<Timestamp>,
    /// Wait for the end of the job; 10m unless it says how long
    #[arg(long, value_name = "SPAN", num_args = 0..=1, require_equals = true, default_missing_value = "10m",
          value_parser = time::span)]
    wait: Option<Duration>,
    /// Wait, then copy the video here; with --from, a folder
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Only say what it would cost
    #[arg(long)]
    dry_run: bool,
    /// Agree to the spend
    #[arg(short, long)]
    yes: bool,
    /// Submitting again with the same key gives the same job; made up when absent
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

/// What the provider is asked for.
#[derive(Debug, clap::Args)]
struct Input {
    /// What to show
    prompt: Option<String>,
    /// Model; without it, the server's default
    #[arg(long)]
    model: Option<String>,
    /// Quality, such as std or pro
    #[arg(long)]
    mode: Option<String>,
    /// Length in seconds
    #[arg(long, value_name = "SECONDS", value_parser = time::seconds)]
    duration: Option<f64>,
    /// Aspect ratio, such as 16:9
    #[arg(long, value_name = "RATIO")]
    aspect: Option<String>,
    /// A silent video
    #[arg(long)]
    no_sound: bool,
    /// Address of the image to begin with
    #[arg(long, value_name = "URL")]
    image: Option<String>,
    /// Any other field of the input, as JSON or else as text; may be repeated
    #[arg(short, long = "param", value_name = "KEY=VALUE", value_parser = pair)]
    params: Vec<(String, String)>,
    /// The whole input as JSON, or @FILE, or @- for stdin; flags go over it
    #[arg(long, value_name = "JSON")]
    input: Option<String>,
}

pub(crate) async fn run(args: Args, connection: &Connection, output: &Output) -> Result<(), Failure> {
    let client = Client::new(connection)?;
    let limit = args.wait.or(args.output.is_some().then_some(DEFAULT_WAIT));
    if let Some(from) = args.from.clone() {
        return batch::run(args.order(from, limit), &client, output).await;
    }
    // Said here, since clap demands nothing that conflicts with what is given.
    if args.max_total_credits.is_some() || !args.batch.is_empty() {
        return Err(Failure::usage("--max-total-credits and --batch go with --from"));
    }
    let body = args.body()?;
    let priced = client.post(&ESTIMATE, &body).await?;
    let estimate = Estimate::read(&priced.document)?;
    for notice in priced.document["notices"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        output.note(notice);
    }
    if args.dry_run {
        return if output.is_json() {
            output.document(&priced.document)
        } else {
            output.line(&estimate.describe())
        };
    }
    estimate.agree(output, args.yes || args.max_credits.is_some(), "--yes or --max-credits")?;
    let snapshot = Snapshot::read(create(&client, &body, args.idempotency_key).await?)?;
    if !output.is_json() {
        output.line(&snapshot.job.id)?;
    } else if limit.is_none() {
        output.document(&snapshot.document)?;
    }
    match limit {
        Some(limit) => finish(&client, snapshot, limit, args.output, output).await,
        None => Ok(()),
    }
}

/// Creates the job exactly once, however often the connection breaks.
async fn create(client: &Client, body: &Value, key: Option<String>) -> Result<Reply, Failure> {
    let key = key.unwrap_or_else(|| Uuid::now_v7().to_string());
    client.post_once(&JOBS, body, &key).await.map_err(|failure| match failure.exit {
        Exit::Unreachable => failure.and(&format!(
            "whether the job was created is unknown; the same command with --idempotency-key {key} cannot pay twice"
        )),
        _ => failure,
    })
}

async fn finish(
    client: &Client,
    snapshot: Snapshot,
    limit: Duration,
    target: Option<PathBuf>,
    output: &Output,
) -> Result<(), Failure> {
    let mut last = Value::Null;
    let followed = {
        let mut progress = Progress::new(output);
        let keep = |snapshot: &Snapshot| {
            last.clone_from(&snapshot.document);
            Ok(true)
        };
        follow(client, snapshot, Some(limit), &mut progress, keep).await
    };
    if output.is_json() {
        output.document(&last)?;
    }
    let snapshot = followed?;
    snapshot.job.outcome()?;
    match target {
        Some(target) => download::save(client, &snapshot.job, &target, output).await,
        None if output.is_json() => Ok(()),
        None => {
            let id = &snapshot.job.id;
            output.note(&format!("{id} succeeded; `reelhook download {id}` copies the video here"));
            Ok(())
        }
    }
}

impl Args {
    fn metadata(&self) -> Map<String, Value> {
        self.meta.iter().map(|(key, text)| (key.clone(), json!(text))).collect()
    }

    fn order(self, from: PathBuf, wait: Option<Duration>) -> Order {
        Order {
            from,
            metadata: self.metadata(),
            agreed: self.yes || self.max_credits.is_some() || self.max_total_credits.is_some(),
            name: self.batch,
            tags: self.tags,
            max_credits: self.max_credits,
            max_total_credits: self.max_total_credits,
            wait,
            folder: self.output,
            dry_run: self.dry_run,
        }
    }

    fn body(&self) -> Result<Value, Failure> {
        let mut body = json!({ "input": self.input.read()?, "tags": self.tags, "metadata": self.metadata() });
        if let Some(credits) = self.max_credits {
            body["max_credits"] = credits.into();
        }
        if let Some(deadline) = self.deadline {
            body["deadline"] = time::rfc3339(deadline).into();
        }
        Ok(body)
    }
}

impl Input {
    fn read(&self) -> Result<Map<String, Value>, Failure> {
        let mut input = match &self.input {
            Some(source) => object(source)?,
            None => Map::new(),
        };
        let texts = [
            ("prompt", &self.prompt),
            ("model", &self.model),
            ("mode", &self.mode),
            ("aspect_ratio", &self.aspect),
            ("image", &self.image),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                input.insert(name.to_owned(), json!(text));
            }
        }
        if let Some(seconds) = self.duration {
            input.insert("duration".to_owned(), number(seconds));
        }
        if self.no_sound {
            input.insert("sound".to_owned(), json!(false));
        }
        for (name, text) in &self.params {
            input.insert(name.clone(), serde_json::from_str(text).unwrap_or_else(|_| json!(text)));
        }
        Ok(input)
    }
}

/// The object that `--input` gives.
fn object(source: &str) -> Result<Map<String, Value>, Failure> {
    let text = match source.strip_prefix('@') {
        None => Ok(source.to_owned()),
        Some("-") => io::read_to_string(io::stdin()),
        Some(path) => fs::read_to_string(path),
    };
    let text = text.map_err(|error| Failure::usage(format!("cannot read --input {source}: {error}")))?;
    serde_json::from_str(&text)
        .map_err(|error| Failure::usage(format!("--input is not a JSON object: {error}")))
}

/// Whole seconds stay whole: `5`, not `5.0`.
fn number(seconds: f64) -> Value {
    if seconds.fract() == 0.0 && seconds.abs() < 1e9 { json!(seconds as i64) } else { json!(seconds) }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("KEY=VALUE is wanted".to_owned()),
    }
}
