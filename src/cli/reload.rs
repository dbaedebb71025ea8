//! SIGHUP: the configuration is read again, and the running server goes by what it can take over of it.

use reelhook::{
    config::{self, InForce, LoadOptions, Loaded, Reload},
    server::Server,
    telemetry,
};

use super::{config::warnings, supervisor::Supervisor};

/// Where the configuration comes from, and what is in force of it.
pub(crate) struct Reloader {
    options: LoadOptions,
    in_force: InForce,
}

impl Reloader {
    /// For a server that was started with `loaded`, which was read by these options.
    pub(crate) fn new(options: LoadOptions, loaded: &Loaded) -> Self {
        Self { options, in_force: InForce::at_start(loaded) }
    }

    /// Reads everything again. What is wrong, or waits for a restart, is logged; a wrong configuration changes nothing.
    pub(crate) async fn reload(&mut self, server: &Server, supervisor: &Supervisor) {
        supervisor.reloading();
        match self.take_over(server).await {
            Ok(Reload { in_force, changed, waiting }) => {
                self.in_force = in_force;
                for key in &waiting {
                    tracing::warn!(key, "the configuration was read again; this change waits for a restart");
                }
                tracing::info!(?changed, ?waiting, "the configuration was read again and is in force");
            }
            Err(why) => tracing::error!("the configuration was read again and changes nothing: {why}"),
        }
        supervisor.reloaded();
    }

    async fn take_over(&self, server: &Server) -> Result<Reload, String> {
        let loaded = config::load(&self.options).map_err(|error| error.to_string())?;
        for warning in warnings(&loaded) {
            tracing::warn!("{warning}");
        }
        let reload = self.in_force.reload(&loaded).map_err(|error| error.to_string())?;
        let config = reload.in_force.config();
        server.reload(config.clone()).await.map_err(|error| error.to_string())?;
        if let Err(error) = telemetry::set_level(&config.log) {
            tracing::warn!(%error, "log.level stays as it was");
        }
        Ok(reload)
    }
}
