//! Whether a store after a power loss holds what was promised.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use reelhook::{
    config,
    lifecycle::{Duty, Event, Job, JobId, Millis},
    store::{CallbackFilter, Insert, Inserted, JobFilter, LogEntry, Store, sled::SledStore},
};

use crate::{
    load::{Acknowledged, Fact, Journal, all_events},
    support::{NOW, claim, id, insertion, job, key, policy},
};

/// When the power is back; later than anything that the load did.
const BACK: Millis = Millis(NOW.0 + 86_400_000);

pub(crate) fn open(folder: &Path) -> Result<SledStore> {
    let config = config::Store { path: folder.to_owned(), cache: 16 << 20, min_free: 0 };
    Ok(SledStore::open(&config, BACK, &policy())?)
}

/// Opens what a power loss at `moment` left, and checks all of it.
pub(crate) async fn judge(journal: &Journal, moment: usize, folder: &Path) -> Result<()> {
    let store = open(folder)?;
    let acknowledged: Vec<_> = journal.acknowledged.iter().filter(|fact| fact.at <= moment).collect();
    ensure!(store.quarantined() == 0, "{} records are damaged", store.quarantined());
    let jobs = store.list(JobFilter::default(), None, usize::from(u16::MAX)).await?.items;
    let log = all_events(&store).await;
    let found = Found::of(journal, &jobs, log)?;
    found.has(&acknowledged)?;
    found.log_fits(journal)?;
    callbacks_are_whole(&store, journal, &acknowledged).await?;
    sums_are_right(&store, &jobs).await?;
    requests_are_whole(&store, journal, &jobs).await?;
    every_debt_is_found(&store, &jobs).await?;
    work_goes_on(&store).await?;
    store.close().await;
    Ok(())
}

/// What is in a store, understood as what the load did until some change, and what the start made of that.
struct Found {
    /// The last revision of each job that the load wrote.
    revisions: HashMap<JobId, u64>,
    log: Vec<LogEntry>,
    /// How many events at the end of the log came of the start.
    released: usize,
}

impl Found {
    fn of(journal: &Journal, jobs: &[Job], log: Vec<LogEntry>) -> Result<Self> {
        let (mut revisions, mut released) = (HashMap::new(), 0);
        for job in jobs {
            job.check().map_err(anyhow::Error::msg)?;
            let written = |revision| journal.records.get(&(job.id, revision));
            if written(job.revision) == Some(job) {
                revisions.insert(job.id, job.revision);
                continue;
            }
            let before = written(job.revision - 1).with_context(|| format!("nobody wrote {job:?}"))?;
            let change = before.step(&Event::Orphaned, BACK, &policy());
            let change = change.filter(|change| change.job == *job);
            released += change.with_context(|| format!("nobody made {job:?} of {before:?}"))?.events.len();
            revisions.insert(job.id, job.revision - 1);
        }
        Ok(Self { revisions, log, released })
    }

    fn has(&self, acknowledged: &[&Acknowledged]) -> Result<()> {
        for fact in acknowledged {
            if let Fact::Job(job, revision) = fact.fact {
                let found = self.revisions.get(&job).with_context(|| format!("{job} is lost"))?;
                ensure!(*found >= revision, "{job} was at revision {revision} and is at {found}");
            }
        }
        let shown = acknowledged.iter().map(|fact| fact.newest).max().unwrap_or(0);
        let kept = (self.log.len() - self.released) as u64;
        ensure!(kept >= shown, "readers saw event {shown}, the log ends with {kept}");
        Ok(())
    }

    /// The log is what it was until some change, without a gap, and each job is where the log says.
    fn log_fits(&self, journal: &Journal) -> Result<()> {
        for (number, entry) in (1..).zip(&self.log) {
            ensure!(entry.seq == number, "the log goes from {} to {}", number - 1, entry.seq);
        }
        let kept = self.log.len() - self.released;
        ensure!(journal.log.get(..kept) == Some(&self.log[..kept]), "the log is not what was written");
        for (number, LogEntry { event, .. }) in journal.log.iter().enumerate() {
            let (job, revision) = event.job_id.zip(event.revision).context("an event of no job")?;
            let reached = self.revisions.get(&job).is_some_and(|at| *at >= revision);
            ensure!(
                reached == (number < kept),
                "{} and event {} of its revision {} are not of one change",
                job,
                number + 1,
                revision
            );
        }
        Ok(())
    }
}

