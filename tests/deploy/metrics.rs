//! Dashboard and alerts ask only for what the server gives out.

use std::{collections::BTreeSet, fs};

use reelhook::telemetry::{Kind, METRICS, Metric};
use serde_json::Value;

#[test]
fn the_dashboard_asks_for_metrics_and_labels_that_exist_and_shows_them_all() {
    let dashboard: Value =
        serde_json::from_str(&fs::read_to_string("deploy/grafana/reelhook.json").unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let queries: Vec<&str> = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().into_iter().flatten())
        .map(|target| target["expr"].as_str().unwrap())
        .collect();
    let asked: BTreeSet<&str> =
        queries.iter().flat_map(|query| asked(query)).map(|metric| metric.name).collect();
    let known: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(asked, known, "each metric has its panel");
}

#[test]
fn the_alerts_ask_for_metrics_and_labels_that_exist() {
    let rules = fs::read_to_string("deploy/prometheus/rules.yml").unwrap();
    let queries: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).collect();
    assert!(queries.len() > 10);
    let ours = queries.iter().filter(|query| !asked(query).is_empty()).count();
    assert_eq!(ours, queries.len() - 1, "all but `up`");
}

#[test]
fn every_alert_has_its_page_and_its_test_and_every_page_its_alert() {
    let rules = fs::read_to_string("deploy/prometheus/rules.yml").unwrap();
    let tests = fs::read_to_string("deploy/prometheus/rules_test.yml").unwrap();
    let index = fs::read_to_string("deploy/runbooks/README.md").unwrap();
    let mut pages = BTreeSet::from(["README.md".to_owned()]);
    for rule in rules.split("- alert: ").skip(1) {
        let name = rule.lines().next().unwrap().trim();
        let value = |key: &str| rule.lines().find_map(|line| line.trim().strip_prefix(key)).map(str::trim);
        let page = value("runbook:").unwrap_or_else(|| panic!("{name} has a page"));
        let text = fs::read_to_string(page).unwrap_or_else(|error| panic!("{page}: {error}"));
        let expression = value("expr:").unwrap().trim_matches('\'');
        assert!(
            text.starts_with(&format!("# {name}\n")) && text.contains(expression),
            "{page} is about {name}"
        );
        let file = page.rsplit('/').next().unwrap();
        assert!(index.contains(&format!("[{name}]({file})")), "{name} is in the list of pages");
        assert!(tests.contains(&format!("alertname: {name}\n        exp_alerts:")), "{name} is tested");
        pages.insert(file.to_owned());
    }
    let there = fs::read_dir("deploy/runbooks").unwrap();
    let there: BTreeSet<String> =
        there.map(|page| page.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(pages, there);
}

#[test]
fn a_metric_or_a_label_that_does_not_exist_is_noticed() {
    let wrong = [
        "sum(reelhook_nothing)",
        "reelhook_jobs{phase=\"done\",job=\"x\"}",
        "reelhook_jobs{phase=\"sleeping\"}",
        "sum by (le) (rate(reelhook_jobs_bucket[5m]))",
        "sum by (id) (reelhook_jobs)",
    ];
    for query in wrong {
        assert!(std::panic::catch_unwind(|| asked(query)).is_err(), "{query}");
    }
}

/// The metrics that a query asks for; panics where one of them, a label or the value of a label does not exist.
fn asked(query: &str) -> Vec<&'static Metric> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut metrics = Vec::new();
    for (at, _) in query.match_indices("reelhook_") {
        let rest = &query[at..];
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let metric = known(&rest[..end]).unwrap_or_else(|| panic!("there is no {} in {query}", &rest[..end]));
        if let Some(matchers) = rest[end..].strip_prefix('{') {
            matchers.split('}').next().unwrap().split(',').for_each(|matcher| label_exists(metric, matcher));
        }
        metrics.push(metric);
    }
    for group in query.split(" by (").skip(1) {
        for label in group.split(')').next().unwrap().split(", ").filter(|label| *label != "le") {
            let has = metrics.iter().all(|metric| metric.labels.iter().any(|(name, _)| *name == label));
            assert!(has, "nothing in {query} has the label {label}");
        }
    }
    metrics
}

fn known(series: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| match metric.kind {
        Kind::Histogram(_) => ["_bucket", "_sum", "_count"]
            .iter()
            .any(|ending| series.strip_suffix(ending) == Some(metric.name)),
        Kind::Counter | Kind::Gauge => series == metric.name,
    })
}

fn label_exists(metric: &Metric, matcher: &str) {
    let (label, values) = matcher.split_once(['=', '!']).unwrap_or_else(|| panic!("{matcher}"));
    let values = values.trim_matches(['=', '~', '"']);
    let set = metric.labels.iter().find(|(name, _)| *name == label);
    let (_, known) = set.unwrap_or_else(|| panic!("{} has no label {label}", metric.name));
    for value in values.split('|') {
        let exists = match value.strip_suffix(".*") {
            Some(beginning) => known.iter().any(|known| known.starts_with(beginning)),
            None => known.is_empty() || known.contains(&value),
        };
        assert!(exists, "{label} of {} is never {value}", metric.name);
    }
}
