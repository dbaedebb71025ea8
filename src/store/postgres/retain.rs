//! What is forgotten after its time. Any number of instances may do it at once: whatever one of them finds gone is done.

use async_trait::async_trait;
use sqlx::{Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{PostgresStore, link::Trouble, row};
use crate::{
    lifecycle::{EventId, JobId, Millis},
    store::{Ended, Litter, Retain, StoreError, Sweep, Swept},
};

/// Records that one look at jobs reads.
const LOOKED_AT: usize = 500;
/// Rows that one step of a sweep reads.
const STEP: usize = 1000;

#[async_trait]
impl Retain for PostgresStore {
    async fn ended(&self, before: Millis, after: Option<JobId>) -> Result<Ended, StoreError> {
        let after = after.map_or(Uuid::nil(), |id| Uuid::from_bytes(*id.as_bytes()));
        let sql = format!(
            "SELECT id, record FROM jobs WHERE id > '{after}' AND id < '{}' AND phase = 'done' AND schema <= 1 \
             ORDER BY id LIMIT {LOOKED_AT}",
            first(before)
        );
        let rows = self.link.ask(&sql).await?;
        let mut ended = Ended::default();
        for row in &rows {
            let id: Uuid = row.try_get("id").map_err(Trouble::from)?;
            let id = JobId::from_bytes(id.into_bytes());
            let record: String = row.try_get("record").map_err(Trouble::from)?;
            ended.jobs.push(row::decode(&record, id)?);
            ended.next = (rows.len() == LOOKED_AT).then_some(id);
        }
        Ok(ended)
    }

    async fn forget(&self, jobs: Vec<(JobId, u64)>) -> Result<Vec<JobId>, StoreError> {
        let mut forgotten = Vec::new();
        for (id, revision) in jobs {
            self.requests.forget(id);
            let sql = format!("SELECT forget_job('{}', {revision}) AS gone", row::uuid(id));
            let row = self.link.ask_one(&sql).await?;
            if row.try_get("gone").map_err(Trouble::from)? {
                forgotten.push(id);
            }
        }
        if !forgotten.is_empty() {
            self.board.wake();
        }
        Ok(forgotten)
    }

    async fn sweep(&self, sweep: Sweep) -> Result<Swept, StoreError> {
        let Sweep { litter, before, after, dry_run } = sweep;
        let (old, place) = (first(before), Uuid::from_u128(after));
        let call = match litter {
            Litter::Events => {
                let after = i64::try_from(after).unwrap_or(i64::MAX);
                format!("sweep_events('{old}', {after}, {STEP}, {dry_run})")
            }
            Litter::Callbacks => format!("sweep_callbacks('{old}', '{place}', {STEP}, {dry_run})"),
            Litter::Bodies => format!("sweep_bodies('{old}', '{place}', {STEP}, {dry_run})"),
            Litter::Deliveries => {
                format!("sweep_deliveries('{old}', '{place}', {STEP}, {dry_run}, {})", before.0)
            }
        };
        let row = self.link.ask_one(&format!("SELECT * FROM {call}")).await?;
        Ok(swept(&row, litter)?)
    }
}

/// Ids of before a time are lower than this.
fn first(before: Millis) -> Uuid {
    Uuid::from_bytes(*EventId::new(before, &[0; 10]).as_bytes())
}

fn swept(row: &PgRow, litter: Litter) -> Result<Swept, Trouble> {
    let number = |name: &str| Ok::<_, Trouble>(u64::try_from(row.try_get::<i64, _>(name)?).unwrap_or(0));
    let oldest: Option<Uuid> = row.try_get("oldest")?;
    let read_to: String = row.try_get("read_to")?;
    Ok(Swept {
        count: number("number")?,
        bytes: number("bytes")?,
        oldest: oldest.map(|id| EventId::from_bytes(id.into_bytes()).made_at()),
        read_to: match litter {
            Litter::Events => read_to.parse().unwrap_or(0),
            _ => read_to.parse::<Uuid>().map_or(0, |id| id.as_u128()),
        },
        more: row.try_get("more")?,
    })
}
