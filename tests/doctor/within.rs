//! What this machine has: store, archive, disk; and the sinks.

use std::fs;

use reelhook::config::{Config, Format, Sink, Target};
use reelhook::lifecycle::EventKind;
use reqwest::header::HeaderMap;

use crate::{
    House,
    receiver::{Receiver, Reply},
    says, url,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_whose_folder_is_gone() {
    let house = House::start().await;
    fs::remove_dir_all(house.dir.path().join("videos")).unwrap();
    let document = house.examined().await;
    says(
        &crate::check(&document, "archive"),
        "failed",
        &["no file can be stored", "mounted"],
        "[storage] url",
    );
    says(&crate::check(&document, "disk"), "failed", &["mounted"], "make room");
    assert_eq!(document["ok"], false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_with_too_little_room() {
    let house = House::with(|config| config.storage.min_free = u64::MAX / 4).await;
    says(&house.check("disk").await, "failed", &["too little room"], "larger disk");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_takes_nothing() {
    let house = House::start().await;
    house.server.app().store().close().await;
    says(&house.check("store").await, "failed", &["not available"], "[store] url");
}

fn sink(config: &mut Config, name: &str, receiver: &Receiver) {
    let target =
        Target::Webhook { url: url(&receiver.url()), secrets: Vec::new(), headers: HeaderMap::new() };
    let events = vec![EventKind::Succeeded];
    let timeout = config.delivery.timeout;
    let sink = Sink { target, events, format: Format::Standard, timeout, concurrency: 1 };
    config.sinks.insert(name.to_owned(), sink);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_sink_gets_a_signed_ping_and_one_that_does_not_take_it_is_named() {
    let well = Receiver::start(Reply::new("204 No Content", "")).await;
    let ill = Receiver::start(Reply::new("500 Oops", "the database is away")).await;
    let house = House::with(|config| {
        sink(config, "app", &well);
        sink(config, "bus", &ill);
    })
    .await;
    let document = house.examined().await;
    assert_eq!(crate::check(&document, "sink app").0, "ok");
    says(&crate::check(&document, "sink bus"), "failed", &["did not take", "500"], "[sinks]");
    let ping = well.only();
    assert!(ping.headers["webhook-signature"].starts_with("v1,"));
    assert!(String::from_utf8(ping.body).unwrap().contains("\"ping\""));
}
