//! The service in its world: a process that can die, a disk that outlives it, and everybody who talks to it.

mod end;
mod moves;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{Arc, LazyLock},
    time::Duration,
};

use reelhook::{
    app::{Addresses, App},
    clock::Clock,
    config::Config,
    entropy::Entropy,
    lifecycle::{Duty, Event, Job, Millis, Refusal},
    runner::{CreateCall, Duties},
    store::Store,
};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::{
    Break,
    disk::{Disk, Fault, Tables},
    judge::{Bounds, Judge},
    people::People,
    random::Random,
    tasks::{Lease, Tasks, finish},
    upstream::Upstream,
    wire::Wire,
};

/// Any instant will do: 2027-01-15T08:00:00Z.
const START: i64 = 1_800_000_000_000;
/// Slots of a lane.
const SLOTS: usize = 4;

/// What dies with a crash.
struct Process {
    app: Arc<App>,
    duties: Arc<Duties>,
    /// Lanes at work, by duty.
    lanes: Rc<[Cell<usize>; 6]>,
}

pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) judge: Judge,
    pub(crate) disk: Disk,
    clock: Clock,
    config: Arc<Config>,
    upstream: Rc<RefCell<Upstream>>,
    wire: Rc<Wire>,
    people: Rc<People>,
    process: Process,
    tasks: Tasks,
    broken: Break,
    /// Numbers and ids of the events that a reader was shown.
    read: Rc<RefCell<Vec<(u64, String)>>>,
    entropy: u64,
}

static DEFAULTS: LazyLock<Config> = LazyLock::new(Config::defaults);

/// The service as its defaults have it, with limits that are felt.
fn config(random: &mut Random) -> Config {
    let mut config = DEFAULTS.clone();
    config.upstream.max_in_flight = [2, 5, 1_000][random.below(3)];
    config.budget.daily_credits = [0, 2_500, 20_000][random.below(3)];
    config.callback.public_url = (!random.once_in(4)).then(|| Url::parse("https://us.example").unwrap());
    config.callback.secrets = vec!["a secret of the simulation, 32 characters".into()];
    config
}

impl World {
    pub(crate) fn new(seed: u64, broken: Break, trace: bool) -> Self {
        let mut random = Random::new(seed);
        let config = Arc::new(config(&mut random));
        let clock = Clock::manual(START);
        let bounds = Bounds {
            in_flight: config.upstream.max_in_flight as u64,
            daily_credits: config.budget.daily_credits,
        };
        let judge = Judge::new(bounds, clock.clone(), trace);
        let observer = judge.clone();
        let fault = if let Break::Store(fault) = broken { fault } else { Fault::None };
        let disk = Disk::by_hand(fault, Box::new(move |written| observer.observe(written)));
        let upstream = Upstream {
            faulty: true,
            lies: random.once_in(8),
            mixes: random.once_in(4),
            ..Upstream::default()
        };
        let upstream = Rc::new(RefCell::new(upstream));
        let callers = match random.below(200) {
            0 => 400,
            1..=9 => 80,
            _ => 4 + random.below(28),
        };
        let people = Rc::new(People::new(&mut random, callers, Millis(START), judge.clone()));
        let process = start(&disk, &config, &clock, seed);
        let wire = Rc::new(Wire {
            clock: clock.clone(),
            config: Arc::clone(&config),
            upstream: Rc::clone(&upstream),
            random: RefCell::new(Random::new(seed ^ 0xD1CE)),
            judge: judge.clone(),
            disk: disk.clone(),
            submit_lease: process.app.policy().submit_lease,
        });
        let (tasks, read) = (Tasks::default(), Rc::default());
        let (clock, entropy) = (clock, seed);
        Self {
            random,
            judge,
            disk,
            clock,
            config,
            upstream,
            wire,
            people,
            process,
            tasks,
            broken,
            read,
            entropy,
        }
    }

    pub(crate) fn app(&self) -> &Arc<App> {
        &self.process.app
    }

