//! Configuration: `File` is what was typed, [`Config`] is what was meant, checked.
//!
//! `sources` reads the layers, `schema` knows the keys (from `config.example.toml`, which also holds the defaults),
//! `check`, `relations` and `secrets` turn the merged text into a [`Config`] or into the list of all its problems.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;
use reqwest::header::HeaderMap;
use secrecy::SecretString;
use url::Url;

use crate::lifecycle::EventKind;
use crate::provider::{models::Pricing, reply::Mapping, signature::Format as SignatureFormat};

mod check;
mod document;
mod file;
mod headers;
mod load;
mod otel;
mod presets;
mod relations;
mod reload;
mod report;
mod schema;
mod secrets;
mod signature;
mod sinks;
mod sources;
mod storage;
mod value;

pub use document::json_schema;
pub use load::{LoadOptions, Loaded, load};
pub use presets::DEV_API_KEY;
pub use reload::{InForce, Reload};
pub use report::{ConfigError, Origin, Problem};
pub use schema::{EXAMPLE, keys};
pub use storage::{Bucket, Cloud, Serve, Storage};

/// What the operator meant: every value present, in range and consistent with the others. Ranges are inclusive and
/// hold for what [`load`] returns. `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct Config {
    /// The listener of API and dashboard.
    pub server: Server,
    /// Who may use the API.
    pub auth: Auth,
    /// The provider.
    pub upstream: Upstream,
    /// The listener of the provider's callbacks.
    pub callback: Callback,
    /// When to ask for what no callback told.
    pub poll: Poll,
    /// How finished videos are fetched.
    pub download: Download,
    /// How sinks are told.
    pub delivery: Delivery,
    /// Who is told, by name.
    pub sinks: BTreeMap<String, Sink>,
    /// Where videos are kept.
    pub storage: Storage,
    /// Where jobs and events are kept, unless in a [`Database`].
    pub store: Store,
    /// The database where jobs and events are kept, when `[store] url` names one.
    pub database: Option<Database>,
    /// Where the embedded store is backed up to; never with a [`Database`].
    pub backup: Option<Backup>,
    /// What may be reached besides public addresses.
    pub egress: Egress,
    /// Spending limits.
    pub budget: Budget,
    /// Rates in credits per second of video.
    pub pricing: Pricing,
    /// How long is kept what has ended.
    pub retention: Retention,
    /// Limits of the API.
    pub api: Api,
    /// What is logged and how.
    pub log: Log,
    /// Where traces go; `None`: nothing is traced.
    pub otel: Option<Otel>,
    /// The stand-in provider.
    pub sandbox: Sandbox,
}

/// `[server]`: the listener of API and dashboard.
#[derive(Clone, Debug)]
pub struct Server {
    /// Address and port; port 0 lets the system choose. Beyond loopback only with a key in [`Auth`].
    pub listen: SocketAddr,
    /// `/`, or a path without a slash at its end.
    pub base_path: String,
    /// Base of links to stored files, http or https, without query; `None`: `http://` and `listen`. Beyond
    /// loopback only with a key.
    pub external_url: Option<Url>,
    /// What this process is called among those that share a store: 1 to 40 letters, digits, `-`, `_` and `.`; by default
    /// the machine's name and a random ending.
    pub instance: String,
    /// Largest request body in bytes, 1 KiB to 64 MiB.
    pub body_limit: usize,
    /// Longest wait for running work after a request to stop, 0 to 1 h.
    pub shutdown_grace: Duration,
    /// Life of a signed link, 1 s to 365 d.
    pub link_ttl: Duration,
    /// `None`: plain HTTP.
    pub tls: Option<Tls>,
}

/// `tls_cert` and `tls_key` of a listener: PEM files. Whether they can be used shows when they are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate, then those that vouch for it.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// `[auth]`: who may use the API. Without both, anyone who reaches the loopback listener.
#[derive(Clone, Debug)]
pub struct Auth {
    /// Hashed keys; the file need not exist yet.
    pub keys_file: Option<PathBuf>,
    /// One key with every scope, 20 characters or more.
    pub bootstrap_admin_key: Option<SecretString>,
}

/// `[upstream]`: the provider.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// http or https, without user, password and query.
    pub base_url: Url,
    /// Path of the create call, from `/`.
    pub submit_path: String,
    /// Path of the task route, from `/`; contains `{task_id}`.
    pub task_path: String,
    /// Sent as bearer token; `None`: no header.
    pub api_key: Option<SecretString>,
    /// Model of a request that names none.
    pub default_model: String,
    /// 1 ms to 5 min, at most `submit_timeout`.
    pub connect_timeout: Duration,
    /// 1 ms to 10 min, connecting included.
    pub submit_timeout: Duration,
    /// 1 ms to 10 min, connecting included.
    pub ask_timeout: Duration,
    /// Create calls under way, 1 to 256.
    pub max_concurrent_submits: usize,
    /// Jobs in `sending`, `unknown` and `awaiting`, 1 to 10,000,000.
    pub max_in_flight: usize,
    /// Calls of every kind a minute, 1 to 10,000,000.
    pub requests_per_minute: u32,
    /// How long a lost answer waits for its callback before the job is held, 1 ms to 24 h.
    pub unknown_wait: Duration,
    /// First wait after a refusal that is about the account (key, credits); then doubling, up to 40 times it. One
    /// job a time probes whether it is over. 1 ms to 1 h.
    pub probe_after: Duration,
    /// Extra pointers (RFC 6901, from `/`) and words for reading answers.
    pub mapping: Mapping,
}

