//! Connections, and one round trip at a time.
//!
//! Everything is sent as text by the simple protocol, and several statements at once where that saves a round trip. It
//! needs no prepared statements, so a pooler in transaction mode may stand between. Values are hexadecimal digits and
//! numbers ([`text`], [`bytes`]): nothing that anybody sent is ever read as SQL.
//!
//! The library's own pool asks each connection whether it lives whenever it comes back, which is a round trip more for
//! each one; here a connection that fails is dropped instead, and what was asked of it is asked again.

use std::{
    fmt::{self, Write as _},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use sqlx::{
    AssertSqlSafe, ConnectOptions as _,
    postgres::{PgConnectOptions, PgConnection, PgRow},
    raw_sql,
};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::row;
use crate::{lifecycle::JobId, store::StoreError};

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(2);
/// Longest time for an answer: above the time-out that the database itself keeps, which says more.
const ANSWER: Duration = Duration::from_secs(7);
/// Times that a request is repeated which the database gave up for another one's sake.
const AGAIN: u32 = 10;

/// Why a request was not answered as wished.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Nobody knows whether it was carried out.
    Lost(String),
    /// It was not carried out.
    Refused {
        /// SQLSTATE.
        code: String,
        /// The constraint that it violates.
        constraint: Option<String>,
        message: String,
    },
}

impl Trouble {
    /// The database gave it up for another transaction's sake, and would take it now.
    fn is_passing(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if matches!(&**code, "40001" | "40P01"))
    }

    /// Another transaction was faster with the same unique value.
    pub(super) fn violates(&self, name: &str) -> bool {
        matches!(self, Self::Refused { constraint: Some(constraint), .. } if constraint == name)
    }

    /// One of the database's functions gave up with this code.
    pub(super) fn is(&self, wanted: &str) -> bool {
        matches!(self, Self::Refused { code, .. } if code == wanted)
    }

    /// It is no fault of what was asked: the same may well be carried out another time.
    pub(super) fn is_of_the_moment(&self) -> bool {
        let timed_out = |code| matches!(code, "57014" | "55P03"); // a statement's time, or a lock's
        self.is_away()
            || self.is_passing()
            || matches!(self, Self::Refused { code, .. } if timed_out(&**code))
    }

    /// The database goes away, or has no room: whatever was asked, it may be asked again.
    fn is_away(&self) -> bool {
        let Self::Refused { code, .. } = self else { return true };
        code.starts_with("08") || code.starts_with("57P") || code.starts_with("53")
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(why) => f.write_str(why),
            Self::Refused { message, .. } => write!(f, "the database refuses: {message}"),
        }
    }
}

impl From<Trouble> for StoreError {
    fn from(trouble: Trouble) -> Self {
        Self::Unavailable(trouble.to_string())
    }
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => Self::Refused {
                code: error.code().unwrap_or_default().into_owned(),
                constraint: error.constraint().map(str::to_owned),
                message: error.message().to_owned(),
            },
            other => Self::Lost(other.to_string()),
        }
    }
}

/// The way to the database: so many connections, made when they are needed.
#[derive(Debug)]
pub(super) struct Link {
    options: PgConnectOptions,
    /// Where connections are made, and so where they live: each worker of a listener has a runtime of its own, which ends
    /// before the store does.
    runtime: Handle,
    slots: Semaphore,
    idle: Mutex<Vec<PgConnection>>,
    trips: AtomicU64,
    closed: AtomicBool,
}

impl Link {
    /// To be called within the runtime that outlives all others.
    pub(super) fn new(options: PgConnectOptions, connections: u32) -> Self {
        Self {
            options,
            runtime: Handle::current(),
            slots: Semaphore::new(connections as usize),
            idle: Mutex::default(),
            trips: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        }
    }

