//! What the shared store does on a PostgreSQL with fsync on, as a share of what `pgbench`'s simple update does there at the
//! same number of connections; and what a claim costs among many jobs. `cargo bench --bench postgres`

#[path = "../tests/support/postgres.rs"]
mod server;
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures_util::future::try_join_all;
use reelhook::{
    clock::Clock,
    config::{Config, Database},
    lifecycle::{Duty, Job, JobId, Millis, NewJob, Phase, Policy, Task, TaskId},
    store::{Claim, Insert, Limits, Store, postgres::PostgresStore},
};
use server::Server;
use support::{preflight, seed, turns};

const CONNECTIONS: u16 = 16;
const ROUNDS: usize = 5;
const TURN: Duration = Duration::from_secs(4);
const REQUEST: &str = r#"{"input":{"model":"kling-3","prompt":"A paper boat drifts down a rain-washed street at dusk, the camera follows close above the water, warm light from shop windows","mode":"std","duration":5,"aspect_ratio":"16:9","sound":true}}"#;
/// Claims of which the median is taken.
const CLAIMS: usize = 400;

fn main() -> anyhow::Result<()> {
    preflight(6 << 30)?;
    let server = Server::start_with(&["shared_buffers = '512MB'", "max_wal_size = '4GB'"]);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let yard = server.database();
    server.tool("pgbench", &yard, &["-i", "-q", "-s", "20"]);
    println!("{:<34} {:>9} {:>9} {:>7}", "16 connections", "pgbench/s", "durable/s", "ratio");
    let rate = || pgbench(&server, &yard);
    for (name, what) in [("create", What::Create), ("callback intake", What::Callback)] {
        let site = runtime.block_on(Site::open(server.database()))?;
        let turns::Compared { yardstick, measured, ratio } =
            turns::compare(ROUNDS, rate, |_| runtime.block_on(site.turn(what)))?;
        println!("{name:<34} {yardstick:>9.0} {measured:>9.0} {ratio:>7.3}");
        runtime.block_on(site.store.close());
    }
    let (few, many) = runtime.block_on(claim_costs(&server, 1_000, 1_000_000))?;
    println!(
        "claim among 1,000 awaiting jobs {few:.3} ms, among 1,000,000 {many:.3} ms: ratio {:.2}",
        many / few
    );
    Ok(())
}

/// Simple updates a second.
fn pgbench(server: &Server, database: &Database) -> anyhow::Result<f64> {
    let (clients, seconds) = (CONNECTIONS.to_string(), TURN.as_secs().to_string());
    let told = server.tool("pgbench", database, &["-N", "-c", &clients, "-j", "2", "-T", &seconds]);
    let rate = told.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next());
    Ok(rate.ok_or_else(|| anyhow::anyhow!("pgbench says no rate: {told}"))?.parse()?)
}

#[derive(Clone, Copy)]
enum What {
    Create,
    Callback,
}

struct Site {
    store: Arc<PostgresStore>,
    clock: Clock,
    policy: Arc<Policy>,
}

impl Site {
    async fn open(database: Database) -> anyhow::Result<Self> {
        let clock = Clock::system();
        let database = Database { connections: CONNECTIONS.into(), ..database };
        let store = Arc::new(PostgresStore::open(&database, clock.clone(), Duration::ZERO).await?);
        Ok(Self { store, clock, policy: Arc::new(reelhook::app::policy(&Config::defaults())) })
    }

    fn now(&self) -> Millis {
        Millis(self.clock.now_ms())
    }

    /// Durable changes a second.
    async fn turn(&self, what: What) -> anyhow::Result<f64> {
        // Jobs to be called back, more than one turn can call.
        let waiting = match what {
            What::Create => Vec::new(),
            What::Callback => try_join_all((0..CONNECTIONS).map(|_| self.awaiting(1_500))).await?,
        };
        let (begun, done) = (Instant::now(), AtomicUsize::new(0));
        let workers = (0..usize::from(CONNECTIONS)).map(|worker| {
            let mut jobs = waiting.get(worker).cloned().unwrap_or_default();
            let done = &done;
            async move {
                while begun.elapsed() < TURN {
                    match what {
                        What::Create => self.create(|_| ()).await.map(drop)?,
                        What::Callback => match jobs.pop() {
                            Some(job) => self.call(job).await?,
                            None => break,
                        },
                    }
                    done.fetch_add(1, Relaxed);
                }
                anyhow::Ok(begun.elapsed())
            }
        });
        let took = try_join_all(workers).await?.into_iter().max().unwrap_or(TURN);
        Ok(done.load(Relaxed) as f64 / took.as_secs_f64())
    }

