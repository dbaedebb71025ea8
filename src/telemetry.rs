//! Logs: text for people, JSON for machines, always on stderr, since stdout is for data. Metrics: for Prometheus. Traces: for
//! a collector, by OTLP.

mod metrics;
mod named;
#[cfg(feature = "otel")]
mod traces;
#[cfg(not(feature = "otel"))]
#[path = "telemetry/traces/absent.rs"]
mod traces;

use std::{io::IsTerminal, sync::OnceLock, time::Duration};

use metrics_exporter_prometheus::PrometheusHandle;
use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter,
    filter::ParseError,
    fmt::MakeWriter,
    reload,
    util::{SubscriberInitExt, TryInitError},
};

pub use self::metrics::{Kind, LabelSet, METRICS, Metric};
use self::named::Named;
use crate::config::{Log, LogFormat, Otel};

/// Telemetry cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// `log.level` is neither a level nor a list of directives.
    #[error("log.level is not understood: {0}")]
    Level(#[from] ParseError),
    /// Logging began already in this process.
    #[error("logging was set up twice: {0}")]
    Twice(#[from] TryInitError),
    /// Traces cannot be sent.
    #[error("traces cannot be sent to [otel] endpoint: {0}")]
    Traces(String),
    /// Logging has ended.
    #[error("the level cannot be changed: {0}")]
    Ended(#[from] reload::Error),
}

/// Sends the logs of this process to stderr, by `log.level` and `log.format`. Where it is one of several, each line for
/// machines says which `instance` wrote it.
///
/// # Errors
/// The level is not understood, or logging was set up before.
pub fn init(log: &Log, instance: Option<&str>) -> Result<(), InitError> {
    let (subscriber, level) = subscriber(log, instance, std::io::stderr().is_terminal(), std::io::stderr)?;
    subscriber.try_init()?;
    drop(LEVEL.set(level)); // nobody was before: initialising succeeds once
    Ok(())
}

/// Goes by another `log.level` from now on. Before [`init`] there is none.
///
/// # Errors
/// The level is not understood; then it stays as it was.
pub fn set_level(log: &Log) -> Result<(), InitError> {
    let filter = filter(log)?;
    match LEVEL.get() {
        Some(level) => Ok(level(filter)?),
        None => Ok(()),
    }
}

/// What puts another filter in the place of the one that was begun with.
type Level = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;
static LEVEL: OnceLock<Level> = OnceLock::new();

/// The metrics of this process. What was counted before the first call is lost. `None` where another recorder was
/// installed before.
pub fn recorder() -> Option<&'static PrometheusHandle> {
    static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    let install = || {
        let recorder = metrics::builder().ok()?.install_recorder().ok()?;
        metrics::describe();
        Some(recorder)
    };
    RECORDER.get_or_init(install).as_ref()
}

/// What sends traces, if anything does.
#[derive(Debug)]
pub struct Traces(Option<traces::Provider>);

impl Traces {
    /// Records traces from now on, and sends them; without a collector nothing is.
    ///
    /// # Errors
    /// The exporter cannot be set up. That the collector is away is none.
    pub fn start(otel: Option<&Otel>) -> Result<Self, InitError> {
        Ok(Self(otel.map(traces::start).transpose()?))
    }

    /// Sends what is left, within this time; what the collector does not take then is lost.
    pub async fn end(self, within: Duration) {
        let Some(provider) = self.0 else { return };
        // Where blocking is allowed.
        let ended = tokio::task::spawn_blocking(move || traces::end(&provider, within)).await;
        if !ended.unwrap_or(false) {
            tracing::warn!("the last traces were not taken");
        }
    }
}

fn subscriber<W>(
    log: &Log,
    instance: Option<&str>,
    terminal: bool,
    writer: W,
) -> Result<(Box<dyn Subscriber + Send + Sync>, Level), ParseError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter(log)?).with_writer(writer).with_ansi(terminal);
    let text = match log.format {
        LogFormat::Auto => terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    Ok(if text {
        let builder = builder.with_filter_reloading();
        let handle = builder.reload_handle();
        (Box::new(builder.finish()), Box::new(move |filter| handle.reload(filter)))
    } else {
        let builder = builder.json().flatten_event(true).with_span_list(false);
        let builder = builder.map_event_format(|format| Named::new(format, instance)).with_filter_reloading();
        let handle = builder.reload_handle();
        (Box::new(builder.finish()), Box::new(move |filter| handle.reload(filter)))
    })
}

