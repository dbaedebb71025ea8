//! What a running server takes over of a configuration that is read again: what `config.example.toml` says, no more and no less.

use reelhook::config::{self, Config, InForce, Reload, Target};
use secrecy::{ExposeSecret, SecretString};
use toml::Value;

use crate::{Setup, defaults::example_without_files};

/// A configuration with all that it hides, so that no change goes unseen.
fn bare(config: &Config) -> String {
    let mut text = format!("{config:?}");
    let mut reveal = |secrets: &[SecretString]| {
        secrets.iter().for_each(|secret| text += secret.expose_secret());
    };
    reveal(config.auth.bootstrap_admin_key.as_slice());
    reveal(config.upstream.api_key.as_slice());
    reveal(&config.callback.secrets);
    reveal(&config.callback.signature_secrets);
    reveal(config.delivery.secret.as_slice());
    for sink in config.sinks.values() {
        match &sink.target {
            Target::Webhook { secrets, headers, .. } => {
                reveal(secrets);
                reveal(&headers.values().map(|value| value.to_str().unwrap().into()).collect::<Vec<_>>());
            }
            Target::Nats { credentials, .. } => reveal(credentials.as_slice()),
            Target::Exec { .. } | Target::Stdout => {}
        }
    }
    text
}

/// Another value that the key can have.
fn another(key: &str, value: &Value) -> Value {
    let text = |text: &str| Value::String(text.to_owned());
    match (key.rsplit('.').next().unwrap(), value) {
        (_, Value::Integer(number)) => Value::Integer(number + 1),
        (_, Value::Float(number)) => Value::Float(number / 2.0),
        (_, Value::Boolean(is)) => Value::Boolean(!is),
        ("instance", _) => text("reelhook-2"),
        ("listen", _) => text("127.0.0.1:9000"),
        ("server", _) => text("nats://127.0.0.1:4223"),
        ("serve", _) => text("redirect"),
        ("signature", _) => text("stripe"),
        ("signature_header" | "signature_timestamp_header", _) => text("X-Other"),
        ("level", _) => text("debug"),
        ("format", Value::String(format)) => text(if format == "cloudevents" { "standard" } else { "json" }),
        ("secret", _) => text("another text of 24 characters or more"),
        ("events", Value::Array(_)) => Value::Array(vec![text("job.failed")]),
        (_, Value::Array(items)) => {
            let more = match key.rsplit('.').next().unwrap() {
                "allow" => "10.0.0.0/8",
                "schedule" => "24h",
                "headers" => "X-More: of-the-same-kind",
                "secrets" | "signature_secrets" => "another text of 24 characters or more",
                _ => "/more",
            };
            Value::Array(items.iter().cloned().chain([text(more)]).collect())
        }
        (_, Value::String(old)) if old == "0" => text("1d"),
        (_, Value::String(old)) => match old.find(|c: char| !c.is_ascii_digit()) {
            Some(unit) if unit > 0 => {
                text(&format!("{}{}", old[..unit].parse::<u64>().unwrap() + 1, &old[unit..]))
            }
            _ => text(&format!("{}/more", old.trim_end_matches('/'))),
        },
        other => panic!("no other value is known for {other:?}"),
    }
}

fn set(table: &mut toml::Table, key: &str, value: Value) {
    let (section, name) = key.rsplit_once('.').unwrap();
    let within = section.split('.').fold(table, |at, part| at[part].as_table_mut().unwrap());
    within.insert(name.to_owned(), value);
}

fn lookup(table: &toml::Table, key: &str) -> Option<Value> {
    let (section, name) = key.rsplit_once('.').unwrap();
    section.split('.').try_fold(table, |at, part| at.get(part)?.as_table())?.get(name).cloned()
}

/// The keys that the example's note names, as it names them.
fn named() -> Vec<&'static str> {
    config::EXAMPLE
        .lines()
        .filter_map(|line| line.strip_prefix("# ↻ "))
        .flat_map(str::split_whitespace)
        .collect()
}

fn is_named(key: &str) -> bool {
    let of_any_sink =
        key.strip_prefix("sinks.").map(|rest| format!("sinks.*.{}", rest.split_once('.').unwrap().1));
    let key = of_any_sink.as_deref().unwrap_or(key);
    named().iter().any(|name| key == *name || key.starts_with(&format!("{name}.")))
}

