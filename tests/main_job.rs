//! The main job under everything that the sandbox can do to it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{fs, time::Duration};

use serde_json::Value;
use sha2::{Digest, Sha256};
use support::{PATIENCE, World};

/// A directive, how its job ends, and how many create calls are accepted.
const ENDS: &[(&str, &str, Option<&str>, usize)] = &[
    ("", "succeeded", None, 1),
    ("[[delay:90s]]", "succeeded", None, 1),
    ("[[fail:the fox ran away]]", "failed", Some("upstream_failed"), 1),
    ("[[reject:422]]", "failed", Some("upstream_rejected"), 0),
    ("[[auth:401:1]]", "succeeded", None, 1),
    ("[[credits:402:1]]", "succeeded", None, 1),
    ("[[rate:429:1]]", "succeeded", None, 1),
    ("[[busy:503:1]]", "succeeded", None, 1),
    ("[[submit-timeout]]", "succeeded", None, 1),
    ("[[submit-timeout]] [[no-callback]]", "held", None, 1),
    ("[[no-callback]]", "succeeded", None, 1),
    ("[[late-callback:60s]]", "succeeded", None, 1),
    ("[[dup-callback:3]]", "succeeded", None, 1),
    ("[[early-callback]]", "succeeded", None, 1),
    ("[[progress-callbacks]]", "succeeded", None, 1),
    ("[[lying-callback]]", "succeeded", None, 1),
    ("[[forged-callback]]", "succeeded", None, 1),
    ("[[shape:kie]]", "succeeded", None, 1),
    ("[[shape:kling]]", "succeeded", None, 1),
    ("[[shape:array]]", "succeeded", None, 1),
    ("[[shape:old]]", "succeeded", None, 1),
    ("[[status:weird]]", "succeeded", None, 1),
    ("[[no-url]]", "failed", Some("artifact_missing"), 1),
    ("[[url-404:2]]", "succeeded", None, 1),
    ("[[url-expire:60s]]", "succeeded", None, 1),
    ("[[redirect:2]]", "succeeded", None, 1),
    ("[[redirect-private]]", "failed", Some("artifact_unfetchable"), 1),
    ("[[slow-download:50kB]]", "succeeded", None, 1),
    ("[[truncate]]", "succeeded", None, 1),
    ("[[reset:40%]]", "succeeded", None, 1),
    ("[[not-video]]", "failed", Some("artifact_not_video"), 1),
    ("[[task-404:3]]", "succeeded", None, 1),
    ("[[task-500:5]]", "succeeded", None, 1),
    ("[[size:3MiB]] [[reset:40%]]", "succeeded", None, 1),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_directive_ends_as_it_should_and_is_paid_for_at_most_once() {
    let world = World::with(|config| config.upstream.max_in_flight = 100).await;
    let mut jobs = Vec::new();
    for (index, end) in ENDS.iter().enumerate() {
        jobs.push((world.submit(&format!("scene {index} {}", end.0)).await, end));
    }
    let mut wrong = Vec::new();
    for (id, (directive, status, code, charges)) in jobs {
        let job = world.ended(&id).await;
        let found = (job["status"].as_str(), job["error"]["code"].as_str(), world.charges(&id));
        if found != (Some(*status), *code, *charges) {
            wrong.push(format!("{directive}: {found:?}\n{job:#}"));
        }
        let timeline = world.timeline(&id).await;
        let terminal = ["job.succeeded", "job.failed", "job.canceled"];
        let ends = timeline.iter().filter(|kind| terminal.contains(&kind.as_str())).count();
        if ends != usize::from(*status != "held") {
            wrong.push(format!("{directive}: {ends} terminal events in {timeline:?}"));
        }
        if *status == "succeeded" {
            stored_as_told(&world, &job);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let ledger = world.sandbox.ledger();
    assert!(ledger.downloads.iter().all(|download| !download.authorization), "the key went to the file host");
}

/// The file is where the job says, whole, and the manifest lies beside it.
fn stored_as_told(world: &World, job: &Value) {
    let root = &world.config.storage.root;
    let files = job["files"].as_array().unwrap();
    assert_eq!(files.len(), 1, "{job:#}");
    let content = fs::read(root.join(files[0]["location"].as_str().unwrap())).unwrap();
    assert_eq!(files[0]["sha256"], hex::encode(Sha256::digest(&content)));
    assert_eq!(files[0]["bytes"], content.len());
    let manifest = root.join(files[0]["location"].as_str().unwrap()).with_extension("json");
    let manifest: Value = serde_json::from_slice(&fs::read(manifest).unwrap()).unwrap();
    assert_eq!(manifest["files"][0]["sha256"], files[0]["sha256"]);
    assert_eq!(manifest["job_id"], job["id"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callback_completes_a_job_and_a_poll_does_where_none_comes() {
    let world = World::with(|config| config.poll.overdue_after = Duration::from_secs(20)).await;
    let called = world.submit("a lighthouse").await;
    assert_eq!(world.ended(&called).await["completed_via"], "callback");
    let world = World::with(|config| config.callback.public_url = None).await;
    let polled = world.submit("a lighthouse").await;
    let job = world.ended(&polled).await;
    assert_eq!((&job["status"], &job["completed_via"]), (&"succeeded".into(), &"poll".into()));
    assert_eq!(job["callback"]["expected"], false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_recovered_by_the_callback_and_not_sent_again() {
    let world = World::start().await;
    let id = world.submit("[[submit-timeout]] a kite").await;
    let job = world.ended(&id).await;
    assert_eq!(job["status"], "succeeded");
    let timeline = world.timeline(&id).await;
    assert!(timeline.contains(&"job.recovered".to_owned()), "{timeline:?}");
    assert_eq!((world.charges(&id), job["attempts"]["submit"].as_u64()), (1, Some(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_without_a_callback_is_held_and_each_way_out_works() {
    let world = World::start().await;
    let mut held = Vec::new();
    for scene in 0..3 {
        let id = world.submit(&format!("[[submit-timeout]] [[no-callback]] scene {scene}")).await;
        let job = world.ended(&id).await;
        assert_eq!((&job["status"], &job["phase"]), (&"held".into(), &"held".into()));
        held.push(id);
    }
    let resolve = |id: &str| format!("/v1/jobs/{id}/resolve");
    let ledger = world.sandbox.ledger();
    let call = ledger.creates.iter().find(|call| call.idempotency_key.as_deref() == Some(&held[0])).unwrap();
    let attach = serde_json::json!({ "action": "attach", "task_id": call.task_id });
    world.post(&resolve(&held[0]), &attach).await;
    assert_eq!(world.ended(&held[0]).await["status"], "succeeded");

    let failed = world.post(&resolve(&held[1]), &serde_json::json!({ "action": "fail" })).await;
    assert_eq!((&failed["status"], &failed["error"]["code"]), (&"failed".into(), &"submit_abandoned".into()));

    let new = world.post(&resolve(&held[2]), &serde_json::json!({ "action": "resubmit" })).await;
    assert_eq!(new["retry_of"], held[2].as_str());
    let again =
        world.http.post(world.url(&resolve(&held[2]))).json(&serde_json::json!({ "action": "resubmit" }));
    assert_eq!(again.send().await.unwrap().status(), 409, "a double click makes one job");
    assert_eq!(world.get(&format!("/v1/jobs/{}", held[2])).await["error"]["code"], "submit_abandoned");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_of_our_making_is_rechecked_for_free() {
    let world = World::start().await;
    let id = world.submit("[[no-url]] a well").await;
    assert_eq!(world.ended(&id).await["error"]["code"], "artifact_missing");
    let mode = serde_json::json!({ "mode": "recheck" });
    let new = world.post(&format!("/v1/jobs/{id}/retry"), &mode).await;
    assert_eq!((&new["retry_of"], &new["cost"]["estimated_credits"]), (&id.as_str().into(), &0.into()));
    let new_id = new["id"].as_str().unwrap();
    let twice = world.post(&format!("/v1/jobs/{id}/retry"), &mode).await;
    assert_eq!(twice["id"], new_id, "at most one is open at a time");
    assert_eq!(world.ended(new_id).await["error"]["code"], "artifact_missing");
    assert_eq!(world.sandbox.ledger().creates.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stored_video_is_downloaded_again_for_free() {
    let world = World::start().await;
    let id = world.submit("a mill").await;
    let first = world.ended(&id).await;
    let new = world.post(&format!("/v1/jobs/{id}/retry"), &serde_json::json!({ "mode": "download" })).await;
    let second = world.ended(new["id"].as_str().unwrap()).await;
    assert_eq!(second["status"], "succeeded");
    assert_eq!(first["files"][0]["sha256"], second["files"][0]["sha256"]);
    assert_ne!(first["files"][0]["location"], second["files"][0]["location"]);
    assert_eq!(world.sandbox.ledger().creates.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credits_run_out_and_every_job_waits_and_then_goes_on() {
    let world = World::start().await;
    let mut jobs = Vec::new();
    for scene in 0..4 {
        jobs.push(world.submit(&format!("[[credits:402:2]] scene {scene}")).await);
    }
    let checks = world.until_ready_says(|checks| checks["upstream"]["submitting"] == false).await;
    assert!(checks["upstream"]["refusals"].as_u64() >= Some(1), "{checks}");
    for id in jobs {
        assert_eq!(world.ended(&id).await["status"], "succeeded");
        assert_eq!(world.charges(&id), 1);
    }
    world.until_ready_says(|checks| checks["upstream"]["submitting"] == true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_provider_costs_nothing_and_loses_nothing() {
    let closed = format!("http://127.0.0.1:{}/", support::free_port());
    let world = World::with(|config| config.upstream.base_url = closed.parse().unwrap()).await;
    let id = world.submit("a ferry").await;
    let job = world.until(&id, |job| job["attempts"]["submit"] == 2).await;
    assert_eq!(job["error"], Value::Null);
    let canceled = world.post(&format!("/v1/jobs/{id}/cancel"), &serde_json::json!({})).await;
    assert_eq!(canceled["status"], "canceled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orderly_stop_and_start_in_the_middle_loses_nothing() {
    let mut world = World::start().await;
    let slow = world.submit("[[size:1MiB]] [[slow-download:300kB]] a glacier").await;
    let late = world.submit("[[delay:2m]] [[no-callback]] a clock").await;
    world.until(&slow, |job| job["phase"] == "fetching").await;
    world.config.server.shutdown_grace = Duration::from_millis(10);
    world.stop_server().await;
    world.start_server().await;
    for id in [slow, late] {
        assert_eq!(world.ended(&id).await["status"], "succeeded");
        assert_eq!(world.charges(&id), 1);
    }
}

fn entries(folder: &std::path::Path) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_canceled_during_its_copy_leaves_no_file_that_nobody_names() {
    let world = World::with(|config| config.storage.key_template = "{job_id}".into()).await;
    let archive = world.config.storage.root.clone();
    let locks = archive.join(".reelhook/locks");
    let id = world.submit("[[size:1MiB]] [[slow-download:600kB]] a fox").await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while entries(&locks) == 0 {
        assert!(tokio::time::Instant::now() < deadline, "the copy never began");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.post(&format!("/v1/jobs/{id}/cancel"), &serde_json::json!({})).await;
    // The lock goes when the file has its name or is gone.
    while entries(&locks) > 0 || entries(&archive) > 1 {
        assert!(tokio::time::Instant::now() < deadline, "{} entries are left", entries(&archive));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.get(&format!("/v1/jobs/{id}")).await["status"], "canceled");
}
