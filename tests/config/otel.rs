//! Where traces go.

use crate::Setup;

#[cfg(feature = "otel")]
#[test]
fn the_route_for_traces_is_added_to_a_collectors_base_and_to_nothing_else() {
    for (typed, meant) in [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
        ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"),
        ("https://otlp.example.com/base/", "https://otlp.example.com/base/v1/traces"),
        ("https://otlp.example.com/v1/traces", "https://otlp.example.com/v1/traces"),
    ] {
        let loaded = Setup::with(&format!("otel.endpoint = \"{typed}\"")).load();
        assert_eq!(loaded.config.otel.unwrap().endpoint.as_str(), meant);
    }
}

#[cfg(feature = "otel")]
#[test]
fn the_headers_of_a_collector_are_shown_nowhere() {
    let text = "[otel]\nendpoint = \"http://127.0.0.1:4318\"\nheaders = [\"X-Key: canary\"]";
    let loaded = Setup::with(text).load();
    assert_eq!(loaded.config.otel.as_ref().unwrap().headers["x-key"], "canary");
    for shown in [format!("{:?}", loaded.config), format!("{loaded:?}"), loaded.show(true)] {
        assert!(!shown.contains("canary"), "{shown}");
    }
}

#[cfg(feature = "otel")]
#[test]
fn mistakes_about_a_collector_are_named() {
    let text = "[otel]\nendpoint = \"grpc://127.0.0.1:4317\"\nservice_name = \" \"\nsample_ratio = 1.5";
    let problems = Setup::with(text).problems();
    for key in ["endpoint", "service_name", "sample_ratio"] {
        assert!(problems.iter().any(|problem| problem.starts_with(&format!("otel.{key} "))), "{problems:#?}");
    }
}

#[test]
fn what_needs_a_collector_says_so_without_one() {
    let loaded = Setup::with("otel.sample_ratio = 0.5").load();
    assert!(loaded.config.otel.is_none());
    assert!(
        loaded.warnings.iter().any(|warning| warning.key == "otel.sample_ratio"),
        "{:?}",
        loaded.warnings
    );
}

#[cfg(not(feature = "otel"))]
#[test]
fn a_build_that_sends_no_traces_says_so() {
    let problem = Setup::with("otel.endpoint = \"http://127.0.0.1:4318\"").only_problem();
    assert!(problem.contains("this build sends no traces"), "{problem}");
}
