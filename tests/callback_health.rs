//! Callbacks that fall silent: said on the event log and in the figures, while videos come all the same.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use support::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_is_said_once_and_its_end_too() {
    let mut world = World::start().await;
    let kinds = async |world: &World| -> Vec<String> {
        let log = world.get("/v1/events?types=callback.silent,callback.recovered&limit=250").await;
        let events = log["data"].as_array().unwrap_or_else(|| panic!("{log}"));
        assert!(events.iter().all(|event| event["job_id"].is_null()), "{log}");
        events.iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
    };
    for _ in 0..4 {
        let id = world.submit("[[no-callback]] a boat").await;
        assert_eq!(world.ended(&id).await["completed_via"], "poll");
    }
    assert_eq!(kinds(&world).await, ["callback.silent"]);
    assert_eq!(world.get("/v1/stats").await["callbacks"]["silent"], true);
    assert!(metrics(&world).await.contains("\nreelhook_callbacks_silent 1\n"));

    // A restart knows it from the records, and says nothing new.
    world.stop_server().await;
    world.start_server().await;
    world.server().app().recall().await.unwrap();
    assert_eq!(world.get("/v1/stats").await["callbacks"]["silent"], true);

    let id = world.submit("a boat").await;
    world.until(&id, |job| job["callback"]["received"] == 1).await;
    world.ended(&id).await;
    assert_eq!(kinds(&world).await, ["callback.silent", "callback.recovered"]);
    assert_eq!(world.get("/v1/stats").await["callbacks"]["silent"], false);
    world.stop_server().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_callbacks_come_the_provider_is_asked_about_a_job_once() {
    const JOBS: u32 = 20;
    // As in life: a callback comes long before it is overdue.
    let mut world = World::with(|config| config.poll.overdue_after = Duration::from_mins(1)).await;
    let mut ids = Vec::new();
    for number in 0..JOBS {
        ids.push(world.submit(&format!("boat {number}")).await);
    }
    for id in &ids {
        assert_eq!(world.ended(id).await["completed_via"], "callback");
    }
    let asks: u32 = world.sandbox.ledger().asks.values().sum();
    assert!(f64::from(asks) <= 1.2 * f64::from(JOBS), "{asks} questions about {JOBS} jobs");
    world.stop_server().await;
}

async fn metrics(world: &World) -> String {
    world.http.get(world.url("/metrics")).send().await.unwrap().text().await.unwrap()
}
