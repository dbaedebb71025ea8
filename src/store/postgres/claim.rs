//! Claims: what is due is locked, stepped here, and written in the same transaction. Two round trips.

use sqlx::Row as _;
use uuid::Uuid;

use super::{
    PostgresStore,
    board::Since,
    link::{Session, Trouble},
    row::{self, Verdict},
};
use crate::{
    lifecycle::{Change, Duty, Job, Millis},
    store::{Claim, Limits, Replaced, StoreError},
};

/// Waits that one request of a long sweep shortens.
const SWEEP: usize = 256;

impl PostgresStore {
    pub(super) async fn take(&self, claim: Claim) -> Result<Vec<Job>, StoreError> {
        if claim.max == 1
            && let Some(job) = self.board.take(claim.duty)
            && let Some(claimed) = self.take_known(&claim, &job).await?
        {
            return Ok(claimed);
        }
        let (_, since) = self.board.next(claim.duty);
        let (mut session, records) = self.lock(&claim).await?;
        let mut jobs = readable(&records);
        if claim.duty == Duty::Expire {
            // Leases and deadlines were looked up one after the other.
            jobs.sort_by_key(|job| job.dues().filter(|due| due.duty == claim.duty).map(|due| due.at).min());
        }
        let step = |job: &Job| job.step(&claim.event(), claim.now, &claim.policy);
        let changes: Vec<_> = jobs.iter().filter_map(step).take(claim.max).collect();
        if changes.is_empty() {
            session.ask("ROLLBACK").await?;
            session.release();
            self.gate.saw_nothing(claim.duty);
            self.board.forget(claim.duty);
            return Ok(Vec::new());
        }
        let claimed = self.commit(session, changes, Some((claim.duty, since))).await?;
        self.gate.took(claim.duty, claimed.len());
        Ok(claimed)
    }

    /// Claims a job that this instance has in hand, in one round trip, if it is the one whose turn it is; nothing, if that
    /// has to be found out.
    async fn take_known(&self, claim: &Claim, job: &Job) -> Result<Option<Vec<Job>>, StoreError> {
        let Some(change) = job.step(&claim.event(), claim.now, &claim.policy) else { return Ok(None) };
        let (_, since) = self.board.next(claim.duty);
        let written_by = Uuid::now_v7();
        let document = self.writer.change(&change, Limits::default(), written_by)?;
        let (wanted, bounds) = (claim.duty as u8, self.bounds_of(claim));
        let sql = format!("SELECT * FROM claim_known({document}, {wanted}::smallint, {bounds})");
        let row = match self.link.once(&sql).await {
            Ok(mut rows) => rows.pop(),
            Err(Trouble::Lost(_)) if self.link.was_written([job.id], written_by).await? => {
                self.wrote(None, &change.job);
                return Ok(Some(vec![change.job]));
            }
            Err(trouble) if trouble.is("RH001") || matches!(trouble, Trouble::Lost(_)) => return Ok(None),
            Err(trouble) => return Err(trouble.into()),
        };
        let Some(verdict) = row.as_ref().map(Verdict::of).transpose()? else { return Ok(None) };
        if verdict.status == "nothing" {
            self.gate.saw_nothing(claim.duty);
            self.board.forget(claim.duty);
            return Ok(Some(Vec::new()));
        }
        self.board.looked(claim.duty, verdict.next, since);
        let Replaced::Done { .. } = self.replaced(&verdict, &change, Limits::default())? else {
            return Ok(None);
        };
        self.gate.took(claim.duty, 1);
        Ok(Some(vec![change.job]))
    }

    /// What a claim is bounded by, as arguments.
    fn bounds_of(&self, claim: &Claim) -> String {
        let every = match claim.duty {
            Duty::Submit | Duty::Ask => self.gate.every_micros(),
            _ => 0,
        };
        let in_flight = i64::try_from(claim.in_flight).unwrap_or(i64::MAX);
        format!("{}, {in_flight}, {every}, {}", claim.now.0, claim.policy.probe_after)
    }

    /// Locks what the claim may have; its records.
    async fn lock(&self, claim: &Claim) -> Result<(Session<'_>, Vec<String>), Trouble> {
        let most = i64::try_from(claim.max).unwrap_or(i64::MAX);
        let (wanted, bounds) = (claim.duty as u8, self.bounds_of(claim));
        let sql = format!("SELECT * FROM claimable({wanted}::smallint, {most}, {bounds})");
        let (session, rows) = self.link.begin(&sql).await?;
        let records = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        Ok((session, records))
    }

