//! Where a host that may be reached sends us on to.

use reelhook::outbound::{
    egress::{Guard, Rule},
    outside::{Outside, OutsideError},
};
use reqwest::header::HeaderMap;

use super::{
    file_server::{FileServer, Reply},
    unasked,
};

/// What `Location` says, the verdict, and why. The redirecting host is plain http inside an allowed network: what is
/// allowed for it is not allowed for where it leads.
const LOCATIONS: &[(&str, &str, &str)] = &[
    ("http://10.0.0.1/", "Scheme", "private, and plain"),
    ("https://10.0.0.1/", "Literal", "private"),
    ("https://[::1]/", "Literal", "not in the allowed network, though this machine"),
    ("https://[::ffff:127.0.0.1]/", "Literal", "the allowed network, mapped"),
    ("https://2852039166/latest/", "Literal", "metadata as one number"),
    ("https://0x0a000001/", "Literal", "private in hexadecimal"),
    ("https://%31%30.0.0.1/", "Literal", "private, percent-encoded"),
    ("//169.254.169.254/latest/meta-data/", "Scheme", "metadata, by the scheme that we came by"),
    ("///169.254.169.254/", "Parse", "more slashes: no host at all"),
    ("https:169.254.169.254/", "Literal", "no slashes: absolute by another"),
    ("ftp://127.0.0.1/", "Scheme", "an allowed network does not open other schemes"),
    ("file:///etc/passwd", "Scheme", "a file of this machine"),
    ("gopher://127.0.0.1:6379/_FLUSHALL", "Scheme", "speaks any line protocol"),
    ("data:video/mp4;base64,AAAA", "Scheme", "carries its own content"),
    ("https://user:pw@127.0.0.1/", "UserInfo", "nobody gives us a password"),
    ("//user@127.0.0.1/", "Scheme", "and what an allowed network lifts cannot be lifted then"),
    ("https://127.0.0.1/#fragment", "Fragment", "means nothing to a server"),
    ("\\\\10.0.0.1\\", "RawCharacters", "backslashes are slashes to some"),
    ("/\\10.0.0.1/", "RawCharacters", "mixed"),
    ("http://10.0.\t0.1/", "RawCharacters", "parsers drop a tab"),
    ("http://[", "Parse", "half a host"),
    ("http://127.0.0.1:99999/", "Parse", "no port"),
];

fn outside() -> Outside {
    Outside::new(Guard::with_lookup(vec!["127.0.0.0/8".parse().unwrap()], unasked()), 3).unwrap()
}

/// The rule that a host's answer breaks.
async fn refusal(outside: &Outside, server: &FileServer) -> Rule {
    match outside.get(&server.url("/v.mp4"), &HeaderMap::new()).await {
        Err(OutsideError::Denied(denied)) => denied.rule,
        Err(other) => panic!("{other}"),
        Ok(answer) => panic!("followed: {}", answer.status()),
    }
}

#[tokio::test]
async fn every_location_of_the_table_gets_its_verdict_by_every_status() {
    let outside = outside();
    for (location, expected, why) in LOCATIONS {
        for status in [300, 301, 302, 303, 307, 308] {
            let server = FileServer::start(move |_| Reply::new(status, "").with("Location", location)).await;
            let rule = format!("{:?}", refusal(&outside, &server).await);
            assert!(rule.starts_with(expected), "{status} {location:?} ({why}): {rule}, not {expected}");
            assert_eq!(server.requests().len(), 1, "{status} {location:?}");
        }
    }
}

#[tokio::test]
async fn the_last_of_several_hops_is_judged_like_the_first() {
    let outside = outside();
    let server = FileServer::start(|request| {
        let location = if request.number < 2 { "/on" } else { "https://169.254.169.254/" };
        Reply::new(302, "").with("Location", location)
    })
    .await;
    assert!(matches!(refusal(&outside, &server).await, Rule::Literal(_)));
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn a_redirect_that_names_no_single_place_is_not_followed() {
    type Case = (fn() -> Reply, &'static str);
    let outside = outside();
    let answers: [Case; 6] = [
        (|| Reply::new(302, ""), "none"),
        (|| Reply::new(302, "").with("Refresh", "0; url=https://10.0.0.1/"), "only by a header of browsers"),
        (|| Reply::new(302, "").with("Location", "/a").with("Location", "https://10.0.0.1/"), "two"),
        (|| Reply::new(302, "").with("Location", "/\u{e9}"), "not ASCII"),
        (|| Reply::new(304, "").with("Location", "/a"), "the answer to a question that was not asked"),
        (|| Reply::new(305, "").with("Location", "http://127.0.0.1/"), "a proxy"),
    ];
    for (answer, why) in answers {
        let server = FileServer::start(move |_| answer()).await;
        let rule = refusal(&outside, &server).await;
        assert!(matches!(rule, Rule::Redirect(_)), "{why}: {rule:?}");
        assert_eq!(server.requests().len(), 1, "{why}");
    }
}

#[tokio::test]
async fn a_loop_ends_after_the_allowed_number_of_hops() {
    let outside = outside();
    let server = FileServer::start(|_| Reply::new(307, "").with("Location", "/v.mp4")).await;
    assert_eq!(refusal(&outside, &server).await, Rule::TooManyRedirects(3));
    assert_eq!(server.requests().len(), 4);
}
