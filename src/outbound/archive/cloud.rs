//! The clients of the object stores, each behind its feature. What `[storage]` leaves open comes from the environment, by
//! the names that the cloud's own tools know; where it has credentials, the environment is not read.

use std::{sync::Arc, time::Duration};

pub(super) use object_store::signer::Signer;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use super::bucket::Fault;
use crate::config::{Bucket, Cloud};

/// Longest wait for an answer, and between two parts of one. A piece has to be sent in it, too.
const PATIENCE: Duration = Duration::from_secs(60);

/// Busy object stores refuse a few requests in passing; each can be repeated and costs nobody anything.
const REPEATS: usize = 2;

/// A way to a bucket.
pub(super) struct Connection {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) signer: Arc<dyn Signer>,
}

/// Makes a client; connects to nobody.
pub(super) fn connect(bucket: &Bucket) -> Result<Connection, Fault> {
    match bucket.cloud {
        #[cfg(feature = "s3")]
        Cloud::S3 => s3(bucket),
        #[cfg(feature = "gcs")]
        Cloud::Gcs => gcs(bucket),
        #[cfg(feature = "azure")]
        Cloud::Azure => azure(bucket),
        #[cfg(not(all(feature = "s3", feature = "gcs", feature = "azure")))]
        cloud => Err(Fault::Setup(format!("this build knows nothing of {cloud:?}"))),
    }
}

#[cfg(feature = "s3")]
fn s3(bucket: &Bucket) -> Result<Connection, Fault> {
    use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
    let mut builder = match bucket.key() {
        Some((id, secret)) => AmazonS3Builder::new().with_access_key_id(id).with_secret_access_key(secret),
        None => AmazonS3Builder::from_env(),
    };
    if let Some(region) = &bucket.region {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = endpoint(bucket) {
        // By the name that outranks any other that the environment may have.
        builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint);
    }
    let built = builder
        .with_bucket_name(&bucket.name)
        .with_client_options(options(bucket))
        .with_retry(retry())
        .build();
    connection(built)
}

#[cfg(feature = "gcs")]
fn gcs(bucket: &Bucket) -> Result<Connection, Fault> {
    use object_store::gcp::GoogleCloudStorageBuilder;
    use secrecy::ExposeSecret as _;
    let mut builder = match &bucket.credentials {
        Some(key) => GoogleCloudStorageBuilder::new().with_service_account_key(key.expose_secret()),
        None => GoogleCloudStorageBuilder::from_env(),
    };
    if let Some(endpoint) = endpoint(bucket) {
        builder = builder.with_base_url(&endpoint);
    }
    let built = builder
        .with_bucket_name(&bucket.name)
        .with_client_options(options(bucket))
        .with_retry(retry())
        .build();
    connection(built)
}

#[cfg(feature = "azure")]
fn azure(bucket: &Bucket) -> Result<Connection, Fault> {
    use object_store::azure::MicrosoftAzureBuilder;
    let mut builder = match bucket.key() {
        Some((account, key)) => MicrosoftAzureBuilder::new().with_account(account).with_access_key(key),
        None => MicrosoftAzureBuilder::from_env(),
    };
    if let Some(endpoint) = endpoint(bucket) {
        builder = builder.with_endpoint(endpoint);
    }
    let built = builder
        .with_container_name(&bucket.name)
        .with_client_options(options(bucket))
        .with_retry(retry())
        .build();
    connection(built)
}

fn connection<S: ObjectStore + Signer>(built: object_store::Result<S>) -> Result<Connection, Fault> {
    let built = Arc::new(built.map_err(|error| Fault::setup(&error))?);
    Ok(Connection { store: Arc::<S>::clone(&built), signer: built })
}

fn endpoint(bucket: &Bucket) -> Option<String> {
    bucket.endpoint.as_ref().map(|url| url.as_str().trim_end_matches('/').to_owned())
}

fn options(bucket: &Bucket) -> ClientOptions {
    // A video takes as long as whoever watches it: only silence ends a request. Without an endpoint of ours the
    // environment may name one, and then it is the operator's who says http.
    ClientOptions::new()
        .with_timeout_disabled()
        .with_read_timeout(PATIENCE)
        .with_connect_timeout(Duration::from_secs(5))
        .with_allow_http(bucket.endpoint.as_ref().is_none_or(|url| url.scheme() == "http"))
}

fn retry() -> RetryConfig {
    let backoff = BackoffConfig { max_backoff: Duration::from_secs(2), ..BackoffConfig::default() };
    RetryConfig { backoff, max_retries: REPEATS, retry_timeout: PATIENCE }
}

#[cfg(all(test, feature = "gcs"))]
mod tests {
    use super::*;
    use crate::config::Serve;

    /// No more than that a client comes of it: there is no server of GCS to try it on.
    #[test]
    fn the_key_of_a_service_account_makes_a_client_of_gcs() {
        let key = r#"{"private_key":"none","private_key_id":"1","client_email":"a@b","disable_oauth":true}"#;
        let bucket = |credentials: &str| Bucket {
            cloud: Cloud::Gcs,
            name: "videos".to_owned(),
            prefix: String::new(),
            endpoint: None,
            region: None,
            credentials: Some(credentials.into()),
            serve: Serve::Proxy,
        };
        assert_eq!(connect(&bucket(key)).unwrap().store.to_string(), "GoogleCloudStorage(videos)");
        assert!(matches!(connect(&bucket("{}")), Err(Fault::Setup(why)) if !why.is_empty()));
    }
}