#[test]
fn each_key_is_taken_over_if_the_example_names_it_and_waits_if_not() {
    let mut example: toml::Table = example_without_files().parse().unwrap();
    // A scheme that goes by all that can be said of signatures.
    set(&mut example, "callback.signature", Value::String("timestamped-body".to_owned()));
    let secret = Value::String("a text of 24 characters or more".to_owned());
    set(&mut example, "callback.signature_secrets", Value::Array(vec![secret]));
    // A bucket goes by all that can be said of storage; a folder knows one way to serve.
    if cfg!(feature = "s3") {
        set(&mut example, "storage.url", Value::String("s3://videos".to_owned()));
    }
    let skipped = |key: &str| key.ends_with(".type") || key == "storage.serve" && !cfg!(feature = "s3");
    for key in config::keys().filter(|key| !skipped(key)) {
        let Some(value) = lookup(&example, key) else { continue };
        let mut changed = example.clone();
        set(&mut changed, key, another(key, &value));
        let setup = Setup::with(&example.to_string());
        let old = setup.load();
        let new = setup.file("reelhook.toml", &changed.to_string());
        let new = new.try_load().unwrap_or_else(|error| panic!("{key}: {error}"));
        let Reload { in_force, changed, waiting } = InForce::at_start(&old).reload(&new).unwrap();
        let expected = is_named(key);
        assert_eq!(changed.iter().any(|name| name == key), expected, "{key}: {changed:?}");
        assert_eq!(waiting.iter().any(|name| name == key), !expected, "{key}: {waiting:?}");
        assert_eq!(
            bare(in_force.config()) != bare(&old.config),
            expected,
            "{key} is not as the example says"
        );
    }
}

#[test]
fn the_example_names_no_key_that_there_is_not_and_none_twice() {
    let names = named();
    for name in &names {
        let key = name.replace("sinks.*.", "");
        assert!(
            config::keys().any(|known| known.starts_with(name) || known.ends_with(&format!(".{key}"))),
            "{name}"
        );
    }
    let mut sorted = names.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(names, sorted, "in order, so that one finds them");
}

#[test]
fn what_waited_still_waits_and_what_was_changed_is_changed_no_more() {
    let first = Setup::with("[api]\nqueue_limit = 1\nmax_wait = \"1s\"\n").load();
    let second = Setup::with("[api]\nqueue_limit = 2\nmax_wait = \"2s\"\n").load();
    let reload = InForce::at_start(&first).reload(&second).unwrap();
    assert_eq!(
        (reload.changed, reload.waiting),
        (vec!["api.queue_limit".to_owned()], vec!["api.max_wait".to_owned()])
    );
    let again = reload.in_force.reload(&second).unwrap();
    assert_eq!((again.changed, again.waiting), (vec![], vec!["api.max_wait".to_owned()]));
    let back = again.in_force.reload(&first).unwrap();
    assert_eq!((back.changed, back.waiting), (vec!["api.queue_limit".to_owned()], vec![]));
    assert_eq!(
        (back.in_force.config().api.queue_limit, back.in_force.config().api.max_wait.as_secs()),
        (1, 1)
    );
}

#[test]
fn a_sink_that_is_new_gone_or_of_another_type_waits_whole() {
    let webhook = "[sinks.app]\ntype = \"webhook\"\nurl = \"https://a.example.com\"\n";
    let old = Setup::with(webhook).load();
    for (text, waiting) in [
        ("", vec!["sinks.app.type", "sinks.app.url"]),
        ("[sinks.app]\ntype = \"stdout\"\n", vec!["sinks.app.type", "sinks.app.url"]),
        (&format!("{webhook}[sinks.more]\ntype = \"stdout\"\n"), vec!["sinks.more.type"]),
    ] {
        let reload = InForce::at_start(&old).reload(&Setup::with(text).load()).unwrap();
        assert_eq!(
            (reload.waiting, reload.changed),
            (waiting.iter().map(ToString::to_string).collect(), vec![])
        );
        assert_eq!(bare(reload.in_force.config()), bare(&old.config), "{text}");
    }
}

#[test]
fn a_secret_in_a_file_of_the_same_name_is_seen_to_change() {
    let setup = Setup::with("[upstream]\napi_key_file = \"key\"\n").private("key", "one");
    let old = setup.load();
    let setup = setup.private("key", "two");
    let reload = InForce::at_start(&old).reload(&setup.load()).unwrap();
    assert_eq!(reload.changed, ["upstream.api_key"]);
    assert_eq!(reload.in_force.config().upstream.api_key.as_ref().unwrap().expose_secret(), "two");
}

#[test]
fn a_server_that_others_reach_is_never_left_without_keys() {
    let key = "[auth]\nbootstrap_admin_key = \"a long enough key of a test\"\n";
    let old = Setup::with(&format!("[server]\nlisten = \"0.0.0.0:8484\"\n{key}")).load();
    // By itself this is fine: a server that were started with it would listen on loopback.
    let next = Setup::with("[server]\nlisten = \"127.0.0.1:8484\"\n").load();
    let refused = InForce::at_start(&old).reload(&next).unwrap_err();
    assert_eq!(refused.problems.len(), 1);
    assert!(refused.problems[0].message.contains("no key is configured"), "{refused}");
}