fn filter(log: &Log) -> Result<EnvFilter, ParseError> {
    // The listeners' own comings and goings are no news, unless they are asked for.
    // What the store's engine traces is the bytes of records: prompts, and the secrets that are kept there.
    EnvFilter::builder().parse(format!("actix_server=warn,{},sled=warn", log.level))
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: &str, format: LogFormat, terminal: bool) -> String {
        logged_by(None, level, format, terminal)
    }

    fn logged_by(instance: Option<&str>, level: &str, format: LogFormat, terminal: bool) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let log = Log { level: level.to_owned(), format };
        let (subscriber, _) = subscriber(&log, instance, terminal, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(job_id = "job_1", "stored");
            tracing::debug!(target: "reelhook::runner", "claimed");
            tracing::warn!(instance = "one", "ready");
            tracing::trace!(target: "sled::pagecache", "the bytes of a record");
        });
        let bytes = buffer.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn off_a_terminal_each_line_is_a_json_object_with_the_fields_on_top() {
        let lines = logged("info", LogFormat::Auto, false);
        let line: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
        assert_eq!((&line["message"], &line["job_id"]), (&"stored".into(), &"job_1".into()));
        assert!(line.get("instance").is_none(), "there is one");
    }

    #[test]
    fn of_several_instances_each_line_for_machines_says_once_which_wrote_it_and_those_for_people_do_not() {
        let lines = logged_by(Some("o\"ne"), "debug", LogFormat::Json, false);
        let names: Vec<String> = lines
            .lines()
            .map(|line| {
                assert_eq!(line.matches("\"instance\"").count(), 1, "{line}");
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                line["instance"].as_str().unwrap().to_owned()
            })
            .collect();
        assert_eq!(names, ["o\"ne", "o\"ne", "one"]);
        let text = logged_by(Some("two"), "debug", LogFormat::Auto, true);
        assert!(!text.contains("two"), "{text}");
    }

    #[test]
    fn on_a_terminal_a_line_is_coloured_text() {
        let lines = logged("info", LogFormat::Auto, true);
        assert!(lines.contains("stored") && lines.contains('\u{1b}') && !lines.contains('{'), "{lines}");
    }

    #[test]
    fn text_off_a_terminal_has_no_colours_and_json_on_one_is_still_json() {
        let text = logged("info", LogFormat::Text, false);
        assert!(text.contains("stored") && !text.contains('\u{1b}'), "{text}");
        assert!(logged("info", LogFormat::Json, true).starts_with('{'));
    }

    #[test]
    fn a_directive_raises_the_level_of_one_module_only() {
        assert!(!logged("info", LogFormat::Text, false).contains("claimed"));
        let lines = logged("warn,reelhook::runner=debug", LogFormat::Text, false);
        assert!(lines.contains("claimed") && !lines.contains("stored"), "{lines}");
    }

    #[test]
    fn the_bytes_of_records_are_not_logged_however_much_is() {
        for level in ["trace", "trace,sled=trace", "sled=trace"] {
            assert!(!logged(level, LogFormat::Text, false).contains("bytes of a record"), "{level}");
        }
    }

    #[test]
    fn a_level_that_is_not_understood_is_an_error() {
        let log = Log { level: "a=b=c".to_owned(), format: LogFormat::Text };
        assert!(subscriber(&log, None, false, io::sink).is_err());
    }
}
