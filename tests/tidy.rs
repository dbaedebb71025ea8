//! The rules of the source tree, held by a machine: who may know whom, and how long a file may be.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What each module may name of ours. Knowledge runs one way; nobody knows `inbound` but what puts it together.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("lifecycle", &[]),
    ("provider", &[]),
    ("chaos", &[]),
    ("clock", &[]),
    ("disk", &[]),
    ("entropy", &[]),
    ("keys", &[]),
    ("live", &[]),
    ("refusal", &[]),
    ("spans", &[]),
    ("config", &["lifecycle", "provider"]),
    ("telemetry", &["config", "spans"]),
    ("sandbox", &["provider"]),
    ("store", &["lifecycle", "provider", "config", "clock", "chaos", "disk", "refusal"]),
    ("outbound", &["lifecycle", "provider", "config", "clock", "chaos", "disk", "live", "refusal", "spans"]),
    ("app", &["lifecycle", "provider", "config", "clock", "entropy", "live", "store"]),
    (
        "runner",
        &["lifecycle", "provider", "config", "clock", "chaos", "live", "spans", "store", "outbound", "app"],
    ),
    ("doctor", &["lifecycle", "provider", "config", "clock", "disk", "live", "store", "outbound", "app"]),
    ("dashboard", &["lifecycle", "provider", "config", "store", "outbound", "app", "keys"]),
    (
        "inbound",
        &[
            "lifecycle",
            "provider",
            "config",
            "clock",
            "disk",
            "doctor",
            "live",
            "store",
            "outbound",
            "app",
            "runner",
            "dashboard",
            "keys",
            "spans",
            "telemetry",
        ],
    ),
];

/// Files that may be longer than the rest, each with its reason.
const LONG: &[(&str, &str)] = &[];
const LONGEST: usize = 450;

#[test]
fn knowledge_runs_one_way() {
    let mut wrong = Vec::new();
    for (module, allowed) in MAY_KNOW {
        for file in files_of(module) {
            let text = fs::read_to_string(&file).unwrap();
            for known in named_modules(&text) {
                if known != *module && !allowed.contains(&known.as_str()) && is_module(&known) {
                    wrong.push(format!("{} names `{known}`", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_has_a_rule() {
    let map = fs::read_to_string("src/lib.rs").unwrap();
    let declared = map.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    for module in declared {
        // `server` puts everything together, so it may know all.
        assert!(
            module == "server" || is_module(module),
            "src/lib.rs declares `{module}`, which has no rule here"
        );
    }
}

#[test]
fn pure_modules_name_no_runtime_and_no_clock() {
    for module in ["lifecycle", "provider"] {
        for file in files_of(module) {
            let text = fs::read_to_string(&file).unwrap();
            for word in [
                "tokio::",
                "reqwest::",
                "actix_web::",
                "SystemTime",
                "Instant::now",
                "Timestamp::now",
                "std::fs",
            ] {
                assert!(!text.contains(word), "{} names {word}", file.display());
            }
        }
    }
}

#[test]
fn no_file_is_longer_than_one_idea() {
    let mut long = Vec::new();
    for file in rust_files(Path::new("src")).into_iter().chain(rust_files(Path::new("tests"))) {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        let excused = LONG.iter().any(|(name, _)| file.ends_with(name));
        if lines > LONGEST && !excused {
            long.push(format!("{}: {lines} lines", file.display()));
        }
    }
    assert!(long.is_empty(), "split these, or give a reason in LONG:\n{}", long.join("\n"));
}

#[test]
fn the_guard_sees_an_import_however_it_is_written() {
    let seen = |text: &str| named_modules(text).collect::<Vec<_>>();
    assert_eq!(seen("use crate::inbound::problem;"), ["inbound"]);
    assert_eq!(seen("let x = crate::app::App::new();"), ["app"]);
    let nested = "use crate::{\n    app::App,\n    store::{Store, sled::SledStore},\n    config,\n};";
    assert_eq!(seen(nested), ["app", "store", "config"]);
}

fn is_module(name: &str) -> bool {
    MAY_KNOW.iter().any(|(module, _)| *module == name)
}

/// The modules of this crate that a source text names: after `crate::`, alone or in a group.
fn named_modules(text: &str) -> impl Iterator<Item = String> {
    let mut names = Vec::new();
    for (at, found) in text.match_indices("crate::") {
        let rest = &text[at + found.len()..];
        match rest.strip_prefix('{') {
            None => names.push(leading_word(rest)),
            Some(group) => names.extend(group_heads(group)),
        }
    }
    names.into_iter()
}

/// The first word of each member of a `use` group, whose text begins behind its brace.
fn group_heads(group: &str) -> Vec<String> {
    let (mut depth, mut heads, mut fresh) = (0_usize, Vec::new(), true);
    for (at, symbol) in group.char_indices() {
        match symbol {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            _ if fresh && symbol.is_alphabetic() => {
                heads.push(leading_word(&group[at..]));
                fresh = false;
            }
            _ => {}
        }
    }
    heads
}

/// A slim machine has what tests start: `tests/run` installs it, or every Debian has it.
#[test]
fn tests_start_only_what_is_installed_for_them() {
    // The last two come with pgrep and mount.
    const EVERYWHERE: &[&str] = &["cp", "sh", "kill", "umount"];
    let run = fs::read_to_string("tests/run").unwrap();
    let needed: Vec<&str> =
        run.lines().filter_map(|line| line.trim().split("need ").nth(1)?.split(' ').next()).collect();
    let mut started = 0;
    for file in rust_files(Path::new("tests")) {
        let text = fs::read_to_string(&file).unwrap();
        for program in text.split("Command::new(\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            let there = needed.contains(&program) || EVERYWHERE.contains(&program);
            assert!(there, "{} starts {program}, which tests/run does not install", file.display());
            started += 1;
        }
    }
    assert!(started > 10, "{started}");
}

fn leading_word(text: &str) -> String {
    text.chars().take_while(|symbol| symbol.is_alphanumeric() || *symbol == '_').collect()
}

fn files_of(module: &str) -> Vec<PathBuf> {
    let single = PathBuf::from(format!("src/{module}.rs"));
    let mut files = rust_files(&PathBuf::from(format!("src/{module}")));
    if single.exists() {
        files.push(single);
    }
    files
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
    files
}
