//! Entries as earlier versions wrote them, in `tests/fixtures/records/`: every later version reads them.
//!
//! `cargo test --test db -- --ignored written` writes those of this version. Files of versions that were released stay.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use reelhook::{
    lifecycle::{CallbackId, Duty, FailCode, JobId, Outcome},
    store::{
        CallbackFilter, DeliveryFilter, EventFilter, IdempotencyKey, Insert, Inserted, JobFilter, Store,
    },
};
use serde::{Deserialize, Serialize};

use crate::{
    place::{Place, closed},
    seed::*,
    support::{get, id, insertion, job, key, task},
};

/// An entry of the tree.
#[derive(Serialize, Deserialize)]
struct Row {
    /// Hexadecimal.
    key: String,
    /// Base64.
    value: String,
    /// What of the value can be read, for people.
    shows: String,
}

impl Row {
    fn of(key: &[u8], value: &[u8]) -> Self {
        let text = String::from_utf8_lossy(value);
        let shows = text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(300).collect();
        Self { key: hex::encode(key), value: BASE64_STANDARD.encode(value), shows }
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/records")
}

/// The file that an entry goes to.
fn file(key: &[u8]) -> String {
    let phases = [
        (QUEUED, "queued"),
        (SENDING, "sending"),
        (UNKNOWN, "unknown"),
        (HELD, "held"),
        (AWAITING, "awaiting"),
        (FETCHING, "fetching"),
        (STORED, "settled-stored"),
        (CANCELED, "settled-canceled"),
        (FOLLOWING, "following"),
        (FAILED, "settled-failed"),
    ];
    let kind = match key[0] {
        b'j' => {
            let job = JobId::from_bytes(key[1..].try_into().unwrap());
            let phase = phases.iter().find(|(n, _)| id(*n) == job).unwrap().1;
            return format!("job-{phase}.json");
        }
        b'd' => "due",
        b'e' => "event",
        b'h' => "head",
        b'n' => "tally",
        b'o' => "delivery",
        b'i' => "idempotency",
        b'c' => "callback",
        b'k' => "stray",
        b'g' => "strays",
        b't' => "task",
        b'b' => "ledger",
        b'r' => "request",
        b'l' => "lease",
        b's' => "kept",
        b'p' => "piece",
        b'w' => "pending",
        b'x' => "of-job",
        b'y' => "body",
        b'v' => "delivery-lease",
        b'u' => "sink",
        other => panic!("a kind that has no file: {other}"),
    };
    format!("{kind}.json")
}

#[tokio::test]
#[ignore = "writes the fixtures of this version"]
async fn the_records_of_this_version_are_written() {
    let place = Place::new();
    seed(&place).await;
    let mut files: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    place.tamper(|tree| {
        for row in tree {
            let (key, value) = row.unwrap();
            files.entry(file(&key)).or_default().push(Row::of(&key, &value));
        }
    });
    fs::create_dir_all(folder()).unwrap();
    for (name, rows) in files {
        let text = serde_json::to_string_pretty(&rows).unwrap();
        fs::write(folder().join(name), text + "\n").unwrap();
    }
}

/// A store of the fixtures.
fn fixtures() -> (Place, usize) {
    let place = Place::new();
    fs::create_dir(place.path("state")).unwrap();
    let files: Vec<_> = fs::read_dir(folder()).unwrap().map(|file| file.unwrap().path()).collect();
    place.tamper(|tree| {
        for file in &files {
            let rows: Vec<Row> = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
            for row in rows {
                let (key, value) =
                    (hex::decode(row.key).unwrap(), BASE64_STANDARD.decode(row.value).unwrap());
                tree.insert(key, value).unwrap();
            }
        }
    });
    (place, files.len())
}

#[tokio::test]
async fn the_records_of_0_1_are_read_by_this_version() {
    let (place, files) = fixtures();
    assert_eq!(files, 30, "each phase, and each kind of entry");
    assert_eq!(place.findings(), [""; 0]);
    let store = place.open();
    let phases = [
        (QUEUED, "queued"),
        (SENDING, "unknown"), // the process that sent is gone
        (UNKNOWN, "unknown"),
        (HELD, "held"),
        (AWAITING, "awaiting"),
        (FETCHING, "fetching"),
        (STORED, "done"),
        (CANCELED, "done"),
        (FOLLOWING, "awaiting"),
        (FAILED, "done"),
    ];
    for (n, phase) in phases {
        assert_eq!(get(&store, id(n)).await.phase_name(), phase);
    }
    assert_eq!(get(&store, id(STORED)).await.files().count(), 1);
    let failed = get(&store, id(FAILED)).await;
    assert!(matches!(
        failed.outcome(),
        Some(Outcome::Failed { code: FailCode::ArtifactMissing, files, .. }) if files.is_empty()
    ));
    assert_eq!(store.list(JobFilter::default(), None, 50).await.unwrap().items.len(), phases.len());
    assert_eq!(store.counts().await.unwrap().phase("done"), 3);
    assert_eq!(store.document(id(QUEUED)).await.unwrap().unwrap(), vec![b'x'; 5_000]);
    assert_eq!(store.by_task(&task(STORED)).await.unwrap(), Some(id(STORED)));
    assert!(store.next_due(Duty::Submit).await.unwrap().is_some());
    assert_eq!(store.keep("callback-secret", Vec::new()).await.unwrap(), b"sesame");
    let timeline = EventFilter { job: Some(id(STORED)), ..EventFilter::default() };
    let timeline = store.events(0, 50, timeline).await.unwrap().events;
    let told = store.deliveries(DeliveryFilter::default(), None, 9).await.unwrap().items;
    let tried = told.iter().find(|delivery| delivery.attempts == 2).unwrap();
    assert_eq!((told.len(), tried.tries.len(), tried.lease), (2, 1, None));
    assert_eq!(&*store.delivery_body(tried.id).await.unwrap().unwrap(), br#"{"type":"job.canceled"}"#);
    assert_eq!(store.lanes().await.unwrap().len(), 1);
    assert!(store.sinks().await.unwrap()[0].state.failing_since.is_some());
    assert!(timeline.iter().filter(|entry| entry.event.kind.is_terminal()).count() == 1);
    let heard = store.callbacks(CallbackFilter::default(), None, 9).await.unwrap().items;
    let first: CallbackId = heard.iter().find(|record| record.delivery_id == "first").unwrap().id;
    let (_, body) = store.callback_body(first).await.unwrap().unwrap();
    assert_eq!((heard.len(), &*body), (3, br#"{"status":"succeeded"}"#.as_slice()));
    let order: IdempotencyKey = key("web", "order-1", 1);
    let again = store.insert(Insert { key: Some(order), ..insertion(job(50)) }).await.unwrap();
    assert!(matches!(again, Inserted::Replayed(found) if found.id == id(QUEUED)));
    closed(store).await;
}