/// `[callback]`: the listener of the provider's callbacks.
#[derive(Clone, Debug)]
pub struct Callback {
    /// Address and port, another than the server's; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// This listener as the provider reaches it, http or https, without query; `None`: no callback is asked for.
    pub public_url: Option<Url>,
    /// Largest callback body in bytes, 1 KiB to 16 MiB.
    pub body_limit: usize,
    /// How long bodies are kept, 1 ms to 3,650 d; `None`: as long as their entry of the log.
    pub keep_bodies: Option<Duration>,
    /// Keys of the tokens in callback URLs, newest first; empty: made and kept in the store.
    pub secrets: Vec<SecretString>,
    /// How callbacks are signed.
    pub signature: SignatureFormat,
    /// Any of them verifies, and each can; not empty unless the scheme is
    /// [`Scheme::None`](crate::provider::signature::Scheme::None).
    pub signature_secrets: Vec<SecretString>,
    /// Callbacks of one job a minute, 1 to 100,000,000; what is more is not read, but the job is looked at.
    pub rate_limit_per_minute: u32,
    /// Requests of one address a minute that open nothing, 1 to 100,000,000.
    pub miss_limit_per_minute: u32,
    /// `None`: plain HTTP.
    pub tls: Option<Tls>,
}

/// `[poll]`: when to ask for what no callback told.
#[derive(Clone, Debug)]
pub struct Poll {
    /// First question after acceptance when no callback can come, 0 to 24 h, at most `give_up_after`.
    pub first_after: Duration,
    /// First question after acceptance when a callback should have come, 0 to 24 h, at most `give_up_after`.
    pub overdue_after: Duration,
    /// Pause before the second question, 1 ms to 24 h, at most `max_interval`.
    pub interval: Duration,
    /// Longest pause, 1 ms to 24 h.
    pub max_interval: Duration,
    /// Random share of a pause, 0 to 1.
    pub jitter: f64,
    /// Longest wait for a result from acceptance on, 1 ms to 30 d.
    pub give_up_after: Duration,
}

/// `[download]`: how finished videos are fetched.
#[derive(Clone, Debug)]
pub struct Download {
    /// Files at the same time, 1 to 256.
    pub concurrency: usize,
    /// Longest time without a byte, 1 ms to 1 h.
    pub stall_timeout: Duration,
    /// Largest file in bytes, 1 KiB to 1 TiB.
    pub max_size: u64,
    /// Refusals of fresh links before the job fails, 1 to 100.
    pub attempts: u32,
    /// First pause between attempts, 1 ms to 1 h, at most `max_backoff`.
    pub backoff: Duration,
    /// Longest pause, 1 ms to 24 h, at most `give_up_after`.
    pub max_backoff: Duration,
    /// Redirects followed for one file, 0 to 20.
    pub max_redirects: usize,
    /// Whether a file that is not a video is refused.
    pub verify_container: bool,
    /// How long network or storage trouble is retried, 1 ms to 30 d; at least three attempts must have failed after that.
    pub give_up_after: Duration,
}

/// `[delivery]`: how sinks are told.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// For one try, the whole exchange, 1 ms to 1 h.
    pub timeout: Duration,
    /// Pauses before the tries, 1 to 100 of them, each 0 to 30 d.
    pub schedule: Vec<Duration>,
    /// Tries under way to one sink, 1 to 256.
    pub concurrency: usize,
    /// A sink that takes nothing for so long is disabled, 0 to 365 d; 0 is never.
    pub disable_after: Duration,
    /// Signs for sinks and per-job URLs without a secret of their own; `None`: made and kept in the store. A
    /// [`SigningKey`](crate::provider::signing::SigningKey) can be read from it.
    pub secret: Option<SecretString>,
}

/// `[sinks.NAME]`: one who is told. The name is 1 to 32 of `a-z`, `0-9`, `-` and `_`.
#[derive(Clone, Debug)]
pub struct Sink {
    /// How it is reached.
    pub target: Target,
    /// What it is told of, never empty.
    pub events: Vec<EventKind>,
    /// The form of the body.
    pub format: Format,
    /// For one try, the whole exchange, 1 ms to 1 h.
    pub timeout: Duration,
    /// Tries under way, 1 to 256.
    pub concurrency: usize,
}

