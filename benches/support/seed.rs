//! Jobs written straight into the store, as a server that has run for a while would have left them.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use futures_util::{StreamExt, TryStreamExt, stream};
use reelhook::{
    lifecycle::{
        Awaiting, CallbackId, Cost, Delivery, DeliveryPolicy, Duty, Event, EventRecord, Experience,
        FetchPolicy, Job, JobId, Link, Millis, NewJob, Note, Output, Phase, Policy, PollPolicy, Report,
        SinkRule, StoredFile, Task, TaskId, Why,
    },
    store::{Arrival, CallbackRecord, Insert, Judged, Limits, Replaced, Store, Verdict, sled::SledStore},
};

use super::server::Site;

const REQUEST: &str = r#"{"input":{"model":"kling-3","prompt":"A paper boat drifts down a rain-washed street at dusk, the camera follows close above the water, warm light from shop windows","mode":"std","duration":5,"aspect_ratio":"16:9","sound":true}}"#;
/// Requests of the seeding that are under way at once: the store writes them in groups.
const AT_ONCE: usize = 1024;
/// When awaiting jobs are asked about: after any bench.
const DUE_IN: i64 = 3 * 3_600_000;

/// Makes `count` jobs that await their callback.
pub(crate) fn awaiting(site: &Site, count: usize) -> anyhow::Result<Vec<JobId>> {
    seed(site, count, |job, _| job.due_at = Some(job.created_at.plus(DUE_IN)))
}

/// Makes a job for each link that is to be fetched at once.
pub(crate) fn fetching(site: &Site, links: &[String]) -> anyhow::Result<Vec<JobId>> {
    seed(site, links.len(), |job, number| {
        let link = Link { url: links[number].clone(), learned_at: job.created_at };
        let outputs = vec![Output { link: Some(link), file: None }];
        job.phase = Phase::Fetching { outputs, attempts: 0, trouble: 0, late: 0 };
        job.times.confirmed_at = Some(job.created_at);
    })
}

/// Makes jobs that have ended, each with a callback and the events of a life.
pub(crate) fn ended(site: &Site, count: usize) -> anyhow::Result<()> {
    let policy = Arc::new(policy());
    let store = SledStore::open(&site.config()?.store, now()?, &policy)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().build()?;
    runtime.block_on(async {
        let lives = stream::iter(0..count).map(|number| live(&store, &policy, number));
        lives.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        store.close().await;
        anyhow::Ok(())
    })
}

async fn live(store: &SledStore, policy: &Arc<Policy>, number: usize) -> anyhow::Result<()> {
    let happens = async |job: &Job, event: Event| {
        let change = job.step(&event, now()?, policy).with_context(|| format!("no {event:?} for {job:?}"))?;
        let next = change.job.clone();
        let replaced = store.replace(change).await?;
        anyhow::ensure!(matches!(replaced, Replaced::Done { .. }), "{replaced:?}");
        Ok(next)
    };
    let lease = |job: &Job| job.lease.context("a claim has a lease");
    let (job, task) = (new_job()?, TaskId(task(number)));
    let (event, document) = (job.created_event(), REQUEST.into());
    let insert = Insert {
        job: job.clone(),
        event,
        deliveries: Vec::new(),
        document,
        key: None,
        limits: Limits::default(),
    };
    store.insert(insert).await?;
    let sending = happens(&job, Event::Claimed(Duty::Submit)).await?;
    happens(&sending, Event::Accepted(task.clone(), lease(&sending)?)).await?;
    let callback = arrival(job.id, callback_body(number, "succeeded"), now()?, policy)?;
    let heard = store.callback(callback).await?.changed.context("a callback makes its job due")?;
    let asking = happens(&heard.after, Event::Claimed(Duty::Ask)).await?;
    let links = vec![format!("https://cdn.example.com/v/{number:08x}/result.mp4")];
    let report = Report::Succeeded { links, credits: Some(300) };
    let due = happens(&asking, Event::Reported(task, report, lease(&asking)?)).await?;
    let fetching = happens(&due, Event::Claimed(Duty::Fetch)).await?;
    let file = StoredFile {
        name: "result.mp4".into(),
        location: format!("2026-11-02/{}/result.mp4", job.id),
        bytes: 8 << 20,
        sha256: hex::encode([7; 32]),
        content_type: "video/mp4".into(),
    };
    let lease = lease(&fetching)?;
    let stored = happens(&fetching, Event::Fetched { index: 0, file, lease }).await?;
    happens(&stored, Event::Archived(lease)).await?;
    Ok(())
}

