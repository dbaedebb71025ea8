//! Configuration: `File` is what was typed, [`Config`] is what was meant, checked.
#![allow(missing_docs)]
use std::{net::SocketAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;
use secrecy::SecretString;
use url::Url;

use crate::provider::{models::Pricing, reply::Mapping, signature::Scheme};

/// What the operator meant: every value present, in range and consistent with the others.
#[derive(Clone, Debug)]
pub struct Config {
    pub server: Server,
    pub auth: Auth,
    pub upstream: Upstream,
    pub callback: Callback,
    pub poll: Poll,
    pub download: Download,
    pub storage: Storage,
    pub store: Store,
    pub egress: Egress,
    pub budget: Budget,
    pub pricing: Pricing,
    pub api: Api,
    pub log: Log,
    pub sandbox: Sandbox,
}

#[derive(Clone, Debug)]
pub struct Server {
    pub listen: SocketAddr,
    pub base_path: String,
    pub external_url: Option<Url>,
    pub body_limit: usize,
    pub shutdown_grace: Duration,
    pub link_ttl: Duration,
}
#[derive(Clone, Debug)]
pub struct Auth {
    pub keys_file: Option<PathBuf>,
    pub bootstrap_admin_key: Option<SecretString>,
}
#[derive(Clone, Debug)]
pub struct Upstream {
    pub base_url: Url,
    pub submit_path: String,
    pub task_path: String,
    pub api_key: Option<SecretString>,
    pub default_model: String,
    pub connect_timeout: Duration,
    pub submit_timeout: Duration,
    pub ask_timeout: Duration,
    pub max_concurrent_submits: usize,
    pub max_in_flight: usize,
    pub requests_per_minute: u32,
    pub unknown_wait: Duration,
    pub mapping: Mapping,
}
#[derive(Clone, Debug)]
pub struct Callback {
    pub listen: SocketAddr,
    pub public_url: Option<Url>,
    pub body_limit: usize,
    pub secrets: Vec<SecretString>,
    pub signature: Scheme,
    pub signature_secrets: Vec<SecretString>,
}
#[derive(Clone, Debug)]
pub struct Poll {
    pub first_after: Duration,
    pub overdue_after: Duration,
    pub interval: Duration,
    pub max_interval: Duration,
    pub jitter: f64,
    pub give_up_after: Duration,
}
#[derive(Clone, Debug)]
pub struct Download {
    pub concurrency: usize,
    pub stall_timeout: Duration,
    pub max_size: u64,
    pub attempts: u32,
    pub backoff: Duration,
    pub max_backoff: Duration,
    pub max_redirects: usize,
    pub verify_container: bool,
    pub give_up_after: Duration,
}
#[derive(Clone, Debug)]
pub struct Storage {
    /// Root folder of the `file:` archive.
    pub root: PathBuf,
    pub key_template: String,
    pub min_free: u64,
}
#[derive(Clone, Debug)]
pub struct Store {
    /// Folder of the sled store.
    pub path: PathBuf,
    pub cache: u64,
    pub min_free: u64,
}
#[derive(Clone, Debug, Default)]
pub struct Egress {
    pub allow: Vec<IpNet>,
}
/// Limits in credits; 0 is no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Budget {
    pub daily_credits: u64,
    pub monthly_credits: u64,
    pub per_job_credits: u64,
}
#[derive(Clone, Debug)]
pub struct Api {
    pub max_wait: Duration,
    pub queue_limit: usize,
    pub rate_limit_per_minute: u32,
}
#[derive(Clone, Debug)]
pub struct Log {
    pub level: String,
    pub format: LogFormat,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Auto,
    Text,
    Json,
}
#[derive(Clone, Copy, Debug)]
pub struct Sandbox {
    pub speed: f64,
}
