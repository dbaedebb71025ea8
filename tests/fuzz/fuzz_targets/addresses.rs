//! What the address guard lets pass by its text is what the HTTP client will read in it: https, a public name, port 443.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use reelhook::outbound::egress::{Guard, MAX_URL};
use url::{Host, Url};

fuzz_target!(|input: &str| {
    let guard = Guard::with_lookup(Vec::new(), Arc::new(|host| panic!("{host} was looked up")));
    let Ok(url) = guard.judge_url(input) else { return };
    assert_eq!(Url::parse(url.as_str()).as_ref(), Ok(&url), "read again, it is another");
    assert!(input.len() <= MAX_URL && input.is_ascii());
    assert_eq!((url.scheme(), url.port_or_known_default()), ("https", Some(443)));
    assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none());
    let Some(Host::Domain(name)) = url.host() else { panic!("{url} has no name") };
    assert!(name.contains('.') && !name.starts_with('.') && !name.ends_with('.'), "{url}");
    assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte)), "{url}");
    assert!(guard.judge_url(url.as_str()).is_ok(), "{url} is refused when it is written so");
});
