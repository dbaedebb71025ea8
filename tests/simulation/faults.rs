//! Deliberate faults in `step`, to see that the simulation would notice.

use reelhook::lifecycle::{Change, Event, FailCode, Job, Millis, Outcome, Phase, Policy, Refusal, Report};

/// A wrong arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// A create call that was answered by silence is sent again.
    ResendsOnSilence,
    /// A refusal counts whatever call it answers.
    TakesForeignRefusals,
    /// A question that taught nothing is not asked again.
    ForgetsTheDueTime,
    /// Canceling works on a settled job too.
    SettlesTwice,
    /// A create call's lease that lapsed brings the job back to the queue.
    ReleasesSending,
    /// An answer settles callbacks that came after its question, too.
    DropsNewerNudges,
    /// The create call's answer counts for the claim under way only.
    IgnoresLateAcceptance,
    /// A callback that came during a create call does not make its refusal doubtful.
    BelievesRefusalsAfterACallback,
}

impl Fault {
    pub(crate) fn step(self, job: &Job, event: &Event, now: Millis, policy: &Policy) -> Option<Change> {
        let sending = matches!(job.phase, Phase::Sending);
        match (self, event) {
            (Self::ResendsOnSilence, Event::Unknown(_, lease)) => {
                job.step(&Event::Refused(Refusal::Busy(None), *lease), now, policy)
            }
            (Self::TakesForeignRefusals, Event::Refused(refusal, lease)) => {
                let lease = job.lease.filter(|_| sending).unwrap_or(*lease);
                job.step(&Event::Refused(refusal.clone(), lease), now, policy)
            }
            (Self::ForgetsTheDueTime, Event::Unanswered(..)) => {
                let mut change = job.step(event, now, policy)?;
                change.job.due_at = None;
                Some(change)
            }
            (Self::SettlesTwice, Event::Cancel) if job.outcome().is_some() => {
                let mut open = job.clone();
                (open.phase, open.due_at) = (Phase::Queued { attempts: 0 }, Some(now));
                open.step(event, now, policy)
            }
            (Self::ReleasesSending, Event::Expired | Event::Orphaned) if sending => {
                let mut change = job.step(event, now, policy)?;
                (change.job.phase, change.job.due_at) = (Phase::Queued { attempts: 1 }, Some(now));
                Some(change)
            }
            (Self::DropsNewerNudges, Event::Reported(_, Report::Running { .. }, lease)) => {
                let mut job = job.clone();
                if let Phase::Awaiting(wait) = &mut job.phase {
                    wait.nudged = wait.nudged.filter(|at| at < lease);
                }
                job.step(event, now, policy)
            }
            (Self::IgnoresLateAcceptance, Event::Accepted(_, lease)) if job.lease != Some(*lease) => None,
            (Self::BelievesRefusalsAfterACallback, Event::Refused(..)) => {
                let mut deaf = job.clone();
                deaf.callback.received = 0;
                let mut change = deaf.step(event, now, policy)?;
                change.job.callback.received = job.callback.received;
                Some(change)
            }
            _ => job.step(event, now, policy),
        }
    }
}

/// The job ended without our knowing whether the upstream runs it, and says so.
pub(crate) fn admits_doubt(job: &Job) -> bool {
    match &job.phase {
        Phase::Held { .. } => true,
        Phase::Settled { outcome: Outcome::Canceled { may_still_charge, .. } } => *may_still_charge,
        Phase::Settled { outcome: Outcome::Failed { code, .. } } => *code == FailCode::SubmitAbandoned,
        _ => false,
    }
}

/// The event's name, without what it carries.
pub(crate) fn name(event: &Event) -> &'static str {
    match event {
        Event::Claimed(_) => "claimed",
        Event::Accepted(..) => "accepted",
        Event::Refused(..) => "refused",
        Event::Unknown(..) => "unknown",
        Event::Callback(_) => "callback",
        Event::Reported(..) => "reported",
        Event::Unanswered(..) => "unanswered",
        Event::Fetched { .. } => "fetched",
        Event::NotFetched { .. } => "not fetched",
        Event::Archived(_) => "archived",
        Event::Renewed(_) => "renewed",
        Event::Released(_) => "released",
        Event::Expired => "expired",
        Event::Orphaned => "orphaned",
        Event::Contradicted(_) => "contradicted",
        Event::Cancel => "cancel",
        Event::Attach(_) => "attach",
        Event::Abandon => "abandon",
        Event::Replace(_) => "replace",
        Event::Restored => "restored",
        Event::FilesRemoved => "files removed",
    }
}
