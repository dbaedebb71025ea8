//! The event log: numbered without a gap, never rewritten, one terminal event for each settled job.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::{Kind, Violation, World, text, violation};
use crate::{load::Promised, site::Site};

const TERMINAL: [&str; 3] = ["job.succeeded", "job.failed", "job.canceled"];

/// The whole log.
pub(crate) async fn read(site: &Site) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    loop {
        let after = all.last().map_or(0, |event| event["seq"].as_u64().unwrap());
        let mut page = site.get(&format!("/v1/events?limit=250&after={after}")).await;
        let events = page["data"].as_array_mut().unwrap();
        if events.is_empty() {
            return all;
        }
        all.append(events);
    }
}

pub(super) fn check(world: &World, promised: &Promised) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut log = |what: String| violations.push(violation(Kind::EventLog, what));
    let mut ids = HashSet::new();
    for (place, event) in world.events.iter().enumerate() {
        if event["seq"] != place as u64 + 1 {
            log(format!("event {} is at place {}", event["seq"], place + 1));
        }
        if !ids.insert(text(event, "id")) {
            log(format!("event {} repeats id {}", event["seq"], event["id"]));
        }
    }
    for (place, shown) in promised.events.iter().enumerate() {
        if world.events.get(place) != Some(shown) {
            log(format!("event {} was shown as {shown} and is {:?}", place + 1, world.events.get(place)));
        }
    }
    violations.extend(timelines(world));
    violations
}

fn timelines(world: &World) -> Vec<Violation> {
    let mut timelines: HashMap<&str, Vec<&Value>> = HashMap::new();
    for event in world.events.iter().filter(|event| !event["job_id"].is_null()) {
        timelines.entry(text(event, "job_id")).or_default().push(event);
    }
    let mut violations = Vec::new();
    for (id, job) in &world.jobs {
        let events = timelines.remove(id.as_str()).unwrap_or_default();
        let kinds: Vec<_> = events.iter().map(|event| text(event, "type")).collect();
        if kinds.first() != Some(&"job.created")
            || kinds.iter().filter(|kind| **kind == "job.created").count() > 1
        {
            violations.push(violation(Kind::EventLog, format!("{id} begins with {kinds:?}")));
        }
        // An event about a delivery is no change of the job.
        let revisions = events.iter().filter_map(|event| event["revision"].as_u64());
        if !revisions.is_sorted() {
            violations.push(violation(Kind::EventLog, format!("{id} went back: {kinds:?}")));
        }
        let ends: Vec<_> = kinds.iter().filter(|kind| TERMINAL.contains(kind)).collect();
        let expected = format!("job.{}", text(job, "status"));
        let right = match TERMINAL.contains(&expected.as_str()) {
            true => ends == [&expected.as_str()],
            false => ends.is_empty(),
        };
        if !right {
            violations
                .push(violation(Kind::Outcome, format!("{id} is {}, its log says {kinds:?}", job["status"])));
        }
    }
    let strangers =
        timelines.into_keys().map(|id| violation(Kind::LostJob, format!("{id} has events and no record")));
    violations.extend(strangers);
    violations
}
