//! Who may do what: keys with scopes, or, without any key, this machine alone.

use std::{
    fs, io,
    net::IpAddr,
    num::NonZeroU32,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use actix_web::{
    Error, HttpMessage,
    body::BoxBody,
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method,
        header::{self, HeaderMap, HeaderName},
        uri::Authority,
    },
    middleware::Next,
    web,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use governor::{DefaultKeyedRateLimiter, Quota, clock::Clock as _};
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use url::Url;

use super::{Context, body, kinds, problem::Problem};
use crate::{
    config::Config,
    keys::{Found, KeyFile, KeyFileError, Scope},
};

/// What a proxy adds to a request that it hands on, by RFC 7239 and by custom.
const FORWARDED: [&str; 5] = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"];

/// Who gets in at a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Anybody; the route itself may ask for a signature.
    Open,
    /// A bearer key with this scope.
    Key(Scope),
    /// A bearer key that may read, or the same as the password of HTTP basic authentication: for browsers.
    Page,
}

/// Whoever sent an admitted request.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// Whose idempotency keys these are.
    pub(super) owner: String,
    /// Every scope, the bodies of callbacks included.
    pub(super) is_admin: bool,
}

/// The keys in force.
pub struct Keys {
    bootstrap: Option<SecretString>,
    file: Option<Watched>,
    limiter: DefaultKeyedRateLimiter<String>,
    external_url: Option<Url>,
}

/// A key file that is read again when it changes, so that a key is revoked without a restart.
struct Watched {
    path: PathBuf,
    known: Mutex<Known>,
}

struct Known {
    stamp: Option<Stamp>,
    keys: Arc<KeyFile>,
}

/// What changes when the file does. `reelhook keys` replaces it, so its number tells also of two changes within one tick
/// of the disk's clock.
type Stamp = (SystemTime, u64, u64);

impl Keys {
    /// The keys that the configuration names. Without any, requests count as this machine's own.
    ///
    /// # Errors
    /// The key file is there and cannot be read.
    pub fn load(config: &Config) -> Result<Self, KeyFileError> {
        let per_minute = NonZeroU32::new(config.api.rate_limit_per_minute).unwrap_or(NonZeroU32::MIN);
        Ok(Self {
            bootstrap: config.auth.bootstrap_admin_key.clone(),
            file: config.auth.keys_file.clone().map(Watched::open).transpose()?,
            limiter: DefaultKeyedRateLimiter::keyed(Quota::per_minute(per_minute)),
            external_url: config.server.external_url.clone(),
        })
    }

    fn find(&self, presented: &str) -> Option<Found> {
        let hash = |key: &str| Sha256::digest(key.as_bytes());
        if let Some(key) = &self.bootstrap
            && bool::from(hash(key.expose_secret()).ct_eq(&hash(presented)))
        {
            return Some(Found { name: String::new(), scopes: [Scope::Admin].into() });
        }
        self.file.as_ref()?.current().find(presented, Timestamp::now())
    }

    fn admit(&self, access: Access, request: &ServiceRequest) -> Result<Option<Caller>, Problem> {
        let scope = match access {
            Access::Open => return Ok(None),
            Access::Key(scope) => scope,
            Access::Page => Scope::Read,
        };
        let headers = request.headers();
        if self.bootstrap.is_none() && self.file.is_none() {
            self.must_be_local(request.method(), headers)?;
            return Ok(Some(Caller { owner: "local".to_owned(), is_admin: true }));
        }
        let found = presented(headers, access)
            .and_then(|key| self.find(&key))
            .ok_or_else(|| unauthenticated(access))?;
        // A file's key cannot take the name of another kind of caller.
        let owner =
            if found.name.is_empty() { "bootstrap".to_owned() } else { format!("key:{}", found.name) };
        if !found.allows(scope) {
            let detail = format!("the key `{}` lacks the scope `{scope}`; nothing was done", found.name);
            return Err(Problem::new(&kinds::FORBIDDEN, detail));
        }
        self.must_have_room(&owner)?;
        Ok(Some(Caller { owner, is_admin: found.allows(Scope::Admin) }))
    }

    fn must_have_room(&self, owner: &String) -> Result<(), Problem> {
        self.limiter.check_key(owner).map_err(|refused| {
            let wait = refused.wait_time_from(self.limiter.clock().now());
            let seconds = wait.as_secs() + 1;
            let detail = format!("the key has used up [api] rate_limit_per_minute; try again in {seconds} s");
            Problem::new(&kinds::RATE_LIMITED, detail).with(header::RETRY_AFTER, seconds.to_string())
        })
    }

