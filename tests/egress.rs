//! What `[egress] allow` opens, and what a refusal says. `tests/ssrf.rs` has the tricks that nothing opens.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use std::{net::IpAddr, sync::Arc};

use reelhook::outbound::egress::{Guard, Lookup};

/// A resolver that always says the same.
fn answering(addresses: &[&str]) -> Lookup {
    let addresses: Vec<IpAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
    Arc::new(move |_| {
        let addresses = addresses.clone();
        Box::pin(async move { Ok(addresses) })
    })
}

/// A resolver that must not be asked.
fn unasked() -> Lookup {
    Arc::new(|host| panic!("{host} was looked up"))
}

fn allowing(networks: &[&str], lookup: Lookup) -> Guard {
    Guard::with_lookup(networks.iter().map(|net| net.parse().unwrap()).collect(), lookup)
}

fn verdict<T>(result: Result<T, reelhook::outbound::egress::Denied>) -> String {
    result.map_or_else(|denied| format!("{:?}", denied.rule), |_| "RESOLVE".to_owned())
}

#[tokio::test]
async fn an_allowed_network_opens_its_literals_on_any_port_and_without_tls() {
    let guard = allowing(&["10.0.0.0/8", "127.0.0.0/8"], unasked());
    for url in ["http://10.1.2.3:9000/v.mp4", "https://10.1.2.3/", "http://127.0.0.1:80/", "http://127.1/"] {
        assert_eq!(verdict(guard.judge_url(url)), "RESOLVE", "{url}");
        assert!(guard.admit(url).await.is_ok(), "{url}");
    }
    for (url, rule) in [
        ("http://11.1.2.3/", "Scheme"),
        ("https://192.168.0.1/", "Literal"),
        ("https://[::ffff:10.0.0.1]/", "Literal"),
        ("ftp://10.1.2.3/", "Scheme"),
        ("http://user@10.1.2.3/", "Scheme"),
        ("https://user@10.1.2.3/", "UserInfo"),
        ("https://10.1.2.3/#x", "Fragment"),
    ] {
        assert!(verdict(guard.admit(url).await).starts_with(rule), "{url}");
    }
}

#[tokio::test]
async fn a_name_inside_an_allowed_network_may_be_short_plain_and_on_any_port() {
    let urls = [
        ("http://minio:9000/v.mp4", "Scheme"),
        ("https://minio/", "SingleLabel"),
        ("https://files.internal/", "SpecialUse"),
        ("https://files.example-videos.com:8443/", "Port"),
    ];
    for (url, rule) in urls {
        let inside = allowing(&["10.0.0.0/8"], answering(&["10.0.0.1", "10.0.0.2"]));
        assert!(inside.admit(url).await.is_ok(), "{url}");
        for elsewhere in [&["10.0.0.1", "1.1.1.1"][..], &["1.1.1.1"], &["192.168.0.1"]] {
            let outside = allowing(&["10.0.0.0/8"], answering(elsewhere));
            assert!(verdict(outside.admit(url).await).starts_with(rule), "{url} at {elsewhere:?}");
        }
    }
    let guard = allowing(&["10.0.0.0/8"], answering(&["10.0.0.1"]));
    for (url, rule) in [
        ("http://minio.:9000/", "Scheme"),
        ("https://files.internal./", "TrailingDot"),
        ("https://my_app/", "SingleLabel"),
        ("https://xn--e1awd7f.com/", "Idn"),
    ] {
        assert!(verdict(guard.admit(url).await).starts_with(rule), "{url}: not lifted by an address");
    }
}

#[tokio::test]
async fn a_name_on_the_public_internet_stays_reachable_beside_an_allowed_network() {
    let guard = allowing(&["10.0.0.0/8"], answering(&["1.1.1.1"]));
    assert!(guard.admit("https://cdn.example-videos.com/").await.is_ok());
}

#[test]
fn a_refusal_says_which_rule_that_nothing_was_sent_and_how_to_allow_it_but_not_the_query() {
    let guard = allowing(&[], unasked());
    let text = guard.judge_url("https://10.0.0.1/v.mp4?sig=s3cret").unwrap_err().to_string();
    for part in ["10.0.0.1", "literal address", "nothing was sent", "[egress] allow"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!text.contains("s3cret"), "{text}");
    let hopeless = guard.judge_url("https://user:pw@cdn.example-videos.com/").unwrap_err().to_string();
    assert!(!hopeless.contains("[egress] allow") && !hopeless.contains("pw"), "{hopeless}");
}
