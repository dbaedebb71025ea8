//! The server as the command line sees it: JSON over HTTP.

use std::{
    error::Error as _,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use backon::{ExponentialBuilder, Retryable as _};
use bytes::Bytes;
use reqwest::{ClientBuilder, Method, RequestBuilder, Response, StatusCode, header, redirect};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use url::{Host, Url};

use super::exit::{Exit, Failure};

const KEY_VARIABLE: &str = "REELHOOK_API_KEY";
const EVENT_STREAM: &str = "text/event-stream";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest silence in the middle of a body.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Where the server is and who we are to it.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// Address of the server
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "REELHOOK_SERVER",
        default_value = "http://127.0.0.1:8484"
    )]
    server: Url,
    /// File that holds the API key; without it, $REELHOOK_API_KEY
    #[arg(long, global = true, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

/// A successful answer that is JSON.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) etag: Option<String>,
    /// What was asked for had been done before: nothing was done or spent now.
    pub(crate) replayed: bool,
    /// `null` when the body is empty.
    pub(crate) document: Value,
}

/// An HTTP client for one server.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    key: Option<SecretString>,
}

impl Client {
    /// Connects to nothing yet.
    pub(crate) fn new(connection: &Connection) -> Result<Self, Failure> {
        let base = connection.server.clone();
        if !matches!(base.scheme(), "http" | "https")
            || !base.username().is_empty()
            || base.password().is_some()
        {
            return Err(Failure::usage(
                "the server's address must be http or https, without user or password; the key goes into \
                 --key-file or $REELHOOK_API_KEY",
            ));
        }
        let http = http(&base, |http| http.connect_timeout(CONNECT_TIMEOUT).read_timeout(STALL_TIMEOUT))?;
        Ok(Self { http, base, key: key(connection.key_file.as_deref())? })
    }

    /// A request for the path of these segments below the server's address.
    pub(crate) fn request(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        // Only an address such as `mailto:` has no segments, and the constructor lets none in.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        let request = self.http.request(method, url);
        match &self.key {
            Some(key) => request.bearer_auth(key.expose_secret()),
            None => request,
        }
    }

    /// GETs a JSON document.
    pub(crate) async fn get(&self, segments: &[&str]) -> Result<Reply, Failure> {
        self.json(self.request(Method::GET, segments)).await
    }

    /// The same from a server that may be away for a moment.
    pub(crate) async fn get_patiently(&self, segments: &[&str]) -> Result<Reply, Failure> {
        let attempt = || self.get(segments);
        attempt.retry(patience()).when(|failure| failure.exit == Exit::Unreachable).await
    }

    /// POSTs a JSON document.
    pub(crate) async fn post(&self, segments: &[&str], body: &Value) -> Result<Reply, Failure> {
        self.json(self.request(Method::POST, segments).json(body)).await
    }

    /// POSTs what the server takes only once for a key, so that a lost connection is no reason to give up.
    pub(crate) async fn post_once(
        &self,
        segments: &[&str],
        body: &Value,
        key: &str,
    ) -> Result<Reply, Failure> {
        let attempt = || async {
            let request = self.request(Method::POST, segments).header("idempotency-key", key).json(body);
            self.json(request).await
        };
        attempt.retry(patience()).when(|failure| failure.exit == Exit::Unreachable).await
    }

    /// Sends a request that must be answered in time with a JSON document (or nothing, as 304 is).
    pub(crate) async fn json(&self, request: RequestBuilder) -> Result<Reply, Failure> {
        self.json_within(request, ANSWER_TIMEOUT).await
    }

    /// The same, where the server was asked to take its time.
    pub(crate) async fn json_within(
        &self,
        request: RequestBuilder,
        limit: Duration,
    ) -> Result<Reply, Failure> {
        let response = self.send(request.timeout(limit)).await?;
        let status = response.status();
        let etag = etag(&response);
        let replayed = header(&response, "idempotent-replayed").is_some_and(|value| value == "true");
        let body = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        let document = match body.as_ref() {
            [] => Value::Null,
            body => serde_json::from_slice(body).map_err(|_| self.foreign("does not answer with JSON"))?,
        };
        Ok(Reply { status, etag, replayed, document })
    }

