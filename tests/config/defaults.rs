//! The example file is the defaults.

use std::path::PathBuf;
use std::time::Duration;

use reelhook::config::{self, Config, LogFormat, Origin};
use secrecy::ExposeSecret;

use crate::Setup;

fn debug(config: &Config) -> String {
    format!("{config:#?}")
}

pub(crate) fn uncommented_example() -> String {
    let section = |line: &str| line.starts_with("# [sinks.") && line.ends_with(']');
    let setting = |line: &str| line.starts_with("# ") && line.split(' ').nth(2) == Some("=") || section(line);
    let line = |line: &str| if setting(line) { line[2..].to_owned() } else { line.to_owned() };
    config::EXAMPLE.lines().map(|text| line(text) + "\n").collect()
}

/// The same without what would set a secret twice, and without what this build does not have.
pub(crate) fn example_without_files() -> String {
    let is_file = |line: &&str| line.contains("_file = ") && !line.contains("keys_file");
    let example = uncommented_example();
    let text: String =
        example.lines().filter(|line| !is_file(line)).map(|line| line.to_owned() + "\n").collect();
    let without = |text: String, section: &str, next: &str| {
        let (before, rest) = text.split_once(section).unwrap();
        let (_, after) = rest.split_once(next).unwrap();
        format!("{before}{next}{after}")
    };
    let text = if cfg!(feature = "nats") { text } else { without(text, "[sinks.bus]", "[sinks.lines]") };
    if cfg!(feature = "otel") { text } else { without(text, "[otel]", "[sandbox]") }
}

#[test]
fn the_example_as_a_file_gives_exactly_the_defaults() {
    let setup = Setup::with(config::EXAMPLE);
    let mut setup_at_root = Setup::new();
    setup_at_root.options.path = Some(setup.dir.path().join("reelhook.toml"));
    setup_at_root.options.cwd = PathBuf::new();
    assert_eq!(debug(&setup_at_root.load().config), debug(&Config::defaults()));
    assert_eq!(setup.load().show(false), Setup::new().load().show(false));
}

#[test]
fn the_documented_defaults_are_those_of_the_contract() {
    let expected: toml::Table = include_str!("../fixtures/config/defaults.toml").parse().unwrap();
    let shown: toml::Table = Setup::new().load().show(false).parse().unwrap();
    assert_eq!(shown, expected);
}

#[test]
fn the_defaults_mean_what_they_say() {
    let config = Config::defaults();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8484");
    assert_eq!(config.server.body_limit, 1 << 20);
    assert_eq!(config.server.link_ttl, Duration::from_hours(24));
    assert_eq!(config.upstream.base_url.as_str(), "https://apiin.one/");
    assert_eq!(config.upstream.mapping.no_callback_models, ["ltx-2"]);
    assert_eq!(config.poll.overdue_after, Duration::from_secs(240));
    assert_eq!(config.download.max_size, 2 << 30);
    assert_eq!(config.storage.root, PathBuf::from("./data/videos"));
    assert_eq!(config.store.path, PathBuf::from("./data/state"));
    assert_eq!(config.pricing.pro_sound, 80);
    assert_eq!(config.log.format, LogFormat::Auto);
    assert_eq!((config.delivery.schedule.len(), config.delivery.schedule[2]), (10, Duration::from_mins(5)));
    assert_eq!(config.delivery.disable_after, Duration::from_hours(5 * 24));
    assert!(config.sinks.is_empty() && config.delivery.secret.is_none());
    assert!(config.upstream.api_key.is_none() && config.callback.public_url.is_none());
}

#[test]
fn every_key_has_one_line_of_why_above_it() {
    let lines: Vec<&str> = config::EXAMPLE.lines().collect();
    for key in config::keys() {
        let name = key.rsplit('.').next().unwrap();
        let is_key = |line: &&str| {
            line.trim_start_matches("# ").starts_with(&format!("{name} = ")) && !name.ends_with("_file")
        };
        for (number, _) in lines.iter().enumerate().filter(|(_, line)| is_key(line)) {
            let why = lines[number - 1];
            assert!(why.starts_with("# ") && why.ends_with(['.', '"']), "{key}: {why:?} is not a why");
        }
    }
}

