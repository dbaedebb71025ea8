//! The manifest: a JSON document beside the files of a job, for whoever reads the archive without asking reelhook.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The present version of [`Manifest`]'s shape. Fields may be added under the same number.
pub const SCHEMA: u32 = 1;

/// What is known of a stored job. It is written after the last file, so where it lies every file is whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this shape: [`SCHEMA`].
    pub schema: u32,
    /// Our id of the job, `job_…`.
    pub job_id: String,
    /// The upstream's id of the task, where it told one.
    pub task_id: Option<String>,
    /// The model that made the video.
    pub model: String,
    /// What was asked of the upstream, without its `callback_url`, whose path is a secret.
    pub input: Map<String, Value>,
    /// What it cost.
    pub cost: ManifestCost,
    /// The stored files, in the order of the upstream's answer.
    pub files: Vec<ManifestFile>,
    /// When the job was created. RFC 3339, UTC.
    pub created_at: Timestamp,
    /// When the last file was stored. RFC 3339, UTC.
    pub stored_at: Timestamp,
}

/// The price of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ManifestCost {
    /// Credits by our price list, as announced before the job was sent; `None` for a model without a price.
    pub estimated_credits: Option<u64>,
    /// Credits that the upstream says it took.
    pub reported_credits: Option<u64>,
}

/// One stored file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFile {
    /// The last segment of `location`.
    pub name: String,
    /// The key in the archive.
    pub location: String,
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 of the content in lower-case hex.
    pub sha256: String,
    /// Media type by content, not by what the server claimed.
    pub content_type: String,
}

/// Makes a manifest. Of the input everything is kept but `callback_url`, whose path holds the callback's token.
pub fn manifest(
    job_id: &str,
    task_id: Option<&str>,
    mut input: Map<String, Value>,
    cost: ManifestCost,
    files: Vec<ManifestFile>,
    created_at: Timestamp,
    stored_at: Timestamp,
) -> Manifest {
    input.remove("callback_url");
    let model = input.get("model").and_then(Value::as_str).unwrap_or_default().to_owned();
    Manifest {
        schema: SCHEMA,
        job_id: job_id.to_owned(),
        task_id: task_id.map(str::to_owned),
        model,
        input,
        cost,
        files,
        created_at,
        stored_at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callback_url_is_not_in_the_manifest() {
        let input = serde_json::json!({"model": "kling-3", "prompt": "a fox", "callback_url": "https://us/cb/job_1/t0k3n"});
        let Value::Object(input) = input else { unreachable!() };
        let cost = ManifestCost { estimated_credits: Some(300), reported_credits: None };
        let made = manifest(
            "job_1",
            Some("task-1"),
            input,
            cost,
            vec![],
            Timestamp::UNIX_EPOCH,
            Timestamp::UNIX_EPOCH,
        );
        let text = serde_json::to_string(&made).unwrap();
        assert!(!text.contains("t0k3n") && !text.contains("callback_url"), "{text}");
        assert_eq!(made.model, "kling-3");
        assert_eq!(serde_json::from_str::<Manifest>(&text).unwrap(), made);
    }
}
