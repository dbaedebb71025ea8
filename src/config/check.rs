//! From [`File`], as typed, to [`Config`], as meant: every value in range, every relation kept. All problems at once.

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::LazyLock,
    time::Duration,
};

use bytesize::ByteSize;
use secrecy::ExposeSecret;
use tracing_subscriber::EnvFilter;
use url::Url;

use super::{
    Api, Auth, Budget, Callback, Config, Database, Download, Egress, Log, LogFormat, Poll, Retention,
    Sandbox, Server, Store, Tls, Upstream,
    file::{self, File},
    otel, relations,
    report::{Origin, Problem},
    secrets::Digest,
    signature, sinks, storage,
    value::{DAY, HOUR, MILLISECOND, MINUTE, SECOND},
};
use crate::provider::{models::Pricing, reply::Mapping};

/// Requests a minute.
const RATE: RangeInclusive<i64> = 1..=100_000_000;

/// Collects what is wrong while the values are read.
pub(super) struct Checker<'a> {
    cwd: &'a Path,
    pub(super) credentials: Option<&'a Path>,
    pub(super) origins: BTreeMap<String, Origin>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
    /// Of secrets, by key: whether one changed is not to be told by what may be shown.
    pub(super) digests: BTreeMap<String, Digest>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(
        cwd: &'a Path,
        credentials: Option<&'a Path>,
        origins: BTreeMap<String, Origin>,
        problems: Vec<Problem>,
    ) -> Self {
        Self { cwd, credentials, origins, problems, warnings: Vec::new(), digests: BTreeMap::new() }
    }

    pub(super) fn problem(&mut self, key: &str, message: impl Into<String>) {
        let problem = self.about(key, message.into());
        self.problems.push(problem);
    }

    /// Notes a problem that leaves a key without a value.
    pub(super) fn reject<T>(&mut self, key: &str, message: impl Into<String>) -> Option<T> {
        self.problem(key, message);
        None
    }

    pub(super) fn warn(&mut self, key: &str, message: impl Into<String>) {
        let warning = self.about(key, message.into());
        self.warnings.push(warning);
    }

    fn about(&self, key: &str, message: String) -> Problem {
        let origin = self.origins.get(key).cloned().unwrap_or(Origin::Default);
        Problem { key: key.to_owned(), origin, message }
    }

    /// A relation between two keys. Not judged when one of them is wrong by itself.
    pub(super) fn relation(&mut self, key: &str, other: &str, holds: bool, message: &str) {
        if !holds && !self.is_rejected(key) && !self.is_rejected(other) {
            let whence = self.about(other, String::new()).origin;
            self.problem(key, format!("{message} `{other}` ({whence})"));
        }
    }

    /// Whether the key, or the file of that secret, has a problem of its own.
    pub(super) fn is_rejected(&self, key: &str) -> bool {
        let concerns = |name: &str| name.strip_prefix(key).is_some_and(|rest| matches!(rest, "" | "_file"));
        self.problems.iter().any(|problem| concerns(&problem.key))
    }

    /// The certificate and key of a listener; one without the other is a mistake.
    fn tls(&mut self, section: &str, cert: &Option<PathBuf>, key: &Option<PathBuf>) -> Option<Tls> {
        match (cert, key) {
            (Some(cert), Some(key)) => Some(Tls { cert: self.path(cert), key: self.path(key) }),
            (None, None) => None,
            (Some(_), None) => {
                self.reject(&format!("{section}.tls_cert"), format!("needs `{section}.tls_key` beside it"))
            }
            (None, Some(_)) => {
                self.reject(&format!("{section}.tls_key"), format!("needs `{section}.tls_cert` beside it"))
            }
        }
    }

    /// A path as meant: relative to the working directory.
    pub(super) fn path(&self, path: &Path) -> PathBuf {
        self.cwd.join(path)
    }
}

/// Checks everything. The result counts only when the checker has no problem.
pub(super) fn config(c: &mut Checker<'_>, file: &File) -> Config {
    let delivery = sinks::delivery(c, &file.delivery);
    let server = server(c, &file.server);
    let storage = storage::storage(c, file);
    let config = Config {
        auth: auth(c, &file.auth),
        upstream: upstream(c, &file.upstream),
        callback: callback(c, &file.callback),
        poll: poll(c, &file.poll),
        download: download(c, &file.download),
        sinks: sinks::all(c, &file.sinks, &delivery),
        delivery,
        store: store(c, &file.store),
        database: database(c, &file.store, &server.instance),
        backup: storage::backup(c, file, &storage),
        storage,
        server,
        egress: egress(c, &file.egress),
        budget: budget(c, &file.budget),
        pricing: pricing(c, &file.pricing.kling_3),
        retention: retention(c, &file.retention),
        api: api(c, &file.api),
        log: log(c, &file.log),
        otel: otel::otel(c, &file.otel),
        sandbox: Sandbox { speed: c.number("sandbox.speed", file.sandbox.speed, 0.01..=10_000.0) },
    };
    relations::check(c, &config);
    config
}

