//! A store that was put back from a backup. What it has as queued or being sent may have been sent since: a person
//! decides about it, as after the import of a copy.

use std::{fs::File, io, thread};

use sled::{Db, Tree};

use super::{
    backup, durable, keys, offline,
    offline::Held,
    open,
    record::{self, Card, PHASES},
    state::{Head, LIFT, State, StoredTally, Tally},
    txn::{Txn, engine},
    value::{self, Fault},
    write::{self, Write},
};
use crate::{
    config,
    lifecycle::{Event, JobId, Millis, Policy},
    store::{StoreError, transfer::Restored},
};

/// Jobs that are held in one change.
const BATCH: usize = 512;

/// Holds every job that is queued or being sent, and lifts the numbers of events by 2³², since readers have seen more of
/// them than the backup has. No server may have the store. Once a backup is enough; each further time does the same to
/// what was taken on since. Durable when it returns; cut short, it has to be done again.
///
/// # Errors
/// [`Missing`](StoreError::Missing), [`Locked`](StoreError::Locked), [`Sealed`](StoreError::Sealed) or
/// [`Unreadable`](StoreError::Unreadable).
pub fn restored(config: &config::Store, now: Millis, policy: &Policy) -> Result<Restored, StoreError> {
    offline::refuse_sealed(&config.path)?;
    drop(Held::take(&config.path)?); // the engine would make a store where there is none
    // On a thread of its own, where a panic of the engine is an answer and not the end.
    thread::scope(|scope| scope.spawn(|| hold(config, now, policy)).join())
        .unwrap_or_else(|_| Err(open::unreadable(&config.path, "the engine gave up on its files")))
}

fn hold(config: &config::Store, now: Millis, policy: &Policy) -> Result<Restored, StoreError> {
    let db = open::engine_of(config)?;
    let io = |error: io::Error| open::unreadable(&config.path, &error.to_string());
    let log = File::open(config.path.join("db")).map_err(io)?;
    backup::Marker::take(&config.path).map_err(io)?; // the backup has nothing of what follows
    let unsent = unsent(&db)?;
    let mut txn = Txn::new((*db).clone(), state(&db)?);
    txn.state.head.newest = txn.state.head.newest.saturating_add(LIFT);
    let restored = Restored { held: unsent.len() as u64, events_after: txn.state.head.newest };
    write(&db, &log, &mut txn)?;
    for ids in unsent.chunks(BATCH) {
        for id in ids {
            let job = record::read(&txn, *id).map_err(|fault| fault.of(|| id.to_string()))?;
            if let Some(change) = job.and_then(|job| job.step(&Event::Restored, now, policy)) {
                write::replace(&mut txn, &Write::of(&change)?)?;
            }
        }
        write(&db, &log, &mut txn)?;
    }
    offline::unmark_restored(&config.path).map_err(io)?;
    Ok(restored)
}

/// Jobs that owe, or are at, a create call. A damaged record is set aside by whoever loads it, and never sent.
fn unsent(tree: &Tree) -> Result<Vec<JobId>, StoreError> {
    let mut unsent = Vec::new();
    for row in tree.scan_prefix([keys::JOB]) {
        let (key, head) = row.map_err(engine)?;
        match value::join(tree, &key, &head).and_then(|record| Card::parse(&record)) {
            Ok(card) if matches!(PHASES.get(usize::from(card.phase)), Some(&"queued" | &"sending")) => {
                unsent.extend(keys::parse_id(&key).map(JobId::from_bytes));
            }
            Ok(_) | Err(Fault::Damaged) => {}
            Err(fault) => return Err(fault.of(|| "a record".into())),
        }
    }
    Ok(unsent)
}

/// Where the log and the tally stand. What is damaged is found by the next start as well, and is set right there.
fn state(tree: &Tree) -> Result<State, StoreError> {
    fn stored<T: serde::de::DeserializeOwned>(tree: &Tree, key: &[u8]) -> Result<Option<T>, StoreError> {
        match value::read(tree, key) {
            Ok(payload) => Ok(payload.and_then(|json| serde_json::from_slice(&json).ok())),
            Err(Fault::Damaged) => Ok(None),
            Err(fault) => Err(fault.of(|| "the store's own head".into())),
        }
    }
    let last = tree.scan_prefix([keys::EVENT]).keys().next_back().transpose().map_err(engine)?;
    // A page is named after its first event; it has fewer than the numbers are lifted by.
    let last = last.and_then(|key| keys::parse_seq(&key)).unwrap_or(0);
    let head = stored::<Head>(tree, keys::HEAD)?.unwrap_or_default();
    let head = Head { newest: head.newest.max(last), ..head };
    let tally = stored::<StoredTally>(tree, keys::TALLY)?.map_or_else(|| Tally::after_damage(0), Tally::from);
    Ok(State { head, tally })
}

/// Makes durable what was changed.
fn write(db: &Db, log: &File, txn: &mut Txn) -> Result<(), StoreError> {
    let Some(batch) = txn.batch()? else { return Ok(()) };
    db.apply_batch(batch).map_err(engine)?;
    db.flush().map_err(engine)?;
    if !durable::flush_is_sync() {
        log.sync_data().map_err(|error| StoreError::Unavailable(error.to_string()))?;
    }
    Ok(())
}
