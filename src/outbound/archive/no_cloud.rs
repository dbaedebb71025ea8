//! In place of `cloud` in a build that knows no object store, whose configuration refuses a bucket before anybody asks here.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use object_store::{ObjectStore, Result, path::Path};
use reqwest::Method;
use url::Url;

use super::bucket::Fault;
use crate::config::Bucket;

/// As `object_store` has it in the other builds.
#[async_trait]
pub(super) trait Signer: Send + Sync + fmt::Debug {
    async fn signed_url(&self, method: Method, path: &Path, expires_in: Duration) -> Result<Url>;
}

/// A way to a bucket.
pub(super) struct Connection {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) signer: Arc<dyn Signer>,
}

/// There is no way.
pub(super) fn connect(bucket: &Bucket) -> std::result::Result<Connection, Fault> {
    Err(Fault::Setup(format!("this build knows nothing of {:?}", bucket.cloud)))
}