fn server(c: &mut Checker<'_>, f: &file::Server) -> Server {
    let path = f.base_path.trim_end_matches('/');
    if !f.base_path.starts_with('/') || path.contains("//") || path.contains(['?', '#', ' ', '\\', '%']) {
        c.problem("server.base_path", "must be a path: write \"/\" or \"/videos\"");
    }
    Server {
        instance: f.instance.as_ref().map_or_else(instance_name, |name| instance(c, name)),
        listen: c.address("server.listen", &f.listen),
        base_path: if path.is_empty() { "/".to_owned() } else { path.to_owned() },
        external_url: f.external_url.as_ref().and_then(|url| c.base_url("server.external_url", url)),
        body_limit: c.size("server.body_limit", &f.body_limit, ByteSize::kib(1)..=ByteSize::mib(64)) as usize,
        shutdown_grace: c.duration("server.shutdown_grace", &f.shutdown_grace, Duration::ZERO..=HOUR),
        link_ttl: c.duration("server.link_ttl", &f.link_ttl, SECOND..=365 * DAY),
        tls: c.tls("server", &f.tls_cert, &f.tls_key),
    }
}

/// Longest name of an instance; the database keeps 63 characters, and a random ending comes to it.
const INSTANCE_LENGTH: usize = 40;

fn instance(c: &mut Checker<'_>, name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > INSTANCE_LENGTH || !name.bytes().all(plain) {
        c.problem(
            "server.instance",
            "must be 1 to 40 letters, digits, `-`, `_` and `.`: write \"reelhook-1\"",
        );
    }
    name.to_owned()
}

/// The name of this machine, and what tells this process from others there, as long as it lives.
fn instance_name() -> String {
    static NAME: LazyLock<String> = LazyLock::new(|| {
        let uname = rustix::system::uname();
        let host = uname.nodename().to_string_lossy();
        let plain = host.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c));
        let [.., a, b] = uuid::Uuid::now_v7().into_bytes();
        format!("{}-{a:02x}{b:02x}", plain.take(INSTANCE_LENGTH - 5).collect::<String>())
    });
    NAME.clone()
}

fn auth(c: &mut Checker<'_>, f: &file::Auth) -> Auth {
    let key = "auth.bootstrap_admin_key";
    let bootstrap_admin_key = c.secret(key, &f.bootstrap_admin_key, &f.bootstrap_admin_key_file);
    if bootstrap_admin_key.as_ref().is_some_and(|secret| secret.expose_secret().chars().count() < 20) {
        c.problem(key, "is too short to be safe: 20 characters or more, best random");
    }
    Auth { keys_file: f.keys_file.as_ref().map(|path| c.path(path)), bootstrap_admin_key }
}

fn upstream(c: &mut Checker<'_>, f: &file::Upstream) -> Upstream {
    for (key, path) in [("upstream.submit_path", &f.submit_path), ("upstream.task_path", &f.task_path)] {
        if !path.starts_with('/') || path.contains(char::is_whitespace) {
            c.problem(key, "must be a path that begins with `/`");
        }
    }
    if !f.task_path.contains("{task_id}") {
        c.problem("upstream.task_path", "must contain {task_id}, which is replaced by the task's id");
    }
    if f.default_model.trim().is_empty() {
        c.problem("upstream.default_model", "must name a model");
    }
    Upstream {
        base_url: c.base_url("upstream.base_url", &f.base_url).unwrap_or_else(placeholder),
        submit_path: f.submit_path.clone(),
        task_path: f.task_path.clone(),
        api_key: c.secret("upstream.api_key", &f.api_key, &f.api_key_file),
        default_model: f.default_model.clone(),
        connect_timeout: c.duration("upstream.connect_timeout", &f.connect_timeout, MILLISECOND..=5 * MINUTE),
        submit_timeout: c.duration("upstream.submit_timeout", &f.submit_timeout, MILLISECOND..=10 * MINUTE),
        ask_timeout: c.duration("upstream.ask_timeout", &f.ask_timeout, MILLISECOND..=10 * MINUTE),
        max_concurrent_submits: c.integer(
            "upstream.max_concurrent_submits",
            f.max_concurrent_submits,
            1..=256,
        ),
        max_in_flight: c.integer("upstream.max_in_flight", f.max_in_flight, 1..=10_000_000),
        requests_per_minute: c.integer("upstream.requests_per_minute", f.requests_per_minute, 1..=10_000_000),
        unknown_wait: c.duration("upstream.unknown_wait", &f.unknown_wait, MILLISECOND..=DAY),
        probe_after: c.duration("upstream.probe_after", &f.probe_after, MILLISECOND..=HOUR),
        mapping: mapping(c, &f.mapping),
    }
}

