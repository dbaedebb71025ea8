//! The backup in a bucket of a real object store.

use std::fs;

use reelhook::{
    config::{Backup, Bucket, Serve},
    server,
    store::{Store, sled::SledStore},
};

use crate::{
    place::Place,
    running,
    seaweed::{KEY, Seaweed},
    support::{NOW, job, policy, put},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_in_a_bucket_becomes_a_store_again() {
    let (seaweed, place) = (Seaweed::start().await, Place::new());
    let bucket = Bucket { prefix: "backup".to_owned(), ..seaweed.settings(Serve::Proxy) };
    let target = server::backup_target(&Backup::Bucket(bucket.clone()), true).unwrap();
    let store = SledStore::open_with_backup(&place.store(), target, NOW, &policy()).unwrap();
    for number in 1..=3 {
        put(&store, job(number)).await;
    }
    // A bucket may take longer for its first files than a store that is closed waits.
    running::until_whole(&store).await;
    store.close().await;
    drop(store);
    place.lose();
    let (url, endpoint) = (bucket.to_string(), seaweed.endpoint());
    let config = format!(
        "[store]\nurl = \"sled:state\"\nbackup = \"{url}\"\nmin_free = \"0\"\n\n\
         [storage]\nmin_free = \"0\"\nendpoint = \"{endpoint}\"\ncredentials = \"{KEY}\"\n"
    );
    fs::write(place.path("reelhook.toml"), config).unwrap();
    let (said, code) = tokio::task::block_in_place(|| place.restore());
    assert_eq!((code, &said["jobs"]), (Some(0), &3.into()), "{said}");
    assert_eq!(place.jobs().await.len(), 3);
}
