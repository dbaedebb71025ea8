//! Whether the provider's callbacks can arrive: the public URL, as a stranger meets it, has to lead to this very server.

use std::{net::IpAddr, time::Duration};

use reqwest::{Client, Response, StatusCode, header::LOCATION, redirect::Policy, retry};
use serde_json::{Value, json};
use tokio::time::timeout;
use url::{Host, Url};

use super::{Check, PATIENCE, span};
use crate::{
    app::App,
    outbound::{
        egress::{Lookup, is_public, system_lookup},
        outside,
    },
};

const NAME: &str = "public_url";
/// A provider has no more patience to connect.
const CONNECT: Duration = Duration::from_secs(10);
/// Of an answer that is not ours no more is read.
const MAX_ANSWER: usize = 4 * 1024;
const TLS: &str = "give the proxy in front a certificate for this name by an authority that everybody trusts";
const ROUTE: &str = "have the proxy pass /cb/* to [callback] listen, with method, path and body as they are";

/// Why callbacks will not arrive, and what to do.
type Trouble = (String, String);

/// Calls ourselves by the public URL.
pub(super) async fn check(app: &App) -> Check {
    let config = app.config();
    let Some(public_url) = &config.callback.public_url else { return unset() };
    let by_strangers = is_outside(&config.upstream.base_url);
    let reached = async {
        let doubt = lead(public_url, by_strangers, &system_lookup()).await?;
        Ok::<_, Trouble>((reach(app, public_url).await?, doubt))
    };
    verdict(reached.await)
}

/// Of what was seen, and the doubt that is left.
fn verdict(reached: Result<(String, Option<Trouble>), Trouble>) -> Check {
    match reached {
        Ok((_, Some((detail, fix)))) => Check::warning(NAME, detail, fix),
        Ok((detail, None)) => Check::ok(NAME, detail),
        Err((detail, fix)) => Check::failed(NAME, detail, fix),
    }
}

/// Poll-only is a way to live, only a slower one.
pub(super) fn unset() -> Check {
    Check::warning(
        NAME,
        "is not set: the provider is asked for no callbacks, and every job is found done by asking. A job whose create \
         call's answer is lost is held at once",
        "for callbacks, have a proxy pass https://<a name of yours>/cb/* to [callback] listen, and set [callback] public_url \
         to that address; deploy/proxy has examples",
    )
}

/// Whether strangers get where the URL leads to; a doubt where only some will, since each takes the address that it likes.
async fn lead(public_url: &Url, by_strangers: bool, lookup: &Lookup) -> Result<Option<Trouble>, Trouble> {
    let addresses = addresses(public_url, lookup).await?;
    let private: Vec<_> = addresses.iter().filter(|address| by_strangers && !is_public(**address)).collect();
    if private.is_empty() {
        return Ok(None);
    }
    let named = private.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if private.len() == addresses.len() {
        let detail = format!("{public_url} leads to {named}, where only your own network gets");
        let fix = "set [callback] public_url to an address that the provider can reach";
        return Err((detail, fix.to_owned()));
    }
    let detail = format!(
        "{public_url} leads to {named} as well, where only your own network gets: callbacks arrive when the provider \
         happens to take another address"
    );
    let fix = format!("remove {named} from the DNS records of this name (A and AAAA)");
    Ok(Some((detail, fix)))
}

async fn reach(app: &App, public_url: &Url) -> Result<String, Trouble> {
    let challenge = app.challenge().map_err(|error| (error.to_string(), "try again".to_owned()))?;
    let response = post(public_url, &challenge).await?;
    judge(app, public_url, &challenge, response).await
}

async fn addresses(url: &Url, lookup: &Lookup) -> Result<Vec<IpAddr>, Trouble> {
    let name = match url.host() {
        Some(Host::Ipv4(address)) => return Ok(vec![address.into()]),
        Some(Host::Ipv6(address)) => return Ok(vec![address.into()]),
        Some(Host::Domain(name)) => name,
        None => "",
    };
    let fix = || format!("make a DNS record for {name}, or correct [callback] public_url");
    match timeout(PATIENCE, lookup(name.to_owned())).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err((format!("the name {name} cannot be resolved: {error}"), fix())),
        Err(_) => Err((format!("the name {name} was not resolved within {}", span(PATIENCE)), fix())),
    }
}

