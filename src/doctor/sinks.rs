//! Whether each sink takes an event: a signed ping.

use futures_util::future::join_all;

use super::Check;
use crate::{
    app::{App, AppError},
    lifecycle::{Answer, Attempt, DeliveryId, EventId, EventKind},
    outbound::deliver::{Message, Sinks},
};

/// What the test of a sink came to.
#[derive(Debug)]
pub struct Tested {
    /// What it was told.
    pub kind: EventKind,
    /// Under which id.
    pub event_id: EventId,
    /// How it took that.
    pub attempt: Attempt,
}

/// Sends a sink an event that happened to no job, once. Nothing of it is kept.
///
/// # Errors
/// [`AppError::NoSink`], [`AppError::NoEntropy`].
pub async fn test(app: &App, sinks: &Sinks, name: &str, kind: EventKind) -> Result<Tested, AppError> {
    let (event_id, job, body) = app.test_event(name, kind)?;
    let sink = sinks.get(name).ok_or_else(|| AppError::NoSink(name.to_owned()))?;
    let message = Message {
        event_id,
        kind,
        time: app.now(),
        job_id: (!kind.is_about_no_job()).then_some(job),
        delivery_id: DeliveryId::from_bytes(*event_id.as_bytes()),
        attempt: 1,
        trace: None,
        body,
    };
    Ok(Tested { kind, event_id, attempt: sink.send(&message).await })
}

/// One check a sink.
pub(super) async fn check(app: &App, sinks: &Sinks) -> Vec<Check> {
    let records = match app.sinks().await {
        Ok(records) => records,
        Err(error) => {
            return vec![Check::failed("sinks", error.to_string(), "see what is said of the store")];
        }
    };
    if records.is_empty() {
        return vec![Check::ok(
            "sinks",
            "none is configured: nobody is told but who asks or brings a `notify`",
        )];
    }
    let checks = records.into_iter().map(|record| async move {
        let name = format!("sink {}", record.name);
        if record.state.disabled_at.is_some() {
            let why = record.state.why.unwrap_or_default();
            let fix = format!(
                "once it is well: `reelhook sinks recover {} <since>`; nothing is lost until then",
                record.name
            );
            return Check::failed(name, format!("is disabled: {why}"), fix);
        }
        match test(app, sinks, &record.name, EventKind::Ping).await {
            Ok(Tested { attempt, .. }) => judge(name, attempt),
            Err(error) => Check::failed(name, error.to_string(), "check [sinks]"),
        }
    });
    join_all(checks).await
}

fn judge(name: String, attempt: Attempt) -> Check {
    match attempt.answer {
        Answer::Delivered => Check::ok(name, format!("took a signed ping in {} ms", attempt.took)),
        _ => Check::failed(
            name,
            format!("did not take a ping: {}", attempt.detail),
            "check its address and secret in [sinks], and its own log; events wait for it",
        ),
    }
}
