//! A job as the upstream would show its task, for those who were written for the upstream: what its task route answers
//! and what it calls back.

use serde_json::{Map, Value, json};
use url::Url;

use super::{App, remarks};
use crate::lifecycle::{Job, Outcome};

impl App {
    /// [`task_shape`] with links to our files that need no key, and with what a person should know while the job waits.
    #[must_use]
    pub fn task_shape(&self, job: &Job) -> Value {
        let pause = self.pause().map(|pause| pause.why);
        let waits_for = remarks(job, pause.as_deref()).into_iter().find(|said| !job.notices.contains(said));
        task_shape(job, waits_for.as_deref(), |name| self.media_url(job.id, name))
    }
}

/// The body of the upstream's task route about a job of ours: `SUCCESS` once its files are in storage, `FAILED` once it
/// ended without them, `IN_PROGRESS` before that, also while a person has to decide. `waits_for` says why it does not go
/// on; `link` makes the address of a stored file.
#[must_use]
pub fn task_shape(job: &Job, waits_for: Option<&str>, link: impl Fn(&str) -> Url) -> Value {
    let mut task = Map::new();
    let mut tell = |name: &str, value: Value| task.insert(name.to_owned(), value);
    tell("task_id", json!(job.id));
    match job.outcome() {
        None => {
            tell("status", json!("IN_PROGRESS"));
            job.progress.map(|percent| tell("progress", json!(percent)));
            waits_for.map(|why| tell("message", json!(why)));
        }
        Some(Outcome::Stored { files }) => {
            let links: Vec<Url> = files.iter().map(|file| link(&file.name)).collect();
            tell("status", json!("SUCCESS"));
            tell("progress", json!(100));
            tell("output", json!({ "video_url": links.first(), "urls": links }));
        }
        Some(Outcome::Failed { code, message, .. }) => {
            tell("status", json!("FAILED"));
            tell("error_code", json!(code));
            tell("error_message", json!(message));
        }
        Some(Outcome::Canceled { may_still_charge, .. }) => {
            let message = match may_still_charge {
                true => "the job was canceled after it had been sent: the upstream may still charge it",
                false => "the job was canceled before it was sent; nothing was spent",
            };
            tell("status", json!("FAILED"));
            tell("error_code", json!("canceled"));
            tell("error_message", json!(message));
        }
    }
    job.cost.reported_credits.map(|credits| tell("credits_consumed", json!(credits)));
    json!({ "code": 200, "message": "success", "data": task })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lifecycle::{FailCode, JobId, Millis, NewJob, Phase, StoredFile, Why},
        provider::reply::{self, Class, Mapping, TaskAnswer},
    };

    fn job(phase: Phase) -> Job {
        let mut job = Job::new(JobId::new(Millis(1), &[1; 10]), Millis(1), NewJob::default());
        job.phase = phase;
        job
    }

    fn settled(outcome: Outcome) -> Job {
        job(Phase::Settled { outcome })
    }

    fn data(job: &Job) -> Value {
        let link = |name: &str| format!("https://videos.example.com/{name}").parse().unwrap();
        task_shape(job, Some("a reason"), link)["data"].clone()
    }

    #[test]
    fn a_stored_job_is_a_success_with_our_links() {
        let file = |name: &str| StoredFile {
            name: name.into(),
            location: String::new(),
            bytes: 1,
            sha256: String::new(),
            content_type: "video/mp4".into(),
        };
        let mut job = settled(Outcome::Stored { files: vec![file("a.mp4"), file("b.mp4")] });
        job.cost.reported_credits = Some(300);
        let [a, b] = ["https://videos.example.com/a.mp4", "https://videos.example.com/b.mp4"];
        let expected = json!({
            "task_id": job.id, "status": "SUCCESS", "progress": 100,
            "output": { "video_url": a, "urls": [a, b] }, "credits_consumed": 300,
        });
        assert_eq!(data(&job), expected);
    }

    #[test]
    fn what_has_not_ended_is_in_progress_and_says_what_it_waits_for() {
        for phase in [Phase::Queued { attempts: 0 }, Phase::Sending, Phase::Held { why: Why::AnswerLost }] {
            let job = job(phase);
            let expected = json!({ "task_id": job.id, "status": "IN_PROGRESS", "message": "a reason" });
            assert_eq!(data(&job), expected);
        }
    }

    #[test]
    fn what_ended_without_its_files_has_failed_and_says_why_in_the_upstreams_member() {
        let (code, message) = (FailCode::ContentPolicy, "not allowed".to_owned());
        let failed = data(&settled(Outcome::Failed { code, message, files: Vec::new() }));
        assert_eq!(
            (&failed["status"], &failed["error_code"], &failed["error_message"]),
            (&json!("FAILED"), &json!("content_policy"), &json!("not allowed"))
        );
        for (may_still_charge, part) in [(true, "may still charge"), (false, "nothing was spent")] {
            let canceled = data(&settled(Outcome::Canceled { may_still_charge, files: Vec::new() }));
            assert_eq!(canceled["status"], "FAILED");
            assert!(canceled["error_message"].as_str().unwrap().contains(part), "{canceled}");
        }
    }

    #[test]
    fn our_own_reader_of_the_upstream_understands_it() {
        let file = StoredFile {
            name: "a.mp4".into(),
            location: String::new(),
            bytes: 1,
            sha256: String::new(),
            content_type: "video/mp4".into(),
        };
        let link = |name: &str| format!("https://videos.example.com/{name}").parse::<Url>().unwrap();
        for (job, class, urls) in [
            (job(Phase::Sending), Class::Running, vec![]),
            (
                settled(Outcome::Stored { files: vec![file] }),
                Class::Succeeded,
                vec![link("a.mp4").to_string()],
            ),
            (settled(Outcome::Canceled { may_still_charge: true, files: Vec::new() }), Class::Failed, vec![]),
        ] {
            let body = task_shape(&job, Some("a reason"), link).to_string();
            let ours = job.id.to_string();
            let read = reply::read_task(200, None, body.as_bytes(), Some(&ours), &Mapping::default());
            let TaskAnswer::Known(report) = read else { panic!("{read:?}") };
            assert_eq!((report.class, report.task_id, report.urls), (Some(class), Some(ours), urls));
        }
    }
}
