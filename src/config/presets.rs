//! Configurations that need no file.

use std::{net::Ipv4Addr, path::Path, time::Duration};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::Url;

use super::{
    Config,
    load::{LoadOptions, load},
};

/// The key by which the sandbox provider knows `reelhook dev`. Opens nothing else, so it is no secret.
pub const DEV_API_KEY: &str = "aio_sandbox";

impl Config {
    /// The compiled-in defaults: what [`load`] gives without file, environment and flags.
    /// Paths stay relative.
    pub fn defaults() -> Self {
        let nowhere = LoadOptions { path: None, system_file: "".into(), ..LoadOptions::default() };
        load(&nowhere).expect("the compiled-in example passes its own checks").config
    }

    /// Everything on this machine, for trying out: jobs go to the sandbox provider at `sandbox`, which works `speed`
    /// times faster than real time; state and videos live under `data_dir`; loopback addresses may be fetched from;
    /// only warnings are logged.
    pub fn for_dev(data_dir: &Path, sandbox: &Url, speed: f64) -> Self {
        let mut config = Self::defaults();
        config.upstream.base_url = sandbox.clone();
        config.upstream.api_key = Some(DEV_API_KEY.into());
        config.callback.public_url = Url::parse(&format!("http://{}", config.callback.listen)).ok();
        config.storage.root = data_dir.join("videos");
        config.store.path = data_dir.join("state");
        let v4 = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
        let v6 = Ipv6Net::new_assert(std::net::Ipv6Addr::LOCALHOST, 128);
        config.egress.allow = vec![IpNet::V4(v4), IpNet::V6(v6)];
        config.sandbox.speed = speed;
        // What `reelhook dev` itself has to say is not to drown in the log.
        "warn".clone_into(&mut config.log.level);
        let poll = &mut config.poll;
        for pause in
            [&mut poll.first_after, &mut poll.overdue_after, &mut poll.interval, &mut poll.max_interval]
        {
            *pause = faster(*pause, speed);
        }
        let upstream = &mut config.upstream;
        for pause in [&mut upstream.submit_timeout, &mut upstream.unknown_wait, &mut upstream.probe_after] {
            *pause = faster(*pause, speed);
        }
        upstream.requests_per_minute = 6_000;
        config
    }
}

/// A pause for a provider that is `speed` times faster; never longer than before nor too short for real calls.
fn faster(pause: Duration, speed: f64) -> Duration {
    let least = Duration::from_millis(250);
    Duration::try_from_secs_f64(pause.as_secs_f64() / speed).unwrap_or(pause).max(least).min(pause)
}
