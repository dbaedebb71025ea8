//! The HTTP client for strangers' servers. It shares nothing with the client that holds the provider's API key.

use std::{error::Error, io, time::Duration};

use bytes::Bytes;
use reqwest::{
    Body, Client, ClientBuilder, Method, Response,
    header::{HeaderMap, LOCATION},
    redirect::Policy,
    retry,
};
use url::Url;

use super::egress::{Denied, Guard, Judged, Rule, denied, explain, judge_text};

/// A TCP and TLS handshake that takes longer will not bring a video either.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A client that goes only where the address guard lets it, and follows redirects by its own hand so that each hop is
/// judged. It knows no key, keeps no cookie and uses no proxy, which would do the lookup in our place.
#[derive(Clone, Debug)]
pub struct Outside {
    guard: Guard,
    /// For URLs that break no rule: public addresses, and those of `[egress] allow`.
    strict: Client,
    /// For URLs that only an address inside `[egress] allow` makes right.
    lifted: Client,
    max_redirects: usize,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum OutsideError {
    /// The URL, or one that it redirects to, may not be reached.
    #[error(transparent)]
    Denied(Denied),
    /// The connection failed; another attempt may succeed.
    #[error("{0}")]
    Network(String),
}

impl Outside {
    /// Makes the client.
    ///
    /// # Errors
    /// The system's certificate store cannot be read.
    pub fn new(guard: Guard, max_redirects: usize) -> Result<Self, reqwest::Error> {
        let (strict, lifted) = (client(&guard, false).build()?, client(&guard, true).build()?);
        Ok(Self { guard, strict, lifted, max_redirects })
    }

    /// Makes a client for [`Outside::post`]: each request has a connection of its own, since one that was used before
    /// may have died unseen.
    ///
    /// # Errors
    /// The system's certificate store cannot be read.
    pub fn without_reuse(guard: Guard) -> Result<Self, reqwest::Error> {
        let (strict, lifted) = (without_reuse(&guard, false)?, without_reuse(&guard, true)?);
        Ok(Self { guard, strict, lifted, max_redirects: 0 })
    }

    /// Asks for a URL with the given headers and follows up to `max_redirects` redirects. The answer is the first one
    /// that is no redirect, whatever its status; its body has not been read.
    ///
    /// # Errors
    /// [`OutsideError::Denied`] before anything is sent to a refused place, [`OutsideError::Network`] otherwise.
    pub async fn get(&self, url: &str, headers: &HeaderMap) -> Result<Response, OutsideError> {
        let mut judged = self.guard.judge(url).map_err(OutsideError::Denied)?;
        for _ in 0..=self.max_redirects {
            let here = judged.url.clone();
            let response = self.once(judged, Method::GET, headers.clone(), Body::default()).await?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let target = redirect_target(&here, &response).map_err(OutsideError::Denied)?;
            judged = self.guard.judge(target.as_str()).map_err(OutsideError::Denied)?;
        }
        Err(OutsideError::Denied(denied(&judged.url, Rule::TooManyRedirects(self.max_redirects))))
    }

    /// Posts a body, once. The answer is the first one, redirects included; its body has not been read.
    ///
    /// # Errors
    /// [`OutsideError::Denied`] before anything is sent to a refused place, [`OutsideError::Network`] otherwise.
    pub async fn post(&self, url: &str, headers: HeaderMap, body: Bytes) -> Result<Response, OutsideError> {
        let judged = self.guard.judge(url).map_err(OutsideError::Denied)?;
        self.once(judged, Method::POST, headers, body.into()).await
    }

    async fn once(
        &self,
        judged: Judged,
        method: Method,
        headers: HeaderMap,
        body: Body,
    ) -> Result<Response, OutsideError> {
        let Judged { url, pending } = judged;
        let only_allowed = pending.is_some();
        let client = if only_allowed { &self.lifted } else { &self.strict };
        let response = match client.request(method, url.clone()).headers(headers).body(body).send().await {
            Ok(response) => response,
            Err(error) => return Err(classify(error, pending)),
        };
        // The last line of defence: were a proxy or a future version of the client to go round the resolver, the
        // answer must not be read.
        let peer = response.remote_addr().map(|address| address.ip());
        match peer.map(|address| self.guard.judge_address(address, only_allowed)) {
            Some(Ok(())) => Ok(response),
            _ => Err(OutsideError::Denied(denied(&url, Rule::Connected(peer)))),
        }
    }
}

/// A client that gives each request a connection of its own.
pub(super) fn without_reuse(guard: &Guard, only_allowed: bool) -> Result<Client, reqwest::Error> {
    client(guard, only_allowed).http1_only().pool_max_idle_per_host(0).build()
}

fn client(guard: &Guard, only_allowed: bool) -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("reelhook/", env!("CARGO_PKG_VERSION")))
        .dns_resolver(guard.resolver(only_allowed))
        .redirect(Policy::none())
        .retry(retry::never())
        .no_proxy()
        .referer(false)
        .connect_timeout(CONNECT_TIMEOUT)
}

/// Finds the resolver's refusal inside the client's error.
pub(super) fn classify(error: reqwest::Error, pending: Option<Rule>) -> OutsideError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(inner) = cause {
        if let Some(refusal) = inner.downcast_ref::<Denied>() {
            return match explain(refusal.clone(), pending) {
                refusal if refusal.is_transient() => OutsideError::Network(refusal.to_string()),
                refusal => OutsideError::Denied(refusal),
            };
        }
        cause = inner.source();
    }
    OutsideError::Network(describe(error))
}

/// What went wrong, without the URL, whose query may be a signature: a sentence where the cause is a usual one, and the
/// whole chain of causes otherwise.
pub(crate) fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    if let Some(sentence) = usual_cause(&error) {
        return sentence;
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

fn usual_cause(error: &reqwest::Error) -> Option<String> {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        if let Some(rustls::Error::InvalidCertificate(why)) = inner.downcast_ref() {
            return Some(format!("the server's certificate is not valid ({why}); nothing was sent there"));
        }
        let io = inner.downcast_ref::<io::Error>();
        if io.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            return Some("the connection was refused: nothing listens there".to_owned());
        }
        // What an I/O error is made of is not its source; that would be its content's source.
        cause = match io.and_then(io::Error::get_ref) {
            Some(content) => Some(content),
            None => inner.source(),
        };
    }
    None
}

/// Where a redirect leads. Not yet judged, but the text is: the parser would drop what makes it suspicious.
fn redirect_target(here: &Url, response: &Response) -> Result<Url, Denied> {
    let status = response.status().as_u16();
    // 304 answers a question that was not asked, and 305 names a proxy: neither is followed.
    let nowhere = || denied(here, Rule::Redirect(status));
    if !matches!(status, 300..=303 | 307 | 308) {
        return Err(nowhere());
    }
    let mut locations = response.headers().get_all(LOCATION).iter();
    let (Some(location), None) = (locations.next(), locations.next()) else { return Err(nowhere()) };
    let location = location.to_str().map_err(|_| nowhere())?;
    judge_text(location)?;
    here.join(location).map_err(|e| denied(here, Rule::Parse(e)))
}
