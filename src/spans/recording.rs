//! Spans, as the OpenTelemetry SDK records them.

use std::{borrow::Cow, collections::HashMap, sync::OnceLock, time::SystemTime};

use opentelemetry::{
    Context, KeyValue,
    propagation::TextMapPropagator as _,
    trace::{Span as _, SpanBuilder, SpanKind, Status, TraceContextExt as _},
};
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{SdkTracer, Span},
};

use super::TRACEPARENT;

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Records spans from now on, for as long as the process lives; false when that was begun before.
pub fn install(tracer: SdkTracer) -> bool {
    TRACER.set(tracer).is_ok()
}

pub(super) fn has_begun() -> bool {
    TRACER.get().is_some()
}

/// A span under way.
#[derive(Debug)]
pub(super) struct Recording(Span);

impl Recording {
    /// Something that was asked of us. A parent that is no context makes a trace of its own, or nothing if it is
    /// `needed`.
    pub(super) fn server(
        name: Cow<'static, str>,
        parent: Option<&str>,
        since: SystemTime,
        needed: bool,
    ) -> Option<Self> {
        let parent = parent.and_then(read);
        if needed && parent.is_none() {
            return None;
        }
        Self::begin(SpanKind::Server, name, &parent.unwrap_or_default(), since)
    }

    /// Something that we ask of others.
    pub(super) fn client(name: Cow<'static, str>, parent: &str, since: SystemTime) -> Option<Self> {
        Self::begin(SpanKind::Client, name, &read(parent)?, since)
    }

    fn begin(kind: SpanKind, name: Cow<'static, str>, parent: &Context, since: SystemTime) -> Option<Self> {
        let tracer = TRACER.get()?;
        let span = SpanBuilder::from_name(name).with_kind(kind).with_start_time(since);
        Some(Self(span.start_with_context(tracer, parent)))
    }

    pub(super) fn text(&mut self, name: &'static str, value: String) {
        self.0.set_attribute(KeyValue::new(name, value));
    }

    pub(super) fn number(&mut self, name: &'static str, value: i64) {
        self.0.set_attribute(KeyValue::new(name, value));
    }

    pub(super) fn fail(&mut self) {
        self.0.set_status(Status::error(""));
    }

    pub(super) fn context(&self) -> String {
        let context = self.0.span_context();
        let (trace, span, flags) = (context.trace_id(), context.span_id(), context.trace_flags());
        format!("00-{trace}-{span}-{flags:02x}")
    }
}

/// The context of a `traceparent`, unless it is malformed.
fn read(traceparent: &str) -> Option<Context> {
    let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
    context.has_active_span().then_some(context)
}