/// Each callback that was acknowledged is in the log once, with its body.
async fn callbacks_are_whole(
    store: &dyn Store,
    journal: &Journal,
    acknowledged: &[&Acknowledged],
) -> Result<()> {
    let entries = store.callbacks(CallbackFilter::default(), None, usize::from(u16::MAX)).await?.items;
    let count = entries.len();
    let logged: HashMap<u32, _> =
        entries.into_iter().map(|entry| Ok((entry.delivery_id.parse()?, entry.id))).collect::<Result<_>>()?;
    ensure!(logged.len() == count, "of {count} entries for callbacks {} are of their own", logged.len());
    for fact in acknowledged {
        if let Fact::Callback(number) = &fact.fact {
            let id = logged.get(number).with_context(|| format!("the callback {number} is lost"))?;
            let kept = store.callback_body(*id).await?.map(|(_, body)| body);
            ensure!(kept.as_ref() == journal.bodies.get(number), "the body of callback {number} is lost");
        }
    }
    Ok(())
}

/// The counts and the ledger say what the records say.
async fn sums_are_right(store: &dyn Store, jobs: &[Job]) -> Result<()> {
    let mut phases = HashMap::<_, u64>::new();
    jobs.iter().for_each(|job| *phases.entry(job.phase_name()).or_default() += 1);
    let counts = store.counts().await?;
    for (phase, count) in &phases {
        ensure!(counts.phase(phase) == *count, "{count} jobs are {phase}, counted {counts:?}");
    }
    let booked: u64 = jobs.iter().filter_map(|job| job.cost.reserved).map(|booking| booking.credits).sum();
    let ledger = store.booked(NOW).await?.day;
    ensure!(booked == ledger, "the jobs booked {booked} credits, the ledger says {ledger}");
    Ok(())
}

/// Each job has its request, its idempotency key and its task.
async fn requests_are_whole(store: &dyn Store, journal: &Journal, jobs: &[Job]) -> Result<()> {
    try_join_all(jobs.iter().map(|job| request_is_whole(store, journal, job))).await?;
    Ok(())
}

async fn request_is_whole(store: &dyn Store, journal: &Journal, found: &Job) -> Result<()> {
    let (n, request) = &journal.requests[&found.id];
    let kept = store.document(found.id).await?;
    ensure!(kept.as_ref() == Some(request), "the request of {} is lost", found.id);
    let again = Insert { key: Some(key("web", &n.to_string(), 1)), ..insertion(job(u16::MAX)) };
    let again = store.insert(again).await?;
    let is_known = matches!(&again, Inserted::Replayed(job) if job.id == found.id);
    ensure!(is_known, "the key of {}: {again:?}", found.id);
    if let Some(task) = &found.task {
        let owner = store.by_task(&task.id).await?;
        ensure!(owner == Some(found.id), "the task of {} is {owner:?}'s", found.id);
    }
    Ok(())
}

/// A claim of all that will ever be due finds each open job, and nothing else.
async fn every_debt_is_found(store: &dyn Store, jobs: &[Job]) -> Result<()> {
    let far = BACK.plus(30 * 86_400_000);
    for duty in [Duty::Expire, Duty::Submit, Duty::Ask, Duty::Fetch] {
        let owing = jobs.iter().filter(|job| job.duty() == Some(duty)).map(|job| job.id);
        let owing = owing.collect::<HashSet<_>>();
        let claimed = store.claim(claim(duty, usize::from(u16::MAX), far)).await?;
        let claimed = claimed.iter().map(|job| job.id).collect::<HashSet<_>>();
        ensure!(owing == claimed, "{duty:?}: due {} jobs, found {}", owing.len(), claimed.len());
    }
    Ok(())
}

/// The next change is written, and its event has the next number.
async fn work_goes_on(store: &dyn Store) -> Result<()> {
    let newest = store.bounds().await?.newest;
    let inserted = store.insert(insertion(job(u16::MAX))).await?;
    ensure!(matches!(inserted, Inserted::New(_)), "{inserted:?}");
    ensure!(store.bounds().await?.newest == newest + 1, "the log does not go on");
    ensure!(store.load(id(u16::MAX)).await?.is_some(), "the new job is lost");
    Ok(())
}
