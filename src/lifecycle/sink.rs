//! How a sink fares: one that takes nothing for too long is disabled, and loses nothing by it.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    delivery::{Answer, Attempt, Delivery},
    event::{EventKind, EventRecord},
    id::{EventId, Millis, derived},
    notify::is_notify_lane,
    retry::DeliveryPolicy,
};

/// What is remembered of a sink of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SinkState {
    /// The first failure since its last success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Millis>,
    /// What comes due for it since then is exhausted without a try.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled_at: Option<Millis>,
    /// Why, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl SinkState {
    /// What an answer to `delivery` makes of the sink; nothing when it changes nothing. The event is about no job.
    #[must_use]
    pub fn heard(
        &self,
        delivery: &Delivery,
        attempt: &Attempt,
        now: Millis,
        policy: &DeliveryPolicy,
    ) -> Option<(Self, Option<EventRecord>)> {
        // A host that jobs bring along is nobody's sink: one job's refusal says nothing of another's.
        if is_notify_lane(&delivery.lane) || self.disabled_at.is_some() {
            return None;
        }
        let since = self.failing_since.unwrap_or(now);
        let failing = Self { failing_since: Some(since), ..Self::default() };
        let next = match attempt.answer {
            Answer::Delivered => Self::default(),
            // It heard and judged: that is no failing.
            Answer::Refused => return None,
            Answer::Gone => failing.disabled(now, "it answered that it wants nothing any more".to_owned()),
            Answer::Failed { .. } if policy.disable_after > 0 && now.since(since) >= policy.disable_after => {
                failing.disabled(
                    now,
                    format!("it has taken nothing for too long; the last try: {}", attempt.detail),
                )
            }
            Answer::Failed { .. } => failing,
        };
        if next == *self {
            return None;
        }
        let event = next.disabled_at.is_some().then(|| next.entry(delivery, now));
        Some((next, event))
    }

    /// Why nothing is tried for it, if so.
    #[must_use]
    pub fn closed(&self) -> Option<String> {
        self.disabled_at?;
        let why = self.why.as_deref().unwrap_or_default();
        Some(format!("the sink is disabled ({why}); `reelhook sinks recover` delivers what was left out"))
    }

    fn disabled(self, now: Millis, why: String) -> Self {
        Self { disabled_at: Some(now), why: Some(why), ..self }
    }

    fn entry(&self, delivery: &Delivery, time: Millis) -> EventRecord {
        let unique = derived(&[
            b"sink.disabled",
            delivery.lane.as_bytes(),
            delivery.id.as_bytes(),
            &time.0.to_be_bytes(),
        ]);
        let data = json!({ "sink": delivery.lane, "why": self.why, "failing_since": self.failing_since });
        let kind = EventKind::SinkDisabled;
        EventRecord { id: EventId::new(time, &unique), kind, time, job_id: None, revision: None, data }
    }
}
