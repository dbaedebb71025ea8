//! The shipped configurations of proxies, run in front of a server: callbacks come through as they are, and nothing else does.
//! Of each file only addresses and certificates are rewritten.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::{Certificate, Client, StatusCode, header::CONTENT_TYPE, redirect::Policy};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{PATIENCE, World, free_port};

/// The name that stands for one's own in the files.
const NAME: &str = "hooks.example.com";
/// What a server says where it has nothing: a proxy that answers by itself says something else.
const OURS: &str = "application/problem+json";

/// A proxy that ends with the test, and a client that calls it by its name.
struct Proxy {
    child: Child,
    base: String,
    http: Client,
    dir: TempDir,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Proxy {
    /// nginx, as in `/etc/nginx/conf.d`.
    fn nginx(callback: SocketAddr) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (plain, secure) = (free_port(), free_port());
        let (trusted, certificate, key) = issue(dir.path());
        let site = rewritten(
            "deploy/proxy/nginx.conf",
            &[
                ("listen 80;", &format!("listen 127.0.0.1:{plain};")),
                ("listen 443 ssl", &format!("listen 127.0.0.1:{secure} ssl")),
                ("/etc/letsencrypt/live/hooks.example.com/fullchain.pem", &certificate.display().to_string()),
                ("/etc/letsencrypt/live/hooks.example.com/privkey.pem", &key.display().to_string()),
                ("http://127.0.0.1:8485", &format!("http://{callback}")),
            ],
        );
        let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {};", dir.path().join(name).display()));
        let whole = format!(
            "daemon off; master_process off; pid {};\nevents {{}}\nhttp {{\naccess_log off;\n{}\n{site}\n}}\n",
            dir.path().join("pid").display(),
            folders.join("\n")
        );
        let file = dir.path().join("nginx.conf");
        fs::write(&file, whole).unwrap();
        let mut command = Command::new("nginx");
        command.args(["-e", "stderr", "-p"]).arg(dir.path()).arg("-c").arg(file);
        Self::run(&mut command, dir, format!("https://{NAME}:{secure}"), Some(&trusted))
    }

