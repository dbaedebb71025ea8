//! Each file by its own tool.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

/// Runs a tool in a folder; what it said, whether it was content or not.
fn said(folder: impl AsRef<Path>, tool: &str, arguments: &[&str]) -> (bool, String) {
    let output: Output = Command::new(tool)
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap_or_else(|error| panic!("{tool} is installed by tests/run: {error}"));
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[track_caller]
fn is_content(folder: impl AsRef<Path>, tool: &str, arguments: &[&str]) -> String {
    let (content, text) = said(folder, tool, arguments);
    assert!(content, "{tool} {arguments:?}:\n{text}");
    text
}

#[test]
fn the_dockerfile_breaks_no_rule() {
    is_content("deploy/docker", "hadolint", &["Dockerfile"]);
}

#[test]
fn every_compose_variant_is_one_sound_file() {
    let folder = compose_with_secrets();
    // As the pages say it: by the files that `.env` names.
    let of = |settings: &str| {
        fs::write(folder.path().join(".env"), settings).unwrap();
        let output = Command::new("docker-compose")
            .arg("config")
            .current_dir(folder.path())
            .envs([("S3_BUCKET", "videos"), ("S3_ENDPOINT", "http://s3:9000")])
            .output()
            .expect("docker-compose is installed by tests/run");
        assert!(output.status.success(), "{settings}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let trial = fs::read_to_string("deploy/compose/sandbox.env").unwrap();
    for variant in [
        "",
        "COMPOSE_FILE=compose.yaml:watch.yaml\n",
        "COMPOSE_FILE=compose.yaml:postgres-s3.yaml:watch.yaml\n",
        &trial,
    ] {
        let text = of(variant);
        let services = text.split("\nservices:\n").nth(1).unwrap();
        let reelhook = services.split("  reelhook:\n").nth(1).unwrap();
        let reelhook =
            reelhook.lines().take_while(|line| line.starts_with("    ")).collect::<Vec<_>>().join("\n");
        assert!(reelhook.contains("read_only: true"), "{text}");
        // As Compose 1 and 2 write it.
        let keeps = |volume: &str| {
            reelhook.contains(&format!("- {volume}:/var/lib/reelhook"))
                || reelhook.contains(&format!("source: {volume}\n"))
        };
        let stores = if variant == trial { (false, true) } else { (true, false) };
        assert_eq!(
            (keeps("state"), keeps("sandbox-state")),
            stores,
            "a trial has a store of its own: {reelhook}"
        );
        assert_eq!(text.contains("image: prom/prometheus"), !variant.is_empty(), "{text}");
        let declared = text.split("\nsecrets:").nth(1).unwrap();
        for secret in text.split("source: ").skip(1).map(|rest| rest.lines().next().unwrap()) {
            assert!(declared.contains(&format!("\n  {secret}:\n")), "{variant}: nobody declares {secret}");
        }
        assert!(
            !text.contains("0.0.0.0:8484:") && !text.contains("0.0.0.0:8485:"),
            "only the proxy is public"
        );
    }
}

/// A copy of the folder, with the secrets that `prepare` makes.
fn compose_with_secrets() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let copied = Command::new("cp").args(["-r", "deploy/compose/."]).arg(folder.path()).status().unwrap();
    assert!(copied.success());
    is_content(folder.path(), "sh", &["./prepare"]);
    for name in ["admin_key", "app_secret", "upstream_key", "postgres_password", "s3_credentials"] {
        assert!(folder.path().join("secrets").join(name).exists(), "{name} is made");
    }
    folder
}

#[test]
fn the_unit_is_hardened_and_whole() {
    let unit = "deploy/systemd/reelhook.service";
    // Tenths: an exposure of 1.5 at most.
    let judged = is_content(
        ".",
        "systemd-analyze",
        &["security", "--offline=true", "--threshold=15", "--no-pager", unit],
    );
    assert!(judged.contains("Overall exposure level"), "{judged}");
    // As it is installed, with a program wherever it expects one.
    let root = tempfile::tempdir().unwrap();
    let units = root.path().join("etc/systemd/system");
    fs::create_dir_all(&units).unwrap();
    fs::copy(unit, units.join("reelhook.service")).unwrap();
    // With all that a trial adds.
    let trial = units.join("reelhook.service.d");
    fs::create_dir(&trial).unwrap();
    fs::copy("deploy/systemd/sandbox.conf", trial.join("sandbox.conf")).unwrap();
    fs::copy("deploy/systemd/reelhook-sandbox.service", units.join("reelhook-sandbox.service")).unwrap();
    for program in ["usr/bin/reelhook", "bin/kill"].map(|path| root.path().join(path)) {
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        fs::copy("/bin/true", &program).unwrap();
    }
    for target in ["sysinit", "basic", "shutdown", "network-online", "multi-user"] {
        fs::write(units.join(format!("{target}.target")), "[Unit]\nDescription=x\n").unwrap();
    }
    let root_argument = format!("--root={}", root.path().display());
    let (content, verified) =
        said(".", "systemd-analyze", &["verify", "--man=no", &root_argument, "reelhook.service"]);
    let about_it: Vec<&str> = verified.lines().filter(|line| line.contains("reelhook")).collect();
    assert!(content && about_it.is_empty(), "{verified}");
}

#[test]
fn sysusers_and_tmpfiles_make_the_user_and_its_folders() {
    let root = tempfile::tempdir().unwrap();
    let (users, etc) = ("deploy/systemd/reelhook.sysusers", root.path().join("etc"));
    fs::create_dir_all(&etc).unwrap();
    let root_argument = format!("--root={}", root.path().display());
    let file = fs::canonicalize(users).unwrap();
    is_content(".", "systemd-sysusers", &[&root_argument, file.to_str().unwrap()]);
    let made = fs::read_to_string(etc.join("passwd")).unwrap();
    assert!(made.starts_with("reelhook:") && made.contains("/usr/sbin/nologin"), "{made}");
    let file = fs::canonicalize("deploy/systemd/reelhook.tmpfiles").unwrap();
    is_content(".", "systemd-tmpfiles", &["--create", &root_argument, file.to_str().unwrap()]);
    assert!(etc.join("reelhook").is_dir() && root.path().join("var/lib/reelhook").is_dir());
}

#[test]
fn every_kustomization_builds_what_kubernetes_takes() {
    for (variant, workload) in
        [("base", "StatefulSet"), ("sidecar", "StatefulSet"), ("postgres", "Deployment")]
    {
        let text = is_content(".", "kubectl", &["kustomize", &format!("deploy/kubernetes/{variant}")]);
        assert!(
            text.contains(&format!("kind: {workload}")) && text.contains("kind: NetworkPolicy"),
            "{variant}"
        );
        let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
        fs::write(file.path(), &text).unwrap();
        is_content(".", "kubernetes-validate", &["--strict", file.path().to_str().unwrap()]);
    }
}

#[test]
fn the_proxies_take_their_configuration() {
    for file in ["deploy/proxy/Caddyfile", "deploy/compose/Caddyfile"] {
        is_content(".", "caddy", &["validate", "--adapter", "caddyfile", "--config", file]);
        let adapted = is_content(".", "caddy", &["adapt", "--adapter", "caddyfile", "--config", file]);
        assert!(adapted.contains("\"/cb/*\"") && adapted.contains("404"), "{adapted}");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (key, certificate) = (path("key.pem"), path("cert.pem"));
    let subject = ["-subj", "/CN=hooks.example.com", "-keyout", &key, "-out", &certificate];
    is_content(
        ".",
        "openssl",
        &[&["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"][..], &subject].concat(),
    );
    let site = fs::read_to_string("deploy/proxy/nginx.conf").unwrap();
    let site = site
        .replace("/etc/letsencrypt/live/hooks.example.com/fullchain.pem", &certificate)
        .replace("/etc/letsencrypt/live/hooks.example.com/privkey.pem", &key);
    let whole = format!("pid {};\nevents {{}}\nhttp {{\n{site}\n}}\n", path("pid"));
    fs::write(dir.path().join("nginx.conf"), whole).unwrap();
    is_content(
        ".",
        "nginx",
        &["-t", "-p", dir.path().to_str().unwrap(), "-e", "stderr", "-c", &path("nginx.conf")],
    );
}

#[test]
fn prometheus_takes_its_files_and_each_alert_fires_where_it_should() {
    let folder = "deploy/prometheus";
    is_content(folder, "promtool", &["check", "config", "prometheus.yml"]);
    is_content(folder, "promtool", &["check", "rules", "rules.yml"]);
    is_content(folder, "promtool", &["test", "rules", "rules_test.yml"]);
}

/// Signed by an implementation that is not ours, and by nobody; now and long ago.
#[test]
fn the_example_app_takes_signed_events_and_no_others() {
    let secret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let webhook = standardwebhooks::Webhook::new(secret).unwrap();
    let (now, body) = (1_800_000_000_i64, r#"{"type":"job.succeeded"}"#);
    let signature = webhook.sign("evt_1", now, body.as_bytes()).unwrap();
    let judge = |signature: &str, at: i64, body: &str| {
        let program = format!(
            "import app; headers = {{'webhook-id': 'evt_1', 'webhook-timestamp': '{now}', 'webhook-signature': '{signature}'}}; \
             print(app.verify(app.read_secret('{secret}'), headers, b'''{body}''', {at}))"
        );
        is_content("deploy/compose/app", "python3", &["-B", "-c", &program]).trim().to_owned()
    };
    assert_eq!(judge(&signature, now + 5, body), "True");
    assert_eq!(judge(&format!("v1,AAAA {signature}"), now, body), "True", "any of several secrets");
    assert_eq!(judge(&signature, now + 301, body), "False", "a replay");
    assert_eq!(judge(&signature, now, "{}"), "False", "another body");
    assert_eq!(judge("v1,AAAA", now, body), "False");
}

#[test]
fn the_example_app_reads_what_it_is_told_of_a_job_and_a_ping() {
    let told = |event: &str| {
        let program = format!("import app, json; print(app.told(json.loads('{event}')))");
        is_content("deploy/compose/app", "python3", &["-B", "-c", &program]).trim().to_owned()
    };
    assert_eq!(told(r#"{"type":"ping","data":{"sink":"app"}}"#), "ping");
    let job = r#"{"type":"job.succeeded","data":{"job":{"id":"job_1","files":[{"name":"video.mp4"}]}}}"#;
    assert_eq!(told(job), "job.succeeded job_1 ['video.mp4']");
}
