//! What the world does to the service.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use reelhook::{
    app::{Incoming, Refused},
    lifecycle::{JobId, TaskId},
    store::EventFilter,
};

use super::{World, start};
use crate::upstream::{Callback, Upstream};

impl World {
    /// A caller sends his request, again if he has no answer yet.
    pub(super) fn a_caller_asks(&mut self, gives_up: bool) -> bool {
        let Some(caller) = self.people.waiting(&mut self.random) else { return false };
        let gives_up = gives_up || self.random.once_in(3);
        self.tasks.spawn(Rc::clone(&self.people).call(Arc::clone(&self.process.app), caller, gives_up));
        true
    }

    /// One of the callbacks under way arrives, or is lost. Its sender repeats it until it is acknowledged.
    pub(super) fn a_callback_arrives(&mut self) {
        let callback = {
            let callbacks = &mut self.upstream.borrow_mut().callbacks;
            if callbacks.is_empty() {
                return;
            }
            callbacks.swap_remove(self.random.below(callbacks.len()))
        };
        if self.upstream.borrow().faulty && self.random.once_in(8) {
            return;
        }
        self.deliver(callback);
    }

    fn deliver(&mut self, callback: Callback) {
        let (app, people) = (Arc::clone(&self.process.app), Rc::clone(&self.people));
        let judge = self.judge.clone();
        let mut unanswered =
            Unanswered { upstream: Rc::clone(&self.upstream), callback: Some(callback.clone()) };
        self.tasks.spawn(async move {
            if !app.token_is_valid(&callback.job.to_string(), &callback.token) {
                judge.object(format!("the token of {} is not valid any more", callback.job));
            }
            let refused = callback.forged.then(|| Refused::Signature("of somebody else".into()));
            let incoming = Incoming {
                body: callback.body.into(),
                delivery_id: Some(callback.delivery_id.clone()),
                refused,
            };
            judge.say(|| format!("{} callback: {}", callback.job, String::from_utf8_lossy(&incoming.body)));
            if app.arrive(callback.job, incoming).await.is_ok() {
                unanswered.end();
                let mut promises = people.promises.borrow_mut();
                promises.callbacks.entry(callback.job).or_default().push(callback.delivery_id);
            }
        });
    }

    pub(super) fn somebody_decides(&mut self) {
        let known = self.people.known();
        if known.is_empty() {
            return;
        }
        let job = known[self.random.below(known.len())];
        // Rarely without need: a job that is held is what there is to decide about.
        let held = self.disk.look(|tables| tables.job(job).is_some_and(|job| job.phase_name() == "held"));
        if !held && !self.random.once_in(4) {
            return;
        }
        let own = {
            let works = &self.upstream.borrow().works;
            works.iter().find(|work| work.job == job).map(|work| work.id.clone())
        };
        let task = own.unwrap_or_else(|| TaskId("a-typing-error".into()));
        let roll = if held { self.random.below(6) } else { [0, 6, 7, 8][self.random.below(4)] };
        // Two at the same desk, now and then.
        for _ in 0..1 + self.random.below(4) / 3 {
            let app = Arc::clone(&self.process.app);
            self.tasks.spawn(Rc::clone(&self.people).decide(app, job, roll, task.clone()));
        }
    }

    pub(super) fn somebody_reads_the_log(&mut self) {
        let (app, read, judge) = (Arc::clone(&self.process.app), Rc::clone(&self.read), self.judge.clone());
        self.tasks.spawn(async move {
            let after = read.borrow().last().map_or(0, |(seq, _)| *seq);
            let Ok(page) = app.store().events(after, 50, EventFilter::default()).await else { return };
            let mut read = read.borrow_mut();
            for entry in page.events {
                let last = read.last().map_or(0, |(seq, _)| *seq);
                if entry.seq > last + 1 {
                    judge.object(format!("the event log has a gap before {}", entry.seq));
                }
                if entry.seq == last + 1 {
                    read.push((entry.seq, entry.event.id.to_string()));
                }
            }
        });
    }

    pub(super) fn the_clock_is_minded(&mut self) {
        let duties = Arc::clone(&self.process.duties);
        self.tasks.spawn(async move { duties.mind_the_clock().await });
    }

    pub(super) fn trouble(&mut self) {
        match self.random.below(9) {
            8 => self.disk.lose_answers(1 + u32::try_from(self.random.below(3)).unwrap()),
            0 | 1 => self.crash(),
            2 => self.lanes_die(),
            3 => self.stop_orderly(),
            4 => {
                self.judge.say(|| "the store is away".into());
                self.disk.set_away(true);
            }
            5 => self.disk.set_away(false),
            6 => self.upstream.borrow_mut().broke = self.random.once_in(3),
            _ => {
                let jumps = [-7_200_000, -90_000, -20_000, 20_000, 700_000, 3 * 86_400_000];
                let by = jumps[self.random.below(jumps.len())];
                self.judge.say(|| format!("the wall clock jumps by {by} ms"));
                self.clock.step(by);
            }
        }
    }

    /// The power fails, and comes back.
    fn crash(&mut self) {
        self.judge.say(|| "crash".into());
        self.disk.crash();
        self.restart();
    }

    /// One process of several is gone: its leases lapse, the store lives on.
    fn lanes_die(&mut self) {
        self.judge.say(|| "the lanes die".into());
        self.tasks.die();
        self.people.cut_off();
    }

    /// No new call, running work to a safe point, the store closed last.
    fn stop_orderly(&mut self) {
        self.judge.say(|| "an orderly stop".into());
        self.process.duties.stop();
        for _ in 0..self.random.below(60) {
            self.work();
        }
        self.process.duties.abort();
        for _ in 0..self.random.below(60) {
            self.work();
        }
        crate::tasks::finish(self.process.app.store().close(), || ());
        self.restart();
    }

    fn restart(&mut self) {
        self.tasks.die();
        self.people.cut_off();
        self.disk.set_away(false);
        self.entropy = self.entropy.wrapping_mul(31).wrapping_add(1);
        self.process = start(&self.disk, &self.config, &self.clock, self.entropy);
        self.what_was_said_still_holds();
    }

    pub(super) fn what_was_said_still_holds(&self) {
        let promises = self.people.promises.borrow();
        let revision = |id: JobId| self.disk.look(|tables| tables.job(id).map(|job| job.revision));
        for (job, told) in &promises.revisions {
            if revision(*job).is_none_or(|revision| revision < *told) {
                self.judge.object(format!("{job} was told of with revision {told} and is lost"));
            }
        }
        for (job, acknowledged) in &promises.callbacks {
            let heard =
                self.disk.look(|tables| tables.job(*job).map_or(0, |job| job.callback.received as usize));
            if heard < acknowledged.len() {
                self.judge.object(format!("of {acknowledged:?} for {job} an acknowledged callback is lost"));
            }
        }
    }
}

/// A callback whose sender waits for the answer; without one he sends it again.
struct Unanswered {
    upstream: Rc<RefCell<Upstream>>,
    callback: Option<Callback>,
}

impl Unanswered {
    fn end(&mut self) {
        self.callback = None;
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(callback) = self.callback.take() {
            self.upstream.borrow_mut().callbacks.push(callback);
        }
    }
}