    /// Caddy, as on a machine of its own; but the certificate is ours, since nobody issues one for this name.
    fn caddy(callback: SocketAddr) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (plain, secure) = (free_port(), free_port());
        let (trusted, certificate, key) = issue(dir.path());
        let tls = format!("{NAME} {{\n\ttls {} {}", certificate.display(), key.display());
        let site = rewritten(
            "deploy/proxy/Caddyfile",
            &[(&format!("{NAME} {{"), &tls), ("127.0.0.1:8485", &callback.to_string())],
        );
        let ports = format!("http_port {plain}\n\thttps_port {secure}");
        let mut command = caddy(dir.path(), &ports, &site);
        Self::run(&mut command, dir, format!("https://{NAME}:{secure}"), Some(&trusted))
    }

    /// Caddy as in the trial of `deploy/compose`, where it speaks plain HTTP.
    fn caddy_of_compose(callback: SocketAddr) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let site = rewritten("deploy/compose/Caddyfile", &[("reelhook:8485", &callback.to_string())]);
        let base = format!("http://{NAME}:{}", free_port());
        let mut command = caddy(dir.path(), "", &site);
        Self::run(command.env("SITE", &base), dir, base, None)
    }

    fn run(command: &mut Command, dir: TempDir, base: String, trusted: Option<&Certificate>) -> Self {
        let log = File::create(dir.path().join("log")).unwrap();
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = quiet.spawn().expect("`tests/run` installs proxies");
        let mut http = Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .resolve(NAME, "127.0.0.1:0".parse().unwrap());
        if let Some(trusted) = trusted {
            http = http.tls_certs_only([trusted.clone()]);
        }
        Self { child, base, http: http.build().unwrap(), dir }
    }

    /// Waits until it answers.
    async fn ready(self) -> Self {
        let ready = tokio::time::timeout(PATIENCE, async {
            while self.http.get(self.url("/cb/ping")).send().await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        ready
            .await
            .unwrap_or_else(|_| panic!("{} does not answer ({})", self.base, self.dir.path().display()));
        self
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// How many failures the log tells.
    fn failures(&self) -> usize {
        self.log().lines().filter(|line| line.contains(r#""status":502"#)).count()
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The status, the kind and the body of what a POST is answered.
    async fn post(&self, path: &str, body: Vec<u8>) -> (StatusCode, String, String) {
        let answer = self.http.post(self.url(path)).body(body).send().await.unwrap();
        let kind = answer.headers().get(CONTENT_TYPE).map(|kind| kind.to_str().unwrap().to_owned());
        (answer.status(), kind.unwrap_or_default(), answer.text().await.unwrap())
    }
}

/// Caddy with a configuration of this site, on loopback alone and without what it keeps elsewhere.
fn caddy(dir: &Path, options: &str, site: &str) -> Command {
    let file = dir.join("Caddyfile");
    // There is one block of options, and the file begins with it.
    let (before, after) = site.split_once("\n{\n").expect("it has options of its own");
    let whole = format!("{before}\n{{\n\tadmin off\n\tdefault_bind 127.0.0.1\n\t{options}\n{after}");
    fs::write(&file, whole).unwrap();
    let mut command = Command::new("caddy");
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file);
    command.env("XDG_DATA_HOME", dir).env("XDG_CONFIG_HOME", dir).env("HOME", dir);
    command
}

/// A shipped file with other addresses. Each is there, or the file has changed and the test would prove nothing.
fn rewritten(file: &str, changes: &[(&str, &str)]) -> String {
    let mut text = fs::read_to_string(file).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "{file} has no {from}");
        text = text.replace(from, to);
    }
    text
}

/// A certificate for the name, and the files of it and of its key.
fn issue(dir: &Path) -> (Certificate, PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    let write = |name: &str, what: &str, der: &[u8]| {
        let text = BASE64_STANDARD.encode(der);
        let lines: Vec<&str> =
            (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
        let path = dir.join(name);
        fs::write(&path, format!("-----BEGIN {what}-----\n{}\n-----END {what}-----\n", lines.join("\n")))
            .unwrap();
        path
    };
    let certificate = write("site.crt", "CERTIFICATE", made.cert.der());
    let key = write("site.key", "PRIVATE KEY", &made.signing_key.serialize_der());
    (Certificate::from_der(made.cert.der()).unwrap(), certificate, key)
}

/// Callbacks come through byte for byte and are answered by the server, whatever is in them and however large it is.
async fn passes_callbacks(world: &World, proxy: &Proxy) {
    let ok = (StatusCode::OK, "application/json".to_owned(), r#"{"ok":true}"#.to_owned());
    assert_eq!(proxy.post("/cb/ping", Vec::new()).await, ok);
    let id = world.submit("[[no-callback]] [[delay:1h]] a lock gate").await;
    world.until(&id, |job| job["phase"] == "awaiting").await;
    let path = world.server().app().callback_url(id.parse().unwrap()).unwrap().path().to_owned();
    let every_byte: Vec<u8> = (0..=255).cycle().take(200_000).collect();
    for body in [json!({ "status": "IN_PROGRESS" }).to_string().into_bytes(), every_byte.clone()] {
        assert_eq!(proxy.post(&path, body.clone()).await, ok);
        let kept = world.get(&format!("/v1/callbacks?job={id}&limit=1")).await["data"][0].clone();
        let kept = world.get(&format!("/v1/callbacks/{}", kept["id"].as_str().unwrap())).await;
        assert_eq!(kept["bytes"], body.len());
        assert_eq!(received(&kept), body);
    }
    let (status, kind, said) = proxy.post(&path, every_byte.repeat(2)).await;
    assert_eq!((status, kind.as_str()), (StatusCode::PAYLOAD_TOO_LARGE, OURS), "{said}");
    let (status, kind, said) = proxy.post(&format!("/cb/{id}/wrong"), b"{}".to_vec()).await;
    assert_eq!((status, kind.as_str()), (StatusCode::NOT_FOUND, OURS), "{said}");
}

fn received(callback: &Value) -> Vec<u8> {
    match callback["body"].as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => BASE64_STANDARD.decode(callback["body_base64"].as_str().unwrap()).unwrap(),
    }
}

/// Whatever else is asked for ends at the proxy.
async fn passes_nothing_else(proxy: &Proxy) {
    for path in [
        "/",
        "/v1/jobs",
        "/metrics",
        "/dashboard",
        "/readyz?verbose",
        "/media/x/y",
        "/api/v1/tasks/x",
        "/cb",
        "/cbx/ping",
    ] {
        for request in [proxy.http.get(proxy.url(path)), proxy.http.post(proxy.url(path)).body("{}")] {
            let answer = request.send().await.unwrap();
            let kind = answer.headers().get(CONTENT_TYPE).map(|kind| kind.to_str().unwrap().to_owned());
            assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
            assert_ne!(kind.as_deref(), Some(OURS), "{path} came through");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shipped_proxies_hand_on_callbacks_as_they_are_and_nothing_else() {
    let world = World::start().await;
    let callback = world.server().callback();
    for proxy in [Proxy::nginx(callback), Proxy::caddy(callback), Proxy::caddy_of_compose(callback)] {
        let proxy = proxy.ready().await;
        passes_callbacks(&world, &proxy).await;
        passes_nothing_else(&proxy).await;
    }
}

/// Also when the server is away: that is an error to a proxy, and most write the whole request of one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shipped_proxies_write_no_token_and_no_secret_of_a_callback_into_a_log() {
    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    // nginx cannot leave the path out of a line, so it writes none.
    let proxies =
        [(Proxy::nginx(nobody), 0), (Proxy::caddy(nobody), 1), (Proxy::caddy_of_compose(nobody), 1)];
    for (proxy, lines) in proxies {
        let proxy = proxy.ready().await;
        let before = proxy.failures();
        let callback = proxy.http.post(proxy.url("/cb/job_1/TOKEN")).header("x-webhook-secret", "SECRET");
        assert_eq!(callback.send().await.unwrap().status(), StatusCode::BAD_GATEWAY);
        let log = proxy.log();
        assert_eq!(proxy.failures() - before, lines, "{log}");
        assert!(!log.contains("TOKEN") && !log.contains("SECRET"), "{log}");
    }
}
