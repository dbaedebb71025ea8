//! Records as the database takes them: a document a change, of which its functions make rows.

use serde::Serialize;
use sqlx::{Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{
    link::{Trouble, text},
    outbox,
};
use crate::{
    lifecycle::{
        Change, Delivery, Duty, EventRecord, Job, JobId, Millis, Reservation, RetryMode, Status, Via,
    },
    store::{IdempotencyKey, Insert, Limits, StoreError, digest},
};

/// Of the records that this version writes.
const SCHEMA: i16 = 1;

#[derive(Serialize)]
pub(super) struct JobRow {
    id: Uuid,
    revision: u64,
    schema: i16,
    written_by: Uuid,
    phase: &'static str,
    outcome: Option<&'static str>,
    duty: Option<u8>,
    calm: bool,
    due_at: Option<Millis>,
    deadline: Option<Millis>,
    lease: Option<u64>,
    task: Option<String>,
    /// The functions see to it, but for an import.
    owned_task: Option<String>,
    model: String,
    tags: Vec<String>,
    via: Option<Via>,
    created_at: Millis,
    retry_of: Option<Uuid>,
    record: String,
}

impl JobRow {
    fn of(job: &Job, written_by: Uuid) -> Result<Self, StoreError> {
        if let Err(sentence) = job.check() {
            tracing::error!(job = %job.id, "a record was refused, for it must hold that {sentence}");
            return Err(StoreError::Unavailable(format!("a change of {} breaks a rule: {sentence}", job.id)));
        }
        let main = job.dues().find(|due| Some(due.at) == job.due_at && Some(due.duty) == job.duty());
        Ok(Self {
            id: uuid(job.id),
            revision: job.revision,
            schema: SCHEMA,
            written_by,
            phase: job.phase_name(),
            outcome: outcome(job),
            duty: main.map(|due| due.duty as u8),
            calm: main.is_none_or(|due| !due.urgent),
            due_at: job.due_at,
            deadline: job.deadline,
            lease: job.lease,
            task: job.task.as_ref().map(|task| column(&task.id.0)),
            owned_task: None,
            model: column(&job.model),
            tags: job.tags.iter().map(|tag| column(tag)).collect(),
            via: job.completed_via,
            created_at: job.created_at,
            retry_of: job.retry_of.map(uuid),
            record: encode(job)?,
        })
    }

    /// Of a job that another store had.
    pub(super) fn imported(job: &Job, owns_task: bool) -> Result<Self, StoreError> {
        let row = Self::of(job, Uuid::nil())?;
        let owned_task = row.task.clone().filter(|_| owns_task);
        Ok(Self { owned_task, ..row })
    }
}

fn outcome(job: &Job) -> Option<&'static str> {
    match job.status() {
        Status::Succeeded => Some("succeeded"),
        Status::Failed => Some("failed"),
        Status::Canceled => Some("canceled"),
        Status::Queued | Status::Running | Status::Held => None,
    }
}

/// An event. The record is a text within the document: taken apart there, it could hold what no text of the database can.
#[derive(Serialize)]
struct EventRow {
    id: Uuid,
    job_id: Option<Uuid>,
    kind: String,
    record: String,
}

impl EventRow {
    fn of(event: &EventRecord) -> Result<Self, StoreError> {
        Ok(Self {
            id: Uuid::from_bytes(*event.id.as_bytes()),
            job_id: event.job_id.map(uuid),
            kind: event.kind.name(),
            record: encode(event)?,
        })
    }
}

/// A delivery, as an argument of the functions of the outbox.
#[derive(Serialize)]
pub(super) struct DeliveryRow {
    id: Uuid,
    revision: u64,
    job_id: Option<Uuid>,
    lane: String,
    state: &'static str,
    due_at: Option<Millis>,
    lease: Option<u64>,
    record: String,
}

impl DeliveryRow {
    pub(super) fn of(delivery: &Delivery) -> Result<Self, StoreError> {
        if let Err(sentence) = delivery.check() {
            let broken = format!("a change of {} breaks a rule: {sentence}", delivery.id);
            return Err(StoreError::Unavailable(broken));
        }
        Ok(Self {
            id: outbox::key(delivery.id),
            revision: delivery.revision,
            job_id: delivery.job_id.map(uuid),
            lane: column(&delivery.lane),
            state: outbox::state_name(delivery.state),
            due_at: delivery.due_at,
            lease: delivery.lease,
            record: encode(delivery)?,
        })
    }