    /// Round trips so far.
    pub(super) fn trips(&self) -> u64 {
        self.trips.load(Relaxed)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Relaxed)
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Relaxed);
        self.idle().clear();
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<PgConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection of one's own.
    async fn session(&self) -> Result<Session<'_>, Trouble> {
        if self.is_closed() {
            return Err(Trouble::Lost("it is closed".to_owned()));
        }
        let busy = || Trouble::Lost("every connection to the database is busy".to_owned());
        let slot = timeout(CONNECT, self.slots.acquire()).await.map_err(|_| busy())?.map_err(|_| busy())?;
        let idle = self.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        Ok(Session { link: self, connection: Some(connection), _slot: slot })
    }

    async fn connect(&self) -> Result<PgConnection, Trouble> {
        let options = self.options.clone();
        let connecting = async move { timeout(CONNECT, options.connect()).await };
        // Whoever stops waiting has no slot any more.
        let connecting = AbortOnDropHandle::new(self.runtime.spawn(connecting));
        let connected = connecting.await.map_err(|ended| Trouble::Lost(ended.to_string()))?;
        Ok(connected.map_err(|_| Trouble::Lost("the database does not answer".to_owned()))??)
    }

    /// Asks once, in a transaction of its own.
    pub(super) async fn once(&self, sql: &str) -> Result<Vec<PgRow>, Trouble> {
        let mut session = self.session().await?;
        let rows = session.ask(sql).await;
        session.release();
        rows
    }

    /// Asks for something that may be asked twice, in a transaction of its own.
    pub(super) async fn ask(&self, sql: &str) -> Result<Vec<PgRow>, Trouble> {
        let mut patience = AGAIN;
        let mut cut = false;
        loop {
            match self.once(sql).await {
                // Idle connections die with the database; the others of them go, too.
                Err(trouble) if trouble.is_away() && !cut => {
                    cut = true;
                    self.idle().clear();
                }
                Err(trouble) if trouble.is_passing() && patience > 0 => {
                    patience -= 1;
                    tokio::time::sleep(spread()).await;
                }
                other => return other,
            }
        }
    }

    /// Begins a transaction with the first thing that is asked in it.
    pub(super) async fn begin(&self, sql: &str) -> Result<(Session<'_>, Vec<PgRow>), Trouble> {
        let mut cut = false;
        loop {
            let mut session = self.session().await?;
            match session.ask(&format!("BEGIN; {sql}")).await {
                Err(trouble) if trouble.is_away() && !cut => {
                    cut = true;
                    self.idle().clear();
                }
                rows => return rows.map(|rows| (session, rows)),
            }
        }
    }

    /// Whether a write of ours was committed whose answer was lost, of which these jobs were part: one that nobody wrote since
    /// says so for all.
    pub(super) async fn was_written(
        &self,
        jobs: impl IntoIterator<Item = JobId>,
        written_by: Uuid,
    ) -> Result<bool, Trouble> {
        let ids = jobs.into_iter().map(|id| row::uuid(id).to_string()).collect::<Vec<_>>().join(",");
        let sql = format!(
            "SELECT 1 FROM jobs WHERE id = ANY ('{{{ids}}}') AND written_by = '{written_by}' LIMIT 1"
        );
        Ok(!self.ask(&sql).await?.is_empty())
    }

    /// The only row of an answer.
    pub(super) async fn ask_one(&self, sql: &str) -> Result<PgRow, Trouble> {
        let row = self.ask(sql).await?.pop();
        row.ok_or_else(|| Trouble::Lost("the database gave no answer".to_owned()))
    }
}

/// A connection at work. Dropped before [`release`](Self::release), it is closed, and the database rolls back.
pub(super) struct Session<'a> {
    link: &'a Link,
    connection: Option<PgConnection>,
    _slot: SemaphorePermit<'a>,
}

impl Session<'_> {
    /// One round trip.
    pub(super) async fn ask(&mut self, sql: &str) -> Result<Vec<PgRow>, Trouble> {
        // Taken: whoever stops waiting for the answer leaves no half-read connection behind.
        let Some(mut connection) = self.connection.take() else {
            return Err(Trouble::Lost("the connection to the database was lost".to_owned()));
        };
        self.link.trips.fetch_add(1, Relaxed);
        let asked = raw_sql(AssertSqlSafe(sql.to_owned())).fetch_all(&mut connection);
        let answer = timeout(ANSWER, asked)
            .await
            .map_err(|_| Trouble::Lost("the database does not answer".to_owned()))?
            .map_err(Trouble::from);
        if !answer.as_ref().is_err_and(Trouble::is_away) {
            self.connection = Some(connection);
        }
        answer
    }

    /// Gives the connection back, for others; not within a transaction.
    pub(super) fn release(self) {
        if let Some(connection) = self.connection
            && !self.link.is_closed()
        {
            self.link.idle().push(connection);
        }
    }
}

/// A wait of 1 to 20 milliseconds that is not everybody's.
fn spread() -> Duration {
    Duration::from_millis(1 + Uuid::now_v7().as_u128() as u64 % 20)
}

/// A text, for use within SQL.
pub(super) fn text(text: &str) -> String {
    format!("convert_from({}, 'UTF8')", bytes(text.as_bytes()))
}

/// Bytes, for use within SQL.
pub(super) fn bytes(bytes: &[u8]) -> String {
    let mut sql = String::with_capacity(18 + 2 * bytes.len());
    // `decode` reads the same whatever the session's settings make of a backslash.
    _ = write!(sql, "decode('{}', 'hex')", hex::encode(bytes));
    sql
}
