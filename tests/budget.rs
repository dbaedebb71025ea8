//! That a budget is nearly used up is said once a day or month, whoever books and however often the server starts.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{path::Path, sync::Arc, time::Duration};

use reelhook::{
    app::{Addresses, App, AppError, NewRequest},
    clock::Clock,
    config::Config,
    lifecycle::Millis,
    store::{EventFilter, sled::SledStore},
};
use serde_json::json;

const DAY: Duration = Duration::from_hours(24);
/// 2026-01-15T00:00:00Z.
const NOW: Millis = Millis(1_768_435_200_000);
/// What a job of three seconds costs.
const CREDITS: u64 = 180;

async fn start(folder: &Path, clock: &Clock) -> App {
    let mut config = Config::for_dev(folder, &"http://127.0.0.1:9".parse().unwrap(), 1.0);
    config.store.min_free = 0;
    config.budget.monthly_credits = CREDITS * 5 / 4;
    let policy = Arc::new(reelhook::server::policy(&config));
    let store = SledStore::open(&config.store, Millis(clock.now_ms()), &policy).unwrap();
    let addresses = Addresses { public_url: None, external_url: "http://127.0.0.1:9".parse().unwrap() };
    App::new(Arc::new(config), Arc::new(store), clock.clone(), addresses).await.unwrap()
}

/// Asks for a job; whether it was within the budget.
async fn asked(app: &App) -> bool {
    let input = json!({ "model": "kling-3", "prompt": "a paper boat", "duration": 3 });
    match app.create(NewRequest { input, ..NewRequest::default() }, "app").await {
        Ok(created) => {
            assert_eq!(created.job.cost.estimated_credits, CREDITS);
            true
        }
        Err(AppError::OverBudget { .. }) => false,
        Err(other) => panic!("{other}"),
    }
}

/// What was said, in percent.
async fn said(app: &App) -> Vec<u64> {
    let events = app.store().events(0, 100, EventFilter::default()).await.unwrap().events;
    events.into_iter().filter_map(|entry| entry.event.data["percent"].as_u64()).collect()
}

#[tokio::test]
async fn a_month_says_once_how_much_of_its_budget_is_booked_and_the_next_one_says_it_again() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), Clock::manual(NOW.0));
    let app = start(folder.path(), &clock).await;
    assert!(asked(&app).await);
    assert_eq!(said(&app).await, [80]);
    for _ in 0..3 {
        clock.advance(DAY);
        assert!(!asked(&app).await, "another one is too much");
        assert_eq!(said(&app).await, [80, 100]);
    }
    app.store().close().await;
    drop(app);
    let app = start(folder.path(), &clock).await;
    assert!(!asked(&app).await);
    assert_eq!(said(&app).await, [80, 100], "also after a start");
    clock.advance(DAY * 30);
    assert!(asked(&app).await);
    assert_eq!(said(&app).await, [80, 100, 80]);
}