    fn all(deliveries: &[Delivery]) -> Result<Vec<Self>, StoreError> {
        deliveries.iter().map(Self::of).collect()
    }
}

#[derive(Serialize)]
struct KeyRow {
    hash: String,
    fingerprint: String,
    reusable: bool,
}

impl KeyRow {
    fn of(key: &IdempotencyKey) -> Self {
        Self {
            hash: hex::encode(digest::key(&key.owner, &key.key)),
            fingerprint: hex::encode(key.fingerprint),
            reusable: key.reusable,
        }
    }
}

#[derive(Serialize)]
struct LimitsRow {
    daily_credits: u64,
    monthly_credits: u64,
    queued: u64,
}

impl From<Limits> for LimitsRow {
    fn from(limits: Limits) -> Self {
        let Limits { daily_credits, monthly_credits, queued } = limits;
        Self { daily_credits, monthly_credits, queued }
    }
}

/// Credits added to a day, or taken out of it.
#[derive(Serialize)]
struct Booking {
    day: i32,
    credits: i64,
}

impl Booking {
    fn of(booking: Reservation, sign: i64) -> Self {
        Self { day: booking.day, credits: sign * i64::try_from(booking.credits).unwrap_or(i64::MAX) }
    }
}

#[derive(Serialize)]
struct New {
    job: JobRow,
    events: Vec<EventRow>,
    deliveries: Vec<DeliveryRow>,
    reserved: Option<Reservation>,
    key: Option<KeyRow>,
    limits: LimitsRow,
}

#[derive(Serialize)]
struct Replacement {
    job: JobRow,
    events: Vec<EventRow>,
    deliveries: Vec<DeliveryRow>,
    bookings: Vec<Booking>,
    /// It follows another job up for free, or is settled, and may so name the task of another job.
    may_share: bool,
    successor: Option<New>,
    budgeted: bool,
    limits: LimitsRow,
}

/// Changes that are written together, each of nothing but its own job: an argument of `replace_together`.
#[derive(Default, Serialize)]
pub(super) struct Changes {
    jobs: Vec<JobRow>,
    events: Vec<EventRow>,
    deliveries: Vec<DeliveryRow>,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Whether something is owed to sinks by them.
    pub(super) fn owe(&self) -> bool {
        !self.deliveries.is_empty()
    }
}

/// Writes documents in an instance's name.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    /// Who writes, for people who read the timeline.
    pub(super) instance: String,
}

impl Writer {
    /// A new job, as an argument of `insert_job`; its request goes beside it.
    pub(super) fn new_job(&self, insert: &Insert, written_by: Uuid) -> Result<String, StoreError> {
        let Insert { job, event, deliveries, key, limits, .. } = insert;
        document(&self.insertion(job, event, deliveries, key.as_ref(), *limits, written_by)?)
    }

    fn insertion(
        &self,
        job: &Job,
        event: &EventRecord,
        deliveries: &[Delivery],
        key: Option<&IdempotencyKey>,
        limits: Limits,
        written_by: Uuid,
    ) -> Result<New, StoreError> {
        Ok(New {
            job: JobRow::of(job, written_by)?,
            events: self.signed(std::slice::from_ref(event))?,
            deliveries: DeliveryRow::all(deliveries)?,
            reserved: job.cost.reserved,
            key: key.map(KeyRow::of),
            limits: limits.into(),
        })
    }

    /// A change, as an argument of `replace_job`.
    pub(super) fn change(
        &self,
        change: &Change,
        limits: Limits,
        written_by: Uuid,
    ) -> Result<String, StoreError> {
        let job = &change.job;
        let successor = change.successor.as_ref().map(|next| {
            let key = IdempotencyKey {
                owner: "-".into(),
                key: format!("{}:{}", next.mode.as_str(), job.id),
                fingerprint: [0; 32],
                reusable: next.mode != RetryMode::Resubmit,
            };
            self.insertion(
                &next.job,
                &next.event,
                &next.deliveries,
                Some(&key),
                Limits::default(),
                written_by,
            )
        });
        let release = change.release.map(|booking| Booking::of(booking, -1));
        let book = change.book.map(|booking| Booking::of(booking, 1));
        let limited = limits.daily_credits > 0 || limits.monthly_credits > 0;
        let paid = change.successor.as_ref().is_some_and(|next| next.job.cost.reserved.is_some());
        let follows_up = job.retry_of.is_some() && job.attempts.submit == 0;
        document(&Replacement {
            job: JobRow::of(job, written_by)?,
            events: self.signed(&change.events)?,
            deliveries: DeliveryRow::all(&change.deliveries)?,
            bookings: release.into_iter().chain(book).collect(),
            may_share: follows_up || job.outcome().is_some(),
            successor: successor.transpose()?,
            budgeted: limited && paid,
            limits: limits.into(),
        })
    }

