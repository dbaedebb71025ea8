//! What sinks are sent: the job as the API shows it, in the form that each of them wants.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::{Value, json};
use url::Url;

use super::{JobView, Viewer, create::Document, sample::sample, task::task_shape, view::time};
use crate::{
    config::{Config, Format},
    lifecycle::{Delivery, DeliveryPolicy, EventId, EventKind, JobId, Millis, NotifyFormat},
    store::{About, Render, Rendering},
};

/// A body is kept below this many bytes, as Standard Webhooks asks for.
const MAX_BODY: usize = 20_000;
/// Links in a body outlive its last try by so long, in milliseconds.
const AFTERWARDS: i64 = 24 * 3_600_000;

/// Writes bodies under a configuration.
pub(super) fn render(config: &Config, policy: &DeliveryPolicy, viewer: &Viewer) -> Render {
    let formats: BTreeMap<String, Format> =
        config.sinks.iter().map(|(name, sink)| (name.clone(), sink.format)).collect();
    let life = Duration::from_millis(policy.length().saturating_add(AFTERWARDS).max(0).cast_unsigned());
    let viewer = Viewer { links: viewer.links.living(life), ..viewer.clone() };
    Arc::new(move |rendering| {
        let Rendering { delivery, about } = rendering;
        let format = formats.get(&delivery.lane).copied().unwrap_or_default();
        let source = viewer.links.base.as_str();
        let Some(about) = about else { return bare(format, delivery, source) };
        let job = about.job;
        let own = delivery.notify.and_then(|at| job.notify.get(usize::from(at)));
        if own.is_some_and(|own| own.format == NotifyFormat::Upstream) {
            return bytes(&task_shape(job, None, |name| viewer.links.media_url(job.id, name)));
        }
        body(format, delivery, job.id, shown(about, &viewer), source)
    })
}

/// The body of a test.
pub(super) fn test(
    format: Format,
    kind: EventKind,
    id: EventId,
    job: JobId,
    now: Millis,
    server: &Url,
) -> Bytes {
    let subject = (!kind.is_about_no_job()).then(|| job.to_string());
    let data = match kind {
        EventKind::Ping => json!({ "message": "a test: nothing happened" }),
        _ => sample(kind, job, now, server),
    };
    bytes(&envelope(format, kind, id, now, subject.as_deref(), data, server.as_str()))
}

/// The job as the API shows it; without what the caller sent, if that is long.
fn body(format: Format, delivery: &Delivery, id: JobId, mut job: Value, source: &str) -> Bytes {
    let Delivery { kind, event_id, created_at, .. } = delivery;
    let subject = id.to_string();
    let write = |job: &Value| {
        let data = json!({ "job": job });
        bytes(&envelope(format, *kind, *event_id, *created_at, Some(&subject), data, source))
    };
    let mut written = write(&job);
    for (member, emptied) in [
        ("input", json!({})),
        ("metadata", json!({})),
        ("notices", json!([])),
        ("tags", json!([])),
        ("files", json!([])),
    ] {
        if written.len() < MAX_BODY {
            break;
        }
        job[member] = emptied;
        // Whoever needs it asks for the job.
        job["truncated"] = json!(true);
        written = write(&job);
    }
    written
}

fn shown(about: &About<'_>, viewer: &Viewer) -> Value {
    let document: Document = serde_json::from_slice(about.document).unwrap_or_default();
    json!(JobView::new(about.job.clone(), document, about.counts, viewer))
}

/// An event that is about no job tells what it has to tell itself.
fn bare(format: Format, delivery: &Delivery, source: &str) -> Bytes {
    let Delivery { kind, event_id, created_at, data, .. } = delivery;
    let data = data.clone().unwrap_or_else(|| json!({}));
    bytes(&envelope(format, *kind, *event_id, *created_at, None, data, source))
}

fn envelope(
    format: Format,
    kind: EventKind,
    id: EventId,
    at: Millis,
    subject: Option<&str>,
    data: Value,
    source: &str,
) -> Value {
    match format {
        Format::Standard => json!({ "type": kind, "timestamp": time(at), "data": data }),
        Format::CloudEvents => {
            let mut event = json!({
                "specversion": "1.0", "id": id, "source": source, "type": kind, "time": time(at),
                "datacontenttype": "application/json", "data": data,
            });
            if let Some(subject) = subject {
                event["subject"] = json!(subject);
            }
            event
        }
    }
}

fn bytes(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}