    pub(crate) fn play(&mut self) -> Result<(), String> {
        let callers = self.people.callers.borrow().len();
        for _ in 0..callers * (100 + self.random.below(200)) {
            self.chance();
            self.judge.verdict()?;
        }
        self.settle()
    }

    /// One random thing happens.
    fn chance(&mut self) {
        match self.random.below(48) {
            0..=27 => self.work(),
            28..=33 => self.any_lane(),
            34..=36 => self.disk.sync(),
            37 | 38 => {
                self.a_caller_asks(false);
            }
            39 | 40 => self.a_callback_arrives(),
            41 => self.somebody_decides(),
            42 | 43 => self.upstream.borrow_mut().progress(&mut self.random),
            44 if self.random.once_in(4) => self.upstream.borrow_mut().call_back_about_any(&mut self.random),
            // A machine that is suspended: time passes although there is work.
            44 if self.random.once_in(4) => {
                let span = [40_000, 100_000][self.random.below(2)];
                self.pass(span);
            }
            44 => self.pass(50),
            45 => self.somebody_reads_the_log(),
            46 => self.the_clock_is_minded(),
            _ if self.random.once_in(6) => self.trouble(),
            _ => {}
        }
    }

    /// A task goes on; where none can, what they all wait for happens.
    fn work(&mut self) {
        let lends = self.disk.clone();
        if self.tasks.run_one(&mut self.random, |lease| lends.answers_for(lease)) {
            return;
        }
        if self.disk.owes_a_sync() {
            self.disk.sync();
        } else if self.tasks.are_done() {
            self.until_something_is_due();
        } else {
            let span = [1, 300, 2_000, 6_000, 30_000][self.random.below(5)];
            self.pass(span);
        }
    }

    pub(crate) fn pass(&self, millis: u64) {
        self.clock.advance(Duration::from_millis(millis));
    }

    fn until_something_is_due(&mut self) {
        let now = Millis(self.clock.now_ms());
        let next = self.disk.look(|tables| {
            // What is due already waits for room in flight.
            let coming = |duty| tables.next_due(duty).filter(|at| *at > now);
            DUTIES.into_iter().filter_map(coming).min()
        });
        let wait = next.map_or(1_000, |at| at.since(now));
        // Nobody sleeps much longer than this without a look.
        self.pass(u64::try_from(wait).unwrap_or(0).min(3_600_000));
    }

    /// Whether a lane of this duty has something due, and for create calls, room in flight.
    fn is_due(&self, duty: Duty) -> bool {
        let now = Millis(self.clock.now_ms());
        let most = self.config.upstream.max_in_flight as u64;
        self.disk.look(|tables| {
            let room = duty != Duty::Submit || tables.in_flight() < most;
            room && tables.next_due(duty).is_some_and(|at| at <= now)
        })
    }

    fn any_lane(&mut self) {
        let duty = DUTIES[self.random.below(DUTIES.len())];
        if self.is_due(duty) {
            self.lane(duty);
        }
    }

    /// A lane takes a slot, claims what is due, does it and gives the slot back.
    fn lane(&mut self, duty: Duty) {
        let Process { app, duties, lanes } = &self.process;
        if lanes[duty as usize].get() >= SLOTS {
            return;
        }
        let slot = Slot::take(lanes, duty);
        let (app, duties, wire) = (Arc::clone(app), Arc::clone(duties), Rc::clone(&self.wire));
        let (tasks, broken) = (self.tasks.clone(), self.broken);
        // Another lane may believe that it holds the same claim; for a create call no lane ever does.
        let twice = matches!(duty, Duty::Ask | Duty::Fetch) && self.random.once_in(6);
        let echoes_after = self.random.once_in(3).then(|| Duration::from_millis(500 << self.random.below(7)));
        let lease = Lease::default();
        let noted = Rc::clone(&lease);
        self.tasks.spawn_for(lease, async move {
            let _slot = slot;
            if duty == Duty::Submit {
                duties.opened().await;
            }
            if broken == Break::SendsBeforeItClaims && duty == Duty::Submit {
                send_unclaimed(&wire).await;
            }
            let before = wire.clock.elapsed();
            let Ok(claimed) = app.claim(duty, if duty == Duty::Expire { 256 } else { 1 }).await else {
                return;
            };
            for job in claimed.into_iter().filter(|_| duty != Duty::Expire) {
                noted.set(job.lease);
                if twice {
                    let (duties, wire) = (Arc::clone(&duties), Rc::clone(&wire));
                    tasks.spawn(perform(duties, wire, duty, job.clone(), before));
                }
                let claimed = job.clone();
                let forgets = broken == Break::ForgetsTheTimeOfItsClaim;
                let before = if forgets { wire.clock.elapsed() } else { before };
                perform(Arc::clone(&duties), Rc::clone(&wire), duty, job, before).await;
                if duty == Duty::Submit {
                    echo(&app, &wire, claimed, echoes_after).await;
                }
            }
        });
    }
}