    /// Sends a request; every status but 2xx and 304 is a failure.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let response = self.send_any(request).await?;
        let status = response.status();
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        if let (true, Some(target)) = (status.is_redirection(), response.headers().get(header::LOCATION)) {
            let target = String::from_utf8_lossy(target.as_bytes()).into_owned();
            return Err(
                self.foreign(&format!("redirects to {target}; if that is the server, name it with --server"))
            );
        }
        let retry_after = header(&response, "retry-after").and_then(|seconds| seconds.parse().ok());
        let body = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        let mut failure = Failure::from_answer(status.as_u16(), &body);
        failure.retry_after = retry_after.map(Duration::from_secs);
        match status {
            StatusCode::UNAUTHORIZED => {
                Err(failure.and("the key is read from --key-file or $REELHOOK_API_KEY"))
            }
            _ => Err(failure),
        }
    }

    /// Opens a stream of server-sent events.
    pub(crate) async fn stream(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let response = self.send(request.header(header::ACCEPT, EVENT_STREAM)).await?;
        match header(&response, "content-type") {
            Some(kind) if kind.starts_with(EVENT_STREAM) => Ok(response),
            _ => Err(self.foreign("does not answer with a stream of events")),
        }
    }

    /// The server's address.
    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    /// Asks a health probe: whether it is well, and what it says.
    pub(crate) async fn probe(&self, request: RequestBuilder) -> Result<(bool, Value), Failure> {
        let response = self.send_any(request.timeout(ANSWER_TIMEOUT)).await?;
        let well = response.status().is_success();
        let body = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        let text = || Value::from(String::from_utf8_lossy(&body).trim());
        Ok((well, serde_json::from_slice(&body).unwrap_or_else(|_| text())))
    }

    /// Sends a request and takes whatever status comes.
    async fn send_any(&self, request: RequestBuilder) -> Result<Response, Failure> {
        request.send().await.map_err(|error| self.unreachable(&error))
    }

    /// The next piece of a body.
    pub(crate) async fn chunk(&self, response: &mut Response) -> Result<Option<Bytes>, Failure> {
        response.chunk().await.map_err(|error| self.unreachable(&error))
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let reason =
            if error.is_timeout() { "it did not answer in time".to_owned() } else { root_cause(error) };
        let detail = format!(
            "no answer from {}: {reason}; is the server running there? (--server, $REELHOOK_SERVER)",
            self.base
        );
        Failure::new(Exit::Unreachable, detail)
    }

    fn foreign(&self, what: &str) -> Failure {
        Failure::new(Exit::Unreachable, format!("{} {what}", self.base))
    }
}

/// HTTP to this address, without redirects, within the limits that `limit` sets.
pub(crate) fn http(
    to: &Url,
    limit: impl FnOnce(ClientBuilder) -> ClientBuilder,
) -> Result<reqwest::Client, Failure> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("reelhook/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none());
    if is_loopback(to) {
        // A proxy for the outside world does not know this machine's loopback.
        builder = builder.no_proxy();
    }
    let built = limit(builder).build();
    built.map_err(|error| Failure::new(Exit::Failure, format!("cannot set up HTTP: {error}")))
}

/// How long a server that does not answer is asked again: about 20 s, enough for a restart.
pub(crate) fn patience() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(250))
        .with_max_delay(Duration::from_secs(5))
        .with_max_times(8)
}

/// The entity tag of an answer, quotes included.
pub(crate) fn etag(response: &Response) -> Option<String> {
    header(response, "etag").map(str::to_owned)
}

fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

fn key(file: Option<&Path>) -> Result<Option<SecretString>, Failure> {
    let (text, source) = match file {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| {
                Failure::usage(format!("cannot read the key file {}: {error}", path.display()))
            })?;
            (text, path.display().to_string())
        }
        None => match std::env::var(KEY_VARIABLE) {
            Ok(text) if !text.trim().is_empty() => (text, format!("${KEY_VARIABLE}")),
            _ => return Ok(None),
        },
    };
    let key = text.trim();
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::usage(format!("{source} does not hold one API key")));
    }
    Ok(Some(key.into()))
}

/// Whether an address is this machine's own.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

/// The operating system's words where there are any: the layers above only say that something failed.
pub(crate) fn root_cause(error: &reqwest::Error) -> String {
    let mut cause = error.source();
    let mut text = "the connection failed".to_owned();
    while let Some(error) = cause {
        text = match error.downcast_ref::<io::Error>() {
            Some(error) if error.raw_os_error().is_some() => return error.kind().to_string(),
            _ => error.to_string(),
        };
        cause = error.source();
    }
    text
}
