//! Opening: settings that lose data are refused, the tables brought up to date, the clock compared.

use std::{str::FromStr, sync::Arc, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use sqlx::{
    ConnectOptions as _, Connection as _, Row as _,
    migrate::{MigrateError, Migrator},
    postgres::{PgConnectOptions, PgConnection},
    raw_sql,
};
use tokio::{sync::Notify, time::timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    PostgresStore,
    beat::{self, Beat, Log},
    board::Board,
    gate::Gate,
    link::Link,
    requests::Requests,
    row::Writer,
    together::Together,
};
use crate::{clock::Clock, config, store::StoreError};

static MIGRATOR: Migrator = sqlx::migrate!("src/store/migrations");

/// Longest wait for the database at the start; migrations of another instance included.
const START: Duration = Duration::from_secs(60);
/// What the database does without when it is off: commits survive its crash no more.
const DURABLE: [&str; 3] = ["fsync", "full_page_writes", "synchronous_commit"];

/// The advisory lock that each instance shares as long as it listens: whoever has it alone knows that none runs.
pub(super) const RUNNING: &str = "7304, 4";
/// A record of the write-ahead log that means nothing: a commit of it is a commit like any other, and leaves nothing.
pub(super) const PROBE: &str = "SELECT pg_logical_emit_message(true, 'reelhook', 'probe')";

/// What every connection is told. A pooler takes no such settings: the database's role has to have them.
const SETTINGS: [(&str, &str); 3] =
    [("statement_timeout", "5s"), ("lock_timeout", "4s"), ("idle_in_transaction_session_timeout", "10s")];

pub(super) async fn open(
    config: config::Database,
    clock: Clock,
    every: Duration,
) -> Result<PostgresStore, StoreError> {
    let process = process(&config.instance);
    let options = options(&config.url, &config, &process)?;
    let direct = match &config.direct_url {
        Some(url) => self::options(url, &config, &process)?,
        None => options.clone(),
    };
    timeout(START, prepare(&direct))
        .await
        .map_err(|_| StoreError::Unavailable("the database was not ready in time".to_owned()))??;
    let pooled = config.direct_url.is_some();
    let options = if pooled { options } else { options.options(SETTINGS) };
    let link = Arc::new(Link::new(options.clone(), config.connections));
    let (board, log) = (Arc::new(Board::new()), Arc::new(Log::new()));
    let gate = Arc::new(Gate::new(Arc::clone(&link), Arc::clone(&board), clock.clone(), every));
    let beat = Beat {
        // A connection of its own: it waits for nobody, and is no part of what requests cost.
        link: Arc::new(Link::new(options, 1)),
        board: Arc::clone(&board),
        log: Arc::clone(&log),
        gate: Arc::clone(&gate),
        clock: clock.clone(),
    };
    // The first look: from here on the time is the database's.
    beat.look(&mut 0).await?;
    let (stop, hints) = (CancellationToken::new(), Arc::new(Notify::new()));
    tokio::spawn(beat::listen(direct, process.clone(), Arc::clone(&hints), stop.clone()));
    tokio::spawn(beat.run(hints, stop.clone()));
    let instance = config.instance;
    tracing::info!(instance, "this instance shares the store with others");
    let writer = Writer { instance };
    let together = Together::start(&link, &board, &log, &writer);
    Ok(PostgresStore {
        link,
        board,
        log,
        gate,
        clock,
        requests: Requests::default(),
        writer,
        together,
        process,
        stop,
    })
}

/// Options of a URL, for connections in the name of a process.
pub(super) fn options(
    url: &SecretString,
    config: &config::Database,
    process: &str,
) -> Result<PgConnectOptions, StoreError> {
    // The text of the error may repeat the URL, and that may hold a password.
    let mut options = PgConnectOptions::from_str(url.expose_secret())
        .map_err(|_| StoreError::Unavailable("[store] url is not a URL of a database".to_owned()))?;
    if let Some(password) = &config.password {
        options = options.password(password.expose_secret());
    }
    // Statements hold requests and callbacks: not for the log. The float setting is one that poolers stumble over.
    Ok(options.application_name(process).extra_float_digits(None).disable_statement_logging())
}

/// What claims and hints are signed with: two processes may have been given one name.
fn process(instance: &str) -> String {
    let [.., a, b] = Uuid::now_v7().into_bytes();
    format!("{instance}.{a:02x}{b:02x}")
}

/// Refuses a database that loses what it acknowledged, and brings its tables up to date.
pub(super) async fn prepare(options: &PgConnectOptions) -> Result<(), StoreError> {
    let mut connection = options.connect().await.map_err(away)?;
    refuse_unsafe(&mut connection).await?;
    migrate(&mut connection).await?;
    connection.close().await.map_err(away)
}

async fn refuse_unsafe(connection: &mut PgConnection) -> Result<(), StoreError> {
    for setting in DURABLE {
        let sql = format!("SHOW {setting}");
        let row = raw_sql(sqlx::AssertSqlSafe(sql)).fetch_one(&mut *connection).await.map_err(away)?;
        if row.try_get::<String, _>(0).map_err(away)? == "off" {
            return Err(StoreError::Unsafe { setting });
        }
    }
    Ok(())
}

/// Whether the database can be reached, keeps what it acknowledges, and takes a write. Touches no table: others may be at
/// work there.
///
/// # Errors
/// [`StoreError::Unsafe`], [`StoreError::Unavailable`].
pub async fn probe(config: &config::Database) -> Result<(), StoreError> {
    let mut connection = options(&config.url, config, "reelhook-doctor")?.connect().await.map_err(away)?;
    refuse_unsafe(&mut connection).await?;
    raw_sql(PROBE).execute(&mut connection).await.map_err(away)?;
    connection.close().await.map_err(away)
}

/// Instances that start at the same time wait for each other here.
async fn migrate(connection: &mut PgConnection) -> Result<(), StoreError> {
    MIGRATOR.run(connection).await.map_err(|error| match error {
        MigrateError::VersionMissing(version) => {
            let number = |version| u16::try_from(version).unwrap_or(u16::MAX);
            let known = MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or(0);
            StoreError::Newer { found: number(version), known: number(known) }
        }
        other => StoreError::Unavailable(format!("the tables cannot be brought up to date: {other}")),
    })
}

fn away(error: sqlx::Error) -> StoreError {
    StoreError::Unavailable(format!("the database cannot be used: {error}"))
}
