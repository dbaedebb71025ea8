//! Spans of a job's trace. Where no collector is configured, or in a build without the feature `otel`, they are nothing.
//!
//! A job's trace is that of the request that created it. Its record keeps the trace's context, so what is done days later,
//! after a crash or by another instance, belongs to it as well. Names and attributes are a closed set, and no value is a
//! prompt, a link, a token or anybody's free text.

#[cfg(not(feature = "otel"))]
#[path = "spans/absent.rs"]
mod recording;
#[cfg(feature = "otel")]
mod recording;

use std::{borrow::Cow, fmt::Display, time::SystemTime};

use recording::Recording;
#[cfg(feature = "otel")]
pub use recording::install;

/// Whether there is anybody to record spans for.
#[must_use]
pub fn are_recorded() -> bool {
    recording::has_begun()
}

/// The header, environment variable and field that carries a context: `00-TRACE-SPAN-FLAGS`, see W3C Trace Context.
pub const TRACEPARENT: &str = "traceparent";

/// What is done for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Its callback is taken.
    Callback,
    /// The create call.
    Submit,
    /// The question what became of its task.
    Ask,
    /// The copy into the archive.
    Fetch,
    /// One try to tell a sink.
    Deliver,
}

impl Work {
    const fn name(self) -> &'static str {
        match self {
            Self::Callback => "callback",
            Self::Submit => "submit",
            Self::Ask => "ask",
            Self::Fetch => "fetch",
            Self::Deliver => "deliver",
        }
    }
}

/// What is told of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// The job's id.
    Job,
    /// What came of it, a word of a closed set.
    Outcome,
    /// Which try it is, from 1.
    Attempt,
    /// The sink's name in the configuration; `notify` for a URL of the job's own.
    Sink,
    /// The type of the event that is told.
    Event,
    /// Of the request.
    Method,
    /// The route's template.
    Route,
    /// Of the answer.
    Status,
}

impl Attribute {
    /// Those of HTTP are named as OpenTelemetry's conventions have them.
    const fn name(self) -> &'static str {
        match self {
            Self::Job => "reelhook.job.id",
            Self::Outcome => "reelhook.outcome",
            Self::Attempt => "reelhook.attempt",
            Self::Sink => "reelhook.sink",
            Self::Event => "reelhook.event",
            Self::Method => "http.request.method",
            Self::Route => "http.route",
            Self::Status => "http.response.status_code",
        }
    }
}

/// A span that ends when it is dropped.
#[derive(Debug)]
pub struct Span(Option<Recording>);

impl Span {
    /// A request to the API, which carries on the caller's trace where `parent` is a context, and begins one otherwise.
    /// `name` is a method and the template of a route.
    #[must_use]
    pub fn request(name: String, parent: Option<&str>) -> Self {
        Self(Recording::server(Cow::Owned(name), parent, SystemTime::now(), false))
    }

    /// Work for a job whose record has this trace; nothing when it has none.
    #[must_use]
    pub fn of_job(work: Work, trace: Option<&str>) -> Self {
        let Some(trace) = trace else { return Self(None) };
        Self(Recording::client(Cow::Borrowed(work.name()), trace, SystemTime::now()))
    }

    /// The same for what somebody else began, at `since`.
    #[must_use]
    pub fn taken_for_job(work: Work, trace: Option<&str>, since: SystemTime) -> Self {
        let Some(trace) = trace else { return Self(None) };
        Self(Recording::server(Cow::Borrowed(work.name()), Some(trace), since, true))
    }

    /// Tells a word.
    pub fn tell(&mut self, attribute: Attribute, value: impl Display) {
        if let Some(recording) = &mut self.0 {
            recording.text(attribute.name(), value.to_string());
        }
    }

    /// Tells a number.
    pub fn count(&mut self, attribute: Attribute, value: impl Into<i64>) {
        if let Some(recording) = &mut self.0 {
            recording.number(attribute.name(), value.into());
        }
    }

    /// Ends it now, with what came of it and whether that is an error.
    pub fn end(mut self, outcome: impl Display, is_error: bool) {
        self.tell(Attribute::Outcome, outcome);
        if is_error {
            self.fail();
        }
    }

    /// Marks it as an error.
    pub fn fail(&mut self) {
        if let Some(recording) = &mut self.0 {
            recording.fail();
        }
    }

    /// What to pass on so that what follows belongs to the trace, as a W3C `traceparent`.
    #[must_use]
    pub fn context(&self) -> Option<String> {
        self.0.as_ref().map(Recording::context)
    }
}
