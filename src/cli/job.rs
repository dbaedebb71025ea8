//! The parts of the API's job that the command line acts on. Documents are passed on as they came.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    client::{Client, Reply},
    exit::{Exit, Failure},
};

/// Characters of a prompt in a list.
const BEGINNING: usize = 40;

/// The closed set of a job's states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    Queued,
    Running,
    Held,
    Succeeded,
    Failed,
    Canceled,
}

impl Status {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Held => "held",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }
}

/// A job, as far as it is read here.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Job {
    pub(crate) id: String,
    pub(crate) status: Status,
    pub(crate) phase: String,
    pub(crate) model: Option<String>,
    #[serde(default)]
    pub(crate) input: Map<String, Value>,
    #[serde(default)]
    pub(crate) progress: Progress,
    #[serde(default)]
    pub(crate) files: Vec<File>,
    pub(crate) cost: Option<Cost>,
    pub(crate) error: Option<JobError>,
    pub(crate) created_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct Progress {
    pub(crate) percent: Option<f64>,
    pub(crate) bytes_done: Option<u64>,
    pub(crate) bytes_total: Option<u64>,
}

/// A stored file.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    /// Hexadecimal.
    pub(crate) sha256: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Cost {
    pub(crate) estimated_credits: Option<u64>,
    pub(crate) reported_credits: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct JobError {
    pub(crate) code: String,
    pub(crate) message: String,
}

/// A job at one revision: what is read of it, and all that the server said.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) job: Job,
    pub(crate) document: Value,
    pub(crate) etag: Option<String>,
}

impl Snapshot {
    /// Reads an answer that is a job.
    pub(crate) fn read(reply: Reply) -> Result<Self, Failure> {
        let job = Job::deserialize(&reply.document).map_err(|error| {
            Failure::new(
                Exit::Failure,
                format!("the server's answer is not a job that this version reads: {error}"),
            )
        })?;
        Ok(Self { job, document: reply.document, etag: reply.etag })
    }

    /// Asks for a job.
    pub(crate) async fn get(client: &Client, id: &str) -> Result<Self, Failure> {
        Self::read(client.get(&["v1", "jobs", id]).await?)
    }
}

impl Job {
    /// Whether nothing more happens by itself.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(self.status, Status::Succeeded | Status::Failed | Status::Canceled)
    }

    /// The first characters of the prompt.
    pub(crate) fn beginning(&self) -> String {
        let prompt = self.input.get("prompt").and_then(Value::as_str).unwrap_or_default();
        match prompt.char_indices().nth(BEGINNING) {
            Some((end, _)) => format!("{}…", &prompt[..end]),
            None => prompt.to_owned(),
        }
    }

    /// What it cost, or will: as charged where the provider said so.
    pub(crate) fn credits(&self) -> Option<u64> {
        self.cost.and_then(|cost| cost.reported_credits.or(cost.estimated_credits))
    }

    /// Whether the job ended as it should; the failure carries the exit code for how it ended instead.
    pub(crate) fn outcome(&self) -> Result<(), Failure> {
        let id = &self.id;
        match (self.status, &self.error) {
            (Status::Succeeded, _) => Ok(()),
            (Status::Failed, Some(JobError { code, message })) => {
                Err(Failure::new(Exit::JobFailed, format!("{id} failed: {code}: {message}")))
            }
            (Status::Failed, None) => Err(Failure::new(Exit::JobFailed, format!("{id} failed"))),
            (Status::Canceled, _) => Err(Failure::new(Exit::JobFailed, format!("{id} was canceled"))),
            (Status::Held, error) => {
                let why = error.as_ref().map(|error| format!(" ({})", error.message)).unwrap_or_default();
                let detail = format!(
                    "{id} is held{why}: whether it was paid for is uncertain and a person has to decide; \
                     `reelhook jobs resolve {id} --action` attach, resubmit or fail"
                );
                Err(Failure::new(Exit::Held, detail))
            }
            (Status::Queued | Status::Running, _) => {
                Err(Failure::new(Exit::StillRunning, format!("{id} is still {}", self.status.as_str())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_long_prompt_is_told_by_its_beginning() {
        let job = |prompt: &str| -> Job {
            let document =
                json!({ "id": "x", "status": "queued", "phase": "queued", "input": { "prompt": prompt } });
            serde_json::from_value(document).unwrap()
        };
        assert_eq!(job("a fox").beginning(), "a fox");
        assert_eq!(job(&"é".repeat(99)).beginning(), format!("{}…", "é".repeat(BEGINNING)));
    }
}
