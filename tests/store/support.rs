//! Jobs and steps for the tests of the store.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use reelhook::{
    lifecycle::{
        CallbackId, Change, DeliveryPolicy, Duty, Event, EventId, EventKind, EventRecord, Experience,
        FetchPolicy, Job, JobId, Millis, NewJob, Note, Policy, PollPolicy, Reservation, SinkRule, TaskId,
    },
    store::{
        Arrival, CallbackRecord, Claim, IdempotencyKey, Insert, Inserted, Judged, Limits, Replaced, Store,
        Verdict,
    },
};

/// The time at which the tests begin: 2026-01-15T00:00:00Z.
pub(crate) const NOW: Millis = Millis(1_768_435_200_000);

/// Data that can be opened again and again, by one store at a time.
#[async_trait]
pub(crate) trait Place: Send + Sync {
    /// Opens it.
    async fn open(&self) -> Arc<dyn Store>;

    /// Closes it and opens it again.
    async fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        store.close().await;
        drop(store);
        self.open().await
    }
}

pub(crate) fn policy() -> Arc<Policy> {
    Arc::new(Policy {
        lease: 15_000,
        submit_lease: 65_000,
        unknown_wait: 600_000,
        probe_after: 30_000,
        experience: Experience::default(),
        poll: PollPolicy {
            first_after: 20_000,
            overdue_after: 240_000,
            interval: 15_000,
            max_interval: 60_000,
            jitter: 0.0,
            give_up_after: 2_700_000,
        },
        fetch: FetchPolicy { attempts: 8, backoff: 2_000, max_backoff: 120_000, give_up_after: 86_400_000 },
        sinks: vec![SinkRule {
            name: "app".into(),
            events: vec![EventKind::Canceled, EventKind::Failed, EventKind::CallbackSilent],
        }],
        delivery: DeliveryPolicy::default(),
    })
}

/// The event of this number, about no job.
pub(crate) fn about_no_job(n: u8, kind: EventKind, data: serde_json::Value) -> EventRecord {
    EventRecord { id: EventId::new(NOW, &[n; 10]), kind, time: NOW, job_id: None, revision: None, data }
}

pub(crate) fn id(n: u16) -> JobId {
    let [high, low] = n.to_be_bytes();
    JobId::new(NOW.plus(i64::from(n)), &[high, low, 0, 0, 0, 0, 0, 0, 0, 1])
}

pub(crate) fn job(n: u16) -> Job {
    let new = NewJob { model: "kling-3".into(), callback_expected: true, ..NewJob::default() };
    Job::new(id(n), NOW, new)
}

pub(crate) fn insertion(job: Job) -> Insert {
    let (event, deliveries) = job.created(&policy());
    let document = Bytes::from(format!("{{\"prompt\":\"film {}\"}}", job.id));
    Insert { job, event, deliveries, document, key: None, limits: Limits::default() }
}

pub(crate) fn key(owner: &str, key: &str, request: u8) -> IdempotencyKey {
    IdempotencyKey { owner: owner.into(), key: key.into(), fingerprint: [request; 32], reusable: false }
}

pub(crate) fn booking(mut job: Job, day: i32, credits: u64) -> Job {
    job.cost.reserved = Some(Reservation { day, credits });
    job
}

pub(crate) async fn put(store: &dyn Store, job: Job) -> Job {
    match store.insert(insertion(job)).await.unwrap() {
        Inserted::New(job) => *job,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn get(store: &dyn Store, id: JobId) -> Job {
    store.load(id).await.unwrap().unwrap()
}

/// What `event` makes of the job as it is stored.
pub(crate) async fn stepped(store: &dyn Store, id: JobId, event: &Event, now: Millis) -> Change {
    get(store, id).await.step(event, now, &policy()).unwrap()
}

pub(crate) async fn step(store: &dyn Store, id: JobId, event: &Event, now: Millis) -> Job {
    let change = stepped(store, id, event, now).await;
    let job = change.job.clone();
    assert!(matches!(store.replace(change).await.unwrap(), Replaced::Done { .. }));
    job
}

pub(crate) fn claim(duty: Duty, max: usize, now: Millis) -> Claim {
    Claim { duty, max, in_flight: u64::MAX, now, policy: policy() }
}

pub(crate) fn ids(jobs: &[Job]) -> Vec<JobId> {
    jobs.iter().map(|job| job.id).collect()
}

pub(crate) fn task(n: u16) -> TaskId {
    TaskId(format!("task-{n}"))
}

/// A job that waits for the task of its number.
pub(crate) async fn awaiting(store: &dyn Store, n: u16) -> Job {
    put(store, job(n)).await;
    let sending = step(store, id(n), &Event::Claimed(Duty::Submit), NOW).await;
    step(store, id(n), &Event::Accepted(task(n), sending.lease.unwrap()), NOW).await
}

/// A callback for job `n` with a body, judged as the receiver would: kept, and a repeat is called one.
pub(crate) fn arrival(n: u16, delivery: &str, body: &'static [u8]) -> Arrival {
    called(n, delivery, body, |_| ())
}

/// The same, judged as `adjust` says.
pub(crate) fn called(
    n: u16,
    delivery: &str,
    body: &'static [u8],
    adjust: impl Fn(&mut Judged) + Send + Sync + 'static,
) -> Arrival {
    let record = record(n, delivery, body);
    let judge = move |job: Option<&Job>, duplicate: bool| {
        let verdict = match job {
            None => Verdict::Unmatched,
            Some(_) if duplicate => Verdict::Duplicate,
            Some(_) => Verdict::Matched,
        };
        let note = Note { task: None, duplicate, kept_bytes: body.len() as u64, successor: id(9_000 + n) };
        let record = CallbackRecord { verdict, ..record.clone() };
        let mut judged = Judged { record, keep: !duplicate, keep_body: true, note };
        adjust(&mut judged);
        judged
    };
    Arrival {
        job_id: id(n),
        delivery_id: delivery.into(),
        body: Bytes::from_static(body),
        now: NOW,
        policy: policy(),
        judge: Box::new(judge),
    }
}

/// The log entry of such a callback.
pub(crate) fn record(n: u16, delivery: &str, body: &[u8]) -> CallbackRecord {
    let unique = delivery.bytes().chain([0; 10]).take(10).collect::<Vec<_>>().try_into().unwrap();
    CallbackRecord {
        id: CallbackId::new(NOW, &unique),
        job_id: id(n),
        received_at: NOW,
        verdict: Verdict::Matched,
        delivery_id: delivery.into(),
        bytes: body.len() as u64,
        sha256: String::new(),
        word: None,
        task_id: None,
        detail: None,
    }
}
