//! What the answer to a lookup gives away: a name is as good as the worst of its addresses.

use std::{
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use reelhook::outbound::{
    egress::{Guard, Lookup, is_public},
    outside::Outside,
};
use reqwest::header::HeaderMap;

use super::{
    RESOLVE, answering,
    file_server::{FileServer, Reply},
    strict, verdict,
};

const URL: &str = "https://cdn.example-videos.com/";

/// An address that a name may lead to, the verdict, and why.
const ADDRESSES: &[(&str, &str, &str)] = &[
    ("1.1.1.1", RESOLVE, "public"),
    ("172.32.0.1", RESOLVE, "just behind a private block"),
    ("100.128.0.1", RESOLVE, "just behind the carriers' block"),
    ("2606:4700:4700::1111", RESOLVE, "public"),
    ("0.0.0.0", "Address", "this network, which Linux connects to itself"),
    ("10.0.0.1", "Address", "private"),
    ("100.64.0.1", "Address", "behind a carrier's NAT"),
    ("127.0.0.1", "Address", "this machine"),
    ("169.254.169.254", "Address", "metadata of most clouds"),
    ("168.63.129.16", "Address", "Azure's host agent"),
    ("172.31.255.255", "Address", "private"),
    ("192.0.0.192", "Address", "metadata of Oracle"),
    ("192.0.2.1", "Address", "documentation"),
    ("192.88.99.1", "Address", "6to4 relays"),
    ("192.168.0.1", "Address", "private"),
    ("198.18.0.1", "Address", "benchmarks"),
    ("198.51.100.1", "Address", "documentation"),
    ("203.0.113.1", "Address", "documentation"),
    ("224.0.0.1", "Address", "multicast"),
    ("240.0.0.1", "Address", "reserved"),
    ("255.255.255.255", "Address", "broadcast"),
    ("::", "Address", "unspecified"),
    ("::1", "Address", "this machine"),
    ("::127.0.0.1", "Address", "IPv4-compatible"),
    ("::ffff:8.8.8.8", "Address", "IPv4-mapped, even of a public one: it goes round the rules for IPv4"),
    ("::ffff:0:127.0.0.1", "Address", "IPv4-translated"),
    ("64:ff9b::7f00:1", "Address", "NAT64"),
    ("64:ff9b:1::1", "Address", "NAT64 of one's own"),
    ("100::1", "Address", "discarded"),
    ("2001:0:53aa:64c::", "Address", "Teredo"),
    ("2001:2::1", "Address", "benchmarks"),
    ("2001:20::1", "Address", "ORCHID"),
    ("2001:db8::1", "Address", "documentation"),
    ("2002:7f00:1::", "Address", "6to4"),
    ("2600::5efe:7f00:1", "Address", "ISATAP"),
    ("2600::200:5efe:7f00:1", "Address", "ISATAP of a public address"),
    ("3fff::1", "Address", "documentation"),
    ("5f00::1", "Address", "segment routing"),
    ("fc00::1", "Address", "unique local"),
    ("fd00:ec2::254", "Address", "metadata of EC2"),
    ("fd20:ce::254", "Address", "metadata of Google"),
    ("fe80::1", "Address", "link-local"),
    ("fec0::1", "Address", "site-local"),
    ("ff02::1", "Address", "multicast"),
];

#[tokio::test]
async fn every_address_of_the_table_gets_its_verdict_alone_and_among_public_ones() {
    for (address, expected, why) in ADDRESSES {
        for answer in [&[*address][..], &["1.1.1.1", *address], &[*address, "2606:4700:4700::1111"]] {
            let verdict = verdict(strict(answering(answer)).admit(URL).await);
            assert_eq!(verdict, *expected, "{answer:?}: {why}");
        }
    }
}

#[test]
fn the_edges_of_the_reserved_blocks_are_where_they_belong() {
    let edges = [
        ("9.255.255.255", true),
        ("10.0.0.0", false),
        ("10.255.255.255", false),
        ("11.0.0.0", true),
        ("100.63.255.255", true),
        ("100.64.0.0", false),
        ("100.127.255.255", false),
        ("172.15.255.255", true),
        ("172.31.255.255", false),
        ("192.0.0.255", false),
        ("192.0.1.0", true),
        ("198.17.255.255", true),
        ("198.19.255.255", false),
        ("198.20.0.0", true),
        ("223.255.255.255", true),
        ("224.0.0.0", false),
        ("1fff:ffff::1", false),
        ("2001:1ff::1", false),
        ("2001:200::1", true),
        ("2003::1", true),
        ("3ffe::1", true),
        ("3fff:fff::1", false),
        ("3fff:1000::1", true),
        ("4000::1", false),
    ];
    for (address, expected) in edges {
        assert_eq!(is_public(address.parse().unwrap()), expected, "{address}");
    }
}

#[tokio::test]
async fn a_failing_lookup_is_trouble_that_passes_and_no_verdict() {
    let many: Vec<String> = (0..1000).map(|n| format!("1.1.{}.{}", n / 250, n % 250)).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let failing: Lookup = Arc::new(|_| Box::pin(async { Err(io::Error::other("SERVFAIL")) }));
    let silent: Lookup = Arc::new(|_| Box::pin(std::future::pending()));
    for lookup in [failing, answering(&[]), answering(&many), silent] {
        let denied = strict(lookup).admit(URL).await.unwrap_err();
        assert!(denied.is_transient(), "{denied}");
    }
    assert!(!strict(answering(&["10.0.0.1"])).admit(URL).await.unwrap_err().is_transient());
}

/// A resolver that says `first` once and `then` ever after, and how often it was asked.
fn flipping(first: &str, then: &str) -> (Lookup, Arc<AtomicUsize>) {
    let answers: [IpAddr; 2] = [first, then].map(|text| text.parse().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let lookup: Lookup = Arc::new(move |_| {
        let answer = answers[counter.fetch_add(1, Ordering::SeqCst).min(1)];
        Box::pin(async move { Ok(vec![answer]) })
    });
    (lookup, asked)
}

#[tokio::test]
async fn an_answer_that_changes_is_judged_anew_each_time() {
    let (lookup, asked) = flipping("1.1.1.1", "127.0.0.1");
    let guard = strict(lookup);
    let url = "https://7f000001.08080808.rbndr.us/";
    assert_eq!(guard.admit(url).await.unwrap().addresses, ["1.1.1.1".parse::<IpAddr>().unwrap()]);
    assert_eq!(verdict(guard.admit(url).await), "Address");
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn the_lookup_that_is_judged_is_the_one_that_is_connected() {
    let server = FileServer::start(|_| Reply::new(200, "here")).await;
    let url = server.url("/v.mp4").replace("127.0.0.1", "rebinding.example-videos.com");
    // A second lookup between the check and the connection would find an address that is not allowed.
    let (lookup, asked) = flipping("127.0.0.1", "10.0.0.1");
    let guard = Guard::with_lookup(vec!["127.0.0.0/8".parse().unwrap()], lookup);
    let outside = Outside::new(guard, 5).unwrap();
    let answer = outside.get(&url, &HeaderMap::new()).await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "here");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert!(outside.get(&url, &HeaderMap::new()).await.is_err());
    assert_eq!((asked.load(Ordering::SeqCst), server.requests().len()), (2, 1));
}
