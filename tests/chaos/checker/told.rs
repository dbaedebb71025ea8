//! What the app was told: each event that it wants, in the same words however often, and nothing else.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{Found, Kind, Violation, World, pages, text, violation};
use crate::{app::Heard, site::Site};

/// What a sink wants that does not say so.
const WANTED: [&str; 4] = ["job.succeeded", "job.failed", "job.canceled", "job.held"];

/// Waits until nothing is owed any more. What still is, is seen in the deliveries.
pub(super) async fn all(site: &Site, patience: Duration) {
    let deadline = Instant::now() + patience;
    while !pages(site, "/v1/deliveries?state=pending").await.is_empty() && Instant::now() < deadline {
        sleep(Duration::from_millis(100)).await;
    }
}

pub(super) fn check(site: &Site, world: &World, found: &mut Found) -> Vec<Violation> {
    let heard = site.app.heard();
    found.told = heard.len();
    found.told_again = heard.values().map(|bodies| bodies.len() - 1).sum();
    let wanted = world.events.iter().filter(|event| WANTED.contains(&text(event, "type")));
    let wanted: HashMap<&str, &Value> = wanted.map(|event| (text(event, "id"), event)).collect();
    let forged = site.app.forged().into_iter().map(|what| violation(Kind::Invented, what));
    let mut violations: Vec<_> = forged.collect();
    violations.extend(untold(&wanted, &heard));
    violations.extend(invented(&wanted, &heard));
    violations.extend(debts(world, &wanted));
    violations
}

fn untold(wanted: &HashMap<&str, &Value>, heard: &Heard) -> Vec<Violation> {
    let missing = wanted.iter().filter(|(id, _)| !heard.contains_key(**id));
    missing.map(|(_, event)| violation(Kind::Untold, format!("nobody was told of {event}"))).collect()
}

fn invented(wanted: &HashMap<&str, &Value>, heard: &Heard) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (id, bodies) in heard {
        let first = &bodies[0];
        let said: Value = serde_json::from_slice(first).unwrap_or_default();
        let happened = wanted.get(id.as_str()).is_some_and(|event| {
            event["type"] == said["type"] && event["job_id"] == said["data"]["job"]["id"]
        });
        if !happened {
            violations.push(violation(Kind::Invented, format!("{id} is not in the log: {said}")));
        }
        if bodies.iter().any(|body| body != first) {
            violations.push(violation(Kind::Reworded, format!("{id} was told in different words")));
        }
    }
    violations
}

/// One delivery for each event; it succeeded, and the log says so once.
fn debts(world: &World, wanted: &HashMap<&str, &Value>) -> Vec<Violation> {
    let mut successes: HashMap<&str, usize> = HashMap::new();
    for event in world.events.iter().filter(|event| event["type"] == "delivery.succeeded") {
        *successes.entry(text(&event["data"], "delivery_id")).or_default() += 1;
    }
    let (mut violations, mut owed) = (Vec::new(), HashSet::new());
    for delivery in &world.deliveries {
        let times = successes.remove(text(delivery, "id")).unwrap_or(0);
        if delivery["state"] != "succeeded" || times != 1 {
            let what = format!("the log has {times} successes of a delivery: {delivery}");
            violations.push(violation(Kind::Untold, what));
        }
        let event = text(delivery, "event_id");
        if !owed.insert(event) || !wanted.contains_key(event) {
            violations.push(violation(Kind::Invented, format!("nobody is owed this: {delivery}")));
        }
    }
    let forgotten = wanted.keys().filter(|event| !owed.contains(**event));
    violations.extend(forgotten.map(|event| violation(Kind::Untold, format!("{event} has no delivery"))));
    let strangers = successes.into_keys();
    violations.extend(strangers.map(|id| violation(Kind::Invented, format!("{id} succeeded and is gone"))));
    violations
}
