//! What a service manager such as systemd is told: that the server is ready, lives, and stops. Where none started the
//! process, nobody is told.

use std::{sync::Arc, time::Duration};

use reelhook::app::App;
use sd_notify::NotifyState;
use tokio::task::JoinHandle;

/// The manager, while the server runs.
pub(crate) struct Supervisor {
    pulse: Option<JoinHandle<()>>,
}

impl Supervisor {
    /// Says that the server is ready, and from now on that it lives, as often as the manager wants to hear it.
    pub(crate) fn ready(app: &Arc<App>) -> Self {
        tell(&[NotifyState::Ready]);
        let patience = sd_notify::watchdog_enabled();
        Self { pulse: patience.map(|patience| tokio::spawn(pulse(Arc::clone(app), patience / 2))) }
    }

    /// Says that the server reads its configuration again.
    pub(crate) fn reloading(&self) {
        // systemd compares the time with that of its signal.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!(%error, "there is no clock to tell the service manager of a reload"),
        }
    }

    /// Says that it is as ready as before.
    pub(crate) fn reloaded(&self) {
        tell(&[NotifyState::Ready]);
    }

    /// Says that the server stops, which takes its time: the manager's own time-out counts from here.
    pub(crate) fn stopping(self) {
        tell(&[NotifyState::Stopping]);
        if let Some(pulse) = self.pulse {
            pulse.abort();
        }
    }
}

/// A server whose store does not answer is no use, however well its threads run: the manager is to start it again.
async fn pulse(app: Arc<App>, every: Duration) {
    loop {
        if let Ok(Ok(())) = tokio::time::timeout(every, app.store().barrier()).await {
            tell(&[NotifyState::Watchdog]);
        }
        tokio::time::sleep(every).await;
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told how the server does");
    }
}
