//! Reading one value: durations, sizes, numbers, addresses, URLs. Each says what is wrong and how to write it.

use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use bytesize::ByteSize;
use ipnet::IpNet;
use jiff::{SignedDuration, Span, SpanRelativeTo};
use secrecy::SecretString;
use url::{Host, Url};

use super::check::Checker;

pub(super) const MILLISECOND: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_mins(1);
pub(super) const HOUR: Duration = Duration::from_hours(1);
pub(super) const DAY: Duration = Duration::from_hours(24);

/// A value that is wrong is reported and stands as an arbitrary one: a configuration with a problem is never used.
impl Checker<'_> {
    pub(super) fn duration(&mut self, key: &str, text: &str, range: RangeInclusive<Duration>) -> Duration {
        match duration(text) {
            Some(value) if range.contains(&value) => value,
            Some(_) => {
                let (least, most) = (brief(*range.start()), brief(*range.end()));
                self.reject(key, format!("must be from {least} to {most}, not {text}")).unwrap_or_default()
            }
            None => self
                .reject(
                    key,
                    format!("`{text}` is not a duration: write \"500ms\", \"15s\", \"2h\" or \"7d\""),
                )
                .unwrap_or_default(),
        }
    }

    pub(super) fn size(&mut self, key: &str, text: &str, range: RangeInclusive<ByteSize>) -> u64 {
        match text.trim().parse::<ByteSize>() {
            Ok(value) if range.contains(&value) => value.as_u64(),
            Ok(_) => self
                .reject(key, format!("must be from {} to {}, not {text}", range.start(), range.end()))
                .unwrap_or_default(),
            Err(_) => self
                .reject(key, format!("`{text}` is not a size: write \"512KiB\" or \"2GiB\""))
                .unwrap_or_default(),
        }
    }

    pub(super) fn integer<T>(&mut self, key: &str, value: i64, range: RangeInclusive<i64>) -> T
    where
        T: TryFrom<i64> + Default,
    {
        match T::try_from(value) {
            Ok(fitting) if range.contains(&value) => fitting,
            _ => self
                .reject(key, format!("must be from {} to {}, not {value}", range.start(), range.end()))
                .unwrap_or_default(),
        }
    }

    pub(super) fn number(&mut self, key: &str, value: f64, range: RangeInclusive<f64>) -> f64 {
        if !range.contains(&value) {
            self.reject(key, format!("must be from {} to {}, not {value}", range.start(), range.end()))
                .unwrap_or_default()
        } else {
            value
        }
    }

    pub(super) fn address(&mut self, key: &str, text: &str) -> SocketAddr {
        text.parse().unwrap_or_else(|_| {
            let hint = "is not an IP address and a port: write \"127.0.0.1:8484\" or \"[::1]:8484\"";
            self.reject(key, format!("`{text}` {hint}")).unwrap_or((IpAddr::from([0; 4]), 0).into())
        })
    }

    /// A base to which paths are added: http or https and nothing after the path. May hold a password by mistake, so
    /// no message repeats it.
    pub(super) fn base_url(&mut self, key: &str, text: &str) -> Option<Url> {
        let Ok(url) = Url::parse(text) else {
            return self.reject(key, "is not a URL: write \"https://videos.example.com\"");
        };
        if !matches!(url.scheme(), "http" | "https") {
            return self.reject(key, format!("must be http or https, not {}", url.scheme()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return self.reject(key, "must not hold a user or password: they would show in logs");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return self.reject(key, "must end with its path: paths are added to it");
        }
        if url.scheme() == "http" && !is_loopback(&url) {
            self.warn(key, "is plain http: whoever carries the traffic can read it");
        }
        Some(url)
    }

    /// `file:./relative` or `file:///absolute`. Not read as a URL, which knows no relative paths.
    pub(super) fn folder(&mut self, key: &str, text: &str, scheme: &str) -> PathBuf {
        let Some((given, rest)) = text.split_once(':') else {
            return self.reject(key, format!("must begin with `{scheme}:`")).unwrap_or_default();
        };
        if given != scheme {
            let message = format!("this build supports `{scheme}:` only, not `{given}:`");
            return self.reject(key, message).unwrap_or_default();
        }
        let path = rest.strip_prefix("//").unwrap_or(rest);
        if path.is_empty() || (path.len() < rest.len() && !Path::new(path).is_absolute()) {
            let hint = format!("write `{scheme}:./folder` or, for an absolute path, `{scheme}:///folder`");
            return self.reject(key, format!("`{text}` names no folder: {hint}")).unwrap_or_default();
        }
        self.path(Path::new(path))
    }

    /// `postgres://user:password@host/database?sslmode=verify-full`. No message repeats it, for it may hold a password.
    pub(super) fn database_url(&mut self, key: &str, text: &str) -> Option<SecretString> {
        let parsed = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "postgres" | "postgresql"));
        let Some(url) = parsed else {
            return self.reject(key, "is not a URL of a database: write \"postgres://user@host/reelhook\"");
        };
        if url.path().trim_matches('/').is_empty() {
            return self.reject(key, "names no database: write \"postgres://user@host/reelhook\"");
        }
        let verified = url.query_pairs().any(|(name, value)| name == "sslmode" && value == "verify-full");
        if url.host_str().is_some_and(|host| !host.is_empty()) && !is_loopback(&url) && !verified {
            let message =
                "does not ask for sslmode=verify-full: whoever is between here and there can read along";
            self.warn(key, message);
        }
        Some(text.into())
    }

    /// A network, or one address.
    pub(super) fn network(&mut self, key: &str, text: &str) -> Option<IpNet> {
        match text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)) {
            Ok(network) => Some(network.trunc()),
            Err(_) => self.reject(key, format!("`{text}` is not a network: write \"10.0.0.0/8\"")),
        }
    }
}

/// Days have 24 hours and months do not exist; `0` needs no unit.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let span: Span = text.parse().ok()?;
    let signed = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    Duration::try_from(signed).ok()
}

fn brief(duration: Duration) -> String {
    SignedDuration::try_from(duration)
        .map_or_else(|_| format!("{duration:?}"), |signed| format!("{signed:#}"))
}

pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.to_canonical().is_loopback(),
        // Of a scheme that is not the web's, an address of version 4 is a name like any other.
        Some(Host::Domain(name)) => {
            name == "localhost"
                || name.ends_with(".localhost")
                || name.parse().is_ok_and(|ip: std::net::Ipv4Addr| ip.is_loopback())
        }
        None => false,
    }
}

/// Whether only this machine or its own network can reach the address, as far as the text tells.
pub(super) fn is_private(url: &Url) -> bool {
    let private = match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_private() || ip.is_link_local(),
        Some(Host::Ipv6(ip)) => ip.is_unique_local() || ip.is_unicast_link_local(),
        _ => false,
    };
    private || is_loopback(url)
}
