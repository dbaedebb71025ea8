//! Every metric that this process gives out: its name, its meaning, and the closed set of values of each label. Whatever
//! is counted elsewhere is counted under one of these names; a test scrapes and compares.

use metrics::{Label, Level, Metadata, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder};

/// What kind of figure it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Rises and falls; read when asked for.
    Gauge,
    /// Counts in buckets with these upper bounds.
    Histogram(&'static [f64]),
}

/// A label and every value that it can have; none, where the configuration closes the set.
pub type LabelSet = (&'static str, &'static [&'static str]);

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metric {
    /// As Prometheus knows it.
    pub name: &'static str,
    /// What kind of figure it is.
    pub kind: Kind,
    /// What it says.
    pub help: &'static str,
    /// Its labels, never an id and never anybody's words.
    pub labels: &'static [LabelSet],
}

const PHASES: LabelSet = ("phase", &["queued", "sending", "unknown", "held", "awaiting", "fetching", "done"]);
const OPEN_PHASES: LabelSet = ("phase", &["queued", "sending", "unknown", "held", "awaiting", "fetching"]);
const OUTCOMES: LabelSet = ("outcome", &["succeeded", "failed", "canceled"]);
/// Those of the catalogue: no other is accepted.
const MODELS: LabelSet = ("model", &["kling-3", "grok-video", "ltx-2", "wan-2-6"]);
const OPERATIONS: LabelSet = ("operation", &["submit", "ask"]);
/// The names of the configuration; `notify` stands for the URLs that jobs bring along.
const SINKS: LabelSet = ("sink", &[]);
const DISKS: LabelSet = ("disk", &["store", "archive", "spool"]);
/// What the configuration calls this process.
const INSTANCE: LabelSet = ("instance", &[]);
const PERIODS: LabelSet = ("period", &["day", "month"]);
const CODES: LabelSet = (
    "code",
    &[
        "200", "201", "202", "400", "401", "402", "403", "404", "409", "422", "429", "500", "502", "503",
        "504", "2xx", "3xx", "4xx", "5xx", "not_sent", "silence",
    ],
);
const FAILURES: LabelSet = (
    "code",
    &[
        "upstream_rejected",
        "upstream_failed",
        "upstream_cancelled",
        "content_policy",
        "task_not_found",
        "deadline_exceeded",
        "artifact_missing",
        "artifact_unfetchable",
        "artifact_not_video",
        "artifact_too_large",
        "submit_abandoned",
    ],
);

const SECONDS_OF_A_CALL: Kind = Kind::Histogram(&[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0]);
const SECONDS_OF_WORK: Kind =
    Kind::Histogram(&[1.0, 5.0, 10.0, 20.0, 30.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0, 1800.0, 3600.0]);
const SECONDS_OF_A_SYNC: Kind =
    Kind::Histogram(&[0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0]);

const fn metric(name: &'static str, kind: Kind, labels: &'static [LabelSet], help: &'static str) -> Metric {
    Metric { name, kind, help, labels }
}

/// All of them.
pub const METRICS: &[Metric] = &[
    metric("reelhook_instance_info", Kind::Gauge, &[INSTANCE], "Always 1: what this instance is called."),
    metric("reelhook_jobs", Kind::Gauge, &[PHASES], "Jobs in each phase."),
    metric("reelhook_jobs_kept", Kind::Gauge, &[OUTCOMES], "Jobs in the store that have ended, by outcome."),
    metric(
        "reelhook_oldest_job_age_seconds",
        Kind::Gauge,
        &[OPEN_PHASES],
        "Age of the oldest job in each phase; 0 without one.",
    ),
    metric("reelhook_jobs_created_total", Kind::Counter, &[MODELS], "Jobs that were created."),
    metric("reelhook_jobs_finished_total", Kind::Counter, &[OUTCOMES], "Jobs that ended."),
    metric("reelhook_job_failures_total", Kind::Counter, &[FAILURES], "Jobs that failed, by error code."),
    metric(
        "reelhook_job_transitions_total",
        Kind::Counter,
        &[("from", PHASES.1), ("to", PHASES.1)],
        "Jobs that went from one phase to another.",
    ),
    metric(
        "reelhook_callbacks_total",
        Kind::Counter,
        &[("verdict", &["matched", "duplicate", "late", "unmatched", "forged", "malformed"])],
        "Callbacks with a valid token, by what was made of them.",
    ),
    metric(
        "reelhook_callback_misses_total",
        Kind::Counter,
        &[],
        "Requests to the callback listener without a valid token.",
    ),
    metric(
        "reelhook_callback_lag_seconds",
        SECONDS_OF_A_CALL,
        &[],
        "From a job's first callback until the task route confirmed the video.",
    ),
    metric(
        "reelhook_completions_total",
        Kind::Counter,
        &[("via", &["callback", "poll"])],
        "Finished tasks, by what told of them first.",
    ),
    metric(
        "reelhook_callbacks_silent",
        Kind::Gauge,
        &[],
        "1 while callbacks that were asked for do not come, else 0.",
    ),
    metric(
        "reelhook_completion_seconds",
        SECONDS_OF_WORK,
        &[],
        "From the acceptance of a task until its video was confirmed.",
    ),
    metric(
        "reelhook_asks_total",
        Kind::Counter,
        &[("result", &["running", "succeeded", "failed", "not_found", "unanswered"])],
        "Questions to the task route, by what was learned.",
    ),
    metric(
        "reelhook_unknown_status_words_total",
        Kind::Counter,
        &[],
        "Answers of the task route with a status word that is not in the vocabulary.",
    ),
    metric(
        "reelhook_upstream_requests_total",
        Kind::Counter,
        &[OPERATIONS, CODES],
        "Requests to the provider, by HTTP status or by what came instead of one.",
    ),
    metric(
        "reelhook_upstream_request_seconds",
        SECONDS_OF_A_CALL,
        &[OPERATIONS],
        "Time until the provider had answered.",
    ),
    metric(
        "reelhook_submits_paused",
        Kind::Gauge,
        &[],
        "1 while the provider refuses the key or the credits, else 0.",
    ),
    metric(
        "reelhook_credits_total",
        Kind::Counter,
        &[("kind", &["estimated", "reported"])],
        "Credits of new jobs by the catalogue, and of finished ones by the provider's word.",
    ),
    metric(
        "reelhook_budget_booked_credits",
        Kind::Gauge,
        &[PERIODS],
        "Credits booked in this UTC day or month.",
    ),
    metric(
        "reelhook_budget_limit_credits",
        Kind::Gauge,
        &[PERIODS],
        "Credits that may be booked; 0 is no limit.",
    ),
    metric(
        "reelhook_retention_removed_total",
        Kind::Counter,
        &[("kind", &["videos", "jobs", "events", "callbacks", "bodies", "deliveries"])],
        "What was removed after its time.",
    ),
    metric(
        "reelhook_downloads_total",
        Kind::Counter,
        &[(
            "result",
            &[
                "stored",
                "refused",
                "denied",
                "not_video",
                "too_large",
                "upstream",
                "busy",
                "network",
                "storage",
                "no_space",
                "stopped",
            ],
        )],
        "Attempts to fetch a file, by what came of them.",
    ),
    metric(
        "reelhook_downloaded_bytes_total",
        Kind::Counter,
        &[],
        "Bytes of files that were stored and verified.",
    ),
    metric(
        "reelhook_download_seconds",
        SECONDS_OF_WORK,
        &[],
        "Time that a file took from its first byte to storage.",
    ),
    metric(
        "reelhook_deliveries_total",
        Kind::Counter,
        &[SINKS, ("outcome", &["delivered", "failed", "exhausted"])],
        "Tries to tell a sink, by what came of them.",
    ),
    metric("reelhook_deliveries_pending", Kind::Gauge, &[], "Deliveries that are owed."),
    metric("reelhook_sink_disabled", Kind::Gauge, &[SINKS], "1 while a sink is told nothing, else 0."),
    metric("reelhook_sinks_disabled_total", Kind::Counter, &[SINKS], "Sinks that were disabled."),
    metric("reelhook_disk_free_bytes", Kind::Gauge, &[DISKS], "Room on a disk; 0 when it is gone."),
    metric("reelhook_disk_min_free_bytes", Kind::Gauge, &[DISKS], "Room that is kept free on a disk."),
    metric(
        "reelhook_disk_refuses",
        Kind::Gauge,
        &[DISKS, ("what", &["new_work", "everything"])],
        "1 while a disk does not take it, else 0.",
    ),
    metric("reelhook_store_bytes", Kind::Gauge, &[], "Size of the store on disk."),
    metric(
        "reelhook_store_sync_seconds",
        SECONDS_OF_A_SYNC,
        &[],
        "Time that the disk took to make a group durable.",
    ),
    metric(
        "reelhook_backup_behind_seconds",
        Kind::Gauge,
        &[],
        "Age of the oldest change of the store that the backup could not restore; 0 without one.",
    ),
    metric(
        "reelhook_backup_requests_total",
        Kind::Counter,
        &[("result", &["done", "failed"])],
        "Requests to the place of the backup.",
    ),
    metric(
        "reelhook_backup_uploaded_bytes_total",
        Kind::Counter,
        &[],
        "Bytes that were added to the backup.",
    ),
];

/// A recorder's settings: the buckets of each histogram.
pub(super) fn builder() -> Result<PrometheusBuilder, BuildError> {
    METRICS.iter().try_fold(PrometheusBuilder::new(), |builder, metric| match metric.kind {
        Kind::Histogram(bounds) => {
            builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), bounds)
        }
        Kind::Counter | Kind::Gauge => Ok(builder),
    })
}

/// Tells the recorder what each metric means, and begins counters at zero: a rate needs a point to rise from.
pub(super) fn describe() {
    for metric in METRICS {
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, metric.help),
            Kind::Gauge => describe_gauge!(metric.name, metric.help),
            Kind::Histogram(_) => describe_histogram!(metric.name, metric.help),
        }
        if metric.kind == Kind::Counter {
            begin(metric);
        }
    }
}

/// A counter with two labels has too many series for that.
fn begin(metric: &Metric) {
    let at_zero = |labels: Vec<Label>| {
        let metadata = Metadata::new(module_path!(), Level::INFO, None);
        let key = metrics::Key::from_parts(metric.name, labels);
        metrics::with_recorder(|recorder| recorder.register_counter(&key, &metadata).increment(0));
    };
    match metric.labels {
        [] => at_zero(Vec::new()),
        [(label, values)] => {
            values.iter().for_each(|value| at_zero(vec![Label::from_static_parts(label, value)]));
        }
        _ => {}
    }
}
