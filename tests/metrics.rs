//! What `/metrics` gives out is what the table of metrics says: the names, the kinds, the closed sets of labels. One test in
//! its own process, since the figures are the process's.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    process::{Command, Stdio},
};

use reelhook::{
    config::Backup,
    telemetry::{Kind, METRICS, Metric},
};
use serde_json::json;
use support::World;

/// A line of the text: a metric's name, its labels and its value.
#[derive(Debug, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scrape_is_the_table_with_closed_labels_and_no_ids() {
    let mut world = World::with(|config| {
        config.budget.daily_credits = 100_000;
        config.backup = Some(Backup::Folder(config.store.path.with_file_name("backup")));
    })
    .await;
    let mut ids = Vec::new();
    for prompt in [
        "a boat",
        "[[no-callback]] a boat",
        "[[dup-callback:3]] a boat",
        "[[fail:no such thing]] a boat",
        "[[reject:422]] a boat",
        "[[status:weird]] [[early-callback]] [[delay:600s]] a boat",
        "[[url-404:1]] a boat",
        "[[not-video]] a boat",
    ] {
        let id = world.submit(prompt).await;
        world.ended(&id).await;
        ids.push(id);
    }
    world.http.post(world.callback_url("/cb/job_1/wrong")).json(&json!({})).send().await.unwrap();
    let text = scrape(&world).await;
    let samples = parse(&text);

    every_series_is_in_the_table(&samples);
    for metric in METRICS {
        let base = |sample: &&Sample| family(&sample.name) == Some(metric);
        let by_sink = metric.labels.iter().any(|(_, values)| values.is_empty());
        let described = text.contains(&format!("# HELP {} {}\n", metric.name, metric.help));
        assert!(by_sink || described, "{}", metric.name);
        assert!(by_sink || samples.iter().any(|sample| base(&sample)), "{} has no series", metric.name);
    }
    for id in ids.iter().map(|id| id.trim_start_matches("job_")) {
        assert!(!text.contains(id), "a metric names a job");
    }
    figures_are_right(&samples);
    promtool_agrees(&text);
    world.stop_server().await;
}

/// What this run did, in figures.
fn figures_are_right(samples: &[Sample]) {
    let sum = |name: &str, label: &str| -> f64 {
        let wanted = samples.iter().filter(|sample| {
            sample.name == name && (label.is_empty() || sample.labels.values().any(|value| value == label))
        });
        wanted.map(|sample| sample.value).sum()
    };
    assert_eq!(sum("reelhook_jobs_created_total", "kling-3"), 8.0);
    assert_eq!(sum("reelhook_jobs", "done"), 8.0);
    assert_eq!(sum("reelhook_jobs_finished_total", ""), 8.0);
    assert_eq!(sum("reelhook_jobs_kept", "failed"), sum("reelhook_jobs_finished_total", "failed"));
    assert_eq!(sum("reelhook_job_failures_total", "upstream_rejected"), 1.0);
    assert_eq!(sum("reelhook_completions_total", "poll"), 1.0, "the callback that never came");
    assert!(sum("reelhook_completions_total", "callback") >= 4.0);
    assert_eq!(sum("reelhook_callbacks_total", "duplicate"), 2.0);
    assert_eq!(sum("reelhook_callback_misses_total", ""), 1.0);
    assert!(sum("reelhook_unknown_status_words_total", "") >= 1.0);
    assert!(sum("reelhook_asks_total", "failed") >= 1.0);
    assert_eq!(sum("reelhook_upstream_requests_total", "submit"), 8.0);
    assert_eq!(sum("reelhook_upstream_requests_total", "422"), 1.0);
    assert!(sum("reelhook_downloads_total", "refused") >= 1.0);
    assert!(sum("reelhook_downloaded_bytes_total", "") > 10_000.0);
    assert_eq!(sum("reelhook_credits_total", "estimated"), 8.0 * 180.0);
    assert!(sum("reelhook_budget_booked_credits", "day") >= 7.0 * 180.0);
    assert_eq!(sum("reelhook_budget_limit_credits", "day"), 100_000.0);
    assert!(sum("reelhook_store_bytes", "") > 0.0);
    assert!(sum("reelhook_store_sync_seconds_count", "") > 0.0);
    assert!(sum("reelhook_callback_lag_seconds_count", "") >= 4.0);
}

async fn scrape(world: &World) -> String {
    let answer = world.http.get(world.url("/metrics")).send().await.unwrap();
    assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
    answer.text().await.unwrap()
}

/// The metric that a series belongs to: those of a histogram have endings.
fn family(series: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| {
        let ending = series.strip_prefix(metric.name);
        ending == Some("")
            || (matches!(metric.kind, Kind::Histogram(_))
                && matches!(ending, Some("_bucket" | "_sum" | "_count")))
    })
}

fn every_series_is_in_the_table(samples: &[Sample]) {
    for sample in samples {
        let metric = family(&sample.name).unwrap_or_else(|| panic!("{sample:?} is in no table"));
        let labels = sample.labels.iter().filter(|(label, _)| *label != "le");
        for (label, value) in labels.clone() {
            let allowed = metric.labels.iter().find(|(name, _)| name == label);
            assert!(
                allowed.is_some_and(|(_, values)| values.is_empty() || values.contains(&value.as_str())),
                "{sample:?}"
            );
        }
        let (given, wanted) = (labels.count(), metric.labels.len());
        assert_eq!(given, wanted, "{sample:?} has each of its labels");
    }
}

/// The text format of Prometheus, 0.0.4: comments, and `name{label="value",…} number`.
fn parse(text: &str) -> Vec<Sample> {
    let mut seen = BTreeSet::new();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            assert!(seen.insert(series), "{series} is there twice");
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}"));
            let pairs = labels.split(',').filter(|pair| !pair.is_empty()).map(|pair| {
                let (label, value) = pair.split_once('=').unwrap_or_else(|| panic!("{line}"));
                (label.to_owned(), value.trim_matches('"').to_owned())
            });
            Sample { name: name.to_owned(), labels: pairs.collect(), value: value.parse().unwrap() }
        })
        .collect()
}

/// The judge of Prometheus itself: no mistake in the form, none in the names.
fn promtool_agrees(text: &str) {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed by tests/run");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = promtool.wait_with_output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
}
