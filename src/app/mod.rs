//! What a caller can do. [`App::apply`] is the only writer of change: load, step, replace, again if somebody was faster.

mod arrival;
mod change;
mod create;
mod decide;
mod learn;
mod live;
mod remarks;
mod trace;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use secrecy::SecretString;
use url::Url;

pub use arrival::{Arrived, Incoming, Refused};
pub use change::Applied;
pub use create::{Created, Deadline, Document, NewRequest};
pub use decide::Resolution;
pub use live::{Pause, Progress, Until};
pub use remarks::remarks;

use crate::{
    clock::Clock,
    config::Config,
    entropy::{Entropy, NoEntropy},
    lifecycle::{Experience, FetchPolicy, Job, JobId, Millis, Policy, PollPolicy, TaskId},
    provider::{
        models::FieldError,
        token::{Purpose, Tokens},
    },
    store::{Store, StoreError},
};

/// Why a caller's wish is not done. Each message says whether money was spent and what to do.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The request is wrong in these places.
    #[error("the request is not valid; no job was created and nothing was spent")]
    Invalid(Vec<FieldError>),
    /// The idempotency key made a job of another request.
    #[error(
        "this Idempotency-Key made {0} from another request; nothing was created or spent: use a new key for a new job"
    )]
    KeyReused(JobId),
    /// The price is above the caller's own limit.
    #[error(
        "the job would cost {estimated} credits, max_credits allows {allowed}; no job was created and nothing was spent"
    )]
    MaxCredits {
        /// By the catalogue.
        estimated: u64,
        /// By the caller.
        allowed: u64,
    },
    /// A budget would be exceeded.
    #[error(
        "the job would cost {estimated} credits, but {booked} of the {period} budget of {limit} are booked; no job was \
         created and nothing was spent: wait, or raise [budget] {period}_credits"
    )]
    OverBudget {
        /// `daily`, `monthly` or `per_job`.
        period: &'static str,
        /// By the catalogue.
        estimated: u64,
        /// So far.
        booked: u64,
        /// By the configuration.
        limit: u64,
    },
    /// Too many jobs wait to be submitted.
    #[error(
        "{0} jobs are queued already; no job was created and nothing was spent: try again later, or raise [api] queue_limit"
    )]
    QueueFull(u64),
    /// There is no such job.
    #[error("there is no job {0}; nothing was changed")]
    NotFound(JobId),
    /// The job is not held.
    #[error("{0} is not held, so there is nothing to resolve; nothing was changed or spent")]
    NotHeld(JobId),
    /// The job is settled.
    #[error("{0} has ended already; nothing was changed or spent")]
    Terminal(JobId),
    /// The job cannot be followed in this mode.
    #[error("{id} cannot be retried: {why}; nothing was changed or spent")]
    NothingToRetry {
        /// The job.
        id: JobId,
        /// The reason, and what would do.
        why: &'static str,
    },
    /// The task that the operator named is another job's.
    #[error("task {task} is the task of {owner}; nothing was changed or spent")]
    TaskTaken {
        /// The task.
        task: TaskId,
        /// Whose it is.
        owner: JobId,
    },
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No randomness, so no unguessable id.
    #[error("the system gives no random bytes, so no job can be created safely; nothing was spent")]
    NoEntropy(#[from] NoEntropy),
}

/// The service's core: what the routes call and the lanes write through.
pub struct App {
    pub(super) config: Arc<Config>,
    pub(super) store: Arc<dyn Store>,
    policy: Mutex<Arc<Policy>>,
    pub(super) clock: Clock,
    entropy: Entropy,
    callback_tokens: Tokens,
    link_tokens: Tokens,
    public_url: Option<Url>,
    external_url: Url,
    live: live::Live,
}

impl App {
    /// Puts the core together. Secrets that are not configured are made once and kept in the store.
    ///
    /// # Errors
    /// The store's, and [`AppError::NoEntropy`].
    pub async fn new(
        config: Arc<Config>,
        store: Arc<dyn Store>,
        clock: Clock,
        addresses: Addresses,
    ) -> Result<Self, AppError> {
        let callback_secrets = if config.callback.secrets.is_empty() {
            vec![kept_secret(&*store, "callback-secret").await?]
        } else {
            config.callback.secrets.clone()
        };
        let link_secrets = vec![kept_secret(&*store, "link-secret").await?];
        let weak = |why: crate::provider::token::WeakSecret| StoreError::Unavailable(why.to_string());
        Ok(Self {
            policy: Mutex::new(Arc::new(policy(&config))),
            callback_tokens: Tokens::new(Purpose::Callback, callback_secrets).map_err(weak)?,
            link_tokens: Tokens::new(Purpose::Media, link_secrets).map_err(weak)?,
            public_url: addresses.public_url,
            external_url: addresses.external_url,
            live: live::Live::default(),
            config,
            store,
            clock,
            entropy: Entropy::system(),
        })
    }

