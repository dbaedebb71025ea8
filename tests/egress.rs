//! The address guard: which URLs may be reached, by their text, by their addresses and with `[egress] allow`.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use std::{
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use reelhook::outbound::egress::{Guard, Lookup, MAX_URL, Rule, is_public};

/// A URL and what the guard says to its text: `RESOLVE`, or the beginning of the broken rule's name.
const CORPUS: &[(&str, &str)] = &[
    ("https://cdn.example-videos.com/v/abc.mp4?sig=x", "RESOLVE"),
    ("https://CDN.Example-Videos.com:443/v/abc.mp4", "RESOLVE"),
    ("http://cdn.example-videos.com/v/abc.mp4", "Scheme"),
    ("https://127.0.0.1/", "Literal"),
    ("https://127.1/", "Literal"),
    ("https://127.0.1/", "Literal"),
    ("https://2130706433/", "Literal"),
    ("https://0x7f000001/", "Literal"),
    ("https://0x7f.0x0.0x0.0x1/", "Literal"),
    ("https://0177.0.0.01/", "Literal"),
    ("https://017700000001/", "Literal"),
    ("https://0x7f.1/", "Literal"),
    ("https://0/", "Literal"),
    ("https://0.0.0.0/", "Literal"),
    ("https://127.127.127.127/", "Literal"),
    ("https://127.0.0.1./", "Literal"),
    ("https://6425673729/", "Parse"),
    ("https://127。0。0。1/", "RawCharacters"),
    ("https://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/", "RawCharacters"),
    ("https://localhost/", "SingleLabel"),
    ("https://LOCALHOST./", "TrailingDot"),
    ("https://foo.localhost/", "SpecialUse"),
    ("https://localhost.localdomain/", "SpecialUse"),
    ("https://[::1]/", "Literal"),
    ("https://[::]/", "Literal"),
    ("https://[0:0:0:0:0:0:0:1]/", "Literal"),
    ("https://[::ffff:127.0.0.1]/", "Literal"),
    ("https://[::ffff:7f00:1]/", "Literal"),
    ("https://[::127.0.0.1]/", "Literal"),
    ("https://[64:ff9b::7f00:1]/", "Literal"),
    ("https://[2002:7f00:1::]/", "Literal"),
    ("https://[2001:0:53aa:64c::]/", "Literal"),
    ("https://[fe80::1]/", "Literal"),
    ("https://[fd00:ec2::254]/", "Literal"),
    ("https://[::ffff:169.254.169.254]/", "Literal"),
    ("https://169.254.169.254/latest/meta-data/", "Literal"),
    ("https://2852039166/", "Literal"),
    ("https://0xa9fea9fe/", "Literal"),
    ("https://0251.0376.0251.0376/", "Literal"),
    ("https://169.254.169.254.nip.io/", "RESOLVE"),
    ("https://100.100.100.200/", "Literal"),
    ("https://192.0.0.192/", "Literal"),
    ("https://metadata.google.internal/", "SpecialUse"),
    ("https://10.0.0.1/", "Literal"),
    ("https://172.16.5.4/", "Literal"),
    ("https://192.168.0.1/", "Literal"),
    ("https://100.64.0.1/", "Literal"),
    ("https://198.18.0.1/", "Literal"),
    ("https://224.0.0.1/", "Literal"),
    ("https://255.255.255.255/", "Literal"),
    ("https://1.1.1.1/", "Literal"),
    ("https://user:pw@cdn.example-videos.com/", "UserInfo"),
    ("https://cdn.example-videos.com@127.0.0.1/", "UserInfo"),
    ("https://cdn.example-videos.com:443@127.0.0.1/", "UserInfo"),
    ("https://127.0.0.1#@cdn.example-videos.com/", "Fragment"),
    ("https://127.0.0.1?@cdn.example-videos.com/", "Literal"),
    ("https:\\\\127.0.0.1\\", "RawCharacters"),
    ("https:/\\127.0.0.1/", "RawCharacters"),
    ("https:///127.0.0.1/", "Literal"),
    ("https://127.0.0.1%2f@cdn.example-videos.com/", "UserInfo"),
    ("https://127.0.0.1%00.cdn.example-videos.com/", "Parse"),
    ("https://cdn.exa\nmple-videos.com/", "RawCharacters"),
    ("https://cdn.example-videos.com/a b", "RawCharacters"),
    ("https://cdn.example-videos.com:22/", "Port"),
    ("https://cdn.example-videos.com:0/", "Port"),
    ("https://cdn.example-videos.com:65536/", "Parse"),
    ("https://cdn.example-videos.com:80/", "Port"),
    ("https://cdn.example-videos.com.:443/", "TrailingDot"),
    ("https://evil.com/cdn.example-videos.com", "RESOLVE"),
    ("https://cdn.example-videos.com.evil.com/", "RESOLVE"),
    ("https://xn--e1awd7f.com/", "Idn"),
    ("https://exa_mple.com/", "HostCharacters"),
    ("https://intranet/", "SingleLabel"),
    ("https://db.internal/", "SpecialUse"),
    ("https://printer.local/", "SpecialUse"),
    ("https://1.0.0.127.in-addr.arpa/", "SpecialUse"),
    ("ftp://cdn.example-videos.com/x", "Scheme"),
    ("file:///etc/passwd", "Scheme"),
    ("gopher://127.0.0.1:6379/_x", "Scheme"),
    ("data:video/mp4;base64,AAAA", "Scheme"),
    ("javascript:alert(1)", "Scheme"),
    ("blob:https://cdn.example-videos.com/1", "Scheme"),
    ("jar:https://cdn.example-videos.com!/", "Scheme"),
    ("/relative.mp4", "Parse"),
    ("unix:/var/run/docker.sock", "Scheme"),
    ("https://7f000001.08080808.rbndr.us/", "RESOLVE"),
    ("https://localtest.me/", "RESOLVE"),
    ("https://a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s.t.u.v.w.x.y.z.example-videos.com/", "RESOLVE"),
    ("https://cdn.example-videos.com/#frag", "Fragment"),
    ("https://", "Parse"),
    ("https://.", "TrailingDot"),
    ("https://..", "TrailingDot"),
    ("https://[", "Parse"),
    ("https://[::1]:443:80/", "Parse"),
    ("https://0x7f.0.0.1.nip.io/", "RESOLVE"),
    ("https://256.256.256.256/", "Parse"),
    ("https://1e3.com/", "RESOLVE"),
    ("https://0xdeadbeef.com/", "RESOLVE"),
    ("", "Parse"),
];

