//! Traces leave by OTLP over HTTP, in batches and from a thread of their own: nobody waits for the collector, and what its
//! queue has no room for is dropped.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{Protocol, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{Sampler, SdkTracerProvider, SpanData, SpanExporter},
};
use reqwest::{blocking::Client, redirect::Policy};
use uuid::Uuid;

use super::InitError;
use crate::{config::Otel, spans};

const SERVICE: &str = "reelhook";
/// For one batch, the whole exchange.
const TIMEOUT: Duration = Duration::from_secs(10);

pub(super) type Provider = SdkTracerProvider;

/// Records spans from now on and sends them to the collector. What the configuration leaves open, the standard variables
/// (`OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER`, `OTEL_BSP_…`) may say.
pub(super) fn start(otel: &Otel) -> Result<Provider, InitError> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(client()?)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(otel.endpoint.as_str())
        .with_timeout(TIMEOUT)
        .with_headers(headers(otel))
        .build()
        .map_err(|error| InitError::Traces(error.to_string()))?;
    let mut provider = SdkTracerProvider::builder()
        .with_resource(resource(otel))
        .with_batch_exporter(Outspoken { exporter, away: AtomicBool::new(false) });
    if let Some(ratio) = otel.sample_ratio {
        let fresh = Sampler::TraceIdRatioBased(ratio);
        provider = provider.with_sampler(Sampler::ParentBased(Box::new(fresh)));
    }
    let provider = provider.build();
    spans::install(provider.tracer(SERVICE));
    Ok(provider)
}

/// Sends what is left; whether it was taken in time.
pub(super) fn end(provider: &Provider, within: Duration) -> bool {
    provider.shutdown_with_timeout(within).is_ok()
}

/// On a thread of its own, since a blocking client cannot be made where others must not be blocked.
fn client() -> Result<Client, InitError> {
    let build = || Client::builder().timeout(TIMEOUT).redirect(Policy::none()).no_proxy().build();
    let built = std::thread::spawn(build).join();
    let failed = |why: &str| InitError::Traces(why.to_owned());
    built.map_err(|_| failed("its HTTP client panicked"))?.map_err(|error| failed(&error.to_string()))
}

fn headers(otel: &Otel) -> HashMap<String, String> {
    let text = |value: &reqwest::header::HeaderValue| value.to_str().unwrap_or_default().to_owned();
    otel.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

fn resource(otel: &Otel) -> Resource {
    let mut resource = Resource::builder().with_attributes([
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", Uuid::now_v7().to_string()),
    ]);
    let named = std::env::var_os("OTEL_SERVICE_NAME").is_some();
    if let Some(name) = otel.service_name.as_deref().or((!named).then_some(SERVICE)) {
        resource = resource.with_service_name(name.to_owned());
    }
    resource.build()
}

/// An exporter that says once when its collector is away, and once when it is back.
#[derive(Debug)]
struct Outspoken<E> {
    exporter: E,
    away: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for Outspoken<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let result = self.exporter.export(batch).await;
        let away = result.is_err();
        match (&result, self.away.swap(away, Ordering::Relaxed)) {
            (Err(error), false) => {
                tracing::warn!(%error, "the collector of traces took nothing; traces are dropped until it does");
            }
            (Ok(()), true) => tracing::info!("the collector of traces takes them again"),
            _ => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
