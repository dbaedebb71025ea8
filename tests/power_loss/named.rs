//! An event of a name and the note that it was logged: whatever the moment, both are there or neither.

use std::path::Path;

use anyhow::{Result, ensure};
use reelhook::{
    lifecycle::{EventKind, EventRecord},
    store::Store,
};

use crate::{
    judge,
    load::all_events,
    recorder::Recording,
    support::{about_no_job, insertion, job},
};

const NAMES: u8 = 40;

fn event(n: u8) -> EventRecord {
    about_no_job(n, EventKind::BudgetThreshold, serde_json::json!({ "percent": n }))
}

/// Logs an event under each name, one after the other; how many operations on the disk each had taken.
pub(crate) async fn log(folder: &Path, recording: &Recording) -> Vec<usize> {
    let store = judge::open(folder).unwrap();
    let mut at = Vec::new();
    for n in 0..NAMES {
        store.insert(insertion(job(u16::from(n) + 1))).await.unwrap();
        assert!(store.log_once(&n.to_string(), event(n), Vec::new()).await.unwrap());
        at.push(recording.now());
    }
    store.close().await;
    at
}

/// What a power loss at a moment must have left.
pub(crate) async fn judge(at: &[usize], moment: usize, folder: &Path) -> Result<()> {
    let store = judge::open(folder)?;
    let log = all_events(&store).await;
    for n in 0..NAMES {
        let is_logged = log.iter().any(|entry| entry.event.id == event(n).id);
        let is_noted = store.keep(&n.to_string(), vec![0]).await? != [0];
        ensure!(is_logged == is_noted, "event {n}: logged: {is_logged}, noted: {is_noted}");
        ensure!(is_logged || at[usize::from(n)] > moment, "event {n} was acknowledged and is lost");
    }
    store.close().await;
    Ok(())
}
