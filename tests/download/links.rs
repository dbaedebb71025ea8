//! Links that expire, redirect or lead where they must not.

use super::*;

#[tokio::test]
async fn a_host_that_always_cuts_is_left_for_another_attempt_which_continues() {
    let (lab, body) = (Lab::new().await, video::mp4(2 << 20));
    let whole = body.clone();
    let server = FileServer::start(move |request| {
        let reply = Reply::file(request, &whole, ETAG);
        if request.number < 5 { reply.cut(100_000, Ending::Close) } else { reply }
    })
    .await;
    assert!(matches!(lab.fetch(&server.url("/v.mp4")).await, Err(FetchFault::Network(_))));
    let stored = lab.fetch(&server.url("/v.mp4")).await.unwrap();
    lab.assert_holds_only(&stored, &body).await;
    assert_eq!(server.ranges().last(), Some(&Some(500_000)));
}

#[tokio::test]
async fn a_host_that_is_not_there_is_network_trouble() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v.mp4", listener.local_addr().unwrap());
    drop(listener);
    let fault = Lab::new().await.fetch(&format!("{url}?sig=s3cret")).await.unwrap_err();
    assert!(matches!(&fault, FetchFault::Network(why) if !why.contains("s3cret")), "{fault:?}");
}

#[tokio::test]
async fn a_refused_link_asks_for_a_fresh_one() {
    for status in [400, 401, 403, 404, 410] {
        let lab = Lab::new().await;
        let server = FileServer::start(move |_| Reply::new(status, "gone")).await;
        let fault = lab.fetch(&server.url("/v.mp4")).await.unwrap_err();
        assert!(matches!(fault, FetchFault::LinkRefused { status: got } if got == status), "{fault:?}");
        assert!(lab.files().is_empty());
    }
}

#[tokio::test]
async fn trouble_of_the_host_is_told_with_its_wish_to_wait() {
    for (status, header, wait) in
        [(500, "x", None), (503, "7", Some(7)), (429, "86400", Some(3600)), (408, "", None)]
    {
        let lab = Lab::new().await;
        let server = FileServer::start(move |_| Reply::new(status, "").with("Retry-After", header)).await;
        match lab.fetch(&server.url("/v.mp4")).await.unwrap_err() {
            FetchFault::Upstream { status: got, retry_after } => {
                assert_eq!((got, retry_after), (status, wait.map(Duration::from_secs)));
            }
            fault => panic!("{fault:?}"),
        }
    }
}

/// A link that expires in the middle, and a fresh one to what `fresh` answers.
async fn expire_midway(
    validators: &'static [(&str, &str)],
    body: &Bytes,
    fresh: fn(&Request, &Bytes) -> Reply,
) -> (Lab, FileServer, Stored) {
    let (lab, whole) = (Lab::new().await, body.clone());
    let server = FileServer::start(move |request| match (request.path.as_str(), request.number) {
        ("/fresh", _) => fresh(request, &whole),
        (_, 0) => Reply::file(request, &whole, validators).cut(1_000_000, Ending::Close),
        _ => Reply::new(403, "expired"),
    })
    .await;
    let fault = lab.fetch(&server.url("/old")).await.unwrap_err();
    assert!(matches!(fault, FetchFault::LinkRefused { status: 403 }), "{fault:?}");
    let stored = lab.fetch(&server.url("/fresh")).await.unwrap();
    (lab, server, stored)
}

#[tokio::test]
async fn a_fresh_link_continues_when_length_and_tag_agree() {
    let body = video::mp4(2 << 20);
    let (lab, server, stored) =
        expire_midway(ETAG, &body, |request, body| Reply::file(request, body, ETAG)).await;
    lab.assert_holds_only(&stored, &body).await;
    assert_eq!(server.ranges(), [None, Some(1_000_000), Some(1_000_000)]);
}

#[tokio::test]
async fn a_fresh_link_to_another_version_starts_over() {
    let body = video::mp4(2 << 20);
    let two = |request: &Request, body: &Bytes| Reply::file(request, body, &[("ETag", "\"two\"")]);
    let (lab, _, stored) = expire_midway(ETAG, &body, two).await;
    lab.assert_holds_only(&stored, &body).await;
    assert_eq!(stored.etag.as_deref(), Some("\"two\""));
}

#[tokio::test]
async fn a_date_alone_does_not_join_the_files_of_two_links() {
    let body = video::mp4(2 << 20);
    let (lab, server, stored) =
        expire_midway(DATE, &body, |request, body| Reply::file(request, body, DATE)).await;
    lab.assert_holds_only(&stored, &body).await;
    assert_eq!(server.ranges().last(), Some(&None));
}

#[tokio::test]
async fn redirects_are_followed_without_anything_that_was_not_ours_to_give() {
    for status in [300, 301, 302, 303, 307, 308] {
        let (lab, body) = (Lab::new().await, video::mp4(5000));
        let whole = body.clone();
        let server = FileServer::start(move |request| match request.path.as_str() {
            "/a/start" => Reply::new(status, "").with("Location", "next?x=1").with("Set-Cookie", "a=b"),
            "/a/next?x=1" => Reply::new(status, "").with("Location", "/end"),
            _ => Reply::file(request, &whole, ETAG),
        })
        .await;
        let stored = lab.fetch(&server.url("/a/start")).await.unwrap();
        lab.assert_holds_only(&stored, &body).await;
        for request in server.requests() {
            for header in ["authorization", "cookie", "referer"] {
                assert!(!request.headers.contains_key(header), "{status}: {header}");
            }
        }
        assert_eq!(server.requests().len(), 3);
    }
}