    async fn create(&self, shape: impl FnOnce(&mut Job)) -> anyhow::Result<JobId> {
        let now = self.now();
        let new = NewJob { model: "kling-3".into(), callback_expected: true, ..NewJob::default() };
        let mut job = Job::new(JobId::new(now, &seed::unique()?), now, new);
        shape(&mut job);
        let (id, event) = (job.id, job.created_event());
        let limits = Limits { queued: 10_000_000, ..Limits::default() };
        let (deliveries, document) = (Vec::new(), REQUEST.into());
        self.store.insert(Insert { job, event, deliveries, document, key: None, limits }).await?;
        Ok(id)
    }

    async fn awaiting(&self, count: usize) -> anyhow::Result<Vec<JobId>> {
        let mut jobs = Vec::new();
        for _ in 0..count {
            let wait = |job: &mut Job| {
                job.phase = Phase::Awaiting(reelhook::lifecycle::Awaiting::default());
                job.task = Some(Task { id: TaskId(job.id.to_string()), proven: true });
                job.due_at = Some(job.created_at.plus(3_600_000));
            };
            jobs.push(self.create(wait).await?);
        }
        Ok(jobs)
    }

    /// Milliseconds of a claim to ask.
    async fn claim(&self) -> anyhow::Result<f64> {
        let (duty, policy) = (Duty::Ask, Arc::clone(&self.policy));
        let claim = Claim { duty, max: 1, in_flight: u64::MAX, now: self.now(), policy };
        let begun = Instant::now();
        anyhow::ensure!(self.store.claim(claim).await?.len() == 1, "nothing was due");
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    }

    async fn call(&self, job_id: JobId) -> anyhow::Result<()> {
        let arrival = seed::arrival(job_id, REQUEST.to_owned(), self.now(), &self.policy)?;
        self.store.callback(arrival).await?;
        Ok(())
    }
}

/// Median milliseconds of a claim to ask, with few and with many jobs awaiting, in turn.
async fn claim_costs(server: &Server, few: usize, many: usize) -> anyhow::Result<(f64, f64)> {
    let (few, many) = (awaiting(server, few).await?, awaiting(server, many).await?);
    let mut times = (Vec::new(), Vec::new());
    for _ in 0..CLAIMS {
        times.0.push(few.claim().await?);
        times.1.push(many.claim().await?);
    }
    few.store.close().await;
    many.store.close().await;
    Ok((turns::median(times.0), turns::median(times.1)))
}

/// A database with so many jobs awaiting, of which some are due.
async fn awaiting(server: &Server, jobs: usize) -> anyhow::Result<Site> {
    let database = server.database();
    let site = Site::open(database.clone()).await?;
    site.awaiting(1).await?;
    // The others, as copies with a record of their own: those that will be claimed are due, the rest in an hour.
    server.sql(
        &database,
        &format!(
            "INSERT INTO jobs SELECT (json_populate_record(j, json_build_object('id', x.id, 'task', n::text, 'owned_task', n::text,
                 'due_at', at, 'record', replace(replace(j.record, 'job_' || replace(j.id::text, '-', ''),
                 'job_' || replace(x.id::text, '-', '')), '\"due_at\":' || j.due_at, '\"due_at\":' || at)))).*
             FROM jobs j, generate_series(1, {}) AS n, LATERAL (SELECT gen_random_uuid() AS id,
                 j.due_at + n - CASE WHEN n <= {} THEN 7200000 ELSE 0 END AS at) AS x",
            jobs - 1,
            CLAIMS * 2
        ),
    );
    server.sql(&database, "VACUUM ANALYZE jobs");
    server.sql(&database, "CHECKPOINT");
    Ok(site)
}
