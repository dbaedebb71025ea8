//! The outbox: one debt per event and sink, worked off by a schedule. The fate of a delivery never changes its job.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    event::{EventKind, EventRecord},
    id::{DeliveryId, EventId, JobId, Millis, derived},
    job::{Job, is_default},
    retry::{DeliveryPolicy, Policy},
};

/// Tries that a record keeps; the oldest go first.
pub const MAX_TRIES: usize = 16;

/// A configured sink, as far as the lifecycle is concerned: which events it is owed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkRule {
    /// Its name in the configuration.
    pub name: String,
    /// The events that it wants.
    pub events: Vec<EventKind>,
}

/// A debt to one sink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// Its id, fixed by event and sink; it carries the time of the event.
    pub id: DeliveryId,
    /// 1 when owed; one more with each change.
    pub revision: u64,
    /// The event that is owed.
    pub event_id: EventId,
    /// What happened.
    pub kind: EventKind,
    /// The job that it is about; none when it is about the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
    /// What there is to tell of an event that is about no job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
    /// The job's trace, as a W3C `traceparent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// When it happened.
    pub created_at: Millis,
    /// Who works it off: the sink's name, or `notify:HOST` for a URL that the job brought along.
    pub lane: String,
    /// Which of the job's own URLs, from 0; none for a sink of the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<u8>,
    /// Tries that were begun.
    #[serde(default, skip_serializing_if = "is_default")]
    pub attempts: u32,
    /// Tries that failed since the schedule last began.
    #[serde(default, skip_serializing_if = "is_default")]
    pub failures: u32,
    /// When to try; none when it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Millis>,
    /// The revision of the claim that is being worked on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<u64>,
    /// How it stands.
    pub state: DeliveryState,
    /// Why it is exhausted, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What the newest tries came to, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tries: Vec<Attempt>,
}

/// How a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// Owed.
    Pending,
    /// Acknowledged by the sink.
    Succeeded,
    /// The schedule is used up, or the sink said "never again". It can be replayed.
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

/// Something that happens to a delivery. Answers carry the lease of the claim that they answer.
#[derive(Clone, Debug, PartialEq)]
pub enum DeliveryEvent {
    /// The Deliver lane takes it for the length of a lease.
    Claimed,
    /// A try has ended.
    Answered(Attempt, u64),
    /// The claim is given back, as at shutdown; the sink may have heard of it all the same.
    Released(u64),
    /// The process that held the claim is gone.
    Orphaned,
    /// A clock that was wrong has put it off.
    Hastened,
    /// It cannot be tried at all, for this reason.
    Withdrawn(String),
    /// A person wants it delivered after all, or again.
    Replayed,
}

/// Everything that one step of a delivery writes, atomically.
#[derive(Clone, Debug, PartialEq)]
pub struct DeliveryChange {
    /// The record after the step; its revision is one more than the one that was read.
    pub delivery: Delivery,
    /// A new entry of the event log.
    pub event: Option<EventRecord>,
}

impl Delivery {
    /// What the sink of `rule` is owed for an event, of a job or of none.
    #[must_use]
    pub fn owed(
        rule: &SinkRule,
        event: &EventRecord,
        job: Option<&Job>,
        policy: &DeliveryPolicy,
    ) -> Option<Self> {
        let wanted = rule.events.contains(&event.kind);
        wanted.then(|| debt(event, job, rule.name.clone(), &rule.name, policy))
    }

