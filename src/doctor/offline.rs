//! The checks that need no server.

use std::time::Instant;

use tokio::task::spawn_blocking;

use super::{Check, archive, callback, store, upstream};
use crate::{
    clock::Clock,
    config::{Config, Store},
    outbound::{
        archive::{Archive, probe_bucket},
        upstream::Upstream,
    },
    store::{StoreError, sled},
};

/// Makes them. The store is locked for a moment, or the database asked; no job is touched.
pub async fn examine(config: &Config) -> Vec<Check> {
    let (store, archive, upstream) =
        tokio::join!(store_check(config), archive_checks(config), upstream_checks(config));
    let public_url = match &config.callback.public_url {
        None => callback::unset(),
        Some(_) => unjudged("public_url", "nobody is there to answer for it"),
    };
    let sinks = (!config.sinks.is_empty()).then(|| unjudged("sinks", "what signs for them is in the store"));
    [vec![store], archive, upstream, vec![public_url], sinks.into_iter().collect()].concat()
}

fn unjudged(name: &str, why: &str) -> Check {
    Check::warning(
        name,
        format!("was not judged while no server runs: {why}"),
        "start the server and ask again",
    )
}

async fn store_check(config: &Config) -> Check {
    let began = Instant::now();
    #[cfg(feature = "postgres")]
    if let Some(database) = &config.database {
        let probed = tokio::time::timeout(super::PATIENCE, crate::store::postgres::probe(database)).await;
        return store::judge(probed.unwrap_or_else(|_| Err(store::late())), began.elapsed());
    }
    let settings: Store = config.store.clone();
    match spawn_blocking(move || sled::probe(&settings)).await {
        Ok(Err(StoreError::Missing { path })) => {
            Check::ok(store::NAME, format!("there is none at {path} yet; the first start makes it"))
        }
        Ok(probed) => store::judge(probed, began.elapsed()),
        Err(panicked) => store::judge(Err(StoreError::Unavailable(panicked.to_string())), began.elapsed()),
    }
}

/// What is not begun is left to the first start: it may be the place of a volume that is not mounted, and whoever asks may
/// be another than the server's user.
async fn archive_checks(config: &Config) -> Vec<Check> {
    let storage = &config.storage;
    let not_begun = || archive::not_begun(&storage.root, storage.bucket.is_some());
    match Archive::existing(storage).await {
        Ok(Some(opened)) => {
            vec![archive::check(opened.probe()).await, archive::judge(&opened.disk(), None)]
        }
        Ok(None) => match &storage.bucket {
            Some(bucket) => vec![archive::check(probe_bucket(bucket)).await, not_begun()],
            None => vec![not_begun()],
        },
        Err(error) => {
            let fix = "check [storage] url, and that this process may write there";
            vec![Check::failed(archive::NAME, error.to_string(), fix)]
        }
    }
}

async fn upstream_checks(config: &Config) -> Vec<Check> {
    match Upstream::new(&config.upstream, Clock::system()) {
        Ok(provider) => upstream::check(&provider, &config.upstream).await,
        Err(error) => {
            let detail = format!("the HTTP client cannot be set up: {error}");
            vec![Check::failed("api_key", detail, "check this machine's certificate store")]
        }
    }
}
