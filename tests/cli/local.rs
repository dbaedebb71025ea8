//! What needs no server: keys, configuration, completions.

use std::{fs, path::Path};

use assert_cmd::Command;
use predicates::prelude::*;
use serde_json::Value;

use crate::{downloads::sha256, fake::reelhook};

fn here(folder: &Path) -> Command {
    let mut command = reelhook("http://127.0.0.1:1");
    command.current_dir(folder);
    command
}

fn json(command: &mut Command) -> Value {
    let run = command.arg("--json").assert();
    serde_json::from_slice(&run.get_output().stdout).unwrap()
}

#[test]
fn a_key_is_printed_once_and_only_its_hash_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys");
    let create = ["keys", "create", "--name", "app", "--scopes", "submit,read", "--file", "keys"];
    let run = here(folder.path()).args(create).assert().success();
    let printed = String::from_utf8(run.get_output().stdout.clone()).unwrap();
    let key = printed.strip_suffix('\n').unwrap();
    assert!(key.starts_with("rhk_") && key.len() == 47, "{key}");
    let kept = fs::read_to_string(&file).unwrap();
    assert!(!kept.contains(&key[4..]) && kept.contains(&sha256(key.as_bytes())));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    let list = here(folder.path()).args(["keys", "list", "--file", "keys"]).assert().success();
    list.stdout(
        predicate::str::starts_with("app\tsubmit,read\t").and(predicate::str::contains(&key[4..]).not()),
    );
}

#[test]
fn keys_expire_are_revoked_and_have_unique_names() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("reelhook.toml"), "[auth]\nkeys_file = \"my-keys\"\n").unwrap();
    let create = |name: &str| {
        let mut command = here(folder.path());
        command.args(["keys", "create", "--scopes", "admin", "--expires", "90d", "--name", name]);
        command
    };
    let made = json(&mut create("one"));
    assert!(made["expires_at"].as_str().unwrap().ends_with('Z') && made["key"].is_string());
    create("one").assert().code(6).stdout("");
    create("a b").assert().code(2);
    let listed = json(here(folder.path()).args(["keys", "list"]));
    assert_eq!((&listed["name"], &listed["expired"]), (&"one".into(), &false.into()));
    assert!(folder.path().join("my-keys").exists(), "the configuration names the file");
    here(folder.path()).args(["keys", "revoke", "one"]).assert().success().stdout("");
    here(folder.path()).args(["keys", "revoke", "one"]).assert().code(5);
    here(folder.path()).args(["keys", "list"]).assert().success().stdout("");
}

#[test]
fn a_key_needs_known_scopes_and_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let create = ["keys", "create", "--name", "app", "--scopes"];
    here(folder.path()).args(create).args(["write", "--file", "k"]).assert().code(2);
    let nowhere = here(folder.path()).args(create).arg("read").assert().code(2);
    nowhere.stderr(predicate::str::contains("auth.keys_file"));
    here(folder.path()).args(["keys", "list", "--file", "none"]).assert().code(2);
}

#[test]
fn init_writes_a_file_that_checks_and_never_over_another() {
    let folder = tempfile::tempdir().unwrap();
    here(folder.path()).args(["config", "init"]).assert().success().stdout("reelhook.toml\n");
    let written = fs::read_to_string(folder.path().join("reelhook.toml")).unwrap();
    assert_eq!(written, include_str!("../../config.example.toml"));
    here(folder.path()).args(["config", "check"]).assert().success();
    here(folder.path()).args(["config", "init"]).assert().code(6);
    here(folder.path()).args(["config", "init", "-"]).assert().success().stdout(written);
}

#[test]
fn check_names_everything_that_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("reelhook.toml"), "[poll]\nintervall = \"15s\"\njitter = 7.0\n").unwrap();
    let report = json(here(folder.path()).args(["config", "check"]));
    assert_eq!(report["ok"], false);
    let keys: Vec<_> = report["problems"].as_array().unwrap().iter().map(|problem| &problem["key"]).collect();
    assert_eq!(keys, ["poll.intervall", "poll.jitter"]);
    let jitter = &report["problems"][1];
    assert_eq!((&jitter["file"], &jitter["line"]), (&"reelhook.toml".into(), &3.into()));
    assert_eq!((&jitter["default"], &report["problems"][0]["default"]), (&"0.2".into(), &Value::Null));
    let text = here(folder.path()).args(["config", "check"]).assert().code(2);
    text.stdout(
        predicate::str::contains("poll.interval`?").and(predicate::str::contains("; the default is 0.2\n")),
    )
    .stderr("error: the configuration has 2 problems\n");
    here(folder.path()).args(["config", "show"]).assert().code(2).stdout("");
    let serve = here(folder.path()).arg("serve").assert().code(2);
    let both = predicate::str::contains("poll.intervall").and(predicate::str::contains("poll.jitter"));
    serve.stderr(both.and(predicate::function(|text: &str| text.lines().count() == 1)));
}

