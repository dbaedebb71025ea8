//! What all instances keep together towards the upstream: the pace of calls, the bound on jobs in flight, and the pause
//! while it refuses the account. The row in the database decides, within each claim; what is known of it here only
//! says when a claim is worth the question.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use sqlx::{Row as _, postgres::PgRow};

use super::{
    board::Board,
    link::{Link, Trouble, text},
    row::column,
};
use crate::{
    clock::Clock,
    lifecycle::{Duty, Millis},
    store::{self, Pause, StoreError},
};

/// Nobody waits longer than this without a look.
const LOOK: Duration = Duration::from_millis(500);

/// The row, as it was seen last.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    /// No call before this, in microseconds.
    tat: i64,
    refusals: u32,
    paused_until: Millis,
    why: String,
    accepted_at: Option<Millis>,
}

impl Standing {
    pub(super) fn of(row: &PgRow) -> Result<Self, Trouble> {
        Ok(Self {
            tat: row.try_get("tat")?,
            refusals: u32::try_from(row.try_get::<i32, _>("refusals")?).unwrap_or(0),
            paused_until: Millis(row.try_get("paused_until")?),
            why: row.try_get::<Option<String>, _>("why")?.unwrap_or_default(),
            accepted_at: row.try_get::<Option<i64>, _>("accepted_at")?.map(Millis),
        })
    }
}

#[derive(Debug)]
pub(super) struct Gate {
    link: Arc<Link>,
    board: Arc<Board>,
    clock: Clock,
    /// Between two calls.
    every: Duration,
    standing: Mutex<Standing>,
    /// An acceptance that the row does not have yet.
    accepted: Mutex<Option<Millis>>,
    /// The last claim of a job to submit found none.
    found_nothing: AtomicBool,
}

impl Gate {
    pub(super) fn new(link: Arc<Link>, board: Arc<Board>, clock: Clock, every: Duration) -> Self {
        Self {
            link,
            board,
            clock,
            every,
            standing: Mutex::default(),
            accepted: Mutex::default(),
            found_nothing: AtomicBool::new(false),
        }
    }

    pub(super) fn every_micros(&self) -> i64 {
        i64::try_from(self.every.as_micros()).unwrap_or(i64::MAX)
    }

    pub(super) fn saw(&self, standing: Standing) {
        *self.standing() = standing;
    }

    /// A claim took so many jobs: their calls have their place.
    pub(super) fn took(&self, duty: Duty, jobs: usize) {
        if duty == Duty::Submit {
            self.found_nothing.store(false, Relaxed);
        }
        if matches!(duty, Duty::Submit | Duty::Ask) {
            let now = self.clock.now_ms() * 1_000;
            let mut standing = self.standing();
            standing.tat = standing.tat.max(now) + self.every_micros() * i64::try_from(jobs).unwrap_or(1);
        }
    }

    pub(super) fn saw_nothing(&self, duty: Duty) {
        if duty == Duty::Submit {
            self.found_nothing.store(true, Relaxed);
        }
    }

    /// What the row does not have yet, as the beginning of a request.
    pub(super) fn news(&self) -> String {
        let accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner).take();
        accepted.map_or_else(String::new, |at| {
            format!("UPDATE gate SET accepted_at = greatest(accepted_at, {}); ", at.0)
        })
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long a call of this duty has to wait, as far as is known.
    fn wait(&self, duty: Duty) -> Duration {
        let now = self.clock.now_ms();
        let standing = self.standing();
        let pace = (standing.tat - now * 1_000).max(0).unsigned_abs();
        let paused = duty == Duty::Submit && standing.refusals > 0;
        let pause = if paused { standing.paused_until.0 - now } else { 0 };
        let pace = if self.every.is_zero() { Duration::ZERO } else { Duration::from_micros(pace) };
        pace.max(Duration::from_millis(pause.max(0).unsigned_abs()))
    }

    /// Returns when fewer jobs are in flight. Asked only when a claim found none: it judges by itself.
    async fn room(&self, in_flight: u64) -> Result<(), StoreError> {
        let mut wake = self.board.subscribe();
        loop {
            wake.mark_unchanged();
            let sql = "SELECT sum(sending + unknown + awaiting)::bigint FROM tally";
            let row = self.link.ask_one(sql).await?;
            let flying: i64 = row.try_get(0).map_err(Trouble::from)?;
            if flying.cast_unsigned() < in_flight {
                return Ok(());
            }
            drop(tokio::time::timeout(LOOK, wake.changed()).await);
        }
    }
}

#[async_trait]
impl store::Gate for Gate {
    async fn admitted(&self, duty: Duty, in_flight: u64) -> Result<(), StoreError> {
        if duty == Duty::Submit && self.found_nothing.load(Relaxed) {
            self.room(in_flight).await?;
        }
        loop {
            let wait = self.wait(duty);
            if wait.is_zero() {
                return Ok(());
            }
            self.clock.sleep(wait.min(LOOK)).await;
        }
    }

    async fn accepted(&self, now: Millis) -> Result<(), StoreError> {
        *self.accepted.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        if self.standing().refusals == 0 {
            return Ok(());
        }
        let sql = format!(
            "UPDATE gate SET refusals = 0, why = NULL, accepted_at = greatest(accepted_at, {}) RETURNING *",
            now.0
        );
        let row = self.link.ask_one(&sql).await?;
        self.saw(Standing::of(&row)?);
        tracing::info!("the upstream takes jobs again; submitting goes on");
        Ok(())
    }

    async fn refused(&self, why: &str, now: Millis, first_wait: i64) -> Result<(), StoreError> {
        // The first refusal shuts it; after that each probe has lengthened the pause when it was claimed.
        let sql = format!(
            "{}UPDATE gate SET why = {}, refusals = greatest(refusals, 1), \
             paused_until = CASE WHEN refusals = 0 THEN {} + {first_wait} ELSE paused_until END RETURNING *",
            self.news(),
            text(&column(why)),
            now.0
        );
        let first = self.standing().refusals == 0;
        let row = self.link.ask_one(&sql).await?;
        self.saw(Standing::of(&row)?);
        if first {
            let what = "the upstream refuses our key or credits; jobs stay queued and one a time probes";
            tracing::error!(why, "{what}");
        }
        Ok(())
    }

    fn pause(&self) -> Option<Pause> {
        let standing = self.standing();
        (standing.refusals > 0).then(|| Pause { why: standing.why.clone(), refusals: standing.refusals })
    }

    fn last_accepted(&self) -> Option<Millis> {
        let own = *self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        self.standing().accepted_at.max(own)
    }
}
