//! A database that was put back from a backup. What it has as queued or being sent may have been sent since: a person
//! decides about it, as after the import of a copy.

use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _, postgres::PgConnection, raw_sql};
use uuid::Uuid;

use super::{claim, link::Trouble, open, row::Writer};
use crate::{
    config,
    lifecycle::{Event, Millis, Policy},
    store::{
        Limits, StoreError,
        transfer::{LIFT, Restored},
    },
};

/// Jobs that are held by one request.
const BATCH: usize = 256;

/// Holds every job that is queued or being sent, and lifts the numbers of events by 2³², since readers have seen more of
/// them than the backup has. No instance may run. Once a backup is enough; each further time does the same to what was taken
/// on since. One transaction: durable when it returns; whatever goes wrong before, nothing of it happened.
///
/// # Errors
/// [`Locked`](StoreError::Locked) while an instance runs, [`Missing`](StoreError::Missing) where there are no jobs, or
/// whatever keeps a server from starting.
pub async fn restored(config: &config::Database, policy: &Policy) -> Result<Restored, StoreError> {
    let direct = config.direct_url.as_ref().unwrap_or(&config.url);
    let options = open::options(direct, config, "restored")?;
    open::prepare(&options).await?;
    let mut connection = options.connect().await.map_err(Trouble::from)?;
    let now = alone(&mut connection).await?;
    let held = hold_unsent(&mut connection, &config.instance, now, policy).await?;
    let lifted = format!("UPDATE log_head SET newest = newest + {LIFT} RETURNING newest");
    let rows = ask(&mut connection, lifted).await?;
    let newest =
        rows.first().map(|row| row.try_get::<i64, _>("newest")).transpose().map_err(Trouble::from)?;
    ask(&mut connection, "COMMIT".to_owned()).await?;
    connection.close().await.map_err(Trouble::from)?;
    Ok(Restored { held, events_after: newest.unwrap_or_default().cast_unsigned() })
}

/// Holds what may have been sent since; how many jobs that are. Within a transaction.
pub(super) async fn hold_unsent(
    connection: &mut PgConnection,
    instance: &str,
    now: Millis,
    policy: &Policy,
) -> Result<u64, StoreError> {
    let writer = Writer { instance: instance.to_owned() };
    let (mut held, mut after) = (0, Uuid::nil());
    loop {
        let sql = format!(
            "SELECT id, record FROM jobs WHERE phase IN ('queued', 'sending') AND schema <= 1 AND id > '{after}' \
             ORDER BY id LIMIT {BATCH}"
        );
        let rows = ask(connection, sql).await?;
        let Some(last) = rows.last() else { return Ok(held) };
        after = last.try_get("id").map_err(Trouble::from)?;
        let records = rows.iter().map(|row| row.try_get("record")).collect::<Result<Vec<_>, _>>();
        let mut sql = String::new();
        for job in claim::readable(&records.map_err(Trouble::from)?) {
            let Some(change) = job.step(&Event::Restored, now, policy) else { continue };
            let document = writer.change(&change, Limits::default(), Uuid::now_v7())?;
            sql.push_str(&format!("SELECT replace_job({document}); "));
            held += 1;
        }
        ask(connection, sql).await?;
    }
}

/// Begins, if no instance runs; each holds a lock as long as it listens. What begins meanwhile claims nothing.
async fn alone(connection: &mut PgConnection) -> Result<Millis, StoreError> {
    let sql = format!(
        "BEGIN; LOCK TABLE jobs, events, log_head IN EXCLUSIVE MODE; \
         SELECT pg_try_advisory_xact_lock({0}) AS alone, micros() / 1000 AS now, EXISTS (SELECT FROM jobs) AS found, \
             (SELECT string_agg(application_name, ', ') FROM pg_stat_activity JOIN pg_locks USING (pid) \
              WHERE locktype = 'advisory' AND (classid, objid) = ({0}) AND pid <> pg_backend_pid()) AS others",
        open::RUNNING
    );
    let rows = ask(connection, sql).await?;
    let row = rows.last().ok_or_else(|| StoreError::Unavailable("no answer".to_owned()))?;
    let path = "the database".to_owned();
    if !row.try_get::<bool, _>("alone").map_err(Trouble::from)? {
        let others: Option<String> = row.try_get("others").map_err(Trouble::from)?;
        return Err(StoreError::Locked { path, owner: others.unwrap_or_default() });
    }
    if !row.try_get::<bool, _>("found").map_err(Trouble::from)? {
        return Err(StoreError::Missing { path });
    }
    Ok(Millis(row.try_get("now").map_err(Trouble::from)?))
}

async fn ask(connection: &mut PgConnection, sql: String) -> Result<Vec<sqlx::postgres::PgRow>, Trouble> {
    Ok(raw_sql(AssertSqlSafe(sql)).fetch_all(connection).await?)
}