const DUTIES: [Duty; 4] = [Duty::Submit, Duty::Ask, Duty::Fetch, Duty::Expire];

/// A slot of a lane, given back when dropped.
struct Slot(Rc<[Cell<usize>; 6]>, Duty);

impl Slot {
    fn take(lanes: &Rc<[Cell<usize>; 6]>, duty: Duty) -> Self {
        lanes[duty as usize].update(|taken| taken + 1);
        Self(Rc::clone(lanes), duty)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0[self.1 as usize].update(|taken| taken - 1);
    }
}

/// A refusal of a claim that has had its answer comes late and once more.
async fn echo(app: &App, wire: &Wire, job: Job, after: Option<Duration>) {
    let (Some(after), Some(lease)) = (after, job.lease) else { return };
    wire.clock.sleep(after).await;
    let answered = wire.disk.look(|tables| tables.job(job.id).is_none_or(|now| now.lease != Some(lease)));
    if answered {
        let echo = Event::Refused(Refusal::NotSent("an echo".into()), lease);
        app.apply(job.id, &echo).await.ok(); // it may find the store away
    }
}

/// Sends the create call of the job that is likely to be claimed next.
async fn send_unclaimed(wire: &Wire) {
    let queued = |tables: &Tables| {
        tables.jobs.iter().map(|(_, row)| &row.job).find(|job| job.phase_name() == "queued").cloned()
    };
    if let Some(mut job) = wire.disk.look(queued) {
        job.lease = Some(job.revision + 1);
        let call = CreateCall { id: job.id, body: serde_json::json!({ "duration": job.duration_s }) };
        wire.create(job, call).await;
    }
}

async fn perform(duties: Arc<Duties>, wire: Rc<Wire>, duty: Duty, job: Job, claimed_at: Duration) {
    match duty {
        Duty::Submit => {
            duties.submit(job.clone(), claimed_at, |call| wire.create(job, call)).await;
        }
        Duty::Ask => duties.ask(job, |task| wire.ask(task)).await,
        Duty::Fetch => {
            let key = job.id.to_string();
            let stop = CancellationToken::new();
            duties.fetch(job, &key, &stop, |order| wire.get(order), |manifest| wire.seal(manifest)).await;
        }
        Duty::Deliver | Duty::Expire => {}
    }
}

fn start(disk: &Disk, config: &Arc<Config>, clock: &Clock, entropy: u64) -> Process {
    let policy = reelhook::app::policy(config);
    let store: Arc<dyn Store> = Arc::new(disk.start(Millis(clock.now_ms()), &policy));
    let external_url = Url::parse("http://127.0.0.1:8080").unwrap();
    let addresses = Addresses { public_url: config.callback.public_url.clone(), external_url };
    let app = finish(App::new(Arc::clone(config), store, clock.clone(), addresses), || disk.sync());
    let app = Arc::new(app.unwrap().with_entropy(Entropy::seeded(entropy)));
    let duties = Arc::new(Duties::new(Arc::clone(&app)));
    Process { app, duties, lanes: Rc::default() }
}
