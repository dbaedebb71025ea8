//! The configuration as typed: texts are not read yet, nothing is checked. See `config.example.toml` for the meaning.

use std::{collections::BTreeMap, path::PathBuf};

use secrecy::SecretString;
use serde::{Deserialize, Serialize, Serializer};

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) server: Server,
    pub(super) auth: Auth,
    pub(super) upstream: Upstream,
    pub(super) callback: Callback,
    pub(super) poll: Poll,
    pub(super) download: Download,
    pub(super) delivery: Delivery,
    #[serde(default)]
    pub(super) sinks: BTreeMap<String, Sink>,
    pub(super) storage: Storage,
    pub(super) store: Store,
    pub(super) egress: Egress,
    pub(super) budget: Budget,
    pub(super) pricing: Pricing,
    pub(super) retention: Retention,
    pub(super) api: Api,
    pub(super) log: Log,
    pub(super) otel: Otel,
    pub(super) sandbox: Sandbox,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    pub(super) listen: String,
    pub(super) base_path: String,
    pub(super) external_url: Option<String>,
    pub(super) instance: Option<String>,
    pub(super) body_limit: String,
    pub(super) shutdown_grace: String,
    pub(super) link_ttl: String,
    pub(super) tls_cert: Option<PathBuf>,
    pub(super) tls_key: Option<PathBuf>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Auth {
    pub(super) keys_file: Option<PathBuf>,
    #[serde(serialize_with = "redacted")]
    pub(super) bootstrap_admin_key: Option<SecretString>,
    pub(super) bootstrap_admin_key_file: Option<PathBuf>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Upstream {
    pub(super) base_url: String,
    pub(super) submit_path: String,
    pub(super) task_path: String,
    #[serde(serialize_with = "redacted")]
    pub(super) api_key: Option<SecretString>,
    pub(super) api_key_file: Option<PathBuf>,
    pub(super) default_model: String,
    pub(super) connect_timeout: String,
    pub(super) submit_timeout: String,
    pub(super) ask_timeout: String,
    pub(super) max_concurrent_submits: i64,
    pub(super) max_in_flight: i64,
    pub(super) requests_per_minute: i64,
    pub(super) unknown_wait: String,
    pub(super) probe_after: String,
    pub(super) mapping: Mapping,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mapping {
    pub(super) task_id: Vec<String>,
    pub(super) status: Vec<String>,
    pub(super) video_url: Vec<String>,
    pub(super) error_message: Vec<String>,
    pub(super) succeeded_words: Vec<String>,
    pub(super) failed_words: Vec<String>,
    pub(super) pending_words: Vec<String>,
    pub(super) no_callback_models: Vec<String>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Callback {
    pub(super) listen: String,
    pub(super) public_url: Option<String>,
    pub(super) body_limit: String,
    pub(super) keep_bodies: String,
    #[serde(serialize_with = "redacted_list")]
    pub(super) secrets: Option<Vec<SecretString>>,
    pub(super) secrets_file: Option<PathBuf>,
    pub(super) signature: String,
    pub(super) signature_header: Option<String>,
    pub(super) signature_timestamp_header: Option<String>,
    pub(super) signature_prefix: Option<String>,
    #[serde(serialize_with = "redacted_list")]
    pub(super) signature_secrets: Option<Vec<SecretString>>,
    pub(super) signature_secrets_file: Option<PathBuf>,
    pub(super) rate_limit_per_minute: i64,
    pub(super) miss_limit_per_minute: i64,
    pub(super) tls_cert: Option<PathBuf>,
    pub(super) tls_key: Option<PathBuf>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Poll {
    pub(super) first_after: String,
    pub(super) overdue_after: String,
    pub(super) interval: String,
    pub(super) max_interval: String,
    pub(super) jitter: f64,
    pub(super) give_up_after: String,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Download {
    pub(super) concurrency: i64,
    pub(super) stall_timeout: String,
    pub(super) max_size: String,
    pub(super) attempts: i64,
    pub(super) backoff: String,
    pub(super) max_backoff: String,
    pub(super) max_redirects: i64,
    pub(super) verify_container: bool,
    pub(super) give_up_after: String,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Delivery {
    pub(super) timeout: String,
    pub(super) schedule: Vec<String>,
    pub(super) concurrency: i64,
    pub(super) disable_after: String,
    #[serde(serialize_with = "redacted")]
    pub(super) secret: Option<SecretString>,
    pub(super) secret_file: Option<PathBuf>,
}

/// Which of these may be there depends on the type.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sink {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) url: Option<String>,
    #[serde(serialize_with = "redacted")]
    pub(super) secret: Option<SecretString>,
    pub(super) secret_file: Option<PathBuf>,
    #[serde(serialize_with = "redacted_list")]
    pub(super) secrets: Option<Vec<SecretString>>,
    pub(super) secrets_file: Option<PathBuf>,
    #[serde(serialize_with = "redacted_list")]
    pub(super) headers: Option<Vec<SecretString>>,
    pub(super) headers_file: Option<PathBuf>,
    pub(super) command: Option<Vec<String>>,
    pub(super) server: Option<String>,
    pub(super) subject: Option<String>,
    #[serde(serialize_with = "redacted")]
    pub(super) credentials: Option<SecretString>,
    pub(super) credentials_file: Option<PathBuf>,
    pub(super) events: Option<Vec<String>>,
    pub(super) format: Option<String>,
    pub(super) timeout: Option<String>,
    pub(super) concurrency: Option<i64>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Storage {
    pub(super) url: String,
    pub(super) endpoint: Option<String>,
    pub(super) region: Option<String>,
    #[serde(serialize_with = "redacted")]
    pub(super) credentials: Option<SecretString>,
    pub(super) credentials_file: Option<PathBuf>,
    pub(super) serve: String,
    pub(super) spool: PathBuf,
    pub(super) key_template: String,
    pub(super) min_free: String,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Store {
    #[serde(serialize_with = "without_password")]
    pub(super) url: String,
    #[serde(serialize_with = "without_password_if_any")]
    pub(super) direct_url: Option<String>,
    #[serde(serialize_with = "redacted")]
    pub(super) password: Option<SecretString>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) connections: i64,
    pub(super) cache: String,
    pub(super) min_free: String,
    pub(super) backup: Option<String>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Egress {
    pub(super) allow: Vec<String>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Budget {
    pub(super) daily_credits: i64,
    pub(super) monthly_credits: i64,
    pub(super) per_job_credits: i64,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pricing {
    #[serde(rename = "kling-3")]
    pub(super) kling_3: Rates,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rates {
    pub(super) std_silent: i64,
    pub(super) std_sound: i64,
    pub(super) pro_silent: i64,
    pub(super) pro_sound: i64,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Retention {
    pub(super) videos: String,
    pub(super) jobs: String,
    pub(super) events: String,
    pub(super) deliveries: String,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Api {
    pub(super) max_wait: String,
    pub(super) queue_limit: i64,
    pub(super) rate_limit_per_minute: i64,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    pub(super) level: String,
    pub(super) format: String,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Otel {
    pub(super) endpoint: Option<String>,
    #[serde(serialize_with = "redacted_list")]
    pub(super) headers: Option<Vec<SecretString>>,
    pub(super) headers_file: Option<PathBuf>,
    pub(super) service_name: Option<String>,
    pub(super) sample_ratio: Option<f64>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sandbox {
    pub(super) speed: f64,
}

const REDACTED: &str = "[redacted]";

fn redacted<S: Serializer>(secret: &Option<SecretString>, to: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(|_| REDACTED).serialize(to)
}

/// Databases are named with user and password in the URL.
fn without_password<S: Serializer>(url: &str, to: S) -> Result<S::Ok, S::Error> {
    hidden(url).serialize(to)
}

fn without_password_if_any<S: Serializer>(url: &Option<String>, to: S) -> Result<S::Ok, S::Error> {
    url.as_deref().map(hidden).serialize(to)
}

fn hidden(url: &str) -> String {
    let is_safe = url.starts_with("sled:") || !url.contains(['@', '?']);
    let parsed = url::Url::parse(url).ok().and_then(|mut parsed| {
        parsed.set_query(None); // a password may stand there, too
        parsed.set_password(None).ok().map(|()| parsed.to_string())
    });
    if is_safe { url.to_owned() } else { parsed.unwrap_or_else(|| REDACTED.to_owned()) }
}

fn redacted_list<S: Serializer>(secrets: &Option<Vec<SecretString>>, to: S) -> Result<S::Ok, S::Error> {
    secrets.as_ref().map(|list| vec![REDACTED; list.len()]).serialize(to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::{EXAMPLE, keys, uncomment};

    fn names(at: &str, value: &serde_json::Value, found: &mut Vec<String>) {
        match value.as_object() {
            Some(fields) => {
                for (name, value) in fields {
                    names(&if at.is_empty() { name.clone() } else { format!("{at}.{name}") }, value, found);
                }
            }
            None => found.push(at.to_owned()),
        }
    }

    #[test]
    fn the_example_shows_every_key_and_no_other() {
        let file: File = toml::from_str(&uncomment(EXAMPLE)).unwrap();
        let (mut fields, mut shown) = (Vec::new(), keys().map(str::to_owned).collect::<Vec<_>>());
        names("", &serde_json::to_value(&file).unwrap(), &mut fields);
        // Each sink of the example shows the keys of its own type: together they show all.
        let of_any_sink =
            |name: &String| match name.strip_prefix("sinks.").and_then(|rest| rest.split_once('.')) {
                Some((_, key)) => format!("sinks.*.{key}"),
                None => name.clone(),
            };
        for names in [&mut fields, &mut shown] {
            *names = names.iter().map(of_any_sink).collect();
            names.sort();
            names.dedup();
        }
        assert_eq!(fields, shown);
    }
}