#[tokio::test]
async fn a_redirect_to_a_place_that_is_not_allowed_is_refused() {
    type Expected = fn(&Rule) -> bool;
    let cases: &[(&str, Expected)] = &[
        ("http://10.0.0.1/", |rule| matches!(rule, Rule::Scheme(_))),
        ("https://10.0.0.1/", |rule| matches!(rule, Rule::Literal(_))),
        ("//169.254.169.254/latest/meta-data/", |rule| matches!(rule, Rule::Scheme(_))),
        ("https://user:pw@127.0.0.1/", |rule| matches!(rule, Rule::UserInfo)),
        ("file:///etc/passwd", |rule| matches!(rule, Rule::Scheme(_))),
        ("/next#fragment", |rule| matches!(rule, Rule::Scheme(_) | Rule::Fragment)),
        ("\\\\10.0.0.1\\", |rule| matches!(rule, Rule::RawCharacters)),
        ("http://[", |rule| matches!(rule, Rule::Parse(_))),
    ];
    for (location, expected) in cases {
        let lab = Lab::new().await;
        let server = FileServer::start(move |_| Reply::new(302, "").with("Location", location)).await;
        match lab.fetch(&server.url("/v.mp4")).await.unwrap_err() {
            FetchFault::Denied(denied) => assert!(expected(&denied.rule), "{location}: {denied:?}"),
            fault => panic!("{location}: {fault:?}"),
        }
        assert_eq!(server.requests().len(), 1, "{location}");
    }
}

#[tokio::test]
async fn a_redirect_that_leads_nowhere_is_refused() {
    let replies: [fn() -> Reply; 4] = [
        || Reply::new(302, "").with("Refresh", "0; url=/v.mp4"),
        || Reply::new(302, "").with("Location", "/a").with("Location", "/b"),
        || Reply::new(304, ""),
        || Reply::new(305, "").with("Location", "/proxy"),
    ];
    for reply in replies {
        let lab = Lab::new().await;
        let server = FileServer::start(move |_| reply()).await;
        let fault = lab.fetch(&server.url("/v.mp4")).await.unwrap_err();
        assert!(
            matches!(&fault, FetchFault::Denied(denied) if matches!(denied.rule, Rule::Redirect(_))),
            "{fault:?}"
        );
    }
}

#[tokio::test]
async fn a_page_that_redirects_by_itself_is_no_video() {
    let lab = Lab::new().await;
    let page = "<meta http-equiv=refresh content='0; url=/v.mp4'>";
    let server = FileServer::start(move |_| Reply::new(200, page)).await;
    assert!(matches!(lab.fetch(&server.url("/")).await, Err(FetchFault::NotVideo(_))));
}

#[tokio::test]
async fn endless_redirects_end() {
    let lab = Lab::new().await;
    let server = FileServer::start(|_| Reply::new(302, "").with("Location", "/again")).await;
    let fault = lab.fetch(&server.url("/v.mp4")).await.unwrap_err();
    assert!(
        matches!(&fault, FetchFault::Denied(denied) if denied.rule == Rule::TooManyRedirects(5)),
        "{fault:?}"
    );
    assert_eq!(server.requests().len(), 6);
}

#[tokio::test]
async fn a_private_host_is_refused_before_anything_is_sent() {
    let (lab, body) = (Lab::new().await, video::mp4(5000));
    let server = honest(&body).await;
    let strict = Downloader::new(Arc::clone(&lab.archive), Guard::new(vec![]), settings()).unwrap();
    let by_name = server.url("/v.mp4").replace("127.0.0.1", "localhost");
    for url in [server.url("/v.mp4"), by_name] {
        let fault = strict.fetch(&order("job_1", 0, &url), &|_, _| {}, &CancellationToken::new()).await;
        assert!(matches!(fault, Err(FetchFault::Denied(_))), "{fault:?}");
    }
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn the_client_connects_to_no_name_that_leads_to_a_private_address() {
    let (lab, body) = (Lab::new().await, video::mp4(5000));
    let server = honest(&body).await;
    let port = server.url("").rsplit_once(':').unwrap().1.to_owned();
    let lookup: reelhook::outbound::egress::Lookup =
        Arc::new(|_| Box::pin(async { Ok(vec!["127.0.0.1".parse().unwrap()]) }));
    let inside = Guard::with_lookup(vec!["127.0.0.0/8".parse().unwrap()], Arc::clone(&lookup));
    let beside = Guard::with_lookup(vec!["10.0.0.0/8".parse().unwrap()], lookup);
    let order = order("job_1", 0, &format!("http://files.example-videos.com:{port}/v.mp4"));
    let strict = Downloader::new(Arc::clone(&lab.archive), beside.clone(), settings()).unwrap();
    let fault = strict.fetch(&order, &|_, _| {}, &CancellationToken::new()).await.unwrap_err();
    assert!(
        matches!(&fault, FetchFault::Denied(denied) if matches!(denied.rule, Rule::Scheme(_))),
        "{fault:?}"
    );
    let tls = Order { url: "https://files.example-videos.com/v.mp4".to_owned(), ..order.clone() };
    let fault = strict.fetch(&tls, &|_, _| {}, &CancellationToken::new()).await.unwrap_err();
    assert!(
        matches!(&fault, FetchFault::Denied(denied) if matches!(denied.rule, Rule::Address(_))),
        "{fault:?}"
    );
    assert!(server.requests().is_empty());
    let open = Downloader::new(Arc::clone(&lab.archive), inside, settings()).unwrap();
    open.fetch(&order, &|_, _| {}, &CancellationToken::new()).await.unwrap();
}