/// A callback that is kept, unlike any other.
pub(crate) fn arrival(
    job_id: JobId,
    body: String,
    now: Millis,
    policy: &Arc<Policy>,
) -> anyhow::Result<Arrival> {
    let (id, successor) = (unique()?, JobId::new(now, &unique()?));
    let record = CallbackRecord {
        id: CallbackId::new(now, &id),
        job_id,
        received_at: now,
        verdict: Verdict::Matched,
        delivery_id: hex::encode(id),
        bytes: body.len() as u64,
        sha256: hex::encode([7; 32]),
        word: Some("succeeded".into()),
        task_id: None,
        detail: None,
    };
    Ok(Arrival {
        job_id,
        delivery_id: record.delivery_id.clone(),
        body: body.into(),
        now,
        policy: Arc::clone(policy),
        judge: Box::new(move |_, duplicate| {
            let note = Note { task: None, duplicate, kept_bytes: record.bytes, successor };
            Judged { record: record.clone(), keep: true, keep_body: true, note }
        }),
    })
}

/// Makes jobs that await their callback, and of each of which these sinks have not been told.
pub(crate) fn owing(site: &Site, count: usize, sinks: &[&str]) -> anyhow::Result<Vec<JobId>> {
    let owed = |job: &Job, event: &EventRecord| {
        let to = |name: &&str| {
            let rule = SinkRule { name: (*name).to_owned(), events: vec![event.kind] };
            Delivery::owed(&rule, event, Some(job), &DeliveryPolicy::default())
        };
        sinks.iter().filter_map(to).collect()
    };
    seed_owing(site, count, |job, _| job.due_at = Some(job.created_at.plus(DUE_IN)), owed)
}

/// Makes open jobs in every phase, most of them awaiting; what is due is due after any bench.
pub(crate) fn mixed(site: &Site, count: usize) -> anyhow::Result<Vec<JobId>> {
    seed(site, count, |job, number| {
        let later = Some(job.created_at.plus(DUE_IN));
        job.due_at = later;
        let phase = match number % 20 {
            0 | 1 => Phase::Queued { attempts: 0 },
            2 => Phase::Sending,
            3 => Phase::Unknown { why: Why::AnswerLost },
            4 => Phase::Held { why: Why::AnswerLost },
            5 | 6 => {
                let url = format!("https://cdn.example.com/v/{number}.mp4");
                let link = Link { url, learned_at: job.created_at };
                Phase::Fetching {
                    outputs: vec![Output { link: Some(link), file: None }],
                    attempts: 0,
                    trouble: 0,
                    late: 0,
                }
            }
            _ => return,
        };
        match phase {
            Phase::Sending => job.lease = Some(0),
            Phase::Held { .. } => job.due_at = None,
            _ => {}
        }
        if !matches!(phase, Phase::Fetching { .. }) {
            job.task = None;
        }
        job.phase = phase;
    })
}

fn seed(site: &Site, count: usize, shape: impl Fn(&mut Job, usize)) -> anyhow::Result<Vec<JobId>> {
    seed_owing(site, count, shape, |_, _| Vec::new())
}

