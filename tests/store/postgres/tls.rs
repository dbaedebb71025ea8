//! The way to the database, encrypted: it is who the certificate says, or nothing is sent to it.

use std::{fs, net::Ipv4Addr, path::Path, sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use reelhook::{
    clock::Clock,
    config::Database,
    store::{StoreError, postgres::PostgresStore},
};
use secrecy::ExposeSecret as _;
use tempfile::TempDir;

use super::Base;
use crate::{
    server::{Server, hand_over},
    support::*,
};

fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// An authority that signs for one address, and one that signs for nobody.
fn certify(folder: &Path) {
    let authority = || {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let own = params.self_signed(&key).unwrap();
        (Issuer::new(params, key), pem("CERTIFICATE", own.der()))
    };
    let ((issuer, trusted), (_, foreign)) = (authority(), authority());
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![Ipv4Addr::LOCALHOST.to_string()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    for (name, text) in [
        ("trusted.pem", trusted),
        ("foreign.pem", foreign),
        ("server.pem", pem("CERTIFICATE", certificate.der())),
        ("server.key", pem("PRIVATE KEY", &key.serialize_der())),
    ] {
        fs::write(folder.join(name), text).unwrap();
        hand_over(&folder.join(name));
    }
    hand_over(folder);
}

/// The same database, by a URL with another host and an authority.
fn verified(database: &Database, host: &str, authority: &Path) -> Database {
    let url = database.url.expose_secret().replace("127.0.0.1", host);
    let url = format!("{url}?sslmode=verify-full&sslrootcert={}", authority.display());
    Database { url: url.into(), ..database.clone() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_is_spoken_to_only_if_its_certificate_says_who_it_is() {
    let folder = TempDir::new_in("/tmp").unwrap();
    certify(folder.path());
    let file = |name: &str| folder.path().join(name);
    let (certificate, key) = (file("server.pem"), file("server.key"));
    let settings = [
        "ssl = on".to_owned(),
        format!("ssl_cert_file = '{}'", certificate.display()),
        format!("ssl_key_file = '{}'", key.display()),
    ];
    let server = Arc::new(Server::start_with(&settings.each_ref().map(String::as_str)));
    let database = server.database();
    let open = async |host: &str, authority: &str| {
        let database = verified(&database, host, &file(authority));
        PostgresStore::open(&database, Clock::manual(NOW.0), Duration::ZERO).await
    };
    for (host, authority) in [("127.0.0.1", "foreign.pem"), ("localhost", "trusted.pem")] {
        let refused = open(host, authority).await.unwrap_err();
        assert!(matches!(&refused, StoreError::Unavailable(why) if why.contains("certificate")), "{refused}");
    }
    let store = open("127.0.0.1", "trusted.pem").await.unwrap();
    put(&store, job(1)).await;
    let encrypted = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name LIKE 'test.%'";
    assert_eq!(server.sql(&database, encrypted), "t");
    let base = Base {
        server: Arc::clone(&server),
        database: verified(&database, "127.0.0.1", &file("trusted.pem")),
    };
    assert_eq!(get(&*base.instance().await, id(1)).await.id, id(1));
}