/// A resolver that always says the same, or fails.
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
async fn every_url_of_the_corpus_gets_its_verdict() {
    let public = allowing(&[], answering(&["1.1.1.1"]));
    for (url, expected) in CORPUS {
        let by_text = verdict(public.judge_url(url));
        assert!(by_text.starts_with(expected), "{url}: {by_text}, not {expected}");
        let with_lookup = verdict(public.admit(url).await);
        assert_eq!(with_lookup, by_text, "{url}");
    }
}

#[tokio::test]
async fn what_is_denied_by_its_text_is_never_looked_up() {
    let guard = allowing(&[], unasked());
    for (url, expected) in CORPUS.iter().filter(|(_, expected)| *expected != "RESOLVE") {
        assert!(verdict(guard.admit(url).await).starts_with(expected), "{url}");
    }
}

#[test]
fn a_url_of_2048_bytes_passes_and_one_more_does_not() {
    let guard = allowing(&[], unasked());
    let url = format!("https://cdn.example-videos.com/{}", "a".repeat(MAX_URL - 31));
    assert_eq!(url.len(), MAX_URL);
    assert_eq!(verdict(guard.judge_url(&url)), "RESOLVE");
    assert_eq!(verdict(guard.judge_url(&format!("{url}a"))), "TooLong");
}

#[tokio::test]
async fn a_name_is_judged_by_all_of_its_addresses() {
    const URL: &str = "https://cdn.example-videos.com/";
    let refused = [
        "10.0.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "168.63.129.16",
        "::ffff:8.8.8.8",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2001:0:53aa:64c::",
        "2600::5efe:7f00:1",
        "2600::200:5efe:7f00:1",
        "fec0::1",
        "fe80::1",
        "fd00:ec2::254",
        "ff02::1",
        "2001:db8::1",
        "100::1",
        "3fff::1",
        "::",
        "::1",
    ];
    for address in refused {
        let alone = allowing(&[], answering(&[address]));
        assert!(verdict(alone.admit(URL).await).starts_with("Address"), "{address}");
        let among_public_ones = allowing(&[], answering(&["1.1.1.1", address]));
        assert!(verdict(among_public_ones.admit(URL).await).starts_with("Address"), "{address}");
    }
    for address in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700:4700::1111"] {
        let admitted = allowing(&[], answering(&[address])).admit(URL).await.unwrap();
        assert_eq!(admitted.addresses, [address.parse::<IpAddr>().unwrap()]);
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
    for lookup in [failing, answering(&[]), answering(&many)] {
        let denied = allowing(&[], lookup).admit("https://cdn.example-videos.com/").await.unwrap_err();
        assert!(denied.is_transient(), "{denied}");
    }
    let refused =
        allowing(&[], answering(&["10.0.0.1"])).admit("https://cdn.example-videos.com/").await.unwrap_err();
    assert!(!refused.is_transient());
}

#[tokio::test]
async fn a_resolver_that_never_answers_is_given_up() {
    let silent: Lookup = Arc::new(|_| Box::pin(std::future::pending()));
    let denied = allowing(&[], silent).admit("https://cdn.example-videos.com/").await.unwrap_err();
    assert!(denied.is_transient(), "{denied}");
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

#[tokio::test]
async fn an_answer_that_changes_is_judged_anew_each_time() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let flipping: Lookup = Arc::new(move |_| {
        let first = counter.fetch_add(1, Ordering::SeqCst) == 0;
        let address: IpAddr = if first { "1.1.1.1" } else { "127.0.0.1" }.parse().unwrap();
        Box::pin(async move { Ok(vec![address]) })
    });
    let guard = allowing(&[], flipping);
    let url = "https://7f000001.08080808.rbndr.us/";
    assert_eq!(guard.admit(url).await.unwrap().addresses, ["1.1.1.1".parse::<IpAddr>().unwrap()]);
    assert!(matches!(guard.admit(url).await.unwrap_err().rule, Rule::Address(_)));
    assert_eq!(asked.load(Ordering::SeqCst), 2);
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
