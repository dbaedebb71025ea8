//! No input makes the loading panic.

use std::fs;

use proptest::prelude::*;
use reelhook::config;

use crate::Setup;

#[test]
fn a_file_that_is_not_text_or_nested_without_end_is_a_problem() {
    let setup = Setup::new();
    fs::write(setup.dir.path().join("reelhook.toml"), b"\xff\xfe[server]").unwrap();
    assert!(setup.only_problem().contains("cannot be read"));
    let deep = [
        format!("x = {}{}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("x = {}1{}", "{a=".repeat(100_000), "}".repeat(100_000)),
        format!("{} = 1", vec!["a"; 20_000].join(".")),
        format!("[{}]", vec!["a"; 20_000].join(".")),
    ];
    for text in deep {
        Setup::with(&text).only_problem();
    }
}

/// Lines that reach further into the reading than noise does.
fn line() -> impl Strategy<Value = String> {
    let key = prop::sample::select(config::keys().collect::<Vec<_>>());
    let value = prop_oneof![
        ".{0,20}".prop_map(|text| format!("{text:?}")),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| number.to_string()),
        "[0-9]{1,20}(ms|s|h|d|KiB|EiB|mo)".prop_map(|text| format!("{text:?}")),
        Just("[\"\", \"/\"]".to_owned()),
    ];
    (key, value).prop_map(|(key, value)| format!("{key} = {value}"))
}

proptest! {
    #[test]
    fn no_bytes_as_configuration_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let setup = Setup::new();
        fs::write(setup.dir.path().join("reelhook.toml"), &bytes).unwrap();
        _ = setup.try_load();
    }

    #[test]
    fn no_values_of_known_keys_panic(lines in prop::collection::vec(line(), 1..6)) {
        _ = Setup::with(&lines.join("\n")).try_load();
    }

    #[test]
    fn no_variable_or_flag_panics(name in "[A-Z_]{0,20}", key in ".{0,20}", value in ".{0,30}") {
        _ = Setup::new().env(&format!("REELHOOK_{name}"), &value).flag(&key, &value).try_load();
    }
}
