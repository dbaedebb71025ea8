//! A bucket of an object store: whether it answers, reading and signing. Nothing but [`Bucket::put`] overwrites.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use object_store::{
    Attribute, Attributes, ObjectStore, ObjectStoreExt as _, PutOptions, path::Path, prefix::PrefixStore,
};
use reqwest::Method;
use url::Url;

use super::{
    ArchiveError, HIDDEN, cloud,
    cloud::{Connection, Signer},
    parse,
};
use crate::{
    config::{self, Serve},
    refusal::reason,
};

/// How long a look at the bucket counts, where it answered; it costs a request.
const FRESH: Duration = Duration::from_secs(30);

/// The same where it did not: whoever waits for it is to go on soon.
const FRESH_TROUBLE: Duration = Duration::from_secs(2);

/// Longest wait for a look.
const PATIENCE: Duration = Duration::from_secs(10);

/// No signature is good for longer (AWS, `X-Amz-Expires`; GCS has the same bound).
const LONGEST_SIGNED: Duration = Duration::from_secs(7 * 86_400);

/// Why a bucket takes or gives nothing. Nothing is lost: who wants to store in it waits and tries again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It knows the credentials not, or they may not do this.
    #[error(
        "the archive's bucket refuses our credentials, or they lack a right ({0}): put [storage] credentials or the \
         bucket's policy right; nothing is lost, the video is stored then"
    )]
    Denied(String),
    /// There is none of this name.
    #[error(
        "there is no bucket as [storage] url names it ({0}); nothing is lost, the video is stored once there is"
    )]
    Missing(String),
    /// It cannot be reached, or is out of order.
    #[error("the archive's bucket is out of reach or out of order ({0}); nothing is lost, it is tried again")]
    Away(String),
    /// What is configured does not suffice to ask it anything.
    #[error("the archive's bucket cannot be set up from [storage] and the environment: {0}")]
    Setup(String),
}

impl Fault {
    /// What an error means that came of writing.
    pub(super) fn writing(error: &object_store::Error) -> Self {
        let reason = reason(error);
        match error {
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                Self::Denied(reason)
            }
            // A key that is written need not be there before, so what is not found is the bucket.
            object_store::Error::NotFound { .. } => Self::Missing(reason),
            _ => Self::Away(reason),
        }
    }

    /// What an error means that came of making a client.
    #[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
    pub(super) fn setup(error: &object_store::Error) -> Self {
        Self::Setup(reason(error))
    }
}

/// Whether nothing was written since something has the name already.
pub(super) const fn is_taken(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. })
}

/// How a bucket does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Nobody has looked so far.
    Unknown,
    /// It takes files.
    Answers,
    /// It does not.
    Troubled(Fault),
}

#[derive(Debug)]
pub(super) struct Bucket {
    /// Below the prefix.
    pub(super) store: Arc<dyn ObjectStore>,
    signer: Arc<dyn Signer>,
    prefix: Path,
    serve: Serve,
    last: Mutex<(Option<Instant>, State)>,
    /// One looks, the others wait for what it sees.
    looking: tokio::sync::Mutex<()>,
}

impl Bucket {
    /// Makes what is needed to ask a bucket; asks it nothing.
    pub(super) fn new(settings: &config::Bucket) -> Result<Self, ArchiveError> {
        let Connection { store, signer } = cloud::connect(settings)?;
        let prefix = parse(&settings.prefix)?;
        Ok(Self {
            store: Arc::new(PrefixStore::new(store, prefix.clone())),
            signer,
            prefix,
            serve: settings.serve,
            last: Mutex::new((None, State::Unknown)),
            looking: tokio::sync::Mutex::default(),
        })
    }

    pub(super) fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store)
    }

    pub(super) fn redirects(&self) -> bool {
        self.serve == Serve::Redirect
    }

    /// What an error means that came of reading.
    pub(super) fn reading(&self, error: object_store::Error) -> ArchiveError {
        match error {
            object_store::Error::NotFound { path, .. } => ArchiveError::NotFound(path),
            error => Fault::writing(&error).into(),
        }
    }

    /// Writes a small file, in place of what has its name.
    pub(super) async fn put(&self, location: &str, body: Vec<u8>) -> Result<(), ArchiveError> {
        let attributes = Attributes::from_iter([(Attribute::ContentType, "application/json")]);
        let written = self.store.put_opts(&parse(location)?, body.into(), PutOptions::from(attributes)).await;
        written.map(drop).map_err(|error| self.troubled(&error))
    }

    pub(super) async fn signed_url(&self, location: &str, ttl: Duration) -> Result<Url, ArchiveError> {
        let key = self.prefix.parts().chain(parse(location)?.parts()).collect::<Path>();
        let signed = self.signer.signed_url(Method::GET, &key, ttl.min(LONGEST_SIGNED)).await;
        signed.map_err(|error| Fault::writing(&error).into())
    }

    /// As it was when it was last looked at.
    pub(super) fn state(&self) -> State {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    /// Looks at the bucket, unless somebody did a moment ago.
    pub(super) async fn ensure_answers(&self) -> Result<(), ArchiveError> {
        if !self.is_fresh() {
            let _one = self.looking.lock().await;
            if !self.is_fresh() {
                let state = match tokio::time::timeout(PATIENCE, self.look()).await {
                    Ok(Ok(())) => State::Answers,
                    Ok(Err(fault)) => State::Troubled(fault),
                    Err(_) => State::Troubled(Fault::Away(format!("no answer in {PATIENCE:?}"))),
                };
                self.note(state);
            }
        }
        match self.state() {
            State::Troubled(fault) => Err(fault.into()),
            State::Unknown | State::Answers => Ok(()),
        }
    }

    /// Asks for a small file of ours, and makes it where it is not there: that tells whether writing is allowed, too.
    async fn look(&self) -> Result<(), Fault> {
        let mark = Path::from_iter([HIDDEN, "archive"]);
        match self.store.head(&mark).await {
            Ok(_) => Ok(()),
            // S3 says "denied" of what is not there, to whoever may not list.
            Err(object_store::Error::NotFound { .. } | object_store::Error::PermissionDenied { .. }) => {
                let written = self.store.put(&mark, "reelhook keeps videos here\n".into()).await;
                written.map(drop).map_err(|error| Fault::writing(&error))
            }
            Err(error) => Err(Fault::writing(&error)),
        }
    }

    /// What is wrong, known to those who look from now on.
    pub(super) fn troubled(&self, error: &object_store::Error) -> ArchiveError {
        let fault = Fault::writing(error);
        self.note(State::Troubled(fault.clone()));
        fault.into()
    }

    /// Logs a change.
    fn note(&self, state: State) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.1 != state {
            match &state {
                State::Troubled(why) => tracing::error!(%why, "the archive's bucket takes nothing"),
                _ => tracing::info!("the archive's bucket answers"),
            }
        }
        *last = (Some(Instant::now()), state);
    }

    fn is_fresh(&self) -> bool {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh_for = if last.1 == State::Answers { FRESH } else { FRESH_TROUBLE };
        last.0.is_some_and(|at| at.elapsed() < fresh_for)
    }
}
