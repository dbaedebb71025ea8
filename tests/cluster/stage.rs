//! Three servers on one database, each behind a way of its own to it, and a balancer before all of them.

use std::{
    os::unix::process::ExitStatusExt as _,
    process::ExitStatus,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use reelhook::config::Database;
use secrecy::ExposeSecret as _;
use tokio::{
    task::block_in_place,
    time::{Instant, sleep},
};

use crate::{
    checker::{Kind, Violation},
    database,
    plan::{Fault, INSTANCES, Round},
    relay::{Relay, Way},
    site::{Place, Site},
    support::{PATIENCE, Process, client, free_port},
};

/// How often a service manager looks whether its server still runs.
const TEND: Duration = Duration::from_millis(100);
/// What a server says when it works; before that it may give up, for the database is away.
const READY: &str = "reelhook is ready";
const SIGTERM: i32 = 15;
/// What instances are called.
pub(crate) const NAMES: [&str; INSTANCES] = ["one", "two", "three"];

pub(crate) struct Stage {
    pub(crate) site: Site,
    server: database::Server,
    database: Database,
    instances: Vec<Instance>,
    /// From one port each to the API, and to the callbacks, of whichever instance there is.
    _balancers: [Relay; 2],
    /// Starts that were given up, for the database was away.
    pub(crate) given_up: AtomicUsize,
    crashes: Mutex<Vec<Violation>>,
}

struct Instance {
    name: &'static str,
    api: u16,
    way: Relay,
    /// `None` while it is down on purpose.
    life: Mutex<Option<Life>>,
}

struct Life {
    server: Process,
    /// How often its log said that a server is ready, before this one.
    readies: usize,
}

impl Stage {
    pub(crate) async fn set(seed: u64) -> Self {
        let (apis, callbacks) =
            ([(); INSTANCES].map(|()| free_port()), [(); INSTANCES].map(|()| free_port()));
        let (api, callback) = (Relay::start(apis.into()).await, Relay::start(callbacks.into()).await);
        let site = Site::set(seed, api.port).await;
        let server = block_in_place(database::Server::start);
        let database = server.database();
        let mut there: url::Url = database.url.expose_secret().parse().unwrap();
        let mut instances = Vec::new();
        for (nth, name) in NAMES.into_iter().enumerate() {
            let way = Relay::start(vec![server.port()]).await;
            there.set_port(Some(way.port)).unwrap();
            let named = format!("instance = \"{name}\"");
            let place = Place {
                api: apis[nth],
                callback: callbacks[nth],
                public: callback.port,
                store: there.as_str(),
                server: &named,
            };
            site.configure(name, &place);
            instances.push(Instance { name, api: apis[nth], way, life: Mutex::new(None) });
        }
        let _balancers = [api, callback];
        Self {
            site,
            server,
            database,
            instances,
            _balancers,
            given_up: AtomicUsize::new(0),
            crashes: Mutex::default(),
        }
    }

    /// Starts whoever does not run, and waits until all work.
    pub(crate) async fn start(&self) {
        self.instances.iter().for_each(|instance| self.launch(instance));
        let deadline = Instant::now() + PATIENCE;
        for instance in &self.instances {
            let ready = format!("http://127.0.0.1:{}/readyz", instance.api);
            while !matches!(client().get(&ready).send().await, Ok(answer) if answer.status() == 200) {
                assert!(Instant::now() < deadline, "not ready: {}", self.site.log(instance.name));
                self.look_after(instance);
                sleep(TEND).await;
            }
        }
    }

    /// SIGKILL to all of them.
    pub(crate) fn kill(&self) {
        self.instances.iter().for_each(|instance| drop(instance.life.lock().unwrap().take()));
    }

    fn launch(&self, instance: &Instance) {
        let mut life = instance.life.lock().unwrap();
        if life.is_none() {
            let readies = self.readies(instance);
            *life = Some(Life { server: self.site.spawn(instance.name, instance.api, []), readies });
        }
    }

    fn readies(&self, instance: &Instance) -> usize {
        self.site.log(instance.name).matches(READY).count()
    }

    /// Starts servers again that ended by themselves, for ever.
    pub(crate) async fn tend(&self) {
        loop {
            self.instances.iter().for_each(|instance| self.look_after(instance));
            sleep(TEND).await;
        }
    }

    /// A server that cannot begin without the database may end; one that works may not.
    fn look_after(&self, instance: &Instance) {
        let mut life = instance.life.lock().unwrap();
        let Some(ended) = life.as_mut().and_then(|life| life.server.has_ended()) else { return };
        let readies = life.take().map_or(0, |life| life.readies);
        drop(life);
        if ended.code() == Some(1) && self.readies(instance) == readies {
            self.given_up.fetch_add(1, Ordering::Relaxed);
        } else {
            self.complain(instance, "ended by itself", ended);
        }
        self.launch(instance);
    }

    fn complain(&self, instance: &Instance, what: &str, ended: ExitStatus) {
        let what = format!("{} {what}: {ended}", instance.name);
        self.crashes.lock().unwrap().push(Violation { kind: Kind::Crash, what });
    }

    /// Lets the faults of a round come, and pass.
    pub(crate) async fn suffer(&self, round: &Round) {
        join_all(round.iter().map(async |strike| {
            sleep(strike.after).await;
            self.strike(strike.fault).await;
        }))
        .await;
    }

    async fn strike(&self, fault: Fault) {
        match fault {
            Fault::Kill { instance, down } => {
                drop(self.instances[instance].life.lock().unwrap().take());
                sleep(down).await;
                self.launch(&self.instances[instance]);
            }
            Fault::Restart { instance, grace } => self.restart(&self.instances[instance], grace).await,
            Fault::Freeze { instance, length } => {
                self.signal(instance, "STOP");
                sleep(length).await;
                self.signal(instance, "CONT");
            }
            Fault::Isolate { instance, way, length } => {
                self.instances[instance].way.set(way);
                sleep(length).await;
                self.instances[instance].way.set(Way::Open);
            }
            Fault::Crash { down } => {
                block_in_place(|| self.server.crash());
                sleep(down).await;
                block_in_place(|| self.server.up());
            }
        }
    }

    async fn restart(&self, instance: &Instance, grace: Duration) {
        let Some(mut life) = instance.life.lock().unwrap().take() else { return };
        life.server.signal("TERM");
        let ended = life.server.ended_within(grace).await;
        // SIGTERM itself ends one that does not yet listen for it; and one that cannot begin may end with a word.
        let early = self.readies(instance) == life.readies;
        let well = |status: ExitStatus| {
            status.success() || early && (status.signal() == Some(SIGTERM) || status.code() == Some(1))
        };
        if let Some(status) = ended.filter(|status| !well(*status)) {
            self.complain(instance, "did not end well", status);
        }
        drop(life);
        self.launch(instance);
    }

    fn signal(&self, instance: usize, name: &str) {
        if let Some(life) = &mut *self.instances[instance].life.lock().unwrap()
            && life.server.has_ended().is_none()
        {
            life.server.signal(name);
        }
    }

    /// What SQL answers in the database.
    pub(crate) fn sql(&self, sql: &str) -> String {
        block_in_place(|| self.server.sql(&self.database, sql))
    }

    /// What no server may do or say.
    pub(crate) fn complaints(&self) -> Vec<Violation> {
        let mut all = std::mem::take(&mut *self.crashes.lock().unwrap());
        all.extend(self.instances.iter().flat_map(|instance| self.site.complaints(instance.name)));
        all
    }
}
