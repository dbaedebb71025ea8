//! What no tool of others knows: our own configurations, the tunnel's, and the links between pages.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use reelhook::{
    config::{LoadOptions, load},
    telemetry::METRICS,
};

/// Every key in each configuration is one that the server knows, with a value that it takes.
#[test]
fn every_configuration_of_ours_is_taken() {
    let secrets = tempfile::tempdir().unwrap();
    let secret = secrets.path().join("secret");
    fs::write(&secret, "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=").unwrap();
    let files = files_of(Path::new("deploy"), "toml");
    assert!(files.len() >= 4, "{files:?}");
    for file in files {
        // Secrets lie elsewhere where it runs.
        let text = fs::read_to_string(&file).unwrap();
        let lines = text.lines().map(|line| match line.split_once("_file = ") {
            Some((key, _)) if key != "keys" => format!("{key}_file = {:?}", secret.display().to_string()),
            _ => line.to_owned(),
        });
        let copy = secrets.path().join("reelhook.toml");
        fs::write(&copy, lines.collect::<Vec<_>>().join("\n")).unwrap();
        let options = LoadOptions { path: Some(copy), ..LoadOptions::default() };
        if let Err(error) = load(&options) {
            panic!("{}: {error}", file.display());
        }
    }
}

/// What a trial changes by the environment are keys that the server knows as well, and its jobs stay apart from those that cost.
#[test]
fn every_trial_is_taken_and_keeps_its_jobs_apart() {
    let of_lines = |file: &str, prefix: &str, separator: char| -> Vec<(String, String)> {
        let text = fs::read_to_string(file).unwrap();
        let set = text.lines().filter_map(|line| line.trim().strip_prefix(prefix)?.split_once(separator));
        set.map(|(name, value)| (format!("REELHOOK_{name}"), value.trim().to_owned())).collect()
    };
    let unit = of_lines("deploy/systemd/sandbox.conf", "Environment=REELHOOK_", '=');
    let compose = of_lines("deploy/compose/sandbox.yaml", "REELHOOK_", ':');
    let loaded = |env: &[(String, String)]| {
        let path = Some("deploy/systemd/reelhook.toml".into());
        load(&LoadOptions { path, env: env.to_vec(), ..LoadOptions::default() }).unwrap().config
    };
    let real = loaded(&[]);
    for env in [&unit, &compose] {
        assert!(env.len() >= 5, "{env:?}");
        let trial = loaded(env);
        assert_ne!(trial.upstream.base_url, real.upstream.base_url);
        assert!(trial.poll.overdue_after < real.poll.overdue_after);
    }
    let trial = loaded(&unit);
    assert!(trial.store.path != real.store.path && trial.storage.root != real.storage.root);
    assert_eq!(trial.auth.keys_file, real.auth.keys_file, "a key that an app has stays good");
}

/// The builder sees what the list beside the Dockerfile lets through, and that is a whole crate.
#[test]
fn the_image_is_built_from_everything_that_the_build_reads() {
    let context = tempfile::tempdir().unwrap();
    let list = fs::read_to_string("deploy/docker/Dockerfile.dockerignore").unwrap();
    let allowed: Vec<&str> = list.lines().filter_map(|line| line.strip_prefix('!')).collect();
    assert!(list.lines().any(|line| line == "*"), "all else stays outside");
    let copied = Command::new("sh")
        .args(["-c", &format!("cp -r {} \"$0\"", allowed.join(" "))])
        .arg(context.path())
        .status()
        .unwrap();
    assert!(copied.success());
    let crate_is_whole = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--locked", "--offline", "--format-version", "1"])
        .current_dir(context.path())
        .output()
        .unwrap();
    assert!(crate_is_whole.status.success(), "{}", String::from_utf8_lossy(&crate_is_whole.stderr));
    for source in files_of(&context.path().join("src"), "rs") {
        let text = fs::read_to_string(&source).unwrap();
        for included in
            ["include_str!(\"", "include_bytes!(\""].iter().flat_map(|call| text.split(call).skip(1))
        {
            let file = source.parent().unwrap().join(included.split('"').next().unwrap());
            assert!(file.exists(), "{} includes {}", source.display(), file.display());
        }
    }
}

#[test]
fn the_tunnel_hands_on_callbacks_and_nothing_else() {
    let text = fs::read_to_string("deploy/proxy/cloudflared.yml").unwrap();
    let rules: Vec<&str> = text.split("\n  - ").skip(1).collect();
    let [callbacks, rest] = rules[..] else { panic!("two rules: {rules:?}") };
    assert!(
        callbacks.contains("path: ^/cb/") && callbacks.contains("service: http://127.0.0.1:8485"),
        "{callbacks}"
    );
    assert_eq!(
        rest.trim(),
        "service: http_status:404",
        "the last rule has no host and no path: it is for all else"
    );
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    let pages = pages();
    assert!(pages.len() > 10);
    let mut links = 0;
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") || target.starts_with('#') {
                continue;
            }
            let there = page.parent().unwrap().join(target.split('#').next().unwrap());
            assert!(there.exists(), "{} links to {target}", page.display());
            links += 1;
        }
    }
    assert!(links > 20, "{links}");
}

/// In backticks: a path below these folders, a source file by its name, a test by its target.
#[test]
fn the_pages_name_only_files_and_tests_that_exist() {
    let folders = ["src", "tests", "deploy", "benches"];
    let sources: Vec<PathBuf> = folders.iter().flat_map(|folder| files_of(Path::new(folder), "rs")).collect();
    let mut named = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        let prose = text.split("```").step_by(2).flat_map(str::lines);
        for span in prose.flat_map(|line| line.split('`').skip(1).step_by(2)) {
            let words: Vec<&str> = span.split_whitespace().collect();
            for (at, word) in words.iter().enumerate() {
                let there = if folders.iter().any(|folder| word.starts_with(&format!("{folder}/"))) {
                    Path::new(word).exists()
                } else if word.ends_with(".rs") {
                    sources.iter().any(|source| source.ends_with(word))
                } else if at > 0 && words[at - 1] == "--test" {
                    ["", "/main"].iter().any(|end| Path::new(&format!("tests/{word}{end}.rs")).exists())
                } else {
                    continue;
                };
                assert!(there, "{} names {word}", page.display());
                named += 1;
            }
        }
    }
    assert!(named > 50, "{named}");
}

/// What a page tells people to look at exists.
#[test]
fn the_pages_name_only_metrics_that_exist() {
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for (at, _) in text.match_indices("reelhook_") {
            let name: String =
                text[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let known = METRICS.iter().any(|metric| name.starts_with(metric.name));
            assert!(known, "{} names {name}", page.display());
        }
    }
}

/// Every page for people.
pub(super) fn pages() -> Vec<PathBuf> {
    let mut pages = files_of(Path::new("deploy"), "md");
    pages.extend(["README.md", "ARCHITECTURE.md", "RELIABILITY.md", "CHANGELOG.md"].map(PathBuf::from));
    pages
}

fn files_of(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_of(&path, ending));
        } else if path.extension().is_some_and(|found| found == ending) {
            files.push(path);
        }
    }
    files
}
