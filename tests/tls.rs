//! TLS on both listeners: who is trusted, what is replaced while the server runs, and who is not waited for.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{fs, path::Path};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use reelhook::{
    clock::Clock,
    config::Tls,
    server::{Listeners, Server, StartError},
};
use reqwest::{Certificate, tls::Version};
use support::{PATIENCE, World};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// Writes a certificate and its key, and gives the certificate.
fn issue(dir: &Path, name: &str) -> Certificate {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let write = |ending: &str, what: &str, der: &[u8]| {
        let text = BASE64_STANDARD.encode(der);
        let pem = format!("-----BEGIN {what}-----\n{text}\n-----END {what}-----\n");
        fs::write(dir.join(format!("{name}.{ending}")), pem).unwrap();
    };
    write("crt", "CERTIFICATE", made.cert.der());
    write("key", "PRIVATE KEY", &made.signing_key.serialize_der());
    Certificate::from_der(made.cert.der()).unwrap()
}

fn files(dir: &Path, name: &str) -> Option<Tls> {
    Some(Tls { cert: dir.join(format!("{name}.crt")), key: dir.join(format!("{name}.key")) })
}

/// A server with a certificate for each listener, and the two certificates.
async fn secured(dir: &Path) -> (World, [Certificate; 2]) {
    let trusted = [issue(dir, "api"), issue(dir, "callback")];
    let world = World::idle(|config| {
        (config.server.tls, config.callback.tls) = (files(dir, "api"), files(dir, "callback"));
    })
    .await;
    (world, trusted)
}

/// The status that a client who trusts this certificate alone gets from both listeners; none where it does not trust.
async fn asked(world: &World, trusted: &Certificate, version: Version) -> [Option<u16>; 2] {
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([trusted.clone()]);
    let client = client.min_tls_version(version).max_tls_version(version).build().unwrap();
    let (api, callback) = (world.server().api(), world.server().callback());
    let mut statuses = [None; 2];
    for (status, url) in
        statuses.iter_mut().zip([format!("https://{api}/livez"), format!("https://{callback}/cb/ping")])
    {
        *status = client.get(url).send().await.ok().map(|answer| answer.status().as_u16());
    }
    statuses
}

#[tokio::test]
async fn each_listener_shows_its_own_certificate_by_tls_1_2_and_1_3() {
    let dir = tempfile::tempdir().unwrap();
    let (world, [api, callback]) = secured(dir.path()).await;
    for version in [Version::TLS_1_2, Version::TLS_1_3] {
        assert_eq!(asked(&world, &api, version).await, [Some(200), None], "{version:?}");
        assert_eq!(asked(&world, &callback, version).await, [None, Some(200)], "{version:?}");
    }
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([api]).build().unwrap();
    let answer = client.get(format!("https://{}/livez", world.server().api())).send().await.unwrap();
    assert_eq!(answer.headers()["strict-transport-security"], "max-age=31536000");
    assert_eq!(world.server().app().external_url().scheme(), "https");
}

#[tokio::test]
async fn plain_http_is_not_answered() {
    let dir = tempfile::tempdir().unwrap();
    let (world, _) = secured(dir.path()).await;
    for url in [world.url("/livez"), world.callback_url("/cb/ping")] {
        assert!(world.http.get(url).send().await.is_err());
    }
}

#[tokio::test]
async fn new_files_are_used_once_they_are_read_and_bad_ones_leave_the_old_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let (world, [old_api, old_callback]) = secured(dir.path()).await;
    let certificates = world.server().certificates();
    let [new_api, new_callback] = ["api", "callback"].map(|name| issue(dir.path(), name));
    assert_eq!(asked(&world, &old_api, Version::TLS_1_3).await, [Some(200), None], "not read yet");
    certificates.reload().unwrap();
    assert_eq!(asked(&world, &old_api, Version::TLS_1_3).await, [None, None]);
    assert_eq!(asked(&world, &new_api, Version::TLS_1_3).await, [Some(200), None]);
    assert_eq!(asked(&world, &new_callback, Version::TLS_1_3).await, [None, Some(200)]);

    // The API's key is another's; the callback listener's pair is good and is not kept from being replaced.
    let newest = issue(dir.path(), "callback");
    fs::copy(dir.path().join("callback.key"), dir.path().join("api.key")).unwrap();
    let said = certificates.reload().unwrap_err().to_string();
    assert!(said.starts_with("[server]: ") && said.contains("api.crt") && said.contains("api.key"), "{said}");
    assert_eq!(asked(&world, &new_api, Version::TLS_1_3).await, [Some(200), None]);
    assert_eq!(asked(&world, &newest, Version::TLS_1_3).await, [None, Some(200)]);

    for (file, text) in [("api.crt", ""), ("api.crt", "no PEM"), ("api.key", "")] {
        issue(dir.path(), "api");
        fs::write(dir.path().join(file), text).unwrap();
        let said = certificates.reload().unwrap_err().to_string();
        assert!(said.contains(file), "{said}");
    }
    fs::remove_file(dir.path().join("api.key")).unwrap();
    certificates.reload().unwrap_err();
    assert_eq!(asked(&world, &new_api, Version::TLS_1_3).await, [Some(200), None]);
    assert_eq!(asked(&world, &old_callback, Version::TLS_1_3).await, [None, None]);
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_keeps_the_server_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    let (mut world, _) = secured(dir.path()).await;
    world.stop_server().await;
    let mut config = world.config.clone();
    config.callback.tls = files(dir.path(), "none");
    let listeners = Listeners::bind(&config).unwrap();
    let refused = Server::start(config, Clock::system(), listeners).await.err().unwrap();
    assert!(matches!(refused, StartError::Tls(_)), "{refused}");
    assert!(refused.to_string().starts_with("[callback]: "), "{refused}");
}

#[tokio::test]
async fn who_does_not_shake_hands_is_left_and_others_are_served_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let (world, [api, _]) = secured(dir.path()).await;
    let address = world.server().api();
    // Nothing at all, the first bytes of a handshake, and a request in the clear.
    let openings: [&[u8]; 3] = [b"", b"\x16\x03\x01\x02\x00\x01", b"GET /livez HTTP/1.1\r\n\r\n"];
    let hostile = futures_util::future::join_all(openings.map(|opening| async move {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(opening).await.unwrap();
        let mut heard = Vec::new();
        // A reset is an end as well.
        _ = timeout(PATIENCE, socket.read_to_end(&mut heard)).await.expect("the connection is held for ever");
        assert!(!String::from_utf8_lossy(&heard).contains("HTTP/1.1"), "{opening:?}");
    }));
    let good = async {
        for _ in 0..20 {
            assert_eq!(asked(&world, &api, Version::TLS_1_3).await, [Some(200), None]);
        }
    };
    tokio::join!(hostile, good);
}
