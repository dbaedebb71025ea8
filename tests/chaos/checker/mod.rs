//! What was promised, checked from outside: through the API, the provider's ledger and the archive's folder.

mod files;
pub(crate) mod log;
mod told;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    time::Duration,
};

use reelhook::sandbox::Ledger;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::{load::Promised, site::Site};

/// Callbacks of one job that its log keeps; more are only counted.
const KEPT_CALLBACKS: u64 = 64;

/// Which promise was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// An acknowledged job does not exist, or one order became two jobs.
    LostJob,
    /// A well-formed order was refused.
    Refused,
    /// A job has not come to an end.
    Unsettled,
    /// A job is held and does not say why.
    SilentlyHeld,
    /// The provider accepted more than one create call for a job.
    PaidTwice,
    /// It was paid for and nobody has it, or it says that it was not.
    PaidForNothing,
    /// Nothing but kills stood in its way, and it failed.
    GivenUp,
    /// A settled job has no terminal event, a wrong one, or several.
    Outcome,
    /// The event log has a gap, a repeat, or says something else than before.
    EventLog,
    /// A callback was answered 2xx and is not in the log.
    LostCallback,
    /// A stored file is missing, or is not what the provider serves.
    WrongFile,
    /// A temporary or unknown file lies about.
    StrayFile,
    /// The app never heard of an event that it wants, or its delivery did not succeed once.
    Untold,
    /// It heard of what the log does not have, or from somebody else.
    Invented,
    /// It heard of one event in different words.
    Reworded,
    /// The server ended by itself, or complained.
    Crash,
    /// The run did not do what it was made for.
    NotTested,
}

#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) kind: Kind,
    pub(crate) what: String,
}

fn violation(kind: Kind, what: impl Into<String>) -> Violation {
    Violation { kind, what: what.into() }
}

/// What a run consisted of.
#[derive(Default)]
pub(crate) struct Found {
    statuses: BTreeMap<String, usize>,
    creates: usize,
    accepted: usize,
    callbacks: usize,
    files: usize,
    unclaimed: usize,
    events: usize,
    told: usize,
    told_again: usize,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let statuses: Vec<_> =
            self.statuses.iter().map(|(status, count)| format!("{count} {status}")).collect();
        let Self { creates, accepted, callbacks, files, unclaimed, events, told, told_again, .. } = self;
        write!(
            f,
            "jobs: {} · {creates} create calls, {accepted} accepted · {callbacks} callbacks acknowledged · \
             {files} files, {unclaimed} more of jobs that ended otherwise · {events} events, {told} of them told, \
             {told_again} repeats",
            statuses.join(", ")
        )
    }
}

/// The state of the world after the last start.
struct World {
    jobs: HashMap<String, Value>,
    events: Vec<Value>,
    callbacks: Vec<Value>,
    deliveries: Vec<Value>,
    ledger: Ledger,
}

/// What still counts as an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    /// Settled or held, nothing else.
    All,
    /// Or asking after a task that the provider denies, which a forged callback named: that is held only after two
    /// minutes, more than a short run has.
    OrDoubted,
    /// As the last, but what has not ended soon may never: something is wrong on purpose.
    Broken,
}

impl Ends {
    /// Longer than every wait of the configuration together, and than the server doubts a task and then its rival.
    const fn patience(self) -> Duration {
        match self {
            Self::All => Duration::from_secs(300),
            Self::OrDoubted => Duration::from_secs(60),
            Self::Broken => Duration::from_secs(2),
        }
    }
}

/// Waits until every job is settled or held, as long as they become fewer, and until nothing is owed to the app any
/// more; the jobs that do not.
pub(crate) async fn settled(site: &Site, ends: Ends) -> Vec<Violation> {
    let (mut deadline, mut fewest) = (Instant::now() + ends.patience(), usize::MAX);
    loop {
        let mut open = Vec::new();
        for status in ["queued", "running"] {
            open.extend(pages(site, &format!("/v1/jobs?status={status}")).await);
        }
        if ends != Ends::All {
            open.retain(|job| !is_doubted(site, job));
        }
        if open.len() < fewest {
            (deadline, fewest) = (Instant::now() + ends.patience(), open.len());
        }
        if open.is_empty() || Instant::now() > deadline {
            told::all(site, ends.patience()).await;
            let late = open
                .iter()
                .map(|job| format!("{} is {}: {}", text(job, "id"), text(job, "phase"), job["notices"]));
            return late.map(|what| violation(Kind::Unsettled, what)).collect();
        }
        sleep(Duration::from_millis(100)).await;
    }
}

fn is_doubted(site: &Site, job: &Value) -> bool {
    job["phase"] == "awaiting" && site.sandbox.sha256(text(job, "task_id")).is_none()
}

/// Holds everything against everything.
pub(crate) async fn check(site: &Site, promised: &Promised, ends: Ends, found: &mut Found) -> Vec<Violation> {
    let mut violations = settled(site, ends).await;
    // The ledger first: what it has seen acknowledged, the server must know by now.
    let ledger = site.sandbox.ledger();
    // Before the log: each of them is told there.
    let deliveries = pages(site, "/v1/deliveries?").await;
    let jobs = pages(site, "/v1/jobs?").await.into_iter().map(|job| (text(&job, "id").to_owned(), job));
    let world = World {
        jobs: jobs.collect(),
        events: log::read(site).await,
        callbacks: pages(site, "/v1/callbacks?").await,
        deliveries,
        ledger,
    };
    violations.extend(promised.surprises.iter().map(|what| violation(Kind::Refused, what)));
    violations.extend(orders(&world, promised));
    violations.extend(payments(&world));
    violations.extend(callbacks(&world));
    violations.extend(log::check(&world, promised));
    violations.extend(files::check(site, &world, found));
    violations.extend(told::check(site, &world, found));
    count(&world, found);
    violations
}

