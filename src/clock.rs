//! The time: of the system, or moved by hand in tests.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

/// A step of the wall clock up to this long is drift and not worth a word. Milliseconds.
const STEP: i64 = 60_000;

/// Counts on while the machine sleeps, so that a lease also ends then.
#[cfg(target_os = "linux")]
const STEADY: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const STEADY: ClockId = ClockId::Monotonic;

/// Tells the wall time and, apart from it, the time that passed. Clones share one clock.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Source,
    /// Wall time minus elapsed time when they were last compared, in milliseconds. A step of the wall clock changes it.
    offset: Arc<AtomicI64>,
    /// The same of the clock that this one follows; [`OWN`] while it follows none.
    followed: Arc<AtomicI64>,
}

/// Stands for no other clock.
const OWN: i64 = i64::MIN;

#[derive(Clone, Debug)]
enum Source {
    System { started_ms: i64 },
    Manual(Arc<Manual>),
}

#[derive(Debug)]
struct Manual {
    wall_ms: AtomicI64,
    elapsed_ms: watch::Sender<i64>,
}

impl Clock {
    /// The clock of this machine.
    pub fn system() -> Self {
        Self::new(Source::System { started_ms: read_ms(STEADY) })
    }

    /// A clock that stands still at `start_ms` (Unix milliseconds) until it is moved.
    pub fn manual(start_ms: i64) -> Self {
        let manual = Manual { wall_ms: start_ms.into(), elapsed_ms: watch::Sender::new(0) };
        Self::new(Source::Manual(Arc::new(manual)))
    }

    fn new(source: Source) -> Self {
        let clock = Self { source, offset: Arc::default(), followed: Arc::new(OWN.into()) };
        clock.offset.store(clock.read_offset(), Relaxed);
        clock
    }

    /// Wall time in Unix milliseconds. May jump in either direction.
    pub fn now_ms(&self) -> i64 {
        match &self.source {
            Source::System { .. } => match self.followed.load(Relaxed) {
                OWN => read_ms(ClockId::Realtime),
                offset => self.elapsed_ms() + offset,
            },
            Source::Manual(manual) => manual.wall_ms.load(Relaxed),
        }
    }

    /// Goes by another clock from now on, which just told the time as `told_ms`; it was asked when this one's
    /// [`elapsed`](Self::elapsed) was `asked`. Between two tellings this machine's steady clock counts on. What is told is
    /// believed to half the time that the answer took. A manual clock follows nobody.
    pub fn follow(&self, told_ms: i64, asked: Duration) {
        let Source::System { .. } = self.source else { return };
        let asked = i64::try_from(asked.as_millis()).unwrap_or(i64::MAX);
        let took = self.elapsed_ms() - asked;
        let offset = told_ms - (asked + took / 2);
        let before = self.followed.load(Relaxed);
        if before == OWN {
            self.followed.store(offset, Relaxed);
            self.offset.store(offset, Relaxed); // whose clock it is changed, no clock did
        } else if (offset - before).abs() > took / 2 + 1 {
            self.followed.store(offset, Relaxed);
        }
    }

    /// Time since this clock was made, sleep of the machine included. Never goes back.
    pub fn elapsed(&self) -> Duration {
        Duration::from_millis(self.elapsed_ms().unsigned_abs())
    }

    /// How far the wall clock was moved against the time that passed, in milliseconds (negative: back), when that is
    /// more than a minute. Each step is told once, to whichever clone asks first.
    pub fn stepped(&self) -> Option<i64> {
        let (before, now) = (self.offset.load(Relaxed), self.read_offset());
        let step = now - before;
        let told = step.abs() > STEP && self.offset.compare_exchange(before, now, Relaxed, Relaxed).is_ok();
        told.then_some(step)
    }

    /// Returns when so much time has passed; on a manual clock, when it was advanced so far.
    pub async fn sleep(&self, span: Duration) {
        match &self.source {
            Source::System { .. } => tokio::time::sleep(span).await,
            Source::Manual(manual) => {
                let until = self.elapsed().saturating_add(span).as_millis();
                let until = i64::try_from(until).unwrap_or(i64::MAX);
                let mut elapsed = manual.elapsed_ms.subscribe();
                // It could only end with the clock, which is borrowed here.
                elapsed.wait_for(|elapsed| *elapsed >= until).await.ok();
            }
        }
    }

