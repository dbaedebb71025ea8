//! What a running server takes over of a configuration that was read again.

use std::sync::Arc;

use super::{Server, StartError};
use crate::{
    config::Config,
    inbound::{Certificates, Keys},
    live::Live,
    outbound::{deliver::Sinks, download::Downloader, egress::Guard, upstream::Upstream},
};

/// What is made of the configuration and can be made anew.
pub(super) struct Replaceable {
    pub(super) upstream: Arc<Live<Upstream>>,
    pub(super) downloader: Arc<Downloader>,
    pub(super) sinks: Arc<Live<Sinks>>,
    pub(super) guard: Guard,
    pub(super) keys: Arc<Live<Keys>>,
    pub(super) certificates: Arc<Certificates>,
}

impl Server {
    /// Goes by `config` from now on; what is under way ends as it began. What only a start can change has to be as it was:
    /// [`Loaded::reloaded`](crate::config::Loaded::reloaded) makes it so.
    ///
    /// # Errors
    /// Whatever speaks against it; then nothing has changed but a certificate that was sound.
    pub async fn reload(&self, config: Config) -> Result<(), StartError> {
        let Replaceable { upstream, downloader, sinks, guard, keys, certificates } = &self.replaceable;
        let clock = self.app.clock();
        // What can fail comes first: the server goes by the old settings or by the new ones, never by a mixture.
        let kept = self.app.delivery_secret_under(&config).await?;
        let new_sinks = Sinks::new(&config, &kept, guard.clone(), clock.clone())?;
        let new_upstream = Upstream::new(&config.upstream, clock.clone())?;
        let new_keys = Keys::load(&config)?;
        certificates.reload()?;
        sinks.set(new_sinks);
        upstream.set(new_upstream);
        keys.set(new_keys);
        guard.reload(config.egress.allow.clone());
        downloader.reload(config.download.clone());
        self.app.reload(Arc::new(config));
        self.lanes.reloaded();
        Ok(())
    }
}
