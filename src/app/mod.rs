//! What a caller can do. [`App::apply`] is the only writer of change: load, step, replace, again if somebody was faster.

mod arrival;
mod budget;
mod change;
mod create;
mod decide;
mod learn;
mod links;
mod live;
mod outbox;
mod ping;
mod policy;
mod remarks;
mod render;
mod sample;
mod task;
mod trace;
mod view;

use std::sync::{Arc, Mutex, PoisonError};

use secrecy::SecretString;
use url::Url;

pub use arrival::{Arrived, Incoming, Refused};
pub use change::Applied;
pub use create::{Created, Deadline, Document, Fresh, NewRequest};
pub use decide::Resolution;
pub use links::Links;
pub use live::{Progress, Until};
pub use policy::{RENEW_EVERY, policy};
pub use remarks::remarks;
pub use sample::sample;
pub use task::task_shape;
pub use view::{JobView, ProgressView, Viewer, progress, time};

pub use crate::store::Pause;

use crate::{
    clock::Clock,
    config::Config,
    entropy::{Entropy, NoEntropy},
    lifecycle::{DeliveryId, Job, JobId, Millis, Policy, TaskId},
    live::Live,
    provider::{
        models::FieldError,
        token::{Purpose, Tokens},
    },
    store::{Render, Store, StoreError},
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
    /// There is no such delivery.
    #[error("there is no delivery {0}")]
    NoDelivery(DeliveryId),
    /// The configuration names no such sink.
    #[error("the configuration names no sink `{0}`")]
    NoSink(String),
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No randomness, so no unguessable id.
    #[error("the system gives no random bytes, so no job can be created safely; nothing was spent")]
    NoEntropy(#[from] NoEntropy),
}

/// The service's core: what the routes call and the lanes write through.
pub struct App {
    config: Live<Config>,
    pub(super) store: Arc<dyn Store>,
    policy: Mutex<Arc<Policy>>,
    pub(super) clock: Clock,
    entropy: Entropy,
    callback_tokens: Tokens,
    ping_tokens: Tokens,
    public_url: Option<Url>,
    viewer: Viewer,
    /// Writes the bodies of deliveries.
    render: Render,
    /// Of budgets.
    said: budget::Said,
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
        let policy = Arc::new(policy(&config));
        let links = Links {
            tokens: Tokens::new(Purpose::Media, link_secrets).map_err(weak)?,
            base: addresses.external_url,
            clock: clock.clone(),
            ttl: config.server.link_ttl,
        };
        let viewer = Viewer { links, live: Arc::default() };
        Ok(Self {
            ping_tokens: Tokens::new(Purpose::Ping, callback_secrets.clone()).map_err(weak)?,
            callback_tokens: Tokens::new(Purpose::Callback, callback_secrets).map_err(weak)?,
            public_url: addresses.public_url,
            render: render::render(&config, &policy.delivery, &viewer),
            viewer,
            policy: Mutex::new(policy),
            config: Live::new(config),
            store,
            clock,
            entropy: Entropy::system(),
            said: budget::Said::default(),
        })
    }

    /// The same, with ids from another source: a simulation replays only if they are the same again.
    #[must_use]
    pub fn with_entropy(self, entropy: Entropy) -> Self {
        Self { entropy, ..self }
    }

    /// The configuration in force. Take it once for what belongs together.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        self.config.get()
    }

    /// Goes by another configuration from now on, with what was learned so far. What only a start can change must be as
    /// it was; see [`Loaded::reloaded`](crate::config::Loaded::reloaded).
    pub fn reload(&self, config: Arc<Config>) {
        let mut policy = self.policy.lock().unwrap_or_else(PoisonError::into_inner);
        let experience = policy.experience.clone();
        *policy = Arc::new(Policy { experience, ..self::policy(&config) });
        self.config.set(config);
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
        self.public_url.as_ref().map(|base| links::extended(base, &["cb", &id, &token]))
    }

    /// Whether this token was minted for this job, in constant time and without looking at the store.
    #[must_use]
    pub fn token_is_valid(&self, id: &str, token: &str) -> bool {
        self.callback_tokens.check(id, token)
    }

    /// A link to a stored file that needs no key and lives for `[server] link_ttl`.
    #[must_use]
    pub fn media_url(&self, id: JobId, name: &str) -> Url {
        self.viewer.links.media_url(id, name)
    }

    /// Whether such a link was signed by us and has not expired.
    #[must_use]
    pub fn media_link_is_valid(&self, id: JobId, name: &str, expires: i64, signature: &str) -> bool {
        self.viewer.links.is_valid(id, name, expires, signature)
    }

    /// What a view of a job takes.
    #[must_use]
    pub const fn viewer(&self) -> &Viewer {
        &self.viewer
    }

    /// The base of links that point at this server.
    #[must_use]
    pub const fn external_url(&self) -> &Url {
        &self.viewer.links.base
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

async fn kept_secret(store: &dyn Store, name: &str) -> Result<SecretString, AppError> {
    let fresh: [u8; 32] = Entropy::system().bytes()?;
    let kept = store.keep(name, hex::encode(fresh).into_bytes()).await?;
    Ok(SecretString::from(String::from_utf8_lossy(&kept).into_owned()))
}
