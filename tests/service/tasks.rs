//! An executor by hand: of all tasks that could go on, chance picks the one that does.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
};

use crate::random::Random;

type Work = Pin<Box<dyn Future<Output = ()>>>;

#[derive(Default)]
struct Ready(AtomicBool);

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

struct Task {
    work: Work,
    /// The claim that it works for.
    lease: Rc<std::cell::Cell<Option<u64>>>,
    ready: Arc<Ready>,
}

/// Everything that runs in the process. Clones are handles to the same.
#[derive(Clone, Default)]
pub(crate) struct Tasks(Rc<RefCell<Vec<Task>>>);

/// Where a task notes the claim that it works for.
pub(crate) type Lease = Rc<std::cell::Cell<Option<u64>>>;

impl Tasks {
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + 'static) {
        self.spawn_for(Lease::default(), work);
    }

    pub(crate) fn spawn_for(&self, lease: Lease, work: impl Future<Output = ()> + 'static) {
        let ready = Arc::new(Ready(true.into()));
        self.0.borrow_mut().push(Task { work: Box::pin(work), lease, ready });
    }

    pub(crate) fn are_done(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// The process is gone.
    pub(crate) fn die(&self) {
        // Dropped outside of the borrow: what a task leaves behind may look at the others.
        let gone = std::mem::take(&mut *self.0.borrow_mut());
        drop(gone);
    }

    /// Lets one task go on, if any can; `beforehand` learns for which claim.
    pub(crate) fn run_one(&self, random: &mut Random, beforehand: impl FnOnce(Option<u64>)) -> bool {
        let picked = {
            let mut tasks = self.0.borrow_mut();
            let ready: Vec<usize> = tasks
                .iter()
                .enumerate()
                .filter(|(_, task)| task.ready.0.load(Relaxed))
                .map(|(i, _)| i)
                .collect();
            if ready.is_empty() {
                return false;
            }
            tasks.swap_remove(ready[random.below(ready.len())])
        };
        let mut task = picked;
        task.ready.0.store(false, Relaxed);
        beforehand(task.lease.get());
        let waker = Waker::from(Arc::clone(&task.ready));
        if task.work.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            self.0.borrow_mut().push(task);
        }
        true
    }
}

/// Runs a future to its end; `meanwhile` is called whenever it waits.
pub(crate) fn finish<T>(work: impl Future<Output = T>, meanwhile: impl Fn()) -> T {
    let mut work = std::pin::pin!(work);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..10_000 {
        match work.as_mut().poll(&mut context) {
            Poll::Ready(done) => return done,
            Poll::Pending => meanwhile(),
        }
    }
    panic!("it waits for ever");
}
