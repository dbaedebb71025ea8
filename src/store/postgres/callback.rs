//! Callbacks, each alone: judged with its job locked, written in the same transaction. Two round trips.

use sqlx::Row as _;
use uuid::Uuid;

use super::{
    PostgresStore,
    link::{Session, Trouble, bytes, text},
    row::{self, Verdict},
    together::Answer,
};
use crate::{
    lifecycle::{Change, Event, Job, JobId, Millis, Note, Policy},
    store::{Arrival, CallbackRecord, Changed, Heard, Judged, Limits, Replaced, Share, StoreError, digest},
};

/// What a callback is judged by.
struct Known {
    job: Option<Job>,
    /// The delivery was seen before.
    seen: bool,
    /// There is no record of the job, of whatever version.
    stray: bool,
}

impl PostgresStore {
    pub(super) async fn hear(&self, arrival: Arrival) -> Result<Heard, StoreError> {
        match self.together.hear(arrival).await {
            Answer::Heard(heard) => Ok(heard),
            Answer::Alone(arrival) => self.hear_alone(arrival).await,
            Answer::Failed(error) => Err(error),
        }
    }

    async fn hear_alone(&self, arrival: Arrival) -> Result<Heard, StoreError> {
        let delivery = delivery(&arrival);
        let Arrival { job_id, body, now, policy, judge, .. } = arrival;
        let (mut session, known) = self.listen_to(job_id, delivery).await?;
        let Judged { record, keep, keep_body, note } = judge(known.job.as_ref(), known.seen);
        let verdict = record.verdict;
        let body: &[u8] = if keep_body { &body } else { &[] };
        let mut sql = String::new();
        if !known.stray {
            let heard = heard(job_id, delivery);
            sql.push_str(&format!("INSERT INTO heard VALUES {heard} ON CONFLICT DO NOTHING; "));
        }
        if keep {
            let room = (known.stray && !known.seen).then(|| take_stray(job_id, delivery, body.len()));
            let condition = room.map_or_else(String::new, |room| format!(" WHERE {room}"));
            let entry = entry(&record, body)?;
            sql.push_str(&format!(
                "INSERT INTO callbacks SELECT * FROM (VALUES {entry}) AS entry{condition}; "
            ));
        }
        let happened = Happening { event: Event::Callback(note.clone()), now, policy: &policy };
        let changed = match known.job {
            Some(job) => self.happen(&mut session, &sql, job, happened, note).await?,
            None => {
                session.ask(&format!("{sql}COMMIT")).await?;
                None
            }
        };
        session.release();
        Ok(Heard { verdict, changed })
    }

    /// Locks the job of a callback.
    async fn listen_to(&self, job: JobId, delivery: i64) -> Result<(Session<'_>, Known), StoreError> {
        let sql = format!("SELECT * FROM hear('{}', {delivery})", row::uuid(job));
        let (session, rows) = self.link.begin(&sql).await?;
        let row = rows.first().ok_or_else(|| StoreError::Unavailable("no answer".to_owned()))?;
        let record: Option<String> = row.try_get("record").map_err(Trouble::from)?;
        let newer = row.try_get::<Option<bool>, _>("newer").map_err(Trouble::from)?.unwrap_or(false);
        let seen = row.try_get::<Option<bool>, _>("seen").map_err(Trouble::from)?.unwrap_or(false);
        let stray = record.is_none();
        // A record of a newer version is left to an instance that knows it; the log has the callback.
        let job = record.filter(|_| !newer).map(|record| row::decode(&record, job)).transpose()?;
        Ok((session, Known { job, seen, stray }))
    }

