//! What the text of a URL gives away.

use reelhook::outbound::egress::MAX_URL;

use super::{RESOLVE, answering, strict, unasked, verdict};

/// A URL as a stranger may write it, the verdict on its text, and why.
const URLS: &[(&str, &str, &str)] = &[
    // --- honest ones
    ("https://cdn.example-videos.com/v/abc.mp4?sig=x", RESOLVE, "what a provider sends"),
    ("https://CDN.Example-Videos.com:443/v/abc.mp4", RESOLVE, "case and the default port mean nothing"),
    ("HTTPS://cdn.example-videos.com/", RESOLVE, "nor does the scheme's case"),
    ("https://cdn.example-videos.com:/", RESOLVE, "an empty port is the default port"),
    ("https://cdn.example-videos.com:0443/", RESOLVE, "443 with a nought before it is 443"),
    ("https://1e3.com/", RESOLVE, "a label that looks like a number, but not the last"),
    ("https://0xdeadbeef.com/", RESOLVE, "likewise in hexadecimal"),
    (
        "https://a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s.t.u.v.w.x.y.z.example-videos.com/",
        RESOLVE,
        "many labels",
    ),
    (
        "https://cdn.example-videos.com/?url=http://127.0.0.1/",
        RESOLVE,
        "an address in a query is not ours to follow",
    ),
    ("https://cdn.example-videos.com//127.0.0.1/", RESOLVE, "nor one in a path"),
    // --- schemes
    ("http://cdn.example-videos.com/v/abc.mp4", "Scheme", "anybody on the way could answer"),
    ("ftp://cdn.example-videos.com/x", "Scheme", "only https"),
    ("file:///etc/passwd", "Scheme", "a file of this machine"),
    ("file://cdn.example-videos.com/etc/passwd", "Scheme", "the same with a host"),
    ("gopher://127.0.0.1:6379/_x", "Scheme", "speaks any line protocol, such as that of Redis"),
    ("dict://127.0.0.1:11211/stat", "Scheme", "likewise memcached's"),
    ("ldap://127.0.0.1/", "Scheme", "a directory"),
    ("ws://cdn.example-videos.com/", "Scheme", "a websocket opens with a GET"),
    ("wss://cdn.example-videos.com/", "Scheme", "likewise behind TLS"),
    ("data:video/mp4;base64,AAAA", "Scheme", "carries its own content"),
    ("javascript:alert(1)", "Scheme", "a script"),
    ("blob:https://cdn.example-videos.com/1", "Scheme", "a scheme around another"),
    ("jar:https://cdn.example-videos.com!/", "Scheme", "likewise"),
    ("unix:/var/run/docker.sock", "Scheme", "a socket of this machine"),
    ("https+unix://%2Fvar%2Frun%2Fdocker.sock/", "Scheme", "some clients know this one"),
    // --- addresses of this machine, however written
    ("https://127.0.0.1/", "Literal", "loopback"),
    ("https://127.1/", "Literal", "two parts: the last fills up"),
    ("https://127.0.1/", "Literal", "three parts"),
    ("https://127.127.127.127/", "Literal", "all of 127/8 is loopback"),
    ("https://2130706433/", "Literal", "127.0.0.1 as one decimal number"),
    ("https://0x7f000001/", "Literal", "as one hexadecimal number"),
    ("https://017700000001/", "Literal", "as one octal number"),
    ("https://0x7f.0x0.0x0.0x1/", "Literal", "each part hexadecimal"),
    ("https://0X7F.0.0.1/", "Literal", "in capitals"),
    ("https://0177.0.0.01/", "Literal", "each part octal"),
    ("https://0x7f.1/", "Literal", "mixed and short"),
    ("https://00000177.0.0.1/", "Literal", "more noughts"),
    ("https://0/", "Literal", "0.0.0.0, which Linux connects to itself"),
    ("https://0x/", "Literal", "an empty hexadecimal number is 0"),
    ("https://0.0.0.0/", "Literal", "this network"),
    ("https://127.0.0.1./", "Literal", "a dot behind it changes nothing"),
    ("https://127.0.0.1:443/", "Literal", "nor does the port"),
    ("https:127.0.0.1/", "Literal", "no slashes: parsers put them in"),
    ("https:/127.0.0.1/", "Literal", "one slash"),
    ("https:///127.0.0.1/", "Literal", "three slashes"),
    ("https://6425673729/", "Parse", "2130706433 + 2^32, which overflows to loopback in other parsers"),
    ("https://256.256.256.256/", "Parse", "parts that overflow"),
    ("https://127.0.0.256/", "Parse", "the last part overflows"),
    ("https://1.1.1.1.1/", "Parse", "five parts: the last label is a number, so it must be an address"),
    ("https://08.0.0.1/", "Parse", "8 is no octal digit; other parsers read 8"),
    ("https://localhost.0x7f/", "Parse", "a number for a last label is no name"),
    // --- the same in characters that a parser turns into ASCII
    ("https://127。0。0。1/", "RawCharacters", "ideographic full stops"),
    ("https://①②⑦.0.0.1/", "RawCharacters", "circled digits"),
    ("https://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/", "RawCharacters", "circled letters"),
    ("https://loc\u{ad}alhost/", "RawCharacters", "a soft hyphen, which mapping drops"),
    ("https://%31%32%37.0.0.1/", "Literal", "percent-encoded digits of a host are decoded"),
    ("https://127%2E0%2E0%2E1/", "Literal", "percent-encoded dots"),
    ("https://127.0.0%E3%80%821/", "Literal", "a percent-encoded ideographic full stop"),
    ("https://%EF%BC%91%EF%BC%92%EF%BC%97.0.0.1/", "Literal", "percent-encoded full-width digits"),
    ("https://%6c%6f%63%61%6c%68%6f%73%74/", "SingleLabel", "localhost, percent-encoded"),
    ("https://local%C2%ADhost/", "SingleLabel", "localhost around a soft hyphen"),
    ("https://127.0.0.1%252f/", "Parse", "encoded twice: a percent sign is no part of a name"),
    ("https://127.0.0.1%00.cdn.example-videos.com/", "Parse", "a NUL, where C ends a name"),
    ("https://127.0.0.1%0d%0a.cdn.example-videos.com/", "Parse", "a line end, which splits a request"),
    ("https://cdn.exa\nmple-videos.com/", "RawCharacters", "parsers drop a raw line end"),
    ("https://127.0.\t0.1/", "RawCharacters", "and a tab"),
    (" https://cdn.example-videos.com/", "RawCharacters", "and a space before"),
    ("https://cdn.example-videos.com/a b", "RawCharacters", "a space ends the target of a request"),
    ("https://cdn.example-videos.com/\u{0}", "RawCharacters", "a NUL in the path"),
    ("https://cdn.example-videos.com/\r\nHost: x", "RawCharacters", "a header of one's own"),
    ("https://xn--e1awd7f.com/", "Idn", "looks like another name on a screen"),
    ("https://XN--E1AWD7F.com/", "Idn", "in capitals"),
    ("https://%D0%B5%D1%85ample.com/", "Idn", "percent-encoded Cyrillic"),
    // --- IPv6, also around an IPv4 address
    ("https://[::1]/", "Literal", "loopback"),
    ("https://[0:0:0:0:0:0:0:1]/", "Literal", "in full"),
    ("https://[::]/", "Literal", "unspecified, which connects to this machine"),
    ("https://[::ffff:127.0.0.1]/", "Literal", "mapped IPv4"),
    ("https://[::ffff:7f00:1]/", "Literal", "the same in hexadecimal"),
    ("https://[::ffff:0:127.0.0.1]/", "Literal", "translated IPv4 (SIIT)"),
    ("https://[::127.0.0.1]/", "Literal", "compatible IPv4"),
    ("https://[64:ff9b::7f00:1]/", "Literal", "NAT64"),
    ("https://[2002:7f00:1::]/", "Literal", "6to4"),
    ("https://[2001:0:53aa:64c::]/", "Literal", "Teredo"),
    ("https://[fe80::1]/", "Literal", "link-local"),
    ("https://[fd00:ec2::254]/", "Literal", "unique local: the metadata service of EC2"),
    ("https://[::ffff:169.254.169.254]/", "Literal", "metadata, mapped"),
    ("https://[2606:4700:4700::1111]/", "Literal", "public, but no honest provider names a bare address"),
    ("https://[fe80::1%25eth0]/", "Parse", "a zone has no place in a URL"),
    ("https://[::1]:443:80/", "Parse", "two ports"),
    ("https://[::1/", "Parse", "a bracket that is not closed"),
    ("https://::1/", "Parse", "no brackets"),
    ("https://[127.0.0.1]/", "Parse", "IPv4 in brackets"),
    ("https://%5B::1%5D/", "Parse", "brackets, percent-encoded"),
    // --- metadata services and private networks
    ("https://169.254.169.254/latest/meta-data/", "Literal", "metadata of most clouds"),
    ("https://2852039166/", "Literal", "as one number"),
    ("https://0xa9fea9fe/", "Literal", "in hexadecimal"),
    ("https://0251.0376.0251.0376/", "Literal", "in octal"),
    ("https://169.254.43518/", "Literal", "in three parts"),
    ("https://100.100.100.200/", "Literal", "metadata of Alibaba"),
    ("https://192.0.0.192/", "Literal", "metadata of Oracle"),
    ("https://168.63.129.16/", "Literal", "Azure's host agent, a public address that is none"),
    ("https://metadata.google.internal/", "SpecialUse", "metadata of Google"),
    ("https://10.0.0.1/", "Literal", "private"),
    ("https://172.16.5.4/", "Literal", "private"),
    ("https://192.168.0.1/", "Literal", "private"),
    ("https://100.64.0.1/", "Literal", "behind a carrier's NAT"),
    ("https://198.18.0.1/", "Literal", "benchmarks"),
    ("https://224.0.0.1/", "Literal", "multicast"),
    ("https://255.255.255.255/", "Literal", "broadcast"),
    ("https://1.1.1.1/", "Literal", "public, but no honest provider names a bare address"),
    // --- names that mean this machine or this network
    ("https://localhost/", "SingleLabel", "this machine"),
    ("https://LOCALHOST./", "TrailingDot", "the same, rooted"),
    ("https://foo.localhost/", "SpecialUse", "this machine by RFC 6761"),
    ("https://localhost.localdomain/", "SpecialUse", "this machine in many hosts files"),
    ("https://intranet/", "SingleLabel", "completed by the search list"),
    ("https://db.internal/", "SpecialUse", "private by ICANN's word"),
    ("https://printer.local/", "SpecialUse", "multicast DNS"),
    ("https://kubernetes.default.svc.cluster.local/", "SpecialUse", "the API of a cluster"),
    ("https://router.home.arpa/", "SpecialUse", "a home network by RFC 8375"),
    ("https://1.0.0.127.in-addr.arpa/", "SpecialUse", "reverse lookup"),
    ("https://facebookcorewwwi.onion/", "SpecialUse", "no name of DNS"),
    ("https://files.alt/", "SpecialUse", "no name of DNS by RFC 9476"),
    ("https://cdn.example-videos.com.:443/", "TrailingDot", "rooted names go round lists of names"),
    ("https://.", "TrailingDot", "the root"),
    ("https://..", "TrailingDot", "nothing at all"),
    ("https://.example-videos.com/", "HostCharacters", "an empty label"),
    ("https://cdn..example-videos.com/", "HostCharacters", "an empty label inside"),
    ("https://exa_mple.com/", "HostCharacters", "no host name has an underscore"),
    ("https://-example.com/", "HostCharacters", "nor begins with a hyphen"),
    ("https://*.example-videos.com/", "HostCharacters", "a wildcard"),
    ("https://cdn.example-videos.com,evil.com/", "HostCharacters", "a list of hosts"),
    // --- whose host is it?
    ("https://user:pw@cdn.example-videos.com/", "UserInfo", "nobody gives us a password"),
    ("https://cdn.example-videos.com@127.0.0.1/", "UserInfo", "the host is behind the sign"),
    ("https://cdn.example-videos.com:443@127.0.0.1/", "UserInfo", "also when it looks like a port"),
    ("https://127.0.0.1@cdn.example-videos.com/", "UserInfo", "the other way round"),
    ("https://127.0.0.1%2f@cdn.example-videos.com/", "UserInfo", "an encoded slash ends no host"),
    ("https://a@b@127.0.0.1/", "UserInfo", "two signs: the last one counts"),
    ("https://@127.0.0.1/", "Literal", "an empty user is none"),
    ("https://127.0.0.1#@cdn.example-videos.com/", "Fragment", "ends the host in one parser, not in another"),
    ("https://127.0.0.1?@cdn.example-videos.com/", "Literal", "likewise"),
    ("https://cdn.example-videos.com/#frag", "Fragment", "is not sent, so means nothing to a server"),
    ("https:\\\\127.0.0.1\\", "RawCharacters", "backslashes are slashes to some"),
    ("https:/\\127.0.0.1/", "RawCharacters", "mixed"),
    (
        "https://cdn.example-videos.com\\@127.0.0.1/",
        "RawCharacters",
        "a backslash ends the host in one parser",
    ),
    (
        "https://evil.com/cdn.example-videos.com",
        RESOLVE,
        "a trusted name in the path proves nothing: by address",
    ),
    ("https://cdn.example-videos.com.evil.com/", RESOLVE, "nor one at the front of another"),
    ("https://cdn.example-videos.com%2eevil.com/", RESOLVE, "nor with an encoded dot"),
    ("https://127.0.0.1.example-videos.com/", RESOLVE, "a name like any other: by address"),
    // --- names that lead inside
    ("https://169.254.169.254.nip.io/", RESOLVE, "leads to the address in it: by address"),
    ("https://0x7f.0.0.1.nip.io/", RESOLVE, "likewise: by address"),
    ("https://localtest.me/", RESOLVE, "leads to loopback: by address"),
    ("https://7f000001.08080808.rbndr.us/", RESOLVE, "answers now this, now that: by each answer"),
    // --- ports
    ("https://cdn.example-videos.com:22/", "Port", "not the port of a file host"),
    ("https://cdn.example-videos.com:80/", "Port", "plain HTTP"),
    ("https://cdn.example-videos.com:6379/", "Port", "Redis"),
    ("https://cdn.example-videos.com:8443/", "Port", "somebody's second server"),
    ("https://cdn.example-videos.com:0/", "Port", "any port"),
    ("https://cdn.example-videos.com:65536/", "Parse", "overflows to 0"),
    ("https://cdn.example-videos.com:-1/", "Parse", "no number"),
    ("https://cdn.example-videos.com:443a/", "Parse", "no number either"),
    // --- no URL at all
    ("/relative.mp4", "Parse", "relative to what?"),
    ("//127.0.0.1/", "Parse", "relative to a scheme"),
    ("https://", "Parse", "no host"),
    ("https://?x", "Parse", "nor here"),
    ("https://[", "Parse", "half a host"),
    ("cdn.example-videos.com", "Parse", "no scheme"),
    ("", "Parse", "nothing"),
];