#[test]
fn every_key_without_a_default_can_be_set_to_its_example() {
    let loaded = Setup::with(&example_without_files()).load();
    assert_eq!(loaded.config.callback.public_url.unwrap().as_str(), "https://hooks.example.com/");
    assert!(loaded.config.upstream.api_key.is_some() && loaded.config.auth.keys_file.is_some());
    let mut sinks = vec!["app", "bus", "lines", "partner", "script"];
    sinks.retain(|name| *name != "bus" || cfg!(feature = "nats"));
    assert_eq!(loaded.config.sinks.keys().collect::<Vec<_>>(), sinks);
    // What is for a signature, a bucket or a database does nothing without one, and says so.
    let idle: Vec<_> = loaded.warnings.iter().map(|warning| &*warning.key).collect();
    let of_others = [
        "storage.endpoint",
        "storage.region",
        "storage.credentials",
        "callback.signature_header",
        "callback.signature_timestamp_header",
        "callback.signature_prefix",
        "store.direct_url",
        "store.password",
    ];
    assert_eq!(idle, of_others, "{:#?}", loaded.warnings);
}

#[test]
fn every_key_can_be_set_by_its_variable_and_by_its_flag() {
    let values: toml::Table = uncommented_example().parse().unwrap();
    let example = example_without_files();
    let (_, sinks) = example.split_once("[sinks.app]").unwrap();
    let (sinks, _) = sinks.split_once("[storage]").unwrap();
    // One key alone makes no sink, half a pair no certificate, and others may come only with a key to the API.
    let others = |key: &str| match key.rsplit_once('.') {
        Some((section, "tls_cert")) => Setup::with(&format!("{section}.tls_key = \"a.key\"")),
        Some((section, "tls_key")) => Setup::with(&format!("{section}.tls_cert = \"a.crt\"")),
        Some(("server", "external_url")) => Setup::with("auth.keys_file = \"keys\""),
        _ if key.starts_with("sinks.") => Setup::with(&format!("[sinks.app]{sinks}")),
        _ => Setup::new(),
    };
    let of_this_build = |key: &&str| match *key {
        "otel.endpoint" => cfg!(feature = "otel"),
        key => cfg!(feature = "nats") || !key.starts_with("sinks.bus."),
    };
    for key in config::keys().filter(|key| !key.ends_with("_file")).filter(of_this_build) {
        let (section, name) = key.rsplit_once('.').unwrap();
        let value =
            section.split('.').fold(&toml::Value::Table(values.clone()), |at, part| &at[part])[name].clone();
        let text = match &value {
            toml::Value::String(text) => text.clone(),
            toml::Value::Array(items) => {
                items.iter().map(|item| item.as_str().unwrap()).collect::<Vec<_>>().join(",")
            }
            other => other.to_string(),
        };
        let variable = format!("REELHOOK_{}", key.replace('.', "__").replace('-', "_").to_uppercase());
        let loaded = others(key).env(&variable, &text).load();
        assert_eq!(*loaded.origin(key), Origin::Env(variable), "{key}");
        let loaded = others(key).flag(key, &text).load();
        assert_eq!(*loaded.origin(key), Origin::Flag, "{key}");
    }
}

#[test]
fn dev_stays_on_this_machine_and_asks_faster() {
    let sandbox: url::Url = "http://127.0.0.1:9999".parse().unwrap();
    let config = Config::for_dev("/tmp/x".as_ref(), &sandbox, 20.0);
    assert!(config.server.listen.ip().is_loopback() && config.callback.listen.ip().is_loopback());
    assert_eq!(config.callback.public_url.unwrap().as_str(), "http://127.0.0.1:8485/");
    assert_eq!(config.upstream.base_url, sandbox);
    assert_eq!(config.upstream.api_key.unwrap().expose_secret(), "aio_sandbox");
    assert_eq!(config.egress.allow, ["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
    assert_eq!(config.store.path, PathBuf::from("/tmp/x/state"));
    assert_eq!(config.storage.root, PathBuf::from("/tmp/x/videos"));
    assert_eq!(config.log.level, "warn", "the demonstration's own lines can be read");
    assert_eq!(config.poll.first_after, Duration::from_secs(1));
    assert_eq!(config.poll.interval, Duration::from_millis(750));
    assert_eq!(config.poll.give_up_after, Duration::from_secs(45 * 60));
}

#[test]
fn no_speed_breaks_dev() {
    let sandbox: url::Url = "http://127.0.0.1:9999".parse().unwrap();
    for speed in [0.0, -1.0, 1e-300, 1e300, f64::NAN, f64::INFINITY] {
        let poll = Config::for_dev("/tmp/x".as_ref(), &sandbox, speed).poll;
        assert!(
            poll.interval >= Duration::from_millis(250) && poll.interval <= Duration::from_secs(15),
            "{speed}"
        );
    }
}
