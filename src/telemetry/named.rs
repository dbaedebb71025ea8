//! Lines for machines that say which instance wrote them.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

const FIELD: &str = "instance";

/// A format whose lines are JSON objects, with one field more in the end.
pub(super) struct Named<F> {
    format: F,
    /// What a line ends with in place of its brace.
    ending: Option<String>,
}

impl<F> Named<F> {
    pub(super) fn new(format: F, instance: Option<&str>) -> Self {
        let ending = |instance| format!(",\"{FIELD}\":{}}}", serde_json::Value::from(instance));
        Self { format, ending: instance.map(ending) }
    }
}

impl<F, S, N> FormatEvent<S, N> for Named<F>
where
    F: FormatEvent<S, N>,
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let says_so = event.metadata().fields().field(FIELD).is_some();
        let Some(ending) = self.ending.as_ref().filter(|_| !says_so) else {
            return self.format.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.format.format_event(context, Writer::new(&mut line), event)?;
        match line.trim_end().strip_suffix('}') {
            Some(open) => writeln!(writer, "{open}{ending}"),
            None => writer.write_str(&line),
        }
    }
}