    /// Puts a change to others; nothing of one that breaks a rule.
    pub(super) fn add(
        &self,
        changes: &mut Changes,
        change: &Change,
        written_by: Uuid,
    ) -> Result<(), StoreError> {
        let job = JobRow::of(&change.job, written_by)?;
        let (events, deliveries) = (self.signed(&change.events)?, DeliveryRow::all(&change.deliveries)?);
        changes.jobs.push(job);
        changes.events.extend(events);
        changes.deliveries.extend(deliveries);
        Ok(())
    }

    /// Events, as an argument of `log_events`.
    pub(super) fn events(&self, events: &[EventRecord]) -> Result<String, StoreError> {
        document(&self.signed(events)?)
    }

    /// Events that say which instance wrote them.
    fn signed(&self, events: &[EventRecord]) -> Result<Vec<EventRow>, StoreError> {
        let sign = |event: &EventRecord| {
            let mut event = event.clone();
            if let Some(data) = event.data.as_object_mut() {
                data.insert("instance".to_owned(), self.instance.clone().into());
            }
            EventRow::of(&event)
        };
        events.iter().map(sign).collect()
    }
}

/// A document, as an argument of one of the database's functions.
pub(super) fn document(value: &impl Serialize) -> Result<String, StoreError> {
    Ok(format!("{}::jsonb", text(&encode(value)?)))
}

pub(super) fn encode(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Unavailable(error.to_string()))
}

/// A record as it was written; whose it is, is for the message.
pub(super) fn decode<T: serde::de::DeserializeOwned>(
    record: &str,
    whose: impl std::fmt::Display,
) -> Result<T, StoreError> {
    serde_json::from_str(record).map_err(|_| StoreError::Damaged(whose.to_string()))
}

/// A text as a column has it: the database knows no NUL. The record keeps it as it is.
pub(super) fn column(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

pub(super) fn uuid(id: JobId) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}

/// What became of a write.
pub(super) struct Verdict {
    pub(super) status: String,
    pub(super) other: Option<JobId>,
    pub(super) record: Option<String>,
    pub(super) booked: u64,
    /// What was due before it.
    pub(super) was: Option<(u8, Millis)>,
    /// After a claim, when the next job of its duty is due.
    pub(super) next: Option<Millis>,
}

impl Verdict {
    pub(super) fn of(row: &PgRow) -> Result<Self, Trouble> {
        let was = row.try_get::<Option<i16>, _>("was_duty")?.zip(row.try_get::<Option<i64>, _>("was_due")?);
        let other = row.try_get::<Option<Uuid>, _>("other")?;
        Ok(Self {
            status: row.try_get::<Option<String>, _>("status")?.unwrap_or_default(),
            other: other.map(|id| JobId::from_bytes(id.into_bytes())),
            record: row.try_get("record")?,
            booked: row.try_get::<Option<i64>, _>("booked")?.unwrap_or_default().cast_unsigned(),
            next: row.try_get::<Option<i64>, _>("next_due")?.map(Millis),
            was: was.map(|(duty, at)| (u8::try_from(duty).unwrap_or_default(), Millis(at))),
        })
    }
}

/// Where a duty or a due entry stands on the board.
pub(super) const fn lane(duty: Duty) -> usize {
    duty as usize
}

/// Deliveries, as an argument of `owe_deliveries`.
pub(super) fn deliveries(owed: &[Delivery]) -> Result<String, StoreError> {
    document(&DeliveryRow::all(owed)?)
}

/// How a plain enumeration is named in JSON.
pub(super) fn name(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}
