//! The JSON Schema of the configuration, by a validator of somebody else's.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use reelhook::config;
use serde_json::{Value, json};

use crate::{
    Setup,
    defaults::{example_without_files, uncommented_example},
};

/// Prints what is wrong with each document, one list a document.
const VALIDATE: &str = "
import json, sys
from jsonschema import Draft202012Validator
given = json.load(sys.stdin)
Draft202012Validator.check_schema(given['schema'])
judge = Draft202012Validator(given['schema'])
print(json.dumps([[e.json_path + ': ' + e.message for e in judge.iter_errors(d)] for d in given['documents']]))
";

/// What the validator says of each of these texts.
fn judged(texts: &[&str]) -> Vec<Vec<String>> {
    let python = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin/python");
    let documents: Vec<Value> =
        texts.iter().map(|text| json!(text.parse::<toml::Table>().unwrap())).collect();
    let mut child = Command::new(python)
        .args(["-c", VALIDATE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("tests/run makes target/tools with jsonschema in it");
    let given = json!({ "schema": config::json_schema(), "documents": documents });
    serde_json::to_writer(child.stdin.take().unwrap(), &given).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the schema is none");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn what_the_configuration_takes_is_valid_and_what_it_refuses_is_not() {
    let all = uncommented_example();
    let valid =
        [config::EXAMPLE, &all, &example_without_files(), "", "[upstream.mapping]\ntask_id = [\"/id\"]\n"];
    for (text, errors) in valid.iter().zip(judged(&valid)) {
        assert!(errors.is_empty(), "{errors:#?}\n{text}");
    }
    let wrong = [
        ("[poll]\nintervall = \"15s\"\n", "intervall"),
        ("[poll]\ninterval = 15\n", "$.poll.interval"),
        ("[poll]\ninterval = \"often\"\n", "$.poll.interval"),
        ("[download]\nmax_size = \"big\"\n", "$.download.max_size"),
        ("[download]\nattempts = \"8\"\n", "$.download.attempts"),
        ("[delivery]\nschedule = [\"0s\", \"soon\"]\n", "$.delivery.schedule[1]"),
        ("[pools]\nsize = 1\n", "pools"),
        ("[sinks.app]\nurl = \"https://app.example.com\"\n", "type"),
        ("[sinks.App]\ntype = \"stdout\"\n", "App"),
        ("server = \"127.0.0.1:8484\"\n", "$.server"),
    ];
    let texts: Vec<&str> = wrong.iter().map(|(text, _)| *text).collect();
    for ((text, place), errors) in wrong.iter().zip(judged(&texts)) {
        assert!(errors.iter().any(|error| error.contains(place)), "{text}: {errors:?}");
        assert!(Setup::with(text).try_load().is_err(), "the configuration takes {text}");
    }
}

#[test]
fn each_key_says_what_it_means_what_it_is_worth_and_whether_it_is_reloaded() {
    let schema = config::json_schema();
    let of = |key: &str| {
        let path = key.split('.').map(|part| format!("/properties/{part}")).collect::<String>();
        schema.pointer(&path).unwrap_or_else(|| panic!("{key} is not in the schema")).clone()
    };
    for key in config::keys().filter(|key| !key.starts_with("sinks.")) {
        let property = of(key);
        assert!(
            property["description"].as_str().is_some_and(|text| text.ends_with(['.', '"'])),
            "{key}: {property}"
        );
        assert!(property.get("default").is_some() != property.get("examples").is_some(), "{key}");
    }
    let interval = of("poll.interval");
    assert_eq!((&interval["default"], &interval["x-reloadable"]), (&json!("15s"), &json!(true)));
    assert_eq!(of("server.listen")["x-reloadable"], false);
    assert_eq!(of("upstream.api_key_file")["x-reloadable"], true, "as what is in it");
    let sink = &schema["properties"]["sinks"]["additionalProperties"];
    assert_eq!(sink["properties"]["secret"]["x-reloadable"], true);
    assert_eq!(sink["properties"]["events"]["x-reloadable"], false);
    assert!(!schema.to_string().contains('↻'), "the list of keys is no description");
}