    /// Everything that is owed for an event: to sinks, and to the job's own URLs.
    pub fn all<'a>(
        event: &'a EventRecord,
        job: Option<&'a Job>,
        policy: &'a Policy,
    ) -> impl Iterator<Item = Self> + 'a {
        let delivery = &policy.delivery;
        let sinks = policy.sinks.iter().filter_map(move |rule| Self::owed(rule, event, job, delivery));
        let urls = job.map_or(&[][..], |job| &job.notify);
        let own = (0..).zip(urls).filter(|(_, url)| url.wants(event.kind)).map(move |(at, url)| {
            let whom = format!("notify:{at}");
            Self { notify: Some(at), ..debt(event, job, url.lane(), &whom, delivery) }
        });
        sinks.chain(own)
    }

    /// What `event` makes of this delivery, or nothing when it is late, repeated or not ours. Total and pure.
    #[must_use]
    pub fn step(
        &self,
        event: &DeliveryEvent,
        now: Millis,
        policy: &DeliveryPolicy,
    ) -> Option<DeliveryChange> {
        let mut next = Self { revision: self.revision + 1, ..self.clone() };
        let pending = self.state == DeliveryState::Pending;
        let said = match event {
            DeliveryEvent::Claimed => {
                if self.due_at.is_none_or(|at| at > now) {
                    return None;
                }
                next.attempts += 1;
                (next.due_at, next.lease) = (Some(now.plus(policy.lease)), Some(next.revision));
                None
            }
            DeliveryEvent::Answered(attempt, lease) => {
                if self.lease != Some(*lease) {
                    return None;
                }
                Some(next.answered(attempt, now, policy))
            }
            DeliveryEvent::Released(lease) if self.lease == Some(*lease) => next.due(now),
            DeliveryEvent::Orphaned if self.lease.is_some() => next.due(now),
            // A try that is under way has its own answer.
            DeliveryEvent::Hastened if pending && self.lease.is_none() => next.due(now),
            DeliveryEvent::Withdrawn(why) if pending => Some(next.exhausted(why.clone())),
            DeliveryEvent::Replayed if self.lease.is_none() => {
                (next.state, next.failures, next.why) = (DeliveryState::Pending, 0, None);
                next.due(now)
            }
            _ => return None,
        };
        let event = said.map(|kind| next.entry(kind, now));
        Some(DeliveryChange { delivery: next, event })
    }

    fn answered(&mut self, attempt: &Attempt, now: Millis, policy: &DeliveryPolicy) -> EventKind {
        if self.tries.len() >= MAX_TRIES {
            self.tries.remove(0);
        }
        self.tries.push(attempt.clone());
        match attempt.answer {
            Answer::Delivered => {
                (self.state, self.due_at, self.lease) = (DeliveryState::Succeeded, None, None);
                (self.failures, self.why) = (0, None);
                EventKind::DeliverySucceeded
            }
            Answer::Refused => self.exhausted(format!("it was refused for good: {}", attempt.detail)),
            Answer::Gone => self.exhausted(format!("the sink wants nothing any more: {}", attempt.detail)),
            Answer::Failed { retry_after } => {
                self.failures += 1;
                match policy.wait(self.id, self.failures, retry_after) {
                    Some(wait) => {
                        (self.due_at, self.lease) = (Some(now.plus(wait)), None);
                        EventKind::DeliveryFailed
                    }
                    None => self.exhausted(format!(
                        "{} tries failed, the last so: {}",
                        self.failures, attempt.detail
                    )),
                }
            }
        }
    }

    fn due(&mut self, at: Millis) -> Option<EventKind> {
        (self.due_at, self.lease) = (Some(at), None);
        None
    }

    fn exhausted(&mut self, why: String) -> EventKind {
        (self.state, self.due_at, self.lease) = (DeliveryState::Exhausted, None, None);
        self.why = Some(why);
        EventKind::DeliveryExhausted
    }

    /// Events about deliveries are no change of the job, so they have no revision of it; they make no deliveries themselves.
    fn entry(&self, kind: EventKind, time: Millis) -> EventRecord {
        let unique = derived(&[self.id.as_bytes(), &self.revision.to_be_bytes()]);
        let mut data = json!({
            "delivery_id": self.id, "event_id": self.event_id, "event": self.kind, "sink": self.lane, "attempt": self.attempts,
        });
        match kind {
            EventKind::DeliveryExhausted => data["why"] = json!(self.why),
            EventKind::DeliveryFailed => {
                data["why"] = json!(self.tries.last().map(|attempt| &attempt.detail));
                data["next_at"] = json!(self.due_at);
            }
            _ => {}
        }
        EventRecord { id: EventId::new(time, &unique), kind, time, job_id: self.job_id, revision: None, data }
    }

    /// What must hold of any record, whatever happened.
    ///
    /// # Errors
    /// The sentence that does not hold.
    pub fn check(&self) -> Result<(), &'static str> {
        let pending = self.state == DeliveryState::Pending;
        let must = |holds: bool, sentence| if holds { Ok(()) } else { Err(sentence) };
        must(self.due_at.is_some() == pending, "a delivery is due exactly when it is pending")?;
        must(self.lease.is_none() || pending, "only a pending delivery is claimed")?;
        must(
            self.lease.is_none_or(|lease| lease <= self.revision),
            "a lease is a revision that was written",
        )?;
        must(self.tries.len() <= MAX_TRIES, "only the newest tries are kept")?;
        must(self.tries.len() <= self.attempts as usize, "a try was begun before it ended")?;
        must(!self.lane.is_empty(), "a delivery has a lane")?;
        must(self.job_id.is_some() != self.data.is_some(), "a delivery is about a job, or has its own data")
    }
}

/// What `whom`, worked off in `lane`, is owed for an event.
fn debt(
    event: &EventRecord,
    job: Option<&Job>,
    lane: String,
    whom: &str,
    policy: &DeliveryPolicy,
) -> Delivery {
    Delivery {
        id: DeliveryId::new(event.time, &derived(&[event.id.as_bytes(), whom.as_bytes()])),
        revision: 1,
        event_id: event.id,
        kind: event.kind,
        job_id: job.map(|job| job.id),
        data: job.is_none().then(|| event.data.clone()),
        trace: job.and_then(|job| job.trace.clone()),
        created_at: event.time,
        lane,
        notify: None,
        attempts: 0,
        failures: 0,
        due_at: Some(event.time.plus(policy.first())),
        lease: None,
        state: DeliveryState::Pending,
        why: None,
        tries: Vec::new(),
    }
}
