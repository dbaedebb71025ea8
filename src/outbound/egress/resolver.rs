//! Name resolution that hands out nothing but vetted addresses.

use std::{io, net::IpAddr, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::{Denied, Guard, Rule};

/// Asks for the addresses of a name. Tests bring their own.
pub type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// The resolver of the operating system has no time-out of its own that could be set.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// No honest name has more; each would be a connection attempt.
const MAX_ANSWERS: usize = 64;

/// The resolver of the operating system.
pub fn system_lookup() -> Lookup {
    Arc::new(|host| {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    })
}

impl Guard {
    /// Looks a name up and refuses it as a whole if any answer is refused: which answer a client would take is
    /// chance, and a mixed answer is how rebinding attacks begin.
    pub(super) async fn resolve(&self, host: &str, only_allowed: bool) -> Result<Vec<IpAddr>, Denied> {
        let denied = |rule| Denied { host: Some(host.to_owned()), rule };
        let unresolved = |why: String| denied(Rule::Unresolved(why));
        let found = match tokio::time::timeout(LOOKUP_TIMEOUT, (self.lookup)(host.to_owned())).await {
            Err(_) => return Err(unresolved(format!("no answer within {} s", LOOKUP_TIMEOUT.as_secs()))),
            Ok(Err(e)) => return Err(unresolved(e.to_string())),
            Ok(Ok(found)) if found.is_empty() => return Err(unresolved("it has no address".to_owned())),
            Ok(Ok(found)) if found.len() > MAX_ANSWERS => {
                return Err(unresolved(format!("{} addresses are more than {MAX_ANSWERS}", found.len())));
            }
            Ok(Ok(found)) => found,
        };
        for address in &found {
            self.judge_address(*address, only_allowed).map_err(denied)?;
        }
        Ok(found)
    }

    /// The resolver for an HTTP client. With `only_allowed`, for URLs with a pending rule.
    pub fn resolver(&self, only_allowed: bool) -> GuardedResolver {
        GuardedResolver { guard: self.clone(), only_allowed }
    }
}

/// A [`Guard`] in the shape in which reqwest asks for names.
#[derive(Clone, Debug)]
pub struct GuardedResolver {
    guard: Guard,
    only_allowed: bool,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let Self { guard, only_allowed } = self.clone();
        Box::pin(async move {
            let vetted = guard.resolve(name.as_str(), only_allowed).await?;
            let addresses: Addrs = Box::new(vetted.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        })
    }
}