#[test]
fn a_text_that_is_no_toml_is_told_with_every_line_that_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("reelhook.toml"), "[poll]\njitter = = 1\ninterval = \"15s\"\n[log\n")
        .unwrap();
    let report = json(here(folder.path()).args(["config", "check"]));
    let lines: Vec<_> =
        report["problems"].as_array().unwrap().iter().map(|problem| &problem["line"]).collect();
    assert_eq!(lines, [2, 4]);
}

#[test]
fn the_schema_is_one_json_document() {
    let folder = tempfile::tempdir().unwrap();
    let schema = json(here(folder.path()).args(["config", "schema"]));
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["properties"]["poll"]["properties"]["interval"]["default"], "15s");
}

#[test]
fn show_tells_what_is_in_force_where_it_comes_from_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let secret = "aio_very-secret-key";
    let show = |more: &[&str]| {
        let mut command = here(folder.path());
        command.env("REELHOOK_POLL__INTERVAL", "20s").env("REELHOOK_UPSTREAM__API_KEY", secret);
        command.args(["config", "show"]).args(more);
        command
    };
    let text = show(&["--origin"]).assert().success();
    let text = text.stdout(predicate::str::contains("interval = \"20s\"  # env REELHOOK_POLL__INTERVAL"));
    text.stdout(predicate::str::contains(secret).not());
    assert_eq!(json(&mut show(&[]))["poll"]["interval"], "20s");
    let origins = json(&mut show(&["--origin"]));
    assert_eq!(origins["poll.interval"]["origin"], "env REELHOOK_POLL__INTERVAL");
    assert_eq!(origins["server.listen"]["origin"], "default");
}

#[test]
fn every_shell_has_completions() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let run = reelhook("http://127.0.0.1:1").args(["completions", shell]).assert().success();
        run.stdout(predicate::str::contains("healthcheck")).stderr("");
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let main = reelhook("http://127.0.0.1:1").arg("man").assert().success().stderr("");
    main.stdout(
        predicate::str::contains(".TH reelhook 1").and(predicate::str::contains("reelhook\\-listen(1)")),
    );
    let folder = tempfile::tempdir().unwrap();
    here(folder.path()).args(["man", "-o", "pages"]).assert().success().stdout("");
    for page in ["reelhook.1", "reelhook-submit.1", "reelhook-events-tail.1"] {
        let text = fs::read_to_string(folder.path().join("pages").join(page)).unwrap();
        assert!(text.contains(".SH SYNOPSIS"), "{page}");
    }
}

#[test]
fn check_says_that_all_is_well_and_what_deserves_a_look() {
    let folder = tempfile::tempdir().unwrap();
    let check = |more: &str| {
        let text = format!(
            "[upstream]\napi_key = \"x\"\n[callback]\npublic_url = \"https://hooks.example.com\"\n{more}"
        );
        fs::write(folder.path().join("reelhook.toml"), text).unwrap();
        here(folder.path()).args(["config", "check"]).assert().success()
    };
    check("").stdout("the configuration is good\n");
    let keyed = "[auth]\nkeys_file = \"keys\"\n";
    check(keyed).stdout(predicate::str::contains("nobody can use the API"));
    let create = ["keys", "create", "--name", "app", "--scopes", "read", "--file", "keys"];
    here(folder.path()).args(create).assert().success();
    check(keyed).stdout("the configuration is good\n");
    let absent = here(folder.path()).args(["config", "check", "--config", "nope.toml"]).assert().code(2);
    absent.stdout("problem: flag: there is no file nope.toml\n");
}

#[test]
fn a_demonstration_that_ends_prints_checksum_and_path_and_gives_no_link_that_is_dead_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let run = here(folder.path()).args(["dev", "--demo", "--exit"]).assert().success();
    let told = predicate::str::contains("stored ")
        .and(predicate::str::contains("dashboard  http://127.0.0.1:"))
        .and(predicate::str::contains("watch ").not());
    let run = run.stderr(told.and(predicate::str::contains("INFO").not()));
    let printed = String::from_utf8(run.get_output().stdout.clone()).unwrap();
    let (sum, path) = printed.strip_suffix('\n').unwrap().split_once("  ").unwrap();
    let video = fs::read(folder.path().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert_eq!(sum, sha256(&video));
}