    /// Lets time pass on a manual clock. A system clock passes by itself and ignores this.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(manual) = &self.source {
            let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
            manual.wall_ms.fetch_add(by, Relaxed);
            manual.elapsed_ms.send_modify(|elapsed| *elapsed += by);
        }
    }

    /// Moves the wall time of a manual clock by `by_ms` without time passing, as a correction of the system's clock
    /// does. A system clock ignores this.
    pub fn step(&self, by_ms: i64) {
        if let Source::Manual(manual) = &self.source {
            manual.wall_ms.fetch_add(by_ms, Relaxed);
        }
    }

    fn elapsed_ms(&self) -> i64 {
        match &self.source {
            Source::System { started_ms } => read_ms(STEADY) - started_ms,
            Source::Manual(manual) => *manual.elapsed_ms.borrow(),
        }
    }

    fn read_offset(&self) -> i64 {
        self.now_ms() - self.elapsed_ms()
    }
}

fn read_ms(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec * 1_000 + time.tv_nsec / 1_000_000
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_manual_clock_stands_still_until_it_is_advanced() {
        let clock = Clock::manual(1_000);
        assert_eq!((clock.now_ms(), clock.elapsed()), (1_000, Duration::ZERO));
        clock.clone().advance(Duration::from_millis(250));
        assert_eq!((clock.now_ms(), clock.elapsed()), (1_250, Duration::from_millis(250)));
    }

    #[test]
    fn who_sleeps_by_a_manual_clock_wakes_when_it_was_advanced_so_far() {
        let clock = Clock::manual(0);
        let mut sleep = Box::pin(clock.sleep(Duration::from_millis(20)));
        assert!(sleep.as_mut().now_or_never().is_none());
        clock.step(1_000);
        clock.advance(Duration::from_millis(19));
        assert!(sleep.as_mut().now_or_never().is_none(), "a step of the wall clock is no time that passes");
        clock.advance(Duration::from_millis(1));
        assert!(sleep.as_mut().now_or_never().is_some());
    }

    #[test]
    fn time_that_passes_is_no_step_however_long() {
        let clock = Clock::manual(0);
        clock.advance(Duration::from_secs(86_400));
        assert_eq!(clock.stepped(), None);
    }

    #[test]
    fn a_step_of_more_than_a_minute_is_told_once_with_its_sign() {
        for by in [60_001, -60_001, 3_600_000] {
            let clock = Clock::manual(1_000_000);
            clock.step(by);
            assert_eq!(clock.stepped(), Some(by));
            assert_eq!(clock.stepped(), None, "told once");
            assert_eq!(clock.elapsed(), Duration::ZERO, "no time passed");
        }
    }

    #[test]
    fn a_step_of_a_minute_or_less_is_drift_but_small_steps_add_up() {
        let clock = Clock::manual(0);
        clock.step(60_000);
        assert_eq!(clock.stepped(), None);
        clock.step(1);
        assert_eq!(clock.stepped(), Some(60_001));
    }

    #[test]
    fn a_clock_that_follows_another_tells_that_ones_time_and_its_steps_but_not_its_own() {
        let clock = Clock::system();
        let others = clock.now_ms() + 3_600_000;
        clock.follow(others, clock.elapsed());
        assert!((0..1_000).contains(&(clock.clone().now_ms() - others)));
        assert_eq!(clock.stepped(), None, "another clock is no step");
        clock.follow(others + 120_000, clock.elapsed());
        assert!(clock.stepped().is_some_and(|by| (119_000..=121_000).contains(&by)));
    }

    #[test]
    fn the_system_clock_agrees_with_the_standard_library_and_has_not_stepped() {
        let before = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
        let clock = Clock::system();
        let now = u128::try_from(clock.now_ms()).unwrap();
        let after = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
        assert!(before <= now && now <= after, "{before} {now} {after}");
        assert_eq!(clock.stepped(), None);
    }
}