    /// Without keys anything on this machine may do everything, and that must not mean any web page in its browser:
    /// a page's own name in `Host` (by DNS rebinding) or `Origin`, or a form that needs no permission, is refused. Nor
    /// must it mean whoever reaches a proxy on this machine.
    fn must_be_local(&self, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
        if let Some(name) = FORWARDED.into_iter().find(|name| headers.contains_key(*name)) {
            let detail = format!(
                "this server runs without keys and takes requests from this machine only, and by `{name}` a proxy handed \
                 this one on for somebody else. Nothing was done; to serve others by a proxy, set a key: `reelhook keys \
                 create`, then [auth] keys_file, or [auth] bootstrap_admin_key"
            );
            return Err(Problem::new(&kinds::FORBIDDEN, detail));
        }
        let foreign = |name: &str| {
            let detail = format!(
                "this server runs without keys and takes requests from this machine only; {name} names another place. \
                 Nothing was done; to open the server to others, make a key with `reelhook keys create`"
            );
            Problem::new(&kinds::FORBIDDEN, detail)
        };
        let host = text(headers, &header::HOST).unwrap_or_default();
        if !self.is_own_host(host) {
            return Err(foreign("Host"));
        }
        if headers.contains_key(header::ORIGIN) {
            let origin = text(headers, &header::ORIGIN).unwrap_or_default();
            let same =
                origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host));
            let external = self.external_url.as_ref().map(|url| url.origin().ascii_serialization());
            if !same && external.as_deref() != Some(origin) {
                return Err(foreign("Origin"));
            }
        }
        if method == Method::POST { body::require_json(headers) } else { Ok(()) }
    }

    fn is_own_host(&self, host: &str) -> bool {
        let Ok(authority) = host.parse::<Authority>() else { return false };
        let name = authority.host();
        let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let external = self.external_url.as_ref().and_then(Url::host_str);
        !host.contains('@')
            && (name.eq_ignore_ascii_case("localhost")
                || address.is_ok_and(|address| address.is_loopback())
                || external.is_some_and(|external| name.eq_ignore_ascii_case(external)))
    }
}

impl Watched {
    fn open(path: PathBuf) -> Result<Self, KeyFileError> {
        let stamp = stamp(&path);
        let keys = Arc::new(KeyFile::load_or_empty(&path)?);
        Ok(Self { path, known: Mutex::new(Known { stamp, keys }) })
    }

    fn current(&self) -> Arc<KeyFile> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = stamp(&self.path);
        if stamp != known.stamp {
            match KeyFile::load_or_empty(&self.path) {
                Ok(keys) => known.keys = Arc::new(keys),
                // A file that is being edited must not lock everybody out.
                Err(error) => {
                    tracing::error!(%error, "the key file cannot be read; the keys stay as they were")
                }
            }
            known.stamp = stamp;
        }
        Arc::clone(&known.keys)
    }
}

fn stamp(path: &PathBuf) -> Option<Stamp> {
    let read = || -> io::Result<Stamp> {
        let metadata = fs::metadata(path)?;
        Ok((metadata.modified()?, metadata.len(), metadata.ino()))
    };
    read().ok()
}

/// The key of a request. Basic authentication only where a browser asks for a page: a browser adds it to whatever a
/// foreign page makes it send.
fn presented(headers: &HeaderMap, access: Access) -> Option<String> {
    let (scheme, credentials) = text(headers, &header::AUTHORIZATION)?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(credentials.trim().to_owned());
    }
    if access != Access::Page || !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(BASE64_STANDARD.decode(credentials.trim()).ok()?).ok()?;
    decoded.split_once(':').map(|(_user, password)| password.to_owned())
}

fn unauthenticated(access: Access) -> Problem {
    let challenge = match access {
        Access::Page => "Basic realm=\"reelhook\", charset=\"UTF-8\"",
        _ => "Bearer realm=\"reelhook\"",
    };
    let detail =
        "no valid API key came with the request; send `Authorization: Bearer <key>`. Nothing was done";
    Problem::new(&kinds::UNAUTHENTICATED, detail).with(header::WWW_AUTHENTICATE, challenge)
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Wraps every route: lets a request pass or answers it.
pub(super) async fn admit(
    access: Access,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    match judge(access, &request) {
        Ok(caller) => {
            if let Some(caller) = caller {
                request.extensions_mut().insert(caller);
            }
            next.call(request).await
        }
        Err(problem) => Ok(request.error_response(problem)),
    }
}

fn judge(access: Access, request: &ServiceRequest) -> Result<Option<Caller>, Problem> {
    let context = request.app_data::<web::Data<Context>>();
    let context = context
        .ok_or_else(|| Problem::new(&kinds::INTERNAL, "the server was put together without its context"))?;
    let caller = context.keys.get().admit(access, request)?;
    if context.stop.is_cancelled() && request.method() == Method::POST {
        let detail = "the server is stopping; nothing was created or spent";
        return Err(Problem::new(&kinds::SHUTTING_DOWN, detail).with(header::RETRY_AFTER, "5"));
    }
    Ok(caller)
}