    /// Lets the callback happen to its job.
    async fn happen(
        &self,
        session: &mut Session<'_>,
        sql: &str,
        job: Job,
        happened: Happening<'_>,
        note: Note,
    ) -> Result<Option<Changed>, StoreError> {
        let Some(change) = happened.to(&job) else {
            session.ask(&format!("{sql}COMMIT")).await?;
            return Ok(None);
        };
        // What stands in the way of the change is known before anything is written; then the transaction goes on.
        let written_by = Uuid::now_v7();
        let document = self.writer.change(&change, Limits::default(), written_by)?;
        let names_another = change.job.task != job.task;
        let end = if names_another { "" } else { "; COMMIT" };
        let asked = format!("{sql}SELECT * FROM replace_job({document}){end}");
        let rows = match session.ask(&asked).await {
            Err(Trouble::Lost(_))
                if !names_another && self.link.was_written([job.id], written_by).await? =>
            {
                self.owes(!change.deliveries.is_empty());
                self.wrote(None, &change.job);
                return Ok(Some(Changed { before: Box::new(job), after: Box::new(change.job) }));
            }
            rows => rows?,
        };
        let verdict = Verdict::of(rows.last().ok_or_else(no_verdict)?)?;
        if verdict.status == "task_taken" {
            let after = self.contradict(session, &job, &change, &happened, note).await?;
            return Ok(Some(Changed { before: Box::new(job), after: Box::new(after) }));
        }
        if names_another {
            session.ask("COMMIT").await?;
        }
        match self.replaced(&verdict, &change, Limits::default())? {
            Replaced::Done { .. } => Ok(Some(Changed { before: Box::new(job), after: Box::new(change.job) })),
            refused => Err(StoreError::Unavailable(format!("a locked job was not written: {refused:?}"))),
        }
    }

    /// The id in the callback is another job's. That contradicts a job that has none yet, and is no news to one that
    /// has; either way the callback counts, without the id.
    async fn contradict(
        &self,
        session: &mut Session<'_>,
        job: &Job,
        refused: &Change,
        happened: &Happening<'_>,
        note: Note,
    ) -> Result<Job, StoreError> {
        let (mut after, mut sql) = (job.clone(), String::new());
        let contradicted = refused.job.task.clone().map(|task| Event::Contradicted(task.id));
        for event in contradicted.into_iter().chain([Event::Callback(Note { task: None, ..note })]) {
            let Some(change) = after.step(&event, happened.now, happened.policy) else { continue };
            let document = self.writer.change(&change, Limits::default(), Uuid::now_v7())?;
            sql.push_str(&format!("SELECT * FROM replace_job({document}); "));
            after = change.job;
        }
        session.ask(&format!("{sql}COMMIT")).await?;
        // Exact times of what it owed in between do not matter: early is asked again.
        self.wrote(None, &after);
        self.board.forget(crate::lifecycle::Duty::Ask);
        Ok(after)
    }
}

/// An event on its way to a job.
struct Happening<'a> {
    event: Event,
    now: Millis,
    policy: &'a Policy,
}

impl Happening<'_> {
    fn to(&self, job: &Job) -> Option<Change> {
        job.step(&self.event, self.now, self.policy)
    }
}

fn no_verdict() -> StoreError {
    StoreError::Unavailable("the database gave no verdict".to_owned())
}

/// Remembers a callback for a job without a record, if there is room for what is kept of it: a condition.
fn take_stray(job: JobId, delivery: i64, kept: usize) -> String {
    let (job, [of_job, of_all]) = (row::uuid(job), [Share::OF_A_JOB, Share::OF_STRAYS]);
    let limits = [of_job.entries, of_job.bytes, of_all.entries, of_all.bytes].map(|limit| limit.to_string());
    format!("take_stray('{job}', {delivery}, {kept}, {})", limits.join(", "))
}

/// By what repeats of a callback are known, beside the job.
pub(super) fn delivery(arrival: &Arrival) -> i64 {
    digest::delivery(&arrival.delivery_id).cast_signed()
}

/// That a delivery was heard, as a row.
pub(super) fn heard(job: JobId, delivery: i64) -> String {
    format!("('{}', {delivery})", row::uuid(job))
}

/// An entry of the inbound log, as a row.
pub(super) fn entry(record: &CallbackRecord, body: &[u8]) -> Result<String, StoreError> {
    let id = Uuid::from_bytes(*record.id.as_bytes());
    let verdict = text(&row::name(&record.verdict));
    let (job, json, body) = (row::uuid(record.job_id), text(&row::encode(record)?), bytes(body));
    Ok(format!("('{id}'::uuid, '{job}'::uuid, {verdict}, {json}, {body})"))
}