fn count(world: &World, found: &mut Found) {
    for job in world.jobs.values() {
        *found.statuses.entry(text(job, "status").to_owned()).or_default() += 1;
    }
    found.creates = world.ledger.creates.len();
    found.accepted = world.ledger.creates.iter().filter(|call| call.accepted).count();
    found.callbacks = acknowledged(world).values().sum();
    found.events = world.events.len();
}

/// Each order is one job, there to stay, which has come to an end or says what it waits for.
fn orders(world: &World, promised: &Promised) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut told = HashSet::new();
    for (number, taken) in &promised.jobs {
        let (order, id) = (&taken.order, &taken.id);
        told.insert(id);
        let Some(job) = world.jobs.get(id) else {
            violations.push(violation(
                Kind::LostJob,
                format!("{id}, order {number}, was acknowledged and is gone"),
            ));
            continue;
        };
        if job["input"]["prompt"] != order.prompt.as_str() {
            violations
                .push(violation(Kind::LostJob, format!("{id} is not order {number}: {}", job["input"])));
        }
        if job["status"] == "held" && !job["notices"].to_string().contains("A person must decide") {
            violations.push(violation(Kind::SilentlyHeld, format!("{id}: {}", job["notices"])));
        }
        let ends_well = match text(job, "status") {
            "succeeded" | "held" => true,
            "canceled" => order.cancel_after.is_some(),
            "failed" if job["error"]["code"] == "submit_abandoned" => true, // the operator's decision
            _ => !order.is_plain,
        };
        if !ends_well {
            violations.push(violation(Kind::GivenUp, format!("{id}, order {number}: {}", job["error"])));
        }
    }
    let own = world.jobs.values().filter(|job| job["retry_of"].is_null());
    let twins = own.filter(|job| !told.contains(&text(job, "id").to_owned()));
    violations
        .extend(twins.map(|job| violation(Kind::LostJob, format!("{} is nobody's order", text(job, "id")))));
    violations
}

/// At most one accepted create call a job, at most one paid job that replaces it, and none for a job that does not know.
fn payments(world: &World) -> Vec<Violation> {
    let mut accepted: HashMap<&str, usize> = HashMap::new();
    for call in world.ledger.creates.iter().filter(|call| call.accepted) {
        *accepted.entry(call.idempotency_key.as_deref().unwrap_or_default()).or_default() += 1;
    }
    let mut violations = Vec::new();
    for (id, times) in accepted {
        if times > 1 {
            violations.push(violation(Kind::PaidTwice, format!("{id} was paid for {times} times")));
        }
        let job = world.jobs.get(id);
        if job.is_none_or(|job| job["error"]["code"] == "upstream_rejected") {
            violations.push(violation(Kind::PaidForNothing, format!("{id} was paid for: {job:?}")));
        }
    }
    let mut replaced = HashSet::new();
    for job in world.jobs.values().filter(|job| job["cost"]["estimated_credits"] != 0) {
        if !job["retry_of"].is_null() && !replaced.insert(&job["retry_of"]) {
            violations.push(violation(Kind::PaidTwice, format!("{} was sent again twice", job["retry_of"])));
        }
    }
    violations
}

/// How often each callback (its job, its hash) was answered 2xx.
fn acknowledged(world: &World) -> HashMap<(String, String), usize> {
    let mut counts = HashMap::new();
    for callback in &world.ledger.callbacks {
        let job = callback.url.split("/cb/").nth(1).and_then(|path| path.split('/').next());
        if let (Some(job), Some(200..=299)) = (job, callback.status) {
            *counts.entry((job.to_owned(), callback.sha256.clone())).or_default() += 1;
        }
    }
    counts
}

/// Each callback that was answered 2xx is in the log, each repeat too, as far as the job's share of the log goes.
fn callbacks(world: &World) -> Vec<Violation> {
    let mut logged: HashMap<(String, String), usize> = HashMap::new();
    for entry in &world.callbacks {
        *logged.entry((text(entry, "job_id").to_owned(), text(entry, "sha256").to_owned())).or_default() += 1;
    }
    let mut violations = Vec::new();
    for ((job, sha256), times) in acknowledged(world) {
        let counted = world.jobs.get(&job).and_then(|job| job["callback"]["received"].as_u64()).unwrap_or(0);
        let kept = logged.get(&(job.clone(), sha256)).copied().unwrap_or(0);
        if kept < times && counted < KEPT_CALLBACKS {
            let what = format!("{job} acknowledged a callback {times} times, its log has it {kept} times");
            violations.push(violation(Kind::LostCallback, what));
        }
    }
    violations
}

/// Everything that a list holds.
async fn pages(site: &Site, list: &str) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let mut page = site.get(&format!("{list}&limit=250{cursor}")).await;
        all.append(page["data"].as_array_mut().unwrap_or_else(|| panic!("no list")));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_default()
}
