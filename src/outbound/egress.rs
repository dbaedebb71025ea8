//! The address guard: which URLs of strangers may be reached.
//!
//! A webhook or a task answer names the file to fetch, so whoever forges one chooses where this server connects.
//! The guard lets nothing through but https on port 443 to a public address. `[egress] allow` opens exceptions
//! for private networks: a literal inside them, or a name whose every address lies inside them, may also use
//! plain http, any port and a short name.
//!
//! The lookup that is judged is the lookup that is connected: [`GuardedResolver`] sits inside the HTTP client, and
//! an address that it did not hand out is never dialled. Since a client does not ask a resolver about IP literals,
//! [`Guard::judge`] decides those beforehand.

mod address;
mod resolver;

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;
use url::{Host, Url};

pub use address::is_public;
pub use resolver::{GuardedResolver, Lookup, system_lookup};

use crate::live::Live;

/// Longest URL that is looked at, in bytes.
pub const MAX_URL: usize = 2048;

/// Name endings that never mean a public host (RFC 6761, RFC 6762, RFC 8375, RFC 9476 and what home routers use).
const SPECIAL_USE: [&str; 14] = [
    "localhost",
    "localdomain",
    "local",
    "internal",
    "intranet",
    "lan",
    "home",
    "corp",
    "test",
    "invalid",
    "onion",
    "alt",
    "arpa",
    "example",
];

/// A URL that may not be reached. Nothing was sent there, unless the rule is [`Rule::Connected`] or about redirects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// The host as the URL parser reads it, where there is one. Never the whole URL: its query may be a signature.
    pub host: Option<String>,
    /// The first rule that the URL breaks.
    pub rule: Rule,
}

impl Denied {
    /// Whether the same URL may pass at another time: its name could not be looked up just now.
    pub fn is_transient(&self) -> bool {
        matches!(self.rule, Rule::Unresolved(_))
    }
}

impl std::error::Error for Denied {}

impl std::fmt::Display for Denied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.host {
            Some(host) => write!(f, "the URL on host `{host}` was not followed: {}", self.rule)?,
            None => write!(f, "the URL was not followed: {}", self.rule)?,
        }
        match self.rule {
            Rule::Connected(_) => f.write_str("; the answer was dropped unread"),
            Rule::Redirect(_) | Rule::TooManyRedirects(_) => Ok(()),
            _ if self.rule.is_liftable() => f.write_str(
                "; nothing was sent there. If this host is yours, add its network to [egress] allow",
            ),
            _ => f.write_str("; nothing was sent there"),
        }
    }
}

/// The rules of the guard, in the order in which they are applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each message says what its rule asks for")]
pub enum Rule {
    #[error("it is longer than {MAX_URL} bytes")]
    TooLong,
    #[error("it contains a space, a backslash or a character outside printable ASCII")]
    RawCharacters,
    #[error("it cannot be read as a URL ({0})")]
    Parse(url::ParseError),
    #[error("its scheme is `{0}`, not https")]
    Scheme(String),
    #[error("it carries a user name or a password")]
    UserInfo,
    #[error("its port is {0}, not 443")]
    Port(u16),
    #[error("it has a fragment")]
    Fragment,
    #[error("its host is the literal address {0}")]
    Literal(IpAddr),
    #[error("its host is a single label")]
    SingleLabel,
    #[error("its host ends with a dot")]
    TrailingDot,
    #[error("its host is an internationalised name")]
    Idn,
    #[error("its host has characters other than letters, digits and hyphens")]
    HostCharacters,
    #[error("its host ends with `.{0}`, which no public host does")]
    SpecialUse(String),
    #[error("its name could not be resolved ({0})")]
    Unresolved(String),
    #[error("its name leads to {0}, which is not a public address")]
    Address(IpAddr),
    #[error("its name leads to {0}, an address of this machine")]
    OwnAddress(IpAddr),
    #[error("the connection went to {0:?}, which had not been vetted")]
    Connected(Option<IpAddr>),
    #[error("more than {0} redirects")]
    TooManyRedirects(usize),
    #[error("a redirect (status {0}) that names no single place to go")]
    Redirect(u16),
}

impl Rule {
    /// Whether `[egress] allow` can lift this rule.
    fn is_liftable(&self) -> bool {
        match self {
            Self::Scheme(scheme) => scheme == "http",
            Self::Port(_) | Self::Literal(_) | Self::SingleLabel | Self::SpecialUse(_) => true,
            Self::Address(_) | Self::OwnAddress(_) => true,
            _ => false,
        }
    }
}

/// The guard. Cheap to clone.
#[derive(Clone)]
pub struct Guard {
    allow: Arc<Live<[IpNet]>>,
    lookup: Lookup,
}

/// A URL that broke no rule, or only rules that its addresses may lift.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The URL as parsed.
    pub url: Url,
    /// The first rule that stands unless every address of the name is inside `[egress] allow`.
    pub pending: Option<Rule>,
}

/// A URL that may be reached now.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// The URL as parsed.
    pub url: Url,
    /// The vetted addresses of its host, never empty.
    pub addresses: Vec<IpAddr>,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("allow", &self.allow).finish_non_exhaustive()
    }
}

impl Guard {
    /// A guard that opens the given networks and asks the system's resolver.
    pub fn new(allow: Vec<IpNet>) -> Self {
        Self::with_lookup(allow, system_lookup())
    }

    /// A guard that asks a resolver of your own.
    pub fn with_lookup(allow: Vec<IpNet>, lookup: Lookup) -> Self {
        Self { allow: Arc::new(Live::new(allow)), lookup }
    }