fn mapping(c: &mut Checker<'_>, f: &file::Mapping) -> Mapping {
    let pointers = [
        ("upstream.mapping.task_id", &f.task_id),
        ("upstream.mapping.status", &f.status),
        ("upstream.mapping.video_url", &f.video_url),
        ("upstream.mapping.error_message", &f.error_message),
    ];
    for (key, list) in pointers {
        if let Some(wrong) = list.iter().find(|pointer| !pointer.starts_with('/')) {
            c.problem(key, format!("`{wrong}` is not a JSON pointer: write \"/data/id\""));
        }
    }
    Mapping {
        task_id: f.task_id.clone(),
        status: f.status.clone(),
        video_url: f.video_url.clone(),
        error_message: f.error_message.clone(),
        succeeded_words: f.succeeded_words.clone(),
        failed_words: f.failed_words.clone(),
        pending_words: f.pending_words.clone(),
        no_callback_models: f.no_callback_models.clone(),
    }
}

fn callback(c: &mut Checker<'_>, f: &file::Callback) -> Callback {
    let signature = signature::format(c, f);
    let secrets = c.secrets("callback.signature_secrets", &f.signature_secrets, &f.signature_secrets_file);
    signature::secrets(c, signature.scheme, &secrets);
    Callback {
        listen: c.address("callback.listen", &f.listen),
        public_url: f.public_url.as_ref().and_then(|url| c.base_url("callback.public_url", url)),
        body_limit: c.size("callback.body_limit", &f.body_limit, ByteSize::kib(1)..=ByteSize::mib(16))
            as usize,
        keep_bodies: keep(c, "callback.keep_bodies", &f.keep_bodies),
        secrets: c.secrets("callback.secrets", &f.secrets, &f.secrets_file),
        signature,
        signature_secrets: secrets,
        rate_limit_per_minute: c.integer("callback.rate_limit_per_minute", f.rate_limit_per_minute, RATE),
        miss_limit_per_minute: c.integer("callback.miss_limit_per_minute", f.miss_limit_per_minute, RATE),
        tls: c.tls("callback", &f.tls_cert, &f.tls_key),
    }
}

fn poll(c: &mut Checker<'_>, f: &file::Poll) -> Poll {
    Poll {
        first_after: c.duration("poll.first_after", &f.first_after, Duration::ZERO..=DAY),
        overdue_after: c.duration("poll.overdue_after", &f.overdue_after, Duration::ZERO..=DAY),
        interval: c.duration("poll.interval", &f.interval, MILLISECOND..=DAY),
        max_interval: c.duration("poll.max_interval", &f.max_interval, MILLISECOND..=DAY),
        jitter: c.number("poll.jitter", f.jitter, 0.0..=1.0),
        give_up_after: c.duration("poll.give_up_after", &f.give_up_after, MILLISECOND..=30 * DAY),
    }
}

fn download(c: &mut Checker<'_>, f: &file::Download) -> Download {
    Download {
        concurrency: c.integer("download.concurrency", f.concurrency, 1..=256),
        stall_timeout: c.duration("download.stall_timeout", &f.stall_timeout, MILLISECOND..=HOUR),
        max_size: c.size("download.max_size", &f.max_size, ByteSize::kib(1)..=ByteSize::tib(1)),
        attempts: c.integer("download.attempts", f.attempts, 1..=100),
        backoff: c.duration("download.backoff", &f.backoff, MILLISECOND..=HOUR),
        max_backoff: c.duration("download.max_backoff", &f.max_backoff, MILLISECOND..=DAY),
        max_redirects: c.integer("download.max_redirects", f.max_redirects, 0..=20),
        verify_container: f.verify_container,
        give_up_after: c.duration("download.give_up_after", &f.give_up_after, MILLISECOND..=30 * DAY),
    }
}

fn store(c: &mut Checker<'_>, f: &file::Store) -> Store {
    let path = if is_database(&f.url) { PathBuf::new() } else { c.folder("store.url", &f.url, "sled") };
    Store {
        path,
        cache: c.size("store.cache", &f.cache, ByteSize::mib(1)..=ByteSize::gib(64)),
        min_free: c.size("store.min_free", &f.min_free, ByteSize::b(0)..=ByteSize::pib(1)),
    }
}

pub(super) fn is_database(url: &str) -> bool {
    url.starts_with("postgres:") || url.starts_with("postgresql:")
}

