//! The one server of this loop, as a process that dies.

use std::{os::unix::process::ExitStatusExt, time::Duration};

use clap::ValueEnum;
use reelhook::chaos::Safeguard;

use crate::{
    name,
    plan::Kill,
    site::{Place, Site},
    support::{Process, free_port},
};

/// A point that was not passed often enough by then is not going to be.
const POINT_PATIENCE: Duration = Duration::from_secs(10);
const SIGABRT: i32 = 6;
const SIGTERM: i32 = 15;
/// The name of its files.
pub(crate) const NAME: &str = "reelhook";

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// As planned.
    Planned,
    /// By SIGKILL, since it did not come to the point.
    Missed,
}

pub(crate) struct Stage {
    pub(crate) site: Site,
    api: u16,
    missing: Option<Safeguard>,
}

impl Stage {
    pub(crate) async fn set(seed: u64, missing: Option<Safeguard>) -> Self {
        let (api, callback) = (free_port(), free_port());
        let site = Site::set(seed, api).await;
        site.configure(NAME, &Place { api, callback, public: callback, store: "sled:state", server: "" });
        Self { site, api, missing }
    }

    /// Starts a process that is to be killed, and sees it die.
    ///
    /// # Errors
    /// It ended otherwise.
    pub(crate) async fn live_and_die(&self, kill: Kill) -> Result<Death, String> {
        match kill {
            Kill::After(moment) => {
                let mut server = self.spawn(None);
                match server.ended_within(moment).await {
                    Some(status) => Err(format!("the server ended by itself: {status}")),
                    None => Ok(Death::Planned),
                }
            }
            Kill::Ending(moment, grace) => {
                let mut server = self.spawn(None);
                if let Some(status) = server.ended_within(moment).await {
                    return Err(format!("the server ended by itself: {status}"));
                }
                server.terminate();
                match server.ended_within(grace).await {
                    // SIGTERM itself ends one that does not yet listen for it.
                    Some(status) if status.success() || status.signal() == Some(SIGTERM) => {
                        Ok(Death::Planned)
                    }
                    Some(status) => Err(format!("the server did not end well: {status}")),
                    None => Ok(Death::Planned),
                }
            }
            Kill::At(point, passes) => {
                let mut server = self.spawn(Some(format!("{}:{passes}", name(point))));
                match server.ended_within(POINT_PATIENCE).await {
                    Some(status) if status.signal() == Some(SIGABRT) => Ok(Death::Planned),
                    Some(status) => Err(format!("the server ended by itself: {status}")),
                    None => Ok(Death::Missed),
                }
            }
        }
    }

    /// Starts a process that lives, and waits until it is ready.
    pub(crate) async fn start(&self) -> Process {
        self.spawn(None).ready().await
    }

    fn spawn(&self, die_at: Option<String>) -> Process {
        let missing = self.missing.and_then(|missing| missing.to_possible_value());
        let missing = missing.map(|missing| ("CHAOS_WITHOUT", missing.get_name().to_owned()));
        self.site.spawn(NAME, self.api, die_at.map(|at| ("CHAOS_DIE_AT", at)).into_iter().chain(missing))
    }
}
