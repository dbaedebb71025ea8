//! A job in the upstream's own shape, for clients that were written for the upstream.

use serde_json::{Value, json};

use crate::lifecycle::{Job, Outcome, StoredFile};

/// What the upstream would say of this job as one of its tasks; `link` gives the address of a stored file. The status is
/// `IN_PROGRESS` until the job has ended, so that `SUCCESS` means: the file is stored.
#[must_use]
pub fn task(job: &Job, link: impl Fn(&StoredFile) -> String) -> Value {
    let mut data = json!({ "task_id": job.id, "status": "IN_PROGRESS" });
    match job.outcome() {
        None => {}
        Some(Outcome::Stored { files }) => {
            let links: Vec<String> = files.iter().map(link).collect();
            data["status"] = json!("SUCCESS");
            data["output"] = json!({ "video_url": links.first(), "urls": links });
        }
        Some(Outcome::Failed { message, .. }) => {
            data["status"] = json!("FAILED");
            data["error_message"] = json!(message);
        }
        Some(Outcome::Canceled { .. }) => {
            data["status"] = json!("FAILED");
            data["error_message"] = json!("the job was canceled");
        }
    }
    json!({ "code": 200, "message": "success", "data": data })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lifecycle::{FailCode, JobId, Millis, NewJob, Phase},
        provider::reply::{self, Class, Mapping, TaskAnswer},
    };

    fn told(outcome: Option<Outcome>) -> (String, TaskAnswer) {
        let mut job = Job::new(JobId::new(Millis(1), &[1; 10]), Millis(1), NewJob::default());
        if let Some(outcome) = outcome {
            job.phase = Phase::Settled { outcome };
        }
        let answer = task(&job, |file| format!("https://reelhook.example.com/{}", file.name)).to_string();
        let read =
            reply::read_task(200, None, answer.as_bytes(), Some(&job.id.to_string()), &Mapping::default());
        (answer, read)
    }

    #[test]
    fn our_own_reader_of_the_upstream_understands_it() {
        let file = |name: &str| StoredFile {
            name: name.into(),
            location: String::new(),
            bytes: 1,
            sha256: String::new(),
            content_type: "video/mp4".into(),
        };
        let (_, running) = told(None);
        assert!(matches!(running, TaskAnswer::Known(known) if known.class == Some(Class::Running)));
        let (_, done) = told(Some(Outcome::Stored { files: vec![file("a.mp4"), file("b.mp4")] }));
        let TaskAnswer::Known(done) = done else { panic!("{done:?}") };
        assert_eq!(done.class, Some(Class::Succeeded));
        assert_eq!(done.urls, ["https://reelhook.example.com/a.mp4"]);
        let (code, message, files) = (FailCode::UpstreamFailed, "no light".to_owned(), Vec::new());
        let (said, failed) = told(Some(Outcome::Failed { code, message, files }));
        assert!(matches!(failed, TaskAnswer::Known(known) if known.class == Some(Class::Failed)));
        assert!(said.contains("no light"));
        let (_, canceled) = told(Some(Outcome::Canceled { may_still_charge: true }));
        assert!(matches!(canceled, TaskAnswer::Known(known) if known.class == Some(Class::Failed)));
    }
}
