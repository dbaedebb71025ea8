//! Inserting and changing: one round trip each.

use sqlx::Row as _;
use uuid::Uuid;

use super::{
    PostgresStore,
    link::{Trouble, bytes, text},
    row::{self, Verdict},
};
use crate::{
    lifecycle::{Change, Delivery, EventRecord},
    store::{Exceeded, Insert, Inserted, Limits, Replaced, StoreError},
};

/// Times that a write is repeated because another job took the same task at the same moment.
const RACES: u32 = 3;

impl PostgresStore {
    /// Inserts a job. When the answer is lost the same insert is asked for again: it finds the job that it made.
    pub(super) async fn put(&self, insert: Insert) -> Result<Inserted, StoreError> {
        let new = self.writer.new_job(&insert, Uuid::now_v7())?;
        let Insert { job, document, deliveries, limits, .. } = insert;
        let inherits = document.is_empty() && job.retry_of.is_some();
        let sent = if inherits { "NULL".to_owned() } else { bytes(&document) };
        let limited = limits.daily_credits > 0 || limits.monthly_credits > 0;
        let mut alone = limited && job.cost.reserved.is_some();
        let verdict = loop {
            let sql = format!("SELECT * FROM insert_job({new}, {sent}, {alone})");
            let verdict = self.write(&sql).await?;
            // So near that it takes one at a time to tell.
            if alone || verdict.status != "near_a_limit" {
                break verdict;
            }
            alone = true;
        };
        let exceeded = |period, limit| Inserted::OverBudget { period, booked: verdict.booked, limit };
        Ok(match &*verdict.status {
            "queue_full" => Inserted::QueueFull { limit: limits.queued },
            "over_daily" => exceeded("daily", limits.daily_credits),
            "over_monthly" => exceeded("monthly", limits.monthly_credits),
            "replayed" if verdict.other != Some(job.id) => Inserted::Replayed(Box::new(holder(&verdict)?)),
            "reused" => Inserted::KeyReused(holder(&verdict)?.id),
            "new" | "replayed" => {
                self.owes(!deliveries.is_empty());
                self.requests.put(job.id, &document);
                self.wrote(None, &job);
                Inserted::New(Box::new(job))
            }
            "damaged" => {
                let whose = verdict.other.map_or_else(String::new, |id| id.to_string());
                return Err(StoreError::Damaged(whose));
            }
            other => return Err(unknown(other)),
        })
    }

    /// Writes a change. When the answer is lost the same change is asked for again: it knows itself.
    pub(super) async fn change(&self, change: Change, limits: Limits) -> Result<Replaced, StoreError> {
        let document = self.writer.change(&change, limits, Uuid::now_v7())?;
        let verdict = self.write(&format!("SELECT * FROM replace_job({document})")).await?;
        self.replaced(&verdict, &change, limits)
    }

    /// What a verdict says of a change; what was written is noted on the board.
    pub(super) fn replaced(
        &self,
        verdict: &Verdict,
        change: &Change,
        limits: Limits,
    ) -> Result<Replaced, StoreError> {
        let exceeded =
            |period, limit| Replaced::OverBudget(Exceeded { period, booked: verdict.booked, limit });
        Ok(match (&*verdict.status, verdict.other) {
            ("done", successor) => {
                if let Some(next) = change.successor.as_ref().filter(|next| successor == Some(next.job.id)) {
                    self.board.wrote(None, &next.job);
                    self.owes(!next.deliveries.is_empty());
                }
                self.owes(!change.deliveries.is_empty());
                self.wrote(verdict.was, &change.job);
                Replaced::Done { successor }
            }
            ("stale", _) => Replaced::Stale,
            ("task_taken", Some(owner)) => Replaced::TaskTaken(owner),
            ("over_daily", _) => exceeded("daily", limits.daily_credits),
            ("over_monthly", _) => exceeded("monthly", limits.monthly_credits),
            (other, _) => return Err(unknown(other)),
        })
    }

    /// Appends an event about no job to the log, with what is owed for it. When the answer is lost it is asked for again: it
    /// is known by its id.
    pub(super) async fn note(&self, event: &EventRecord, owed: &[Delivery]) -> Result<(), StoreError> {
        let (event, debts) = (self.writer.events(std::slice::from_ref(event))?, row::deliveries(owed)?);
        let sql = format!("SELECT log_events({event}); SELECT owe_deliveries({debts})");
        match self.link.ask(&sql).await {
            Err(trouble) if !trouble.violates("events_pkey") => return Err(trouble.into()),
            _ => {}
        }
        self.noted(owed);
        Ok(())
    }

    /// The same unless an event of this name was logged before; whether it is this one that was.
    pub(super) async fn note_once(
        &self,
        name: &str,
        event: &EventRecord,
        owed: &[Delivery],
    ) -> Result<bool, StoreError> {
        let (name, id) = (text(name), bytes(event.id.as_bytes()));
        let (event, debts) = (self.writer.events(std::slice::from_ref(event))?, row::deliveries(owed)?);
        let sql = format!(
            "WITH first AS (INSERT INTO kept VALUES ({name}, {id}) ON CONFLICT DO NOTHING RETURNING name) \
             SELECT log_events({event}), owe_deliveries({debts}) FROM first; \
             SELECT value = {id} FROM kept WHERE name = {name}"
        );
        let is_it: bool = self.link.ask_one(&sql).await?.try_get(0).map_err(Trouble::from)?;
        if is_it {
            self.noted(owed);
        }
        Ok(is_it)
    }

    /// Notes that an event about no job was logged.
    fn noted(&self, owed: &[Delivery]) {
        self.owes(!owed.is_empty());
        self.log.wrote();
        self.board.wake();
    }

    /// Notes that something is owed to sinks.
    pub(super) fn owes(&self, anything: bool) {
        if anything {
            self.board.forget_waiting();
        }
    }

    async fn write(&self, sql: &str) -> Result<Verdict, StoreError> {
        let mut races = RACES;
        let row = loop {
            match self.link.ask_one(sql).await {
                // The other one has committed by now, and is seen.
                Err(trouble) if races > 0 && trouble.violates("jobs_owned_task_key") => races -= 1,
                other => break other?,
            }
        };
        Ok(Verdict::of(&row)?)
    }
}

fn holder(verdict: &Verdict) -> Result<crate::lifecycle::Job, StoreError> {
    row::decode(verdict.record.as_deref().unwrap_or_default(), "the job of an idempotency key")
}

fn unknown(status: &str) -> StoreError {
    StoreError::Unavailable(format!("the database answers `{status}`, which this version does not know"))
}