fn database(c: &mut Checker<'_>, f: &file::Store, instance: &str) -> Option<Database> {
    // They may hold passwords, which are not shown.
    c.note_secret("store.url", &f.url);
    c.note_secret("store.direct_url", f.direct_url.as_deref().unwrap_or_default());
    let connections = c.integer("store.connections", f.connections, 2..=1_000);
    let password = c.secret("store.password", &f.password, &f.password_file);
    if !is_database(&f.url) {
        for (key, is_set) in
            [("store.direct_url", f.direct_url.is_some()), ("store.password", password.is_some())]
        {
            if is_set {
                c.warn(key, "has no effect unless store.url names a database");
            }
        }
        return None;
    }
    if cfg!(not(feature = "postgres")) {
        let message = "names a PostgreSQL database, which this build knows nothing of: take one with the feature `postgres` \
                       (`cargo install reelhook --features postgres`), or write `sled:./folder`";
        return c.reject("store.url", message);
    }
    let url = c.database_url("store.url", &f.url)?;
    let direct_url = f.direct_url.as_ref().and_then(|url| c.database_url("store.direct_url", url));
    Some(Database { url, direct_url, password, connections, instance: instance.to_owned() })
}

fn egress(c: &mut Checker<'_>, f: &file::Egress) -> Egress {
    let allow: Vec<_> = f.allow.iter().filter_map(|text| c.network("egress.allow", text)).collect();
    if allow.iter().any(|network| network.prefix_len() == 0) {
        c.warn(
            "egress.allow",
            "allows every address: a job may make this machine call anything it can reach",
        );
    }
    Egress { allow }
}

fn budget(c: &mut Checker<'_>, f: &file::Budget) -> Budget {
    let credits = 0..=1_000_000_000_000;
    Budget {
        daily_credits: c.integer("budget.daily_credits", f.daily_credits, credits.clone()),
        monthly_credits: c.integer("budget.monthly_credits", f.monthly_credits, credits.clone()),
        per_job_credits: c.integer("budget.per_job_credits", f.per_job_credits, credits),
    }
}

fn pricing(c: &mut Checker<'_>, f: &file::Rates) -> Pricing {
    let rate = 0..=1_000_000;
    Pricing {
        std_silent: c.integer("pricing.kling-3.std_silent", f.std_silent, rate.clone()),
        std_sound: c.integer("pricing.kling-3.std_sound", f.std_sound, rate.clone()),
        pro_silent: c.integer("pricing.kling-3.pro_silent", f.pro_silent, rate.clone()),
        pro_sound: c.integer("pricing.kling-3.pro_sound", f.pro_sound, rate),
    }
}

fn retention(c: &mut Checker<'_>, f: &file::Retention) -> Retention {
    Retention {
        videos: keep(c, "retention.videos", &f.videos),
        jobs: keep(c, "retention.jobs", &f.jobs),
        events: keep(c, "retention.events", &f.events),
        deliveries: keep(c, "retention.deliveries", &f.deliveries),
    }
}

/// How long something is kept; 0 is for ever.
fn keep(c: &mut Checker<'_>, key: &str, text: &str) -> Option<Duration> {
    let limit = c.duration(key, text, Duration::ZERO..=3_650 * DAY);
    (limit > Duration::ZERO).then_some(limit)
}

fn api(c: &mut Checker<'_>, f: &file::Api) -> Api {
    Api {
        max_wait: c.duration("api.max_wait", &f.max_wait, Duration::ZERO..=HOUR),
        queue_limit: c.integer("api.queue_limit", f.queue_limit, 1..=10_000_000),
        rate_limit_per_minute: c.integer("api.rate_limit_per_minute", f.rate_limit_per_minute, RATE),
    }
}

fn log(c: &mut Checker<'_>, f: &file::Log) -> Log {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    // The filter takes a bare word that is no level for the name of a module, and a typing error would silence all.
    let bare = |part: &str| !part.contains(['=', '[']) && !LEVELS.contains(&part.trim());
    if f.level.split(',').any(bare) || EnvFilter::builder().parse(&f.level).is_err() {
        let hint = "must be error, warn, info, debug, trace or off, or directives such as";
        c.problem("log.level", format!("{hint} \"info,reelhook::runner=debug\""));
    }
    let format = match f.format.as_str() {
        "auto" => LogFormat::Auto,
        "text" => LogFormat::Text,
        "json" => LogFormat::Json,
        other => c
            .reject("log.format", format!("must be \"auto\", \"text\" or \"json\", not `{other}`"))
            .unwrap_or(LogFormat::Auto),
    };
    Log { level: f.level.clone(), format }
}

/// Stands for a URL that was rejected.
fn placeholder() -> Url {
    Url::parse("https://invalid.invalid").expect("a constant URL")
}