    /// Opens these networks and no others from now on, here and in every clone.
    pub fn reload(&self, allow: Vec<IpNet>) {
        self.allow.set(allow);
    }

    /// Judges a URL by its text alone, as if its name led to no private network. Makes no lookup.
    ///
    /// # Errors
    /// The first rule that the URL breaks.
    pub fn judge_url(&self, raw: &str) -> Result<Url, Denied> {
        let judged = self.judge(raw)?;
        match judged.pending {
            None => Ok(judged.url),
            Some(rule) => Err(denied(&judged.url, rule)),
        }
    }

    /// Judges a URL by its text, and leaves open what its addresses may lift.
    ///
    /// # Errors
    /// The first rule that the URL breaks, when no address could lift all that it breaks.
    pub fn judge(&self, raw: &str) -> Result<Judged, Denied> {
        judge_text(raw)?;
        let url = Url::parse(raw).map_err(|e| Denied { host: None, rule: Rule::Parse(e) })?;
        let broken = broken_rules(&url);
        let Some(first) = broken.first() else { return Ok(Judged { url, pending: None }) };
        if !broken.iter().all(Rule::is_liftable) {
            return Err(denied(&url, first.clone()));
        }
        match literal(&url) {
            Some(address) if self.allows(address) => Ok(Judged { url, pending: None }),
            Some(_) => Err(denied(&url, first.clone())),
            None if self.allow.get().is_empty() => Err(denied(&url, first.clone())),
            None => Ok(Judged { url, pending: Some(first.clone()) }),
        }
    }

    /// Judges a URL and the addresses that its name leads to now. For a place that is only noted and called another
    /// time; a client that connects at once has [`GuardedResolver`] do the lookup, so that there is only one.
    ///
    /// # Errors
    /// The first rule that is broken; [`Denied::is_transient`] when the lookup failed.
    pub async fn admit(&self, raw: &str) -> Result<Admitted, Denied> {
        let Judged { url, pending } = self.judge(raw)?;
        let addresses = match literal(&url) {
            Some(address) => vec![address],
            None => {
                let vetted = self.resolve(url.host_str().unwrap_or_default(), pending.is_some()).await;
                vetted.map_err(|refusal| explain(refusal, pending))?
            }
        };
        Ok(Admitted { url, addresses })
    }

    /// Whether an address may be connected to. With `only_allowed` a public one is not enough.
    ///
    /// # Errors
    /// [`Rule::Address`] or [`Rule::OwnAddress`].
    pub fn judge_address(&self, address: IpAddr, only_allowed: bool) -> Result<(), Rule> {
        if self.allows(address) {
            Ok(())
        } else if only_allowed || !is_public(address) {
            Err(Rule::Address(address))
        } else if address::is_own(address) {
            Err(Rule::OwnAddress(address))
        } else {
            Ok(())
        }
    }

    fn allows(&self, address: IpAddr) -> bool {
        self.allow.get().iter().any(|net| net.contains(&address))
    }
}

/// An address that did not lift a pending rule is reported as that rule: it is what the operator can read in the URL.
pub(super) fn explain(refusal: Denied, pending: Option<Rule>) -> Denied {
    match pending {
        Some(rule) if !refusal.is_transient() => Denied { rule, ..refusal },
        _ => refusal,
    }
}

/// What must hold before a parser may touch the text: parsers silently drop tabs and newlines and turn backslashes
/// into slashes, so a look-alike would be judged as something that it is not.
pub(super) fn judge_text(raw: &str) -> Result<(), Denied> {
    let rule = if raw.len() > MAX_URL {
        Rule::TooLong
    } else if !raw.bytes().all(|b| b.is_ascii_graphic() && b != b'\\') {
        Rule::RawCharacters
    } else {
        return Ok(());
    };
    Err(Denied { host: None, rule })
}

pub(super) fn denied(url: &Url, rule: Rule) -> Denied {
    Denied { host: url.host_str().map(str::to_owned), rule }
}

fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(v4) => Some(v4.into()),
        Host::Ipv6(v6) => Some(v6.into()),
        Host::Domain(_) => None,
    }
}

/// Every rule that the parsed URL breaks, in the order of the policy.
fn broken_rules(url: &Url) -> Vec<Rule> {
    let mut broken = Vec::new();
    if url.scheme() != "https" {
        broken.push(Rule::Scheme(url.scheme().to_owned()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        broken.push(Rule::UserInfo);
    }
    if let Some(port) = url.port_or_known_default().filter(|port| *port != 443) {
        broken.push(Rule::Port(port));
    }
    if url.fragment().is_some() {
        broken.push(Rule::Fragment);
    }
    match literal(url) {
        Some(address) => broken.push(Rule::Literal(address)),
        None => broken.extend(broken_name_rules(url.host_str().unwrap_or_default())),
    }
    broken
}

fn broken_name_rules(host: &str) -> Vec<Rule> {
    let mut broken = Vec::new();
    let labels: Vec<&str> = host.split('.').collect();
    if labels.len() < 2 {
        broken.push(Rule::SingleLabel);
    }
    if host.ends_with('.') {
        broken.push(Rule::TrailingDot);
        return broken;
    }
    if labels.iter().any(|label| label.starts_with("xn--")) {
        broken.push(Rule::Idn);
    }
    if !labels.iter().all(|label| is_ldh(label)) {
        broken.push(Rule::HostCharacters);
    }
    if let Some(last) = labels.last().filter(|last| SPECIAL_USE.contains(last)) {
        broken.push(Rule::SpecialUse((*last).to_owned()));
    }
    broken
}

/// Letters, digits and inner hyphens, at most 63 (RFC 952, RFC 1123).
fn is_ldh(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}