/// How a sink is reached.
#[derive(Clone, Debug)]
pub enum Target {
    /// Signed POSTs.
    Webhook {
        /// http or https, without user, password and fragment.
        url: Url,
        /// All sign, newest first; empty: the secret of [`Delivery`]. Signing keys can be read from them.
        secrets: Vec<SecretString>,
        /// To add, values marked as sensitive; none that the delivery itself sets.
        headers: HeaderMap,
    },
    /// A program.
    Exec {
        /// Program and arguments, never empty.
        command: Vec<String>,
    },
    /// NATS JetStream; only in builds with the feature `nats`.
    Nats {
        /// `nats://` or `tls://`, without user and password.
        server: Url,
        /// May contain `{type}`.
        subject: String,
        /// A token, `user:password`, or the text of a `.creds` file.
        credentials: Option<SecretString>,
    },
    /// The server's standard output.
    Stdout,
}

/// The form of an event's body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `{"type","timestamp","data"}`, as Standard Webhooks shows it.
    #[default]
    Standard,
    /// CloudEvents 1.0, structured mode.
    CloudEvents,
}

/// `[store]`: where jobs and events are kept.
#[derive(Clone, Debug)]
pub struct Store {
    /// Folder of the sled store; neither within the archive nor around it.
    pub path: PathBuf,
    /// Cache in bytes, 1 MiB to 64 GiB.
    pub cache: u64,
    /// No job is accepted with less free bytes; 0 to 1 PiB.
    pub min_free: u64,
}

/// `[store] backup`: where the embedded store is backed up to, continuously.
#[derive(Clone, Debug)]
pub enum Backup {
    /// A folder, apart from those of the store and of the archive.
    Folder(PathBuf),
    /// A bucket, `s3://`, `gs://` or `az://`.
    Bucket(Bucket),
}

/// `[store]` of several instances: a PostgreSQL database. The URLs may hold passwords.
#[derive(Clone, Debug)]
pub struct Database {
    /// By which requests go; it may lead through a pooler in transaction mode.
    pub url: SecretString,
    /// Straight to the server, for migrations and notifications, where `url` leads through a pooler.
    pub direct_url: Option<SecretString>,
    /// Of the user in both; `None`: as the URL has it.
    pub password: Option<SecretString>,
    /// Connections of this process for requests, 2 to 1,000; one more listens, and one numbers the event log.
    pub connections: u32,
    /// As in [`Server`].
    pub instance: String,
}

/// `[egress]`: what may be reached besides public addresses.
#[derive(Clone, Debug, Default)]
pub struct Egress {
    /// Networks, host bits cleared.
    pub allow: Vec<IpNet>,
}

/// `[budget]`: limits in credits, 0 to 10¹²; 0 is no limit. Days and months are UTC.
#[derive(Clone, Copy, Debug, Default)]
pub struct Budget {
    /// For the jobs of a day.
    pub daily_credits: u64,
    /// For the jobs of a month.
    pub monthly_credits: u64,
    /// For one job.
    pub per_job_credits: u64,
}

/// `[retention]`: how long is kept what has ended, each 1 ms to 3,650 d; `None`: for ever.
#[derive(Clone, Copy, Debug, Default)]
pub struct Retention {
    /// Files of a job, from its end; at most `jobs`, unless they are kept for ever.
    pub videos: Option<Duration>,
    /// A job with all that belongs to it, from its end.
    pub jobs: Option<Duration>,
    /// Entries of the event log and of the log of callbacks.
    pub events: Option<Duration>,
    /// Deliveries that are over.
    pub deliveries: Option<Duration>,
}

/// `[api]`: limits of the API.
#[derive(Clone, Debug)]
pub struct Api {
    /// Longest wait for a job within a request, 0 to 1 h.
    pub max_wait: Duration,
    /// Jobs in `queued`, 1 to 10,000,000.
    pub queue_limit: usize,
    /// Requests of one key a minute, 1 to 100,000,000.
    pub rate_limit_per_minute: u32,
}

/// `[log]`: what is logged and how.
#[derive(Clone, Debug)]
pub struct Log {
    /// A level, or directives of `tracing_subscriber::EnvFilter`.
    pub level: String,
    /// Text or JSON.
    pub format: LogFormat,
}

/// `[otel]`: where traces go. Only in builds with the feature `otel`.
#[derive(Clone, Debug)]
pub struct Otel {
    /// The collector's route for traces, OTLP over HTTP.
    pub endpoint: Url,
    /// To add to each request, values marked as sensitive.
    pub headers: HeaderMap,
    /// `service.name`; `None`: as `OTEL_SERVICE_NAME` says, else `reelhook`.
    pub service_name: Option<String>,
    /// The share of traces that begin here and are recorded, 0 to 1; `None`: as `OTEL_TRACES_SAMPLER` says, else all.
    pub sample_ratio: Option<f64>,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// Text.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[sandbox]`: the stand-in provider.
#[derive(Clone, Copy, Debug)]
pub struct Sandbox {
    /// Times faster than real time, 0.01 to 10,000.
    pub speed: f64,
}
