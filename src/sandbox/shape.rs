//! The bodies that the provider answers with, in its own shape and in those of others.

use std::str::FromStr;

use serde_json::{Value, json};

use super::task::Task;

/// Whose JSON a task speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Shape {
    /// The newer documentation page of the upstream.
    #[default]
    New,
    /// Its older page: flat, `id` and `status`.
    Old,
    /// `successFlag` and a `resultJson` that is a string.
    Kie,
    /// `task_status` and `task_result.videos`.
    Kling,
    /// A list at the root, without an id.
    Array,
}

impl FromStr for Shape {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        match name {
            "old" => Ok(Self::Old),
            "kie" => Ok(Self::Kie),
            "kling" => Ok(Self::Kling),
            "array" => Ok(Self::Array),
            _ => Err(()),
        }
    }
}

/// What a body says about a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Running {
        percent: u8,
    },
    /// A status word that nobody documented.
    Odd {
        word: String,
    },
    Succeeded {
        url: Option<String>,
    },
    Failed {
        why: String,
    },
}

/// The answer to the create call that made `task`.
pub(super) fn created(task: &Task) -> Value {
    let id = &task.id;
    match task.directives.shape {
        Shape::New => {
            json!({"code": 200, "message": "success", "data": {"task_id": id, "status": "IN_PROGRESS"}})
        }
        Shape::Old => {
            json!({"id": id, "status": "pending", "model": task.model, "created_at": task.created_at_text()})
        }
        Shape::Kie => json!({"code": 200, "msg": "success", "data": {"taskId": id}}),
        Shape::Kling => json!({"code": 0, "message": "SUCCEED", "request_id": format!("req_{id}"),
            "data": {"task_id": id, "task_status": "submitted", "created_at": task.created_at.as_millisecond()}}),
        Shape::Array => {
            json!({"code": 200, "message": "success", "data": [{"id": id, "status": "IN_PROGRESS"}]})
        }
    }
}

/// The task as the task route and callbacks show it at `stage`. `id` is the task's own, except in a forgery.
pub(super) fn task(task: &Task, id: &str, stage: &Stage) -> Value {
    match task.directives.shape {
        Shape::New => new(task, id, stage),
        Shape::Old => old(task, id, stage),
        Shape::Kie => kie(task, id, stage),
        Shape::Kling => kling(task, id, stage),
        Shape::Array => array(stage),
    }
}

fn new(task: &Task, id: &str, stage: &Stage) -> Value {
    let data = match stage {
        Stage::Running { percent } => json!({"task_id": id, "status": "IN_PROGRESS", "progress": percent}),
        Stage::Odd { word } => json!({"task_id": id, "status": word}),
        Stage::Succeeded { url } => {
            let output = url.as_ref().map_or_else(|| json!({}), |url| json!({"video_url": url}));
            json!({"task_id": id, "status": "SUCCESS", "progress": 100, "output": output,
                "credits_consumed": task.credits})
        }
        Stage::Failed { why } => json!({"task_id": id, "status": "FAILED", "error_message": why}),
    };
    json!({"code": 200, "message": "success", "data": data})
}

fn old(task: &Task, id: &str, stage: &Stage) -> Value {
    let mut body = json!({"id": id, "model": task.model, "created_at": task.created_at_text()});
    match stage {
        Stage::Running { percent } => {
            body["status"] = "processing".into();
            body["progress"] = (*percent).into();
        }
        Stage::Odd { word } => body["status"] = word.as_str().into(),
        Stage::Succeeded { url } => {
            body["status"] = "completed".into();
            if let Some(url) = url {
                body["output"] = json!({"video_url": url});
            }
        }
        Stage::Failed { why } => {
            body["status"] = "failed".into();
            body["error"] = why.as_str().into();
        }
    }
    body
}

fn kie(task: &Task, id: &str, stage: &Stage) -> Value {
    let data = match stage {
        Stage::Running { .. } => json!({"taskId": id, "successFlag": 0}),
        Stage::Odd { word } => json!({"taskId": id, "state": word}),
        Stage::Succeeded { url } => {
            let urls: Vec<&String> = url.iter().collect();
            json!({"taskId": id, "successFlag": 1, "resultJson": json!({"resultUrls": urls}).to_string(),
                "creditsConsumed": task.credits})
        }
        Stage::Failed { why } => json!({"taskId": id, "successFlag": 3, "failMsg": why}),
    };
    json!({"code": 200, "msg": "success", "data": data})
}

fn kling(task: &Task, id: &str, stage: &Stage) -> Value {
    let data = match stage {
        Stage::Running { .. } => json!({"task_id": id, "task_status": "processing"}),
        Stage::Odd { word } => json!({"task_id": id, "task_status": word}),
        Stage::Succeeded { url } => {
            let videos: Vec<Value> = url.iter().map(|url| json!({"id": "1", "url": url})).collect();
            json!({"task_id": id, "task_status": "succeed", "task_result": {"videos": videos},
                "final_unit_deduction": task.credits.to_string()})
        }
        Stage::Failed { why } => json!({"task_id": id, "task_status": "failed", "task_status_msg": why}),
    };
    json!({"code": 0, "message": "SUCCEED", "request_id": format!("req_{id}"), "data": data})
}

fn array(stage: &Stage) -> Value {
    match stage {
        Stage::Running { percent } => json!([{"status": "IN_PROGRESS", "progress": percent}]),
        Stage::Odd { word } => json!([{"status": word}]),
        Stage::Succeeded { url: Some(url) } => json!([{"status": "SUCCESS", "video_url": url}]),
        Stage::Succeeded { url: None } => json!([{"status": "SUCCESS"}]),
        Stage::Failed { why } => json!([{"status": "FAILED", "fail_message": why}]),
    }
}
