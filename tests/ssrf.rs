//! Every known way to make a server call where it must not, each with the guard's verdict and the reason. A reader can
//! check the tables line by line; the tests run them against the guard and the client that are in use.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

#[path = "ssrf/names.rs"]
mod names;
#[path = "ssrf/redirects.rs"]
mod redirects;
#[path = "ssrf/urls.rs"]
mod urls;

#[allow(dead_code, reason = "another test uses the rest")]
#[path = "support/file_server.rs"]
mod file_server;

use std::{net::IpAddr, sync::Arc};

use reelhook::outbound::egress::{Denied, Guard, Lookup};

/// What passes by its text and is judged by its addresses.
const RESOLVE: &str = "Resolve";

/// A guard without exceptions.
fn strict(lookup: Lookup) -> Guard {
    Guard::with_lookup(Vec::new(), lookup)
}

/// A resolver that always says the same.
fn answering(addresses: &[&str]) -> Lookup {
    let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
    Arc::new(move |_| {
        let addresses = addresses.clone();
        Box::pin(async move { Ok(addresses) })
    })
}

/// A resolver that must not be asked.
fn unasked() -> Lookup {
    Arc::new(|host| panic!("{host} was looked up"))
}

/// The name of the broken rule, or [`RESOLVE`].
fn verdict<T>(result: Result<T, Denied>) -> String {
    let rule = match result {
        Ok(_) => return RESOLVE.to_owned(),
        Err(denied) => format!("{:?}", denied.rule),
    };
    rule.split(|symbol: char| !symbol.is_alphanumeric()).next().unwrap_or_default().to_owned()
}