fn seed_owing(
    site: &Site,
    count: usize,
    shape: impl Fn(&mut Job, usize),
    owed: impl Fn(&Job, &EventRecord) -> Vec<Delivery>,
) -> anyhow::Result<Vec<JobId>> {
    let store = SledStore::open(&site.config()?.store, now()?, &Arc::new(policy()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().build()?;
    let ids = runtime.block_on(async {
        let inserts = stream::iter(0..count).map(|number| {
            let job = accepted(number).map(|mut job| {
                shape(&mut job, number);
                job
            });
            let (store, owed) = (&store, &owed);
            async move {
                let job = job?;
                let (id, event, document) = (job.id, job.created_event(), REQUEST.into());
                let deliveries = owed(&job, &event);
                store
                    .insert(Insert { job, event, deliveries, document, key: None, limits: Limits::default() })
                    .await?;
                anyhow::Ok(id)
            }
        });
        inserts.buffered(AT_ONCE).try_collect().await
    })?;
    runtime.block_on(store.close());
    Ok(ids)
}

/// A job whose create call was answered just now.
fn accepted(number: usize) -> anyhow::Result<Job> {
    let mut job = new_job()?;
    job.phase = Phase::Awaiting(Awaiting::default());
    job.task = Some(Task { id: TaskId(task(number)), proven: true });
    job.attempts.submit = 1;
    job.times.submitted_at = Some(job.created_at);
    job.times.accepted_at = Some(job.created_at);
    Ok(job)
}

fn new_job() -> anyhow::Result<Job> {
    let now = now()?;
    let new = NewJob {
        model: "kling-3".into(),
        mode: Some("std".into()),
        duration_s: Some(5),
        cost: Cost { estimated_credits: 300, exact: true, ..Cost::default() },
        callback_expected: true,
        ..NewJob::default()
    };
    Ok(Job::new(JobId::new(now, &unique()?), now, new))
}

/// Random bytes of an id.
pub(crate) fn unique() -> anyhow::Result<[u8; 10]> {
    let mut unique = [0; 10];
    getrandom::fill(&mut unique)?;
    Ok(unique)
}

/// The name of a task at the upstream.
pub(crate) fn task(number: usize) -> String {
    format!("n50{number:08x}_kling3")
}

/// The body of a callback about a task, in one of two shapes that providers use. `word` makes bodies differ.
pub(crate) fn callback_body(number: usize, word: &str) -> String {
    let (task, link) = (task(number), format!("https://cdn.example.com/v/{number:08x}/result.mp4"));
    if number.is_multiple_of(2) {
        format!(
            r#"{{"code":200,"message":"success","data":{{"task_id":"{task}","status":"{word}","model":"kling-3","created_at":"2026-11-02T10:15:00Z","completed_at":"2026-11-02T10:17:31Z","output":{{"video_url":"{link}","duration":5,"width":1280,"height":720}},"credits_consumed":300}}}}"#
        )
    } else {
        format!(
            r#"{{"code":200,"msg":"Playground task completed successfully.","data":{{"taskId":"{task}","model":"kling-3.0/video","state":"{word}","param":"{{\"input\":{{\"prompt\":\"A paper boat drifts down a rain-washed street\",\"duration\":\"5\",\"mode\":\"std\"}}}}","resultJson":"{{\"resultUrls\":[\"{link}\"]}}","failCode":null,"failMsg":null,"costTime":151,"completeTime":1793614651000,"createTime":1793614500000}}}}"#
        )
    }
}

fn now() -> anyhow::Result<Millis> {
    Ok(Millis(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?))
}

/// Opening asks for one; nothing that a bench seeds depends on it.
fn policy() -> Policy {
    let day = 24 * 3_600_000;
    Policy {
        lease: 15_000,
        submit_lease: 65_000,
        unknown_wait: day,
        probe_after: 15_000,
        experience: Experience::default(),
        poll: PollPolicy {
            first_after: 20_000,
            overdue_after: day,
            interval: 15_000,
            max_interval: day,
            jitter: 0.0,
            give_up_after: day,
        },
        fetch: FetchPolicy { attempts: 8, backoff: 2_000, max_backoff: 120_000, give_up_after: day },
        sinks: Vec::new(),
        delivery: DeliveryPolicy::default(),
    }
}
