//! What each instance does besides: numbers the event log, reads the database's clock, and looks what others did.
//!
//! After writes of its own it numbers at once; it looks twice a second in any case, and when another instance says that
//! there is something to see. Saying so is a hint: nobody waits longer than half a second for the truth.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sqlx::{
    AssertSqlSafe, Row as _,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions, PgRow},
    raw_sql,
};
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    board::Board,
    gate::{Gate, Standing},
    link::{Link, Trouble},
    open::RUNNING,
};
use crate::{
    clock::Clock,
    lifecycle::{Duty, Millis},
};

/// What others wrote is seen after this at the latest.
const EVERY: Duration = Duration::from_millis(500);
/// Writes that come so soon after each other are numbered together.
const TOGETHER: Duration = Duration::from_millis(3);
/// A reader of the log waits so long for the numbers of what its own instance wrote.
const PATIENCE: Duration = Duration::from_secs(1);
/// After the database failed, before it is tried again.
const PAUSE: Duration = Duration::from_millis(500);
/// The most events that get numbers at once, as the function has it.
const BATCH: i64 = 2_000;

/// How far the event log is numbered, as far as this instance's own writes are concerned.
#[derive(Debug)]
pub(super) struct Log {
    written: AtomicU64,
    numbered: watch::Sender<u64>,
    more: Notify,
}

impl Log {
    pub(super) fn new() -> Self {
        Self { written: AtomicU64::new(0), numbered: watch::Sender::new(0), more: Notify::new() }
    }

    /// Something was committed that awaits its number.
    pub(super) fn wrote(&self) {
        self.written.fetch_add(1, Ordering::Release);
        self.more.notify_one();
    }

    /// Returns when everything has its number that this instance wrote so far, or after a second.
    pub(super) async fn caught_up(&self) {
        let written = self.written.load(Ordering::Acquire);
        let mut numbered = self.numbered.subscribe();
        drop(timeout(PATIENCE, numbered.wait_for(|numbered| *numbered >= written)).await);
    }

    fn behind(&self) -> bool {
        *self.numbered.borrow() < self.written.load(Ordering::Acquire)
    }
}

/// What the beat works on.
#[derive(Debug)]
pub(super) struct Beat {
    pub(super) link: Arc<Link>,
    pub(super) board: Arc<Board>,
    pub(super) log: Arc<Log>,
    pub(super) gate: Arc<Gate>,
    pub(super) clock: Clock,
}

/// The duties that jobs have.
const DUTIES: [Duty; 4] = [Duty::Submit, Duty::Ask, Duty::Fetch, Duty::Expire];

impl Beat {
    /// Goes on until `stop`; `hints` come from other instances.
    pub(super) async fn run(self, hints: Arc<Notify>, stop: CancellationToken) {
        let mut newest = 0;
        loop {
            let done = tokio::select! {
                () = stop.cancelled() => return,
                () = self.log.more.notified() => {
                    sleep(TOGETHER).await;
                    self.number().await
                }
                () = hints.notified() => self.look(&mut newest).await,
                () = sleep(EVERY) => self.look(&mut newest).await,
            };
            if let Err(trouble) = done {
                tracing::warn!(?trouble, "the database is away; work goes on when it is back");
                sleep(PAUSE).await;
            }
            if self.log.behind() {
                self.log.more.notify_one();
            }
        }
    }

    /// Numbers what was written so far; somebody else's turn at it is waited for.
    async fn number(&self) -> Result<(), Trouble> {
        let written = self.log.written.load(Ordering::Acquire);
        let row = self.link.ask_one("SELECT mine, numbered FROM number_events()").await?;
        if row.try_get("mine")? && row.try_get::<i64, _>("numbered")? < BATCH {
            self.log.numbered.send_replace(written);
        }
        Ok(())
    }

    /// Looks at everything that others may have changed; `newest` is the end of the log.
    pub(super) async fn look(&self, newest: &mut i64) -> Result<(), Trouble> {
        let since = DUTIES.map(|duty| self.board.next(duty).1);
        let written = self.log.written.load(Ordering::Acquire);
        let asked = self.clock.elapsed();
        let due = DUTIES.map(|duty| format!("next_due({0}::smallint) AS due_{0}", duty as u8)).join(", ");
        let news = self.gate.news();
        let sql = format!(
            "{news}SELECT mine, numbered FROM number_events(); \
             SELECT micros() AS now, (SELECT newest FROM log_head) AS newest, {due}, g.* FROM gate g"
        );
        let rows = self.link.ask(&sql).await?;
        let [.., numbers, state] = &*rows else { return Ok(()) };
        let told: i64 = state.try_get("now")?;
        self.clock.follow(told / 1_000, asked);
        if numbers.try_get("mine")? && numbers.try_get::<i64, _>("numbered")? < BATCH {
            self.log.numbered.send_replace(written);
        }
        self.gate.saw(Standing::of(state)?);
        let earlier = self.note_dues(state, since)?;
        self.board.forget_waiting();
        let end: i64 = state.try_get("newest")?;
        // What others owe to sinks, they owe since an event.
        if std::mem::replace(newest, end) != end || earlier {
            self.board.wake();
        }
        Ok(())
    }

    /// Whether anything is due earlier than was known.
    fn note_dues(&self, state: &PgRow, since: [super::board::Since; 4]) -> Result<bool, Trouble> {
        let mut earlier = false;
        for (duty, since) in DUTIES.into_iter().zip(since) {
            let next: Option<i64> = state.try_get(&*format!("due_{}", duty as u8))?;
            earlier |= self.board.looked(duty, next.map(Millis), since);
        }
        Ok(earlier)
    }
}

/// Passes on what other instances say, until `stop`. Without it, all is found by looking.
pub(super) async fn listen(
    options: PgConnectOptions,
    process: String,
    hints: Arc<Notify>,
    stop: CancellationToken,
) {
    let listening = async {
        loop {
            if let Err(error) = heed(options.clone(), &process, &hints).await {
                tracing::debug!(%error, "nothing is heard of other instances; they are looked after all the same");
            }
            sleep(Duration::from_secs(1)).await;
        }
    };
    stop.run_until_cancelled(listening).await;
}

async fn heed(options: PgConnectOptions, process: &str, hints: &Notify) -> Result<(), sqlx::Error> {
    // A pool of one: the listener takes its connection, and another one when that is lost.
    let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(options);
    let mut listener = PgListener::connect_with(&pool).await?;
    // A new connection has to take the lock as well.
    listener.eager_reconnect(false);
    let runs = format!("SELECT pg_advisory_lock_shared({RUNNING})");
    raw_sql(AssertSqlSafe(runs)).execute(&mut listener).await?;
    listener.listen("reelhook").await?;
    while let Some(said) = listener.try_recv().await? {
        if said.payload() != process {
            hints.notify_one();
        }
    }
    Ok(())
}
