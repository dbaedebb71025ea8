//! Where each field may stand, in the order of trust.
//!
//! `/data` stands for the task object wherever that was found; then the pointer is read as it stands. `*` is each element
//! of an array.

pub(super) const TASK_ID: &[&str] = &[
    "/data/task_id",
    "/data/taskId",
    "/data/id",
    "/task_id",
    "/taskId",
    "/id",
    "/data/0/id",
    "/data/task/id",
    "/payload/task/task_id",
    "/task/task_id",
    "/output/task_id",
    "/result/task_id",
    "/taskNo",
    "/generation_id",
];

/// Task ids with some senders, trace ids with others: asked last.
pub(super) const REQUEST_ID: &[&str] = &["/data/request_id", "/request_id"];

/// `type` counts only if the vocabulary knows its word, `successFlag` is an integer.
pub(super) const STATUS: &[&str] = &[
    "/data/status",
    "/data/task_status",
    "/data/state",
    "/status",
    "/task_status",
    "/state",
    "/data/0/status",
    "/payload/task/status",
    "/task/status",
    "/data/task/status",
    "/output/task_status",
    "/data/type",
    "/data/successFlag",
    "/successFlag",
];

/// Events; the word is what follows the last dot.
pub(super) const EVENT: &[&str] = &["/type", "/event", "/event_type"];

/// Each leads to a string, an object with a `url`, or an array of these. `resultJson` is a string that holds JSON.
pub(super) const VIDEO_URL: &[&str] = &[
    "/data/output/video_url",
    "/data/video_url",
    "/data/output/video",
    "/data/output/url",
    "/data/output/urls/*",
    "/data/output/*",
    "/data/response/*",
    "/data/response/resultUrls/*",
    "/data/resultJson",
    "/data/resultUrls/*",
    "/data/result/video_url",
    "/data/result/videos/*/url",
    "/data/result/urls/*",
    "/data/result/*",
    "/data/result",
    "/data/results/*",
    "/data/task_result/videos/*/url",
    "/data/outputs/*",
    "/data/files/*/file_url",
    "/data/videos/*/url",
    "/data/videos/*/video_url",
    "/data/creations/*/url",
    "/data/works/*/resource/resource",
    "/data/output/works/*/resource/resource",
    "/data/content/video_url",
    "/data/url",
];

/// Read as they stand, after the list above with and without its `/data`.
pub(super) const VIDEO_URL_ELSEWHERE: &[&str] = &[
    "/video/url",
    "/payload/video/url",
    "/payload/videos/*/video_url",
    "/assets/video",
    "/result_url",
    "/result/sample",
    "/output",
];

/// A reply that is nothing but a list of results.
pub(super) const VIDEO_URL_LISTED: &[&str] = &["/*", "/*/video_url"];

/// Inside a parsed `resultJson`.
pub(super) const VIDEO_URL_IN_RESULT_JSON: &[&str] = &["/resultUrls/*", "/videos/*", "/url"];

pub(super) const ERROR_TEXT: &[&str] = &[
    "/data/error_message",
    "/data/fail_reason",
    "/data/failMsg",
    "/data/task_status_msg",
    "/data/error/message",
    "/data/error",
    "/data/message",
    "/data/errorMessage",
    "/data/fail_message",
    "/error/message",
    "/error",
    "/error_message",
    "/fail_reason",
    "/failMsg",
    "/task_status_msg",
    "/failure_reason",
    "/failure",
    "/payload/task/reason",
    "/payload/detail/0/msg",
    "/detail",
    "/0/fail_message",
];

/// Says `success` as often as not: read only of what failed.
pub(super) const ERROR_TEXT_IF_FAILED: &[&str] = &["/message", "/msg"];

/// The error text of an answer that is not 2xx.
pub(super) const REFUSAL_TEXT: &[&str] =
    &["/error/message", "/error", "/message", "/msg", "/detail", "/detail/0/msg"];

/// Codes and types of errors, which, unlike free text, may say that the content was refused.
pub(super) const ERROR_CODE: &[&str] = &[
    "/data/error/code",
    "/data/error/type",
    "/data/error_code",
    "/data/errorCode",
    "/data/failCode",
    "/error/code",
    "/error/type",
    "/error_code",
    "/code",
    "/type",
];

pub(super) const PROGRESS: &[&str] = &[
    "/data/progress",
    "/progress",
    "/payload/task/progress_percent",
    "/task/progress_percent",
    "/data/percentage",
];

pub(super) const CREDITS: &[&str] = &[
    "/data/credits_consumed",
    "/data/consumed_credits",
    "/data/creditsConsumed",
    "/data/credits_used",
    "/data/credits",
    "/credits_consumed",
    "/credits",
    "/data/cost/amount_credits",
    "/cost/amount_credits",
    "/data/meta/usage/consume",
    "/data/final_unit_deduction",
];
