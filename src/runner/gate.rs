//! The gate before the create calls: shut while the upstream refuses the account.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{
    app::{App, Pause},
    clock::Clock,
    lifecycle::Millis,
    store,
};

/// Probes come ever more slowly, up to so many times the first wait.
const SLOWEST: u32 = 40;

/// Open, or shut with one probe now and then: the next queued job. An acceptance opens it. Where instances share a store,
/// the gate is the store's, and this one passes on to it.
pub(super) struct Gate {
    app: Arc<App>,
    clock: Clock,
    first_wait: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    pause: Option<Pause>,
    /// By the time that passed, whatever the wall clock says.
    probe_at: Option<Duration>,
    last_accepted: Option<Millis>,
}

impl Gate {
    pub(super) fn new(app: Arc<App>) -> Self {
        let (clock, first_wait) = (app.clock().clone(), app.config().upstream.probe_after);
        Self { app, clock, first_wait, state: Mutex::default() }
    }

    fn shared(&self) -> Option<&dyn store::Gate> {
        self.app.store().gate()
    }

    /// Returns when a create call may be made: at once, or as the next probe.
    pub(super) async fn opened(&self) {
        if self.shared().is_some() {
            return; // a claim takes nothing while it is shut
        }
        loop {
            let now = self.clock.elapsed();
            let probe_at = {
                let mut state = self.lock();
                match state.probe_at {
                    None => return,
                    Some(at) if at <= now => {
                        // This one is the probe; the others go on waiting, for its answer or for the next turn.
                        state.probe_at = Some(now + self.wait(&state));
                        return;
                    }
                    Some(at) => at,
                }
            };
            // Short sleeps, since an acceptance may open the gate meanwhile.
            self.clock.sleep((probe_at - now).min(self.first_wait)).await;
        }
    }

    /// The upstream took a job.
    pub(super) async fn accepted(&self, now: Millis) {
        if let Some(shared) = self.shared() {
            if let Err(error) = shared.accepted(now).await {
                tracing::warn!(%error, "other instances learn later that the upstream takes jobs");
            }
            return;
        }
        let mut state = self.lock();
        state.last_accepted = Some(now);
        if state.pause.take().is_some() {
            state.probe_at = None;
            tracing::info!("the upstream takes jobs again; submitting goes on");
        }
    }

    /// The upstream refused the account.
    pub(super) async fn refused(&self, why: &str, now: Millis) {
        if let Some(shared) = self.shared() {
            let first_wait = self.app.policy().probe_after;
            if let Err(error) = shared.refused(why, now, first_wait).await {
                tracing::warn!(%error, "other instances learn only by themselves that the upstream refuses the account");
            }
            return;
        }
        let mut state = self.lock();
        let refusals = state.pause.as_ref().map_or(0, |pause| pause.refusals) + 1;
        if refusals == 1 {
            tracing::error!(
                why,
                "the upstream refuses our key or credits; jobs stay queued and one a time probes"
            );
        }
        state.pause = Some(Pause { why: why.to_owned(), refusals });
        state.probe_at = Some(self.clock.elapsed() + self.wait(&state));
    }

    /// What the account was refused for may be over: the next probe is due. Instances that share the gate keep its times.
    pub(super) fn hasten(&self) {
        let mut state = self.lock();
        if state.probe_at.is_some() {
            state.probe_at = Some(self.clock.elapsed());
        }
    }

    /// Whether other jobs were accepted since then.
    pub(super) fn passed_since(&self, then: Millis) -> bool {
        let last = self.shared().map_or_else(|| self.lock().last_accepted, store::Gate::last_accepted);
        last.is_some_and(|at| at > then)
    }

    /// Why it is shut, if it is.
    pub(super) fn pause(&self) -> Option<Pause> {
        self.lock().pause.clone()
    }

    fn wait(&self, state: &State) -> Duration {
        let refusals = state.pause.as_ref().map_or(1, |pause| pause.refusals).max(1);
        self.first_wait * 2_u32.saturating_pow(refusals - 1).min(SLOWEST)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
