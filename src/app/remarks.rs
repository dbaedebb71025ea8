//! What a person should know of a job, in words: why it waits, and what can be done about it.

use jiff::Timestamp;

use crate::lifecycle::{Job, Millis, Outcome, Phase, Why};

/// What a person should know or do about a job, the most pressing first. `pause`: why no create calls are made.
#[must_use]
pub fn remarks(job: &Job, pause: Option<&str>) -> Vec<String> {
    let pause = pause.filter(|_| matches!(job.phase, Phase::Queued { .. }));
    let told = |trouble: &&String| pause.is_none_or(|why| !trouble.contains(why));
    let trouble =
        job.trouble.iter().filter(told).map(|why| format!("The last attempt did not succeed: {why}."));
    let removed = job.files_removed_at.map(|at| {
        format!("Its files were removed from storage at {}, after `[retention] videos`.", instant(at))
    });
    state(job, pause).into_iter().chain(trouble).chain(removed).chain(job.notices.iter().cloned()).collect()
}

fn state(job: &Job, pause: Option<&str>) -> Option<String> {
    Some(match &job.phase {
        Phase::Queued { .. } => {
            format!(
                "The upstream refuses our key or credits: {}. The job waits and has cost nothing.",
                pause?
            )
        }
        Phase::Unknown { why } => format!(
            "{} It is not sent again; a callback can still name the task. Without one a person must decide{}.",
            words(*why),
            job.due_at.map(|at| format!(" after {}", instant(at))).unwrap_or_default()
        ),
        Phase::Held { why } => format!(
            "{} A person must decide: `reelhook jobs resolve {} --action` with `attach --task-id TASK`, `resubmit` \
             (paid again) or `fail`.",
            words(*why),
            job.id
        ),
        Phase::Settled { outcome: Outcome::Canceled { may_still_charge: true, .. } } => {
            "It had been sent before it was canceled: the upstream may still charge it.".to_owned()
        }
        _ => return None,
    })
}

const fn words(why: Why) -> &'static str {
    match why {
        Why::AnswerLost => "The create call was sent and its answer was lost, so it may have been charged.",
        Why::AcceptedWithoutId => "The upstream took the job and named no task.",
        Why::IdContradicted => "The task that was named for this job is unknown there, or another job's.",
        Why::Restored => "The record comes from a backup; what happened since is not known.",
    }
}

fn instant(at: Millis) -> String {
    Timestamp::from_millisecond(at.0).map(|at| format!("{at:.3}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::{JobId, NewJob};

    fn job(phase: Phase, trouble: Option<&str>) -> Job {
        let new = NewJob { notices: vec!["a notice".into()], ..NewJob::default() };
        let mut job = Job::new(JobId::new(Millis(1), &[1; 10]), Millis(1), new);
        (job.phase, job.trouble) = (phase, trouble.map(str::to_owned));
        job
    }

    #[test]
    fn a_job_that_waits_says_why_and_keeps_its_notices() {
        let told = remarks(&job(Phase::Queued { attempts: 1 }, Some("the upstream is too busy")), None);
        assert_eq!(told, ["The last attempt did not succeed: the upstream is too busy.", "a notice"]);
    }

    #[test]
    fn a_pause_is_told_once_and_only_to_who_waits_for_it() {
        let queued = job(Phase::Queued { attempts: 1 }, Some("the upstream refuses our key: no credits"));
        let told = remarks(&queued, Some("no credits"));
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("no credits") && told[0].contains("cost nothing"), "{told:?}");
        assert_eq!(remarks(&job(Phase::Sending, None), Some("no credits")), ["a notice"]);
    }

    #[test]
    fn uncertain_money_is_told_with_its_reason_and_the_ways_out() {
        for (why, part) in [
            (Why::AnswerLost, "answer was lost"),
            (Why::AcceptedWithoutId, "named no task"),
            (Why::IdContradicted, "another job's"),
            (Why::Restored, "backup"),
        ] {
            let held = remarks(&job(Phase::Held { why }, None), None).remove(0);
            for word in [part, "attach", "resubmit", "fail"] {
                assert!(held.contains(word), "{held}");
            }
            let unknown = remarks(&job(Phase::Unknown { why }, None), None).remove(0);
            assert!(unknown.contains(part) && unknown.contains("not sent again"), "{unknown}");
        }
    }
}
