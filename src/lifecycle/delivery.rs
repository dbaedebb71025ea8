//! The outbox: one debt per terminal event and sink.

use serde::{Deserialize, Serialize};

use super::{
    event::EventKind,
    id::{DeliveryId, EventId, JobId, Millis, derived},
};

/// A configured sink, as far as the lifecycle is concerned: which events it is owed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkRule {
    /// Its name in the configuration.
    pub name: String,
    /// The events that it wants.
    pub events: Vec<EventKind>,
}

/// A debt to one sink. Its fate never changes the job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// Its id, fixed by event and sink.
    pub id: DeliveryId,
    /// The event that is owed.
    pub event_id: EventId,
    /// The job that it is about.
    pub job_id: JobId,
    /// The sink's name.
    pub sink: String,
    /// Tries so far.
    pub attempts: u32,
    /// When to try; none when it is over.
    pub due_at: Option<Millis>,
    /// How it stands.
    pub state: DeliveryState,
}

/// How a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// Owed.
    Pending,
    /// Acknowledged by the sink.
    Succeeded,
    /// The schedule is used up, or the sink said "never again".
    Exhausted,
}

/// One try at a delivery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it began.
    pub at: Millis,
    /// How long it took, in milliseconds.
    pub took: u64,
    /// What came of it.
    pub answer: Answer,
    /// The HTTP status or the exit code, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// For people: what the sink said or why nothing was heard of it, at most 300 characters.
    pub detail: String,
}

/// What one try came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The sink took it.
    Delivered,
    /// It did not; try again by the schedule, and not before this many milliseconds.
    Failed {
        /// What the sink asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<i64>,
    },
    /// It never will take this one.
    Refused,
    /// It wants nothing any more (HTTP 410).
    Gone,
}

impl Delivery {
    /// What `rule` is owed for an event, due at once.
    #[must_use]
    pub fn owed(
        rule: &SinkRule,
        kind: EventKind,
        event_id: EventId,
        job_id: JobId,
        now: Millis,
    ) -> Option<Self> {
        rule.events.contains(&kind).then(|| Self {
            id: DeliveryId::new(now, &derived(&[event_id.as_bytes(), rule.name.as_bytes()])),
            event_id,
            job_id,
            sink: rule.name.clone(),
            attempts: 0,
            due_at: Some(now),
            state: DeliveryState::Pending,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_is_owed_the_events_it_asked_for_and_no_others() {
        let rule = SinkRule { name: "app".into(), events: vec![EventKind::Succeeded] };
        let (event, job) = (EventId::new(Millis(5), &[1; 10]), JobId::new(Millis(5), &[2; 10]));
        let owed = Delivery::owed(&rule, EventKind::Succeeded, event, job, Millis(7)).unwrap();
        assert_eq!(
            (owed.event_id, owed.due_at, owed.state),
            (event, Some(Millis(7)), DeliveryState::Pending)
        );
        assert_eq!(Delivery::owed(&rule, EventKind::Failed, event, job, Millis(7)), None);
        assert_eq!(Delivery::owed(&rule, EventKind::Succeeded, event, job, Millis(7)).unwrap().id, owed.id);
    }
}