async fn post(public_url: &Url, challenge: &str) -> Result<Response, Trouble> {
    let no_client =
        |error: reqwest::Error| (error.to_string(), "check this machine's certificate store".to_owned());
    let client = Client::builder()
        .user_agent(concat!("reelhook/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .retry(retry::never())
        .no_proxy()
        .connect_timeout(CONNECT)
        .timeout(PATIENCE);
    let sent = client
        .build()
        .map_err(no_client)?
        .post(ping(public_url))
        .json(&json!({ "challenge": challenge }))
        .send();
    sent.await.map_err(|error| {
        let why = if error.is_timeout() {
            format!("no answer within {}", span(PATIENCE))
        } else {
            outside::describe(error)
        };
        let fix = if why.contains("certificate") {
            TLS
        } else {
            "check that the proxy runs and that the firewall lets the port in"
        };
        (format!("{public_url} cannot be reached: {why}"), fix.to_owned())
    })
}

fn ping(public_url: &Url) -> Url {
    let mut url = public_url.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(["cb", "ping"]);
    }
    url
}

async fn judge(app: &App, public_url: &Url, challenge: &str, response: Response) -> Result<String, Trouble> {
    let status = response.status();
    if status.is_redirection() {
        return Err(redirected(public_url, &response));
    }
    let server =
        response.headers().get("server").and_then(|name| name.to_str().ok()).unwrap_or("").to_owned();
    let proof: Option<String> =
        read(response).await.and_then(|body| Some(body["proof"].as_str()?.to_owned()));
    match proof {
        Some(proof) if status.is_success() && app.is_proof(challenge, &proof) => Ok(format!(
            "{public_url} leads here: a POST came through and was answered as only this server can"
        )),
        Some(_) => {
            let detail =
                format!("{public_url} leads to another reelhook, which does not have this one's jobs");
            Err((
                detail,
                "set [callback] public_url to this server's own address, or the same [callback] secrets"
                    .to_owned(),
            ))
        }
        None if status == StatusCode::METHOD_NOT_ALLOWED
            || status == StatusCode::UNAUTHORIZED
            || status == StatusCode::FORBIDDEN =>
        {
            Err((format!("{public_url} does not let a POST through: it answers {status}"), ROUTE.to_owned()))
        }
        None if status.is_server_error() => {
            let detail = format!(
                "{public_url} answers {status}: something in front is there, but does not reach this server"
            );
            Err((detail, ROUTE.to_owned()))
        }
        None => {
            let by = if server.is_empty() { String::new() } else { format!(" (its `Server` is {server})") };
            Err((format!("{public_url} answers {status}, and not as this server does{by}"), ROUTE.to_owned()))
        }
    }
}

fn redirected(public_url: &Url, response: &Response) -> Trouble {
    let status = response.status().as_u16();
    let target =
        response.headers().get(LOCATION).and_then(|target| target.to_str().ok()).unwrap_or("nowhere");
    let loss = if matches!(status, 307 | 308) {
        "many senders follow none"
    } else {
        "whoever follows it sends a GET without the body"
    };
    let base = ping(public_url).join(target).ok().and_then(|url| {
        let base =
            url.as_str().strip_suffix("/cb/ping").or_else(|| url.as_str().strip_suffix("/cb/ping/"))?;
        Url::parse(base).ok()
    });
    let fix = match base {
        Some(base) if base != *public_url => {
            format!("set [callback] public_url to \"{}\"", base.as_str().trim_end_matches('/'))
        }
        _ => "have the proxy answer for /cb/* itself, without a redirect".to_owned(),
    };
    (format!("{public_url} answers {status} with a redirect to {target}: {loss}, so callbacks are lost"), fix)
}

async fn read(mut response: Response) -> Option<Value> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER {
            return None;
        }
    }
    serde_json::from_slice(&body).ok()
}

/// Whether whoever is there has to come from the internet to reach us.
fn is_outside(provider: &Url) -> bool {
    match provider.host() {
        Some(Host::Ipv4(address)) => is_public(address.into()),
        Some(Host::Ipv6(address)) => is_public(address.into()),
        Some(Host::Domain(name)) => name.contains('.') && !name.ends_with(".localhost"),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::doctor::Verdict;

    async fn led(url: &str, found: &[&str], by_strangers: bool) -> Result<Option<Trouble>, Trouble> {
        let found: Vec<IpAddr> = found.iter().map(|address| address.parse().unwrap()).collect();
        let lookup: Lookup = Arc::new(move |_| {
            let found = found.clone();
            Box::pin(async move { Ok(found) })
        });
        lead(&url.parse().unwrap(), by_strangers, &lookup).await
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_as_well_is_a_doubt_that_names_where() {
        let url = "https://hooks.example.com";
        assert_eq!(led(url, &["9.9.9.9", "2606:4700::1111"], true).await, Ok(None));
        let (detail, fix) = led(url, &["9.9.9.9", "10.0.0.7", "fd00::7"], true).await.unwrap().unwrap();
        assert!(detail.contains("10.0.0.7, fd00::7 as well") && !detail.contains("9.9.9.9"), "{detail}");
        assert!(fix.contains("10.0.0.7, fd00::7"), "{fix}");
        let check = verdict(Ok(("leads here".to_owned(), Some((detail, fix)))));
        assert_eq!(check.verdict, Verdict::Warning, "though it led here from this machine");
        let (detail, _) = led(url, &["10.0.0.7", "fd00::7"], true).await.unwrap_err();
        assert!(detail.contains("10.0.0.7, fd00::7, where only"), "{detail}");
        assert!(led("https://10.0.0.7", &[], true).await.is_err(), "a literal is not looked up");
        assert_eq!(led(url, &["9.9.9.9", "10.0.0.7"], false).await, Ok(None), "nobody comes from outside");
    }
}