#[tokio::test]
async fn every_url_of_the_table_gets_its_verdict() {
    let public = strict(answering(&["1.1.1.1"]));
    let mut wrong = Vec::new();
    for (url, expected, why) in URLS {
        let (by_text, with_lookup) = (verdict(public.judge_url(url)), verdict(public.admit(url).await));
        if by_text != *expected || with_lookup != *expected {
            wrong.push(format!("{url:?} ({why}): {by_text} by text, {with_lookup} in full, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn what_is_denied_by_its_text_is_never_looked_up() {
    let guard = strict(unasked());
    for (url, expected, why) in URLS.iter().filter(|(_, expected, _)| *expected != RESOLVE) {
        assert_eq!(verdict(guard.admit(url).await), *expected, "{url:?}: {why}");
    }
}

#[tokio::test]
async fn whatever_passes_by_its_text_is_denied_when_its_name_leads_inside() {
    let inside = strict(answering(&["127.0.0.1"]));
    for (url, _, why) in URLS.iter().filter(|(_, expected, _)| *expected == RESOLVE) {
        assert_eq!(verdict(inside.admit(url).await), "Address", "{url:?}: {why}");
    }
}

#[test]
fn no_two_lines_of_the_table_are_the_same_trick() {
    let urls: std::collections::BTreeSet<_> = URLS.iter().map(|(url, ..)| url).collect();
    assert_eq!(urls.len(), URLS.len());
}

#[test]
fn a_url_of_2048_bytes_passes_and_one_more_does_not() {
    let guard = strict(unasked());
    let url = format!("https://cdn.example-videos.com/{}", "a".repeat(MAX_URL - 31));
    assert_eq!(url.len(), MAX_URL);
    assert_eq!(verdict(guard.judge_url(&url)), RESOLVE);
    assert_eq!(verdict(guard.judge_url(&format!("{url}a"))), "TooLong");
}