    /// Writes changes of locked jobs and ends the transaction; those that were written. Notes when the
    /// next job of a duty is due, unless something else was written since.
    async fn commit(
        &self,
        mut session: Session<'_>,
        changes: Vec<Change>,
        next: Option<(Duty, Since)>,
    ) -> Result<Vec<Job>, StoreError> {
        let written_by = Uuid::now_v7();
        let mut sql = String::new();
        for change in &changes {
            let document = self.writer.change(change, Limits::default(), written_by)?;
            sql.push_str(&format!("SELECT * FROM replace_job({document}); "));
        }
        if let Some((duty, _)) = next {
            sql.push_str(&format!("SELECT next_due({}::smallint) AS next; ", duty as u8));
        }
        sql.push_str("COMMIT");
        let mut rows = match session.ask(&sql).await {
            Ok(rows) => rows,
            // Unless it says that it did, nobody may work on what it may have committed: that comes back by its lease.
            Err(trouble @ Trouble::Lost(_)) => {
                if !self.link.was_written(changes.iter().map(|change| change.job.id), written_by).await? {
                    return Err(trouble.into());
                }
                changes.iter().for_each(|change| self.wrote(None, &change.job));
                return Ok(changes.into_iter().map(|change| change.job).collect());
            }
            Err(trouble) => return Err(trouble.into()),
        };
        session.release();
        // Before what was written is noted, which may be earlier.
        if let Some((duty, since)) = next
            && let Some(at) = rows.pop().and_then(|row| row.try_get::<Option<i64>, _>("next").ok())
        {
            self.board.looked(duty, at.map(Millis), since);
        }
        let mut written = Vec::new();
        for (row, change) in rows.iter().zip(changes) {
            let verdict = Verdict::of(row)?;
            match self.replaced(&verdict, &change, Limits::default())? {
                Replaced::Done { .. } => written.push(change.job),
                refused => {
                    tracing::error!(job = %change.job.id, ?refused, "the store could not write what it stepped itself");
                }
            }
        }
        Ok(written)
    }

    /// When the next job of a duty is due.
    pub(super) async fn due(&self, duty: Duty) -> Result<Option<Millis>, StoreError> {
        let (known, since) = self.board.next(duty);
        if let Some(next) = known {
            return Ok(next);
        }
        let sql = format!("SELECT next_due({}::smallint) AS next", duty as u8);
        let row = self.link.ask_one(&sql).await?;
        let next = row.try_get::<Option<i64>, _>("next").map_err(Trouble::from)?.map(Millis);
        self.board.looked(duty, next, since);
        Ok(next)
    }

    /// Makes due what is due later than `beyond`; whether there may be more.
    pub(super) async fn cut_waits(&self, beyond: Millis, now: Millis) -> Result<bool, StoreError> {
        let sql = format!(
            "SELECT record FROM jobs WHERE duty IS NOT NULL AND due_at > {} AND schema <= 1 \
             LIMIT {SWEEP} FOR UPDATE SKIP LOCKED",
            beyond.0
        );
        let (mut session, rows) = self.link.begin(&sql).await?;
        let mut changes = Vec::new();
        for row in &rows {
            let record: String = row.try_get(0).map_err(Trouble::from)?;
            let mut job: Job = row::decode(&record, "a job")?;
            (job.revision, job.due_at) = (job.revision + 1, Some(now));
            let (events, deliveries) = (Vec::new(), Vec::new());
            changes.push(Change { job, events, deliveries, successor: None, release: None, book: None });
        }
        if changes.is_empty() {
            session.ask("ROLLBACK").await?;
            session.release();
            return Ok(false);
        }
        self.commit(session, changes, None).await?;
        Ok(rows.len() == SWEEP)
    }
}

/// A record that cannot be read stands in nobody's way: it is said, and the others go on.
pub(super) fn readable(records: &[String]) -> Vec<Job> {
    let read = |record: &String| {
        let job = row::decode(record, "a job that is due");
        job.inspect_err(|error| tracing::error!(%error, "a record is left out of all work")).ok()
    };
    records.iter().filter_map(read).collect()
}