    /// The same, with ids from another source: a simulation replays only if they are the same again.
    #[must_use]
    pub fn with_entropy(self, entropy: Entropy) -> Self {
        Self { entropy, ..self }
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What is remembered; for reading.
    #[must_use]
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// The limits that jobs go by, with what was learned so far.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The time that records carry.
    #[must_use]
    pub fn now(&self) -> Millis {
        Millis(self.clock.now_ms())
    }

    /// The clock behind [`now`](Self::now).
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The address that the upstream is asked to call for this job; none when there is no public address.
    #[must_use]
    pub fn callback_url(&self, id: JobId) -> Option<Url> {
        let id = id.to_string();
        let token = self.callback_tokens.mint(&id);
        self.public_url.as_ref().map(|base| extended(base, &["cb", &id, &token]))
    }

    /// Whether this token was minted for this job, in constant time and without looking at the store.
    #[must_use]
    pub fn token_is_valid(&self, id: &str, token: &str) -> bool {
        self.callback_tokens.check(id, token)
    }

    /// A link to a stored file that needs no key and lives for `[server] link_ttl`.
    #[must_use]
    pub fn media_url(&self, id: JobId, name: &str) -> Url {
        let ttl = i64::try_from(self.config.server.link_ttl.as_secs()).unwrap_or(i64::MAX);
        let expires = (self.now().0 / 1_000).saturating_add(ttl);
        let mut url = extended(&self.external_url, &["media", &id.to_string(), name]);
        let signature = self.link_tokens.mint(&media_subject(id, name, expires));
        url.query_pairs_mut().append_pair("exp", &expires.to_string()).append_pair("sig", &signature);
        url
    }

    /// Whether such a link was signed by us and has not expired.
    #[must_use]
    pub fn media_link_is_valid(&self, id: JobId, name: &str, expires: i64, signature: &str) -> bool {
        self.link_tokens.check(&media_subject(id, name, expires), signature) && self.now().0 / 1_000 < expires
    }

    /// The base of links that point at this server.
    #[must_use]
    pub const fn external_url(&self) -> &Url {
        &self.external_url
    }

    /// The job, as it is now.
    ///
    /// # Errors
    /// [`AppError::NotFound`], and the store's.
    pub async fn get(&self, id: JobId) -> Result<Job, AppError> {
        self.store.load(id).await?.ok_or(AppError::NotFound(id))
    }

    /// An id that nobody else has and nobody can guess.
    pub(super) fn fresh_id(&self) -> Result<JobId, AppError> {
        Ok(JobId::new(self.now(), &self.entropy.bytes()?))
    }
}

/// Where this server is reached; known once the listeners are bound.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// By the upstream, for callbacks.
    pub public_url: Option<Url>,
    /// By clients, for links.
    pub external_url: Url,
}

fn media_subject(id: JobId, name: &str, expires: i64) -> String {
    format!("{id}/{name}?exp={expires}")
}

fn extended(base: &Url, segments: &[&str]) -> Url {
    let mut url = base.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(segments);
    }
    url
}

async fn kept_secret(store: &dyn Store, name: &str) -> Result<SecretString, AppError> {
    let fresh: [u8; 32] = Entropy::system().bytes()?;
    let kept = store.keep(name, hex::encode(fresh).into_bytes()).await?;
    Ok(SecretString::from(String::from_utf8_lossy(&kept).into_owned()))
}

/// Lease of a claim that is renewed while its work lives.
const LEASE: Duration = Duration::from_secs(15);
/// How often it is renewed.
pub const RENEW_EVERY: Duration = Duration::from_secs(5);
/// How much longer than its time-out a create call's lease is.
const SUBMIT_MARGIN: Duration = Duration::from_secs(5);

/// The limits that jobs go by under a configuration.
#[must_use]
pub fn policy(config: &Config) -> Policy {
    let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX / 4);
    Policy {
        lease: millis(LEASE),
        submit_lease: millis(config.upstream.submit_timeout + SUBMIT_MARGIN),
        unknown_wait: millis(config.upstream.unknown_wait),
        probe_after: millis(config.upstream.probe_after),
        experience: Experience::default(),
        poll: PollPolicy {
            first_after: millis(config.poll.first_after),
            overdue_after: millis(config.poll.overdue_after),
            interval: millis(config.poll.interval),
            max_interval: millis(config.poll.max_interval),
            jitter: config.poll.jitter,
            give_up_after: millis(config.poll.give_up_after),
        },
        fetch: FetchPolicy {
            attempts: config.download.attempts,
            backoff: millis(config.download.backoff),
            max_backoff: millis(config.download.max_backoff),
            give_up_after: millis(config.download.give_up_after),
        },
        sinks: Vec::new(),
    }
}
